//! llama.cpp's `llama-server`: with one model for as long as it runs, or as a router that starts a server of its own for each model.
//!
//! By its README and source (`tools/server`, b11434):
//! - While it loads, everything is answered with 503. `/props` tells which of the two it is (`role`), and `build_info`.
//! - A router loads a model as its preset says, answers at once, and tells the rest in `/models`. An unload ends the model's server,
//!   whatever that is doing: so it is asked first whether it is busy.
//! - A model that sleeps (`--sleep-idle-seconds`) has given its memory back. `/slots` wakes it, and begins its time anew; `/props`,
//!   `/models` and `/metrics` do not. So slots are asked only where nothing sleeps.

use serde::Deserialize;
use serde_json::{Number, json};

use super::api::{Api, accepted, parsed, tokens};
use super::{Loaded, MODELS_MAX, View, available, is_name, named};
use crate::guest_helper::Trouble;
use crate::guest_helper::http::message::Response;
use crate::host::line;

/// What `role` says of a router.
const ROUTER: &str = "router";
/// The option by which servers fall asleep, and the one by which they tell metrics.
const SLEEPS: &str = "--sleep-idle-seconds";
const METRICS: &str = "--metrics";
/// What counts requests under way: those that are computed, and those that wait.
const REQUESTS: [&str; 2] = ["llamacpp:requests_processing ", "llamacpp:requests_deferred "];

/// What is read of `/props`.
#[derive(Deserialize)]
struct Props {
    #[serde(default)]
    role: Option<String>,
    #[serde(default)]
    build_info: Option<String>,
    #[serde(default)]
    model_path: Option<String>,
    #[serde(default)]
    default_generation_settings: Option<Settings>,
    #[serde(default)]
    is_sleeping: Option<bool>,
    #[serde(default)]
    endpoint_metrics: Option<bool>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(default)]
    n_ctx: Option<Number>,
}

impl Props {
    fn is_router(&self) -> bool {
        self.role.as_deref() == Some(ROUTER)
    }

    fn version(&self) -> String {
        line::clean(self.build_info.as_deref().unwrap_or_default())
    }
}

/// What is read of `/models`.
#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    status: Option<Status>,
    #[serde(default)]
    meta: Option<Settings>,
}

/// How a model of a router is.
#[derive(Default, Deserialize)]
struct Status {
    value: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    failed: Option<bool>,
    #[serde(default)]
    exit_code: Option<Number>,
}

impl Status {
    fn is_loaded(&self) -> bool {
        self.value == "loaded"
    }

    fn is_loading(&self) -> bool {
        self.value == "loading"
    }

    fn has(&self, option: &str) -> bool {
        self.args.iter().flatten().any(|word| word == option)
    }
}

/// One of `/slots`.
#[derive(Deserialize)]
struct Slot {
    is_processing: bool,
}

/// Asks how it stands.
pub(super) fn look(api: &Api<'_>) -> Result<View, Trouble> {
    let props = props(api)?;
    let models: Models = api.read("/models")?;
    let available = available(models.data.iter().map(|model| model.id.clone()));
    let models = || models.data.iter().filter(|model| is_name(&model.id)).take(MODELS_MAX);
    let loaded = if props.is_router() {
        models().filter_map(|model| loaded_by_router(api, model)).collect()
    } else {
        models().take(1).filter_map(|model| loaded_alone(api, &props, model)).collect()
    };
    Ok(View { version: props.version(), loaded, available, is_multi: props.is_router() })
}

fn props(api: &Api<'_>) -> Result<Props, Trouble> {
    let response = api.get("/props")?;
    if response.status == 503 {
        return Err(Trouble::Engine("it is loading its model".to_owned()));
    }
    parsed(&response)
}

/// Returns the one model; `None`: it sleeps.
fn loaded_alone(api: &Api<'_>, props: &Props, model: &Model) -> Option<Loaded> {
    if props.is_sleeping == Some(true) {
        return None;
    }
    // Whether it falls asleep is not told.
    let busy = if props.endpoint_metrics == Some(true) { by_metrics(api, "/metrics") } else { None };
    let context = props.default_generation_settings.as_ref().and_then(|settings| tokens(settings.n_ctx.as_ref()));
    let path = props.model_path.as_deref().map(line::clean).unwrap_or_default();
    Some(Loaded { name: model.id.clone(), digest: path, context, busy, ..Loaded::default() })
}

/// Returns a model of a router; `None`: it is not loaded.
fn loaded_by_router(api: &Api<'_>, model: &Model) -> Option<Loaded> {
    let status = model.status.as_ref()?;
    if !status.is_loaded() && !status.is_loading() {
        return None;
    }
    let busy = if status.is_loaded() { busy(api, &model.id, status) } else { None };
    let context = model.meta.as_ref().and_then(|meta| tokens(meta.n_ctx.as_ref()));
    Some(Loaded { name: model.id.clone(), context, busy, ..Loaded::default() })
}

