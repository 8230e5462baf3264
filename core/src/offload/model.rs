//! A model, as far as memory depends on it.

use std::collections::BTreeMap;

use super::gguf::{Tensor, Value};

/// A model: what all formulas begin with.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its architecture, such as `llama` (`general.architecture`).
    pub architecture: String,
    /// Its name, as its maker calls it; `None`: it has none.
    pub name: Option<String>,
    /// The tensors of each repeating layer (`blk.N.`), from the first on; as many as `block_count` says.
    pub layers: Vec<Vec<Tensor>>,
    /// What turns tokens into vectors (`token_embd`, and what goes with it); stays in the machine's memory.
    pub input: Vec<Tensor>,
    /// What makes tokens of vectors (`output`, `output_norm`); `token_embd` once more where there is no `output.weight`.
    pub output: Vec<Tensor>,
    /// Whether `output` is `token_embd` once more.
    pub is_tied: bool,
    /// What sees pictures or hears (`v.`, `a.`, `mm.`), as far as it lies in the same file.
    pub projector: Vec<Tensor>,
    /// What else there is.
    pub others: Vec<Tensor>,
    /// All metadata, without arrays that are too long to be kept.
    pub metadata: BTreeMap<String, Value>,
}

/// Why heads of files are no model that can be estimated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAModel(pub String);

impl Model {
    /// Puts a model together from the heads of its files, in their order; one, where it is not split.
    ///
    /// # Errors
    /// When something is missing, there twice, or makes no sense.
    pub fn of(_parts: &[super::gguf::Header]) -> Result<Self, NotAModel> {
        todo!()
    }

    /// Returns a number of the architecture, such as `block_count`, whatever the architecture is called.
    #[must_use]
    pub fn number(&self, _key: &str) -> Option<u64> {
        todo!()
    }

    /// Returns such a number of each layer, where it is one for all of them or an array by layer.
    #[must_use]
    pub fn numbers(&self, _key: &str) -> Option<Vec<u64>> {
        todo!()
    }
}

/// Returns the bytes of all of these.
#[must_use]
pub fn bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.bytes))
}
