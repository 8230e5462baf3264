//! Ollama, from 0.3 on: what runs, what a model is made of, loads and unloads.
//!
//! What differs by version, by its source (`server/routes.go`, `server/sched.go`, `api/types.go`):
//! - `/api/ps` tells `context_length` from 0.11 on. What is loaded is what is there; `/api/tags` names all that could be.
//! - `/api/show` tells tensors from 0.6.2 on; up to before 0.7 it names their types by the wrong list.
//! - A `generate` without a prompt and with `keep_alive` 0 unloads and answers at once; in old versions it loads a model first that is
//!   not loaded. The memory comes back later, and that of a busy model after its requests.
//! - A negative `num_gpu`, which is the default, never loads a loaded model anew.

use nixmox_core::model::Engine;
use nixmox_core::offload::gguf::{Header, ShownTensor};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::api::{Api, accepted, parsed, tokens, unsigned};
use super::{Head, Loaded, MODELS_MAX, NAME_BYTES_MAX, Stays, View, available, is_name, named};
use crate::guest_helper::Trouble;
use crate::host::line;

/// Longest answer that is read where all of a model's metadata is asked for: its vocabulary is some 20 MiB of JSON.
const VERBOSE_BYTES_MAX: usize = 64 << 20;
/// The prefix of metadata that is large, and of no interest.
const VOCABULARY: &str = "tokenizer.";
/// What is sent where an input must not be empty.
const SOMETHING: &str = " ";

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Models<T> {
    // Go writes an empty list as `null` in some versions.
    models: Option<Vec<T>>,
}

/// One of `/api/ps`.
#[derive(Deserialize)]
struct Process {
    name: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    size: Option<Number>,
    #[serde(default)]
    size_vram: Option<Number>,
    #[serde(default)]
    context_length: Option<Number>,
    #[serde(default)]
    expires_at: Option<String>,
}

/// One of `/api/tags`.
#[derive(Deserialize)]
struct Tag {
    name: String,
}

/// What is read of `/api/show`.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    model_info: Option<Map<String, Value>>,
    #[serde(default)]
    tensors: Option<Vec<Tensor>>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    r#type: String,
    #[serde(default)]
    shape: Option<Vec<u64>>,
}

/// How a model is to be loaded.
pub(super) struct Load<'a> {
    pub(super) model: &'a str,
    /// `num_gpu`; `None`: as many as it likes.
    pub(super) layers: Option<u32>,
    /// `num_ctx`; `None`: its own.
    pub(super) context: Option<u32>,
    pub(super) stays: Stays,
}

/// Asks how it stands.
pub(super) fn look(api: &Api<'_>) -> Result<View, Trouble> {
    let version = version(api)?;
    let loaded = running(api)?;
    let tags: Models<Tag> = api.read("/api/tags")?;
    let available = available(tags.models.unwrap_or_default().into_iter().map(|tag| tag.name));
    Ok(View { version, loaded, available, is_multi: true })
}

fn version(api: &Api<'_>) -> Result<String, Trouble> {
    api.read("/api/version").map(|Version { version }| line::clean(&version))
}

/// Returns what is loaded.
fn running(api: &Api<'_>) -> Result<Vec<Loaded>, Trouble> {
    let processes: Models<Process> = api.read("/api/ps")?;
    let loaded = |process: Process| Loaded {
        name: process.name,
        digest: process.digest.filter(|digest| digest.len() <= NAME_BYTES_MAX).unwrap_or_default(),
        size: unsigned(process.size.as_ref()),
        size_vram: unsigned(process.size_vram.as_ref()),
        context: tokens(process.context_length.as_ref()),
        busy: None,
        expires_usec: process.expires_at.as_deref().and_then(super::time::expiry),
    };
    let named = processes.models.unwrap_or_default().into_iter().filter(|process| is_name(&process.name));
    Ok(named.take(MODELS_MAX).map(loaded).collect())
}

/// Returns the model of this name, where it is loaded.
fn loaded(api: &Api<'_>, model: &str) -> Result<Option<Loaded>, Trouble> {
    Ok(running(api)?.into_iter().find(|loaded| Engine::Ollama.is_same_model(&loaded.name, model)))
}

