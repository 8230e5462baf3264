//! Engines that run models in guests: asked from inside their network, in a child of its own.

use std::time::Duration;

use nixmox_core::model::{ContainerName, Engine};
use nixmox_core::offload::arbiter::Step;

use super::{StepError, line};

/// How long a look may take.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How long an engine may take to tell what a model is made of: it reads its file.
pub(super) const SHOW_LIMIT: Duration = Duration::from_secs(20);
/// How long an engine may take to answer that a model is to go.
pub(super) const UNLOAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a load may take, as Ollama has it (`OLLAMA_LOAD_TIMEOUT`).
pub(super) const LOAD_LIMIT: Duration = Duration::from_mins(5);

/// Returns the error of a question that was not answered well.
pub(super) fn engine_error(name: &ContainerName, engine: Engine, asked: &str, cause: &str) -> StepError {
    let engine = match engine {
        Engine::Ollama => "ollama",
        Engine::LlamaServer => "llama-server",
    };
    StepError::Engine { engine, name: name.clone(), asked: line::clean(asked), cause: line::clean(cause) }
}

/// Returns what is asked of an engine, in words.
pub(super) fn words_of(step: &Step) -> String {
    match step {
        Step::Unload { model } => format!("unload {model}"),
        Step::Load { model, .. } => format!("load {model}"),
    }
}
