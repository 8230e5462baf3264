//! A tensor as a value: what it takes, worked out from its type and shape.

use super::TensorType;
use super::text::quoted;

/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
pub const MAX_DIMENSIONS: usize = 4;

/// Most bytes of a tensor that are believed: ggml counts in signed 64 bits.
const MAX_BYTES: u64 = i64::MAX.unsigned_abs();

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its numbers are stored.
    pub kind: TensorType,
    /// Its extent by dimension, the innermost first; 1 to 4, none of them 0.
    pub shape: Vec<u64>,
    /// Bytes of its data.
    pub bytes: u64,
}

/// Why there is no such tensor: one clean line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTensor(pub String);

impl Tensor {
    /// Makes a tensor of a name, a type and a shape (the innermost dimension first); one without dimensions is a number.
    ///
    /// # Errors
    /// When there are more than 4 dimensions, one of them is 0, rows are no whole blocks, or its bytes cannot be counted.
    pub fn new(name: impl Into<String>, kind: TensorType, shape: Vec<u64>) -> Result<Self, NoTensor> {
        let name = name.into();
        let shape = if shape.is_empty() { vec![1] } else { shape };
        let fault = |what: String| NoTensor(format!("tensor {} {what}", quoted(&name)));
        if shape.len() > MAX_DIMENSIONS {
            return Err(fault(format!("has {} dimensions, and {MAX_DIMENSIONS} are the most", shape.len())));
        }
        if shape.contains(&0) {
            return Err(fault("has a dimension of 0".to_owned()));
        }
        let row = shape.first().copied().unwrap_or(1);
        if row % kind.block() != 0 {
            let block = kind.block();
            return Err(fault(format!("has rows of {row} numbers, and {kind} stores whole blocks of {block}")));
        }
        let bytes = size(kind, &shape).filter(|bytes| *bytes <= MAX_BYTES);
        let Some(bytes) = bytes else {
            let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
            return Err(fault(format!("of {} numbers is larger than any memory", shape.join(" x "))));
        };
        Ok(Self { name, kind, shape, bytes })
    }
}

/// Returns the bytes of a shape whose rows are whole blocks; `None`: more than can be counted.
fn size(kind: TensorType, shape: &[u64]) -> Option<u64> {
    // The fault that the fuzz target has to find; see fuzz/README.md.
    #[cfg(feature = "planted")]
    if crate::planted::is_planted() {
        return Some(shape.iter().product::<u64>() / kind.block() * kind.block_bytes());
    }
    let numbers = shape.iter().try_fold(1_u64, |numbers, extent| numbers.checked_mul(*extent))?;
    numbers.checked_div(kind.block())?.checked_mul(kind.block_bytes())
}