/// Asks what a model is made of.
pub(super) fn show(api: &Api<'_>, model: &str) -> Result<Head, Trouble> {
    let model = named(model)?;
    let mut shown: Shown = parsed(&api.post("/api/show", &json!({ "model": model, "verbose": false }))?)?;
    let mut metadata = shown.model_info.take().unwrap_or_default();
    if lacks_arrays(&metadata) {
        // Heads by layer are among what is left out.
        let body = json!({ "model": model, "verbose": true });
        let all = api.post_within("/api/show", &body, VERBOSE_BYTES_MAX).and_then(|response| {
            let all: Shown = parsed(&response)?;
            Ok(all.model_info.unwrap_or_default())
        });
        if let Ok(all) = all {
            metadata = all;
        }
    }
    metadata.retain(|key, _| !key.starts_with(VOCABULARY));
    let tensors = shown.tensors.filter(|tensors| !tensors.is_empty());
    let Some(tensors) = tensors else {
        let version = version(api)?;
        return Err(Trouble::Engine(format!(
            "Ollama {version} does not tell the tensors of a model; 0.6.2 and later do"
        )));
    };
    let misnames = misnames_types(&version(api)?);
    let header = Header::shown(
        &metadata,
        tensors.iter().map(|Tensor { name, r#type, shape }| ShownTensor {
            name,
            kind: if misnames { rightly_named(r#type) } else { r#type },
            shape: shape.as_deref().unwrap_or_default(),
        }),
    );
    header.map(Head::from).map_err(|fault| Trouble::Engine(fault.to_string()))
}

/// Returns whether something of the architecture's own was left out.
fn lacks_arrays(metadata: &Map<String, Value>) -> bool {
    metadata.iter().any(|(key, value)| {
        let is_left_out = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        is_left_out && !key.starts_with(VOCABULARY) && !key.starts_with("general.")
    })
}

/// Returns whether a version names the types of tensors by the list for whole files.
fn misnames_types(version: &str) -> bool {
    version.strip_prefix("0.6.").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Returns what such a version means: the name that a type's number has in the list of types. What both call the same is left as it
/// is, and so is what it calls nothing, which then is told as no type.
fn rightly_named(name: &str) -> &str {
    match name {
        // 7, 8 and 9.
        "Q8_0" => "Q5_1",
        "Q5_0" => "Q8_0",
        "Q5_1" => "Q8_1",
        // 11 to 15.
        "Q3_K_S" => "Q3_K",
        "Q3_K_M" => "Q4_K",
        "Q3_K_L" => "Q5_K",
        "Q4_K_S" => "Q6_K",
        "Q4_K_M" => "Q8_K",
        // 16 to 30.
        "Q5_K_S" => "IQ2_XXS",
        "Q5_K_M" => "IQ2_XS",
        "Q6_K" => "IQ3_XXS",
        "IQ2_XXS" => "IQ1_S",
        "IQ2_XS" => "IQ4_NL",
        "Q2_K_S" => "IQ3_S",
        "IQ3_XS" => "IQ2_S",
        "IQ3_XXS" => "IQ4_XS",
        "IQ1_S" => "I8",
        "IQ4_NL" => "I16",
        "IQ3_S" => "I32",
        "IQ3_M" => "I64",
        "IQ2_S" => "F64",
        "IQ2_M" => "IQ1_M",
        "IQ4_XS" => "BF16",
        other => other,
    }
}

/// Has a model's memory given back. Nothing to do where it is not loaded.
pub(super) fn unload(api: &Api<'_>, model: &str) -> Result<(), Trouble> {
    let model = named(model)?;
    if loaded(api, model)?.is_none() {
        return Ok(());
    }
    let response = api.post("/api/generate", &json!({ "model": model, "keep_alive": 0, "stream": false }))?;
    if response.status == 400 {
        // Old versions refuse this of a model that makes vectors only.
        let body = json!({ "model": model, "keep_alive": 0, "input": SOMETHING });
        return accepted(&api.post("/api/embed", &body)?);
    }
    accepted(&response)
}

/// Loads a model, or loads it anew where it is loaded in another way. Returns when it is loaded.
pub(super) fn load(api: &Api<'_>, load: &Load<'_>) -> Result<(), Trouble> {
    let model = named(load.model)?;
    if load.layers.is_none()
        && let Some(before) = loaded(api, model)?
        && !is_all_there(&before)
    {
        unload(api, model)?;
        while loaded(api, model)?.is_some() {
            api.pause()?;
        }
    }
    let mut options = Map::new();
    options.extend(load.layers.map(|layers| ("num_gpu".to_owned(), layers.into())));
    options.extend(load.context.map(|context| ("num_ctx".to_owned(), context.into())));
    let mut body = json!({ "model": model, "stream": false, "options": options });
    let keep_alive: Option<Value> = match load.stays {
        Stays::Always => Some((-1).into()),
        // 0 would unload it.
        Stays::Seconds(seconds) => Some(seconds.max(1).into()),
        Stays::AsItLikes => None,
    };
    if let (Some(body), Some(keep_alive)) = (body.as_object_mut(), keep_alive) {
        body.insert("keep_alive".to_owned(), keep_alive);
    }
    let response = api.post("/api/generate", &body)?;
    if response.status != 400 {
        return accepted(&response);
    }
    // One that makes vectors only. An empty input loads it, but in old versions.
    for input in ["", SOMETHING] {
        if let Some(body) = body.as_object_mut() {
            body.insert("input".to_owned(), input.into());
        }
        let embedded = api.post("/api/embed", &body)?;
        if embedded.status >= 400 {
            // What it said first is nearer to what was asked.
            return accepted(&response);
        }
        if loaded(api, model)?.is_some() {
            return Ok(());
        }
    }
    accepted(&response)
}

/// Returns whether a model is on GPUs with all that it has, so that there is nothing to win.
fn is_all_there(loaded: &Loaded) -> bool {
    loaded.size.zip(loaded.size_vram).is_some_and(|(size, on_gpus)| size > 0 && on_gpus >= size)
}

#[cfg(test)]
mod tests;
