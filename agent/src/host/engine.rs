//! Engines that run models in guests: asked from inside their network, in a child of its own.
//!
//! Owns how long each question may take, and what its answer is in core's words. Whom to ask inside is `guest_helper::engine`'s.

use std::time::Duration;

use nixmox_core::model::{Bytes, ContainerName, Engine, Offload};
use nixmox_core::offload::arbiter::Step;
use nixmox_core::offload::engine::Version;
use nixmox_core::offload::estimate::Layers;
use nixmox_core::offload::seen::{EngineSeen, EngineView, LoadedModel};

use super::{StepError, line};
use crate::guest_helper::engine::{Answered, Asked, Kind, Loaded, Stays, View, What};

/// How long a look may take.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How long an engine may take to tell what a model is made of: it reads its file.
pub(super) const SHOW_LIMIT: Duration = Duration::from_secs(20);
/// How long an engine may take to answer that a model is to go.
pub(super) const UNLOAD_LIMIT: Duration = Duration::from_secs(10);
/// How long a load may take: as long as the arbiter waits for one. Ollama itself gives up after 5 minutes without progress
/// (`OLLAMA_LOAD_TIMEOUT`), which is not 5 minutes in all, and a load waits behind requests that are under way.
pub(super) const LOAD_LIMIT: Duration = Duration::from_mins(10);

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

/// Returns the question to an engine.
pub(super) fn asked(offload: &Offload, what: What) -> Asked {
    let kind = match offload.engine {
        Engine::Ollama => Kind::Ollama,
        Engine::LlamaServer => Kind::LlamaServer,
    };
    Asked { kind, url: offload.url.clone(), what }
}

/// Returns what a step asks, and how long it may take.
pub(super) fn of_step(offload: &Offload, step: &Step) -> (What, Duration) {
    match step {
        Step::Unload { model } => (What::Unload(model.clone()), UNLOAD_LIMIT),
        Step::Load { model, setting, keep } => {
            let layers = match setting.layers {
                Layers::Auto => None,
                Layers::Exactly(layers) => Some(layers),
            };
            let stays = match offload.idle_unload {
                _ if *keep => Stays::Always,
                Some(idle) => Stays::Seconds(idle.as_secs().max(1)),
                None => Stays::AsItLikes,
            };
            (What::Load { model: model.clone(), layers, context: setting.context, stays }, LOAD_LIMIT)
        }
    }
}

/// Returns what came of a look.
pub(super) fn seen(offload: &Offload, answered: Result<Answered, String>) -> EngineSeen {
    match answered {
        Ok(Answered::View(view)) => EngineSeen::Answers(view_of(offload, view)),
        Ok(Answered::Failed(why)) | Err(why) => EngineSeen::Silent(line::clean(&why)),
        Ok(Answered::Model(_) | Answered::Done) => {
            EngineSeen::Silent("the answer is to another question".to_owned())
        }
    }
}

fn view_of(offload: &Offload, view: View) -> EngineView {
    let name = |name: String| as_declared(offload, name);
    let loaded = |loaded: Loaded| LoadedModel {
        name: name(loaded.name),
        digest: loaded.digest,
        size: loaded.size.map(Bytes),
        size_vram: loaded.size_vram.map(Bytes),
        context: loaded.context,
        busy: loaded.busy,
        expires_usec: loaded.expires_usec,
        is_pinned: false,
    };
    EngineView {
        version: version_of(offload.engine, &view.version),
        version_text: line::clean(&view.version),
        loaded: view.loaded.into_iter().map(loaded).collect(),
        available: view.available.into_iter().map(name).collect(),
        is_multi: view.is_multi,
    }
}

/// Returns a model's name as the manifest has it, where that means the same: Ollama adds the tag that was left out.
fn as_declared(offload: &Offload, name: String) -> String {
    let declared = offload.keep.iter().find(|declared| offload.engine.is_same_model(declared, &name));
    declared.cloned().unwrap_or(name)
}

/// Reads a version: `0.12.10-rc1`, or `b11434-abcdef` of llama.cpp. One of a build without a version (`0.0.0`, `b0`) is none.
fn version_of(engine: Engine, text: &str) -> Option<Version> {
    let number = |digits: &str| digits.parse::<u32>().ok();
    let version = match engine {
        Engine::Ollama => {
            let numbers = text.trim_start_matches('v').split(['-', '+', ' ']).next()?;
            let mut numbers = numbers.splitn(3, '.');
            let mut next = || number(numbers.next()?);
            Version(next()?, next()?, next()?)
        }
        Engine::LlamaServer => Version(0, 0, number(text.strip_prefix('b')?.split('-').next()?)?),
    };
    (version != Version(0, 0, 0)).then_some(version)
}

#[cfg(test)]
mod tests;
