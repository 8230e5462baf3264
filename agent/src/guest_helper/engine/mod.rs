//! Engines that run models in a guest: how they stand, what a model is made of, and loads and unloads.
//!
//! Owns the questions and answers between the agent and this child. `ollama` and `llama_server` know what each engine calls these things;
//! `file` reads models that an engine does not tell about.

mod api;
mod file;
mod head;
#[cfg(test)]
mod listener;
mod llama_server;
mod ollama;
pub(crate) mod time;

use serde::{Deserialize, Serialize};

pub use head::{Head, HeadTensor, HeadValue};

use super::enter::Guest;
use super::{Deadline, Trouble};
use api::Api;

/// Most models of an engine that are told, and the longest name of one, in bytes.
const MODELS_MAX: usize = 512;
const NAME_BYTES_MAX: usize = 256;

/// What is asked of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which it is said to be.
    pub kind: Kind,
    /// Where it is: `http://HOST[:PORT]`.
    pub url: String,
    /// What it is to do.
    pub what: What,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Ollama.
    Ollama,
    /// llama.cpp's `llama-server`.
    LlamaServer,
}

/// What an engine is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Say how it stands.
    Look,
    /// Tell what this model is made of.
    Show(String),
    /// Give the memory of this model back.
    Unload(String),
    /// Load a model.
    Load {
        /// The model.
        model: String,
        /// Layers on GPUs; `None`: as many as it likes.
        layers: Option<u32>,
        /// Tokens of context; `None`: its own.
        context: Option<u32>,
        /// How long it stays loaded that nobody asks.
        stays: Stays,
    },
}

/// How long a model stays loaded that nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stays {
    /// For ever.
    Always,
    /// So many seconds, 1 or more.
    Seconds(u64),
    /// As long as the engine likes.
    AsItLikes,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answered {
    /// How it stands.
    View(View),
    /// What a model is made of.
    Model(Head),
    /// It was done.
    Done,
    /// Nothing: why, in one clean line.
    Failed(String),
}

/// How an engine stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its version as it says it, cleaned; empty: it says none.
    pub version: String,
    /// The models that are loaded, or being loaded.
    pub loaded: Vec<Loaded>,
    /// The models that it could load, by name; empty where it names none, or too many to be told.
    pub available: Vec<String>,
    /// Whether models can be loaded and unloaded one by one.
    pub is_multi: bool,
}

/// A model that is loaded; `None`: the engine does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// What it is, whatever it is called; may be empty.
    pub digest: String,
    /// All memory that the engine counts for it, in bytes.
    pub size: Option<u64>,
    /// What of that it counts on GPUs, in bytes.
    pub size_vram: Option<u64>,
    /// Tokens of context.
    pub context: Option<u32>,
    /// Whether a request is under way.
    pub busy: Option<bool>,
    /// When it goes unless somebody asks, in microseconds since 1970; `u64::MAX`: never.
    pub expires_usec: Option<u64>,
}

/// Asks an engine of a guest; what goes wrong is the answer.
pub(super) fn ask(guest: &Guest, asked: &Asked, deadline: Deadline) -> Answered {
    let answered = || {
        // While the guest's files can be reached: they are looked for only where the engine tells none.
        let root = guest.root()?;
        guest.enter_network()?;
        let api = Api::new(&asked.url, deadline)?;
        match (&asked.what, asked.kind) {
            (What::Look, Kind::Ollama) => ollama::look(&api).map(Answered::View),
            (What::Look, Kind::LlamaServer) => llama_server::look(&api).map(Answered::View),
            (What::Show(model), Kind::Ollama) => ollama::show(&api, model).map(Answered::Model),
            (What::Show(model), Kind::LlamaServer) => {
                llama_server::path_of(&api, model).and_then(|path| file::read(&root, &path)).map(Answered::Model)
            }
            (What::Unload(model), Kind::Ollama) => ollama::unload(&api, model).map(|()| Answered::Done),
            (What::Unload(model), Kind::LlamaServer) => llama_server::unload(&api, model).map(|()| Answered::Done),
            (What::Load { model, layers, context, stays }, Kind::Ollama) => {
                let load = ollama::Load { model, layers: *layers, context: *context, stays: *stays };
                ollama::load(&api, &load).map(|()| Answered::Done)
            }
            (What::Load { model, layers, .. }, Kind::LlamaServer) => {
                llama_server::load(&api, model, *layers).map(|()| Answered::Done)
            }
        }
    };
    answered().unwrap_or_else(|trouble: Trouble| Answered::Failed(crate::host::line::clean(&trouble.to_string())))
}

/// Returns the names of models that could be loaded; none where there are too many: what is beyond a bound would be taken for not there.
fn available(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let names: Vec<String> = names.into_iter().filter(|name| is_name(name)).take(MODELS_MAX + 1).collect();
    if names.len() > MODELS_MAX { Vec::new() } else { names }
}

/// Returns a name that can be one of a model. An engine never has to see another: Ollama answers an empty one as a model that it
/// does not have.
fn named(model: &str) -> Result<&str, Trouble> {
    if is_name(model) { Ok(model) } else { Err(Trouble::Engine("this is no name of a model".to_owned())) }
}

fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control)
}
