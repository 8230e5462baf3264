//! How much of a model fits, and what memory it takes: by the formula of each engine's version.

mod exact;
pub mod fit;
pub mod kv;
mod layered;
pub mod llama_cpp;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod within;

use super::engine::{MemoryEngine, Version};
use crate::model::Bytes;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whose formula.
    pub engine: MemoryEngine,
    /// Which version of it: Ollama's, or the build of llama.cpp as `0.0.N`; `None`: the newest one that is known.
    pub version: Option<Version>,
    /// The GPUs, in their order; may be empty.
    pub gpus: Vec<Room>,
    /// Tokens of context of one request. 0, with `--fit` alone: as many as the model was trained for, and fewer (down to 4096)
    /// where these do not fit.
    pub context: u32,
    /// Requests at the same time, each with its own context. 0, of llama.cpp alone: as many as it takes by itself, which is four that share one
    /// context since `--parallel` is left to it.
    pub parallel: u32,
    /// Tokens that are computed at once (`n_ubatch`); 512 unless said otherwise.
    pub batch: u32,
    /// How keys are kept.
    pub keys: KvType,
    /// How values are kept.
    pub values: KvType,
    /// Whether attention is computed in one pass (flash attention).
    pub flash_attention: bool,
    /// How many layers are to be on GPUs.
    pub layers: Layers,
}

/// What there is of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of its memory.
    pub total: Bytes,
    /// What the engine may use of it: what is free, or less by a budget. What it is told to leave free (`--fit-target`) is not
    /// in it any more.
    pub free: Bytes,
}

/// How many layers are to be on GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layers {
    /// As many as fit.
    Auto,
    /// So many (`num_gpu`, `-ngl`); the output counts as one.
    Exactly(u32),
}

/// How keys or values of attention are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KvType {
    /// 32 bits.
    F32,
    /// 16 bits, the default.
    F16,
    /// 16 bits with a wider range.
    Bf16,
    /// 8.5 bits.
    Q8_0,
    /// 6 bits.
    Q5_1,
    /// 5.5 bits.
    Q5_0,
    /// 5 bits.
    Q4_1,
    /// 4.5 bits.
    Q4_0,
    /// 4.5 bits, not linear.
    Iq4Nl,
}

/// What becomes of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The name of the formula, such as `llama.cpp --fit`.
    pub formula: &'static str,
    /// Layers on GPUs; the output counts as one.
    pub layers: u32,
    /// Layers that there are: those that repeat, and the output.
    pub layers_all: u32,
    /// Tokens of context of one request: fewer than asked for where the engine shortens it.
    pub context: u32,
    /// What is on each GPU, in the order of the ask.
    pub gpus: Vec<Parts>,
    /// What is in the machine's memory.
    pub host: Parts,
    /// What the formula does not know of this model, in one line each: figures are less sure then.
    pub doubts: Vec<String>,
}

/// Memory by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Layers that are here.
    pub layers: u32,
    /// Weights.
    pub weights: Bytes,
    /// Keys and values, and states of recurrent layers.
    pub cache: Bytes,
    /// Buffers to compute in.
    pub compute: Bytes,
    /// What the driver and the libraries take for themselves; not a part of what engines log. [`MemoryEngine::Layered`] alone has
    /// something else here: the 457 MiB that Ollama takes a GPU to need, and one layer more as a buffer, both of which are in the sums
    /// that it logs and reports.
    pub overhead: Bytes,
}

/// Returns what becomes of a model.
#[must_use]
pub fn estimate(model: &super::model::Model, ask: &Ask) -> Estimate {
    match ask.engine {
        MemoryEngine::Layered => layered::estimate(model, ask),
        MemoryEngine::Exact => exact::estimate(model, ask),
        MemoryEngine::Fit => fit::estimate(model, ask),
    }
}

/// What a CUDA context takes of a GPU besides, as far as it is alike from driver to driver.
pub const CONTEXT_OF_CUDA: Bytes = Bytes(450 << 20);

/// Returns what the driver and the libraries take on a GPU that has something of a model.
fn overhead(parts: &Parts) -> Bytes {
    if parts.weights.0 == 0 && parts.compute.0 == 0 { Bytes(0) } else { CONTEXT_OF_CUDA }
}
