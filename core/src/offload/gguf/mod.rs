//! GGUF: what the head of a model's file says.
//!
//! Owns the bounded reader of files that nobody trusts, and the types that it shares with what an engine says of a model over HTTP.

mod tensor_type;

use std::collections::BTreeMap;

pub use tensor_type::TensorType;

/// The head of a file: its metadata and its tensors, without their data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Metadata by key, such as `general.architecture`.
    pub metadata: BTreeMap<String, Value>,
    /// The tensors, in the order of the file.
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
    /// A text.
    Text(String),
    /// An array of whole numbers or truths (as 0 and 1), such as heads by layer.
    Numbers(Vec<i64>),
    /// Another array, or one too long to be kept: how many entries it has.
    Length(u64),
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// Its extent by dimension, the innermost first; 1 to 4.
    pub shape: Vec<u64>,
    /// Bytes of its data.
    pub bytes: u64,
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

/// Reads the head of a file, however hostile: in bounded memory and time.
///
/// # Errors
/// See [`Fault`].
pub fn read<S: Source>(_source: &mut S) -> Result<Header, Fault<S::Error>> {
    todo!()
}
