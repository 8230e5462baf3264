//! How numbers of tensors are stored (ggml's types).

/// A type of ggml, by its number in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType(pub u32);