/// Returns whether a model of a router has a request under way; `None`: it cannot be asked without keeping it awake.
fn busy(api: &Api<'_>, model: &str, status: &Status) -> Option<bool> {
    let query = format!("?model={}&autoload=false", in_query(model));
    if status.has(METRICS) {
        return by_metrics(api, &format!("/metrics{query}"));
    }
    if status.has(SLEEPS) {
        return None;
    }
    let slots: Vec<Slot> = api.read(&format!("/slots{query}")).ok()?;
    Some(slots.iter().any(|slot| slot.is_processing))
}

fn by_metrics(api: &Api<'_>, target: &str) -> Option<bool> {
    let response = api.get(target).ok()?;
    accepted(&response).ok()?;
    is_busy_by(std::str::from_utf8(&response.body).ok()?)
}

/// Reads figures of Prometheus.
fn is_busy_by(metrics: &str) -> Option<bool> {
    let counts = metrics.lines().filter_map(|line| {
        let count = REQUESTS.iter().find_map(|name| line.strip_prefix(name))?;
        count.trim().parse::<f64>().ok()
    });
    counts.fold(None, |busy, count| Some(busy.unwrap_or(false) || count > 0.0))
}

/// Returns a text as a value of a query: RFC 3986 section 2.
fn in_query(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encoded).collect()
}

/// Returns how a model of a router is.
fn status_of(api: &Api<'_>, model: &str) -> Result<Status, Trouble> {
    let models: Models = api.read("/models")?;
    let known = models.data.into_iter().find(|known| known.id == model);
    let known = known.ok_or_else(|| Trouble::Engine(format!("it has no model `{model}`")))?;
    Ok(known.status.unwrap_or_default())
}

fn router(api: &Api<'_>) -> Result<(), Trouble> {
    if props(api)?.is_router() {
        return Ok(());
    }
    let text = "it has one model for as long as it runs; started with `--models-dir` or `--models-preset` and without `-m` it \
                loads and unloads them";
    Err(Trouble::Engine(text.to_owned()))
}

/// Loads a model of a router, as its preset says. Returns when it is loaded.
pub(super) fn load(api: &Api<'_>, model: &str, layers: Option<u32>) -> Result<(), Trouble> {
    let model = named(model)?;
    router(api)?;
    if let Some(layers) = layers {
        let text = format!("a router loads models as their presets say, and cannot be asked for {layers} layers");
        return Err(Trouble::Engine(text));
    }
    let before = status_of(api, model)?;
    if before.is_loaded() {
        return Ok(());
    }
    if !before.is_loading() {
        accepted_unless(&api.post("/models/load", &json!({ "model": model }))?, "already running")?;
    }
    loop {
        let status = status_of(api, model)?;
        if status.is_loaded() {
            return Ok(());
        }
        if status.failed == Some(true) && !status.is_loading() {
            let code = status.exit_code.map_or_else(|| "an error".to_owned(), |code| code.to_string());
            return Err(Trouble::Engine(format!("its server ended with {code} while it was loaded")));
        }
        api.pause()?;
    }
}

/// Has a model of a router unloaded, once it has no request under way. Returns when its server is gone.
pub(super) fn unload(api: &Api<'_>, model: &str) -> Result<(), Trouble> {
    let model = named(model)?;
    router(api)?;
    loop {
        let status = status_of(api, model)?;
        if !status.is_loaded() || busy(api, model, &status) != Some(true) {
            break;
        }
        if api.pause().is_err() {
            return Err(Trouble::Engine("a request is under way".to_owned()));
        }
    }
    accepted_unless(&api.post("/models/unload", &json!({ "model": model }))?, "not running")?;
    loop {
        let status = status_of(api, model)?;
        if !status.is_loaded() && !status.is_loading() {
            return Ok(());
        }
        api.pause()?;
    }
}

/// Passes on what is no error, or one that says that it is so already.
fn accepted_unless(response: &Response, already: &str) -> Result<(), Trouble> {
    match accepted(response) {
        Err(Trouble::Engine(why)) if response.status == 400 && why.contains(already) => Ok(()),
        accepted => accepted,
    }
}

/// Returns where the file of a model is, as the guest sees it.
pub(super) fn path_of(api: &Api<'_>, model: &str) -> Result<String, Trouble> {
    let model = named(model)?;
    let path = if props(api)?.is_router() {
        let status = status_of(api, model)?;
        let words = status.args.unwrap_or_default();
        words.iter().position(|word| word == "--model" || word == "-m").and_then(|at| words.get(at + 1)).cloned()
    } else {
        props(api)?.model_path
    };
    let path = path.filter(|path| !path.is_empty());
    path.ok_or_else(|| Trouble::Engine(format!("it does not tell where the file of `{model}` is")))
}

#[cfg(test)]
mod tests;
