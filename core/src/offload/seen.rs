//! What an engine says of itself, in terms that no engine owns.

use super::engine::Version;
use crate::model::{Bytes, ContainerName};

/// What came of asking an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineSeen {
    /// It answered.
    Answers(EngineView),
    /// It did not, or not sensibly: why, in one line.
    Silent(String),
}

/// What an engine says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineView {
    /// Its version; `None`: it does not say one that can be read.
    pub version: Option<Version>,
    /// The same as it says it, one clean line; may be empty.
    pub version_text: String,
    /// The models that are loaded, or being loaded, in its order.
    pub loaded: Vec<LoadedModel>,
    /// The models that it could load, by name; empty where it does not say, or has too many to tell.
    pub available: Vec<String>,
    /// Whether models can be loaded and unloaded one by one while it runs; of a `llama-server` with a single model not.
    pub is_multi: bool,
}

/// A model that is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedModel {
    /// Its name.
    pub name: String,
    /// What it is, whatever it is called (Ollama's digest, a path); may be empty.
    pub digest: String,
    /// All memory that the engine counts for it; `None`: it does not say.
    pub size: Option<Bytes>,
    /// What of that it counts on GPUs. Counted, not measured: NVML has the truth. `None`: it does not say.
    pub size_vram: Option<Bytes>,
    /// Tokens of context.
    pub context: Option<u32>,
    /// Whether a request is under way; `None`: the engine does not say.
    pub busy: Option<bool>,
    /// When it is unloaded unless somebody asks, in microseconds since 1970, which moves when somebody does; of one that stays for good it is far away,
    /// and moves likewise. `None`: never, or the engine does not say.
    pub expires_usec: Option<u64>,
    /// Whether it never is because it was loaded to be kept, and not because a client wants it so. No engine says it.
    pub is_pinned: bool,
}

/// Names a model of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId {
    /// The service.
    pub service: ContainerName,
    /// The model, as the engine calls it.
    pub model: String,
}
