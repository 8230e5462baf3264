//! Models on the wire: what engines have loaded, what is decided about it, and what a model is made of.
//!
//! A figure that nobody tells is absent, never 0. Sizes are in bytes.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// What runs models in a service, and what is asked of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Offload {
    /// `ollama` or `llama-server`.
    pub engine: String,
    /// Where it is reached from inside the container: `http://HOST[:PORT]`, where the host is the container itself.
    pub url: String,
    /// Models to be kept loaded; what is named first is given up last.
    pub keep: Vec<String>,
    /// Milliseconds that a model stays loaded that nobody asks; absent: as long as the engine keeps it by itself.
    pub idle_unload_ms: Option<u64>,
    /// Tokens that a request may have; absent: as many as the engine gives by itself.
    pub context: Option<u32>,
    /// Milliseconds that a request may take to finish when its memory is asked for; absent: as long as it takes.
    pub request_grace_ms: Option<u64>,
    /// `allow`, `warn` or `refuse`.
    pub cpu_fallback: String,
}

/// The answer to `Offloads`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct OffloadsReply {
    /// The services that run models, in the order of names.
    pub services: Vec<OffloadService>,
}

/// A service that runs models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct OffloadService {
    /// Its name.
    pub name: String,
    /// Its stack.
    pub stack: String,
    /// What is asked of it.
    pub offload: Offload,
    /// `answers`, `silent`, or `down`: it does not run.
    pub state: String,
    /// Why it is silent, in one line; empty when it is not.
    pub reason: String,
    /// The engine's version, as it says it; empty: nobody knows.
    pub version: String,
    /// What places layers in that version, and by which formula it is estimated; empty: nobody knows.
    pub memory_engine: String,
    /// Video memory that it may hold now; absent: no limit.
    pub budget: Option<u64>,
    /// Video memory that its processes use, by the driver; absent: nobody knows.
    pub used: Option<u64>,
    /// What was decided last, and why, in one line; empty: nothing had to be.
    pub decision: String,
    /// The models that are loaded, those that are to be kept and are not, and those that were given up.
    pub models: Vec<OffloadModel>,
}

/// A model of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
// A method has the same name, and they share a name space.
#[zlink(rename = "ServedModel")]
pub struct OffloadModel {
    /// Its name.
    pub name: String,
    /// `gpu`, `partial`, `cpu`; `loading`; `unloaded`: it is to be kept loaded, and is not; `unknown`.
    pub state: String,
    /// All memory that the engine counts for it.
    pub size: Option<u64>,
    /// What of that it counts on GPUs.
    pub size_vram: Option<u64>,
    /// Layers on GPUs, where they are known.
    pub layers: Option<u32>,
    /// Layers that it has, where they are known.
    pub layers_all: Option<u32>,
    /// Tokens of context.
    pub context: Option<u32>,
    /// Whether a request is under way.
    pub busy: Option<bool>,
    /// Whether it is to be kept loaded.
    pub keep: bool,
    /// Why it is not where it should be, in one line; empty: it is.
    pub incident: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// The answer to `OffloadModel`: what a model is made of, as its engine says, and how it would be loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct OffloadModelReply {
    /// Metadata, by key.
    pub metadata: Vec<ModelValue>,
    /// The tensors, in the order of its file.
    pub tensors: Vec<ModelTensor>,
    /// The engine's version, as it says it; empty: nobody knows.
    pub version: String,
    /// Requests at the same time; 0: as many as `llama-server` takes by itself.
    pub parallel: u32,
    /// How keys and values are kept, in llama.cpp's word.
    pub kv: String,
    /// Tokens of context, as declared.
    pub context: Option<u32>,
    /// Video memory that the service may hold now; absent: no limit.
    pub budget: Option<u64>,
    /// The GPUs that the service has.
    pub gpus: Vec<ModelRoom>,
    /// What loads of it were measured to take.
    pub measured: Vec<MeasuredLoad>,
}

/// A value of a model's metadata; exactly one of the others is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct ModelValue {
    /// Its key.
    pub key: String,
    /// A whole number.
    pub number: Option<i64>,
    /// A fraction.
    pub fraction: Option<f64>,
    /// A truth.
    pub truth: Option<bool>,
    /// A text.
    pub text: Option<String>,
    /// Whole numbers.
    pub numbers: Option<Vec<i64>>,
    /// How many entries there are of something else.
    pub length: Option<u64>,
}

/// A tensor of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct ModelTensor {
    /// Its name.
    pub name: String,
    /// ggml's number for its type.
    pub kind: u32,
    /// Its extent by dimension, the innermost first.
    pub shape: Vec<u64>,
}

/// A GPU that a service has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct ModelRoom {
    /// Its name for good.
    pub id: String,
    /// All of its memory.
    pub total: u64,
    /// What the service may use of it.
    pub free: u64,
}

/// What a load of a model was measured to take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct MeasuredLoad {
    /// Tokens of context.
    pub context: u32,
    /// Requests at the same time; 0: as many as `llama-server` takes by itself.
    pub parallel: u32,
    /// How keys and values are kept.
    pub kv: String,
    /// Layers on GPUs.
    pub layers: u32,
    /// Video memory.
    pub bytes: u64,
}
