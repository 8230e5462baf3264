//! GGUF: what the head of a model's file says.
//!
//! Owns the bounded reader of files that nobody trusts, and the types that it shares with what an engine says of a model
//! over HTTP. What of it makes a model is `model`'s.
//!
//! The head of a file, all in little endian: `GGUF`, version, number of tensors, number of keys; then the keys, each
//! with its type and value; then the tensors, each with its name, shape, type and place. What is behind is never read.

mod kind;
mod read;
mod shown;
mod split;
mod tensor;
mod tensor_type;
#[cfg(test)]
mod tests;
pub(in crate::offload) mod text;

use std::collections::BTreeMap;

pub use read::{
    MAX_ARRAY, MAX_ARRAY_DEPTH, MAX_HEAD, MAX_KEPT, MAX_KEY, MAX_KEYS, MAX_TENSOR_NAME, MAX_TENSORS, MAX_TEXT, read,
};
pub use shown::{NotShown, ShownTensor};
pub use split::Split;
pub use tensor::{MAX_DIMENSIONS, NoTensor, Tensor};
pub use tensor_type::TensorType;

/// Most bytes of a text that are kept; of a longer one only its length is.
pub const MAX_KEPT_TEXT: u64 = 64 << 10;

/// Most entries of an array that are kept; of a longer one only their number is.
pub const MAX_KEPT_ENTRIES: u64 = 1024;

/// The head of a file: its metadata and its tensors, without their data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Metadata by key, such as `general.architecture`.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, in the order of the file; no name is there twice.
    pub tensors: Vec<Tensor>,
}

/// A value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number that is not negative, of any width.
    Unsigned(u64),
    /// A negative one.
    Signed(i64),
    /// A fraction.
    Float(f64),
    /// A truth.
    Bool(bool),
    /// A text of at most [`MAX_KEPT_TEXT`] bytes; what is no UTF-8 in it is replaced by U+FFFD.
    Text(String),
    /// An array of at most [`MAX_KEPT_ENTRIES`] whole numbers or truths (as 0 and 1), such as heads by layer.
    Numbers(Vec<i64>),
    /// Another array, or one too long to be kept: how many entries it has. Of a text too long to be kept: its bytes.
    Length(u64),
}

/// Where a file is read from, from its beginning on.
pub trait Source {
    /// What goes wrong with it.
    type Error;

    /// Fills the whole buffer with what comes next; `false`: the file ends before.
    ///
    /// # Errors
    /// When it cannot be read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Self::Error>;

    /// Leaves out what comes next; `false`: the file ends before.
    ///
    /// # Errors
    /// When it cannot be read.
    fn skip(&mut self, bytes: u64) -> Result<bool, Self::Error>;
}

/// A file that is in memory already.
impl Source for &[u8] {
    type Error = std::convert::Infallible;

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, Self::Error> {
        let Some((next, rest)) = self.split_at_checked(buffer.len()) else { return Ok(false) };
        buffer.copy_from_slice(next);
        *self = rest;
        Ok(true)
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, Self::Error> {
        let rest = usize::try_from(bytes).ok().and_then(|bytes| self.get(bytes..));
        let Some(rest) = rest else { return Ok(false) };
        *self = rest;
        Ok(true)
    }
}

/// Why a file is no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// It cannot be read.
    #[error("cannot be read")]
    Source(#[source] E),
    /// It is not what it says, or more than is read: what and where, in one clean line.
    #[error("{0}")]
    Content(String),
}

impl Value {
    /// Returns the text; `None`: it is none.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Unsigned(_)
            | Self::Signed(_)
            | Self::Float(_)
            | Self::Bool(_)
            | Self::Numbers(_)
            | Self::Length(_) => None,
        }
    }

    /// Returns the whole number of 0 or more; `None`: it is none.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number) => Some(*number),
            Self::Signed(_)
            | Self::Float(_)
            | Self::Bool(_)
            | Self::Text(_)
            | Self::Numbers(_)
            | Self::Length(_) => None,
        }
    }
}

impl Header {
    /// Returns a text of the metadata; `None`: it is not there, is no text, or is too long.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key)?.as_text()
    }

    /// Returns a whole number of the metadata; `None`: it is not there, or is none.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key)?.as_unsigned()
    }

    /// Returns whether this is what sees pictures or hears for a model (an `mmproj` file), and no model itself.
    #[must_use]
    pub fn is_projector(&self) -> bool {
        self.text("general.architecture") == Some("clip") || self.text("general.type") == Some("mmproj")
    }
}
