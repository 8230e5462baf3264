//! Engines: their versions, what places layers in each of them, and what holds them to a budget.

pub use crate::model::Engine;

/// A version, as far as it is compared: `0.12.10`, or the build `11434` of llama.cpp as `0.0.11434`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32, pub u32);

/// What decides in an engine how much of a model is on the GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryEngine {
    /// Ollama's estimate layer by layer, before the model is loaded (up to 0.12.10).
    Layered,
    /// Ollama's layout of what its own runner has allocated (0.12.11 up to before 0.30).
    Exact,
    /// `llama-server --fit`, on its own or below Ollama (from 0.30 on).
    Fit,
}

/// Returns what places layers in an engine of this version; of one that does not say its version, what its newest does.
#[must_use]
pub fn memory_engine(_engine: Engine, _version: Option<Version>) -> MemoryEngine {
    todo!()
}
