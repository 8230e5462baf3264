//! The routes: what each request means, and what is answered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::engine::{Ask, Engine, Loaded, Refused, Used};
use crate::http::Request;
use crate::library::Model;
use crate::time;

/// Tokens of a request that does not say how many.
const TOKENS: u64 = 1;
/// How much slower a model is that is not all on GPUs.
const CRAWL: u32 = 10;

/// An answer: a status and what it says.
pub(crate) type Answer = (u16, Value);

/// Answers a request; returns when it is done, or when its client has gone away.
pub(crate) fn answer(engine: &Arc<Engine>, request: &Request) -> Answer {
    let answered = match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => Ok(json!("Ollama is running")),
        ("GET", "/api/version") => Ok(json!({ "version": engine.config().version })),
        ("GET", "/api/tags") => Ok(tags(engine)),
        ("GET", "/api/ps") => Ok(ps(engine)),
        ("POST", "/api/show") => show(engine, request),
        ("POST", "/api/generate") => generate(engine, request),
        ("POST", "/api/embed") => embed(engine, request),
        ("GET", "/test/counters") => Ok(counters(engine)),
        ("GET", "/test/steps") => Ok(json!(engine.steps())),
        ("GET", "/test/runners") => Ok(runners(engine)),
        ("GET", "/test/environment") => Ok(json!(engine.config().environment)),
        ("POST", "/test/blind") => {
            engine.blind(request.body.trim_ascii() == b"true");
            Ok(json!({}))
        }
        _ => Err((404, "404 page not found".to_owned())),
    };
    match answered {
        Ok(value) => (200, value),
        Err((status, text)) => (status, json!({ "error": text })),
    }
}

fn tags(engine: &Engine) -> Value {
    let tag = |model: &Model| {
        json!({
            "name": model.name, "model": model.name, "modified_at": "2026-01-01T00:00:00Z", "size": model.file_size(),
            "digest": model.digest(), "details": model.details(),
        })
    };
    json!({ "models": engine.config().models.iter().map(tag).collect::<Vec<_>>() })
}

fn ps(engine: &Engine) -> Value {
    let entry = |loaded: Loaded| {
        let mut entry = json!({
            "name": loaded.model.name, "model": loaded.model.name, "size": loaded.placed.size, "digest": loaded.model.digest(),
            "details": loaded.model.details(), "expires_at": time::write(loaded.expires), "size_vram": loaded.placed.size_vram,
        });
        if engine.config().tells_context() {
            entry["context_length"] = json!(loaded.context);
        }
        entry
    };
    json!({ "models": engine.loaded().into_iter().map(entry).collect::<Vec<_>>() })
}

fn runners(engine: &Engine) -> Value {
    let runner = |loaded: Loaded| {
        let vram: u64 = loaded.placed.gpus.iter().map(|gpu| gpu.1).sum();
        json!({
            "model": loaded.model.name, "layers": loaded.placed.layers, "layers_all": loaded.model.layers(), "context": loaded.context,
            "vram": vram, "requests": loaded.requests,
        })
    };
    json!(engine.loaded().into_iter().map(runner).collect::<Vec<_>>())
}

fn counters(engine: &Engine) -> Value {
    let counters = engine.counters();
    json!({
        "loads": counters.loads, "unloads": counters.unloads, "reloads": counters.reloads, "evictions": counters.evictions,
        "failures": counters.failures, "requests": counters.requests,
    })
}

fn show(engine: &Engine, request: &Request) -> Result<Value, Refused> {
    let body = body(request)?;
    let name = name(&body)?;
    if name.is_empty() {
        return Err((400, "model is required".to_owned()));
    }
    model(engine, name).map(Model::show)
}

fn generate(engine: &Arc<Engine>, request: &Request) -> Result<Value, Refused> {
    let body = body(request)?;
    let model = model(engine, name(&body)?)?;
    let (prompt, ask) = (text(&body, "prompt")?, ask(&body)?);
    let done = |reason: &str, response: &str| {
        json!({
            "model": model.name, "created_at": time::write(SystemTime::now()), "response": response, "done": true, "done_reason": reason,
        })
    };
    if prompt.is_empty() && ask.keep_alive == Some(Duration::ZERO) {
        engine.expire(model);
        return Ok(done("unload", ""));
    }
    let used = engine.schedule(model, ask)?;
    if prompt.is_empty() {
        return Ok(done("load", ""));
    }
    let tokens = options(&body)?.get("num_predict").and_then(Value::as_u64).unwrap_or(TOKENS);
    compute(engine, &used, tokens, request);
    Ok(done("stop", "done"))
}

fn embed(engine: &Arc<Engine>, request: &Request) -> Result<Value, Refused> {
    let body = body(request)?;
    let model = model(engine, name(&body)?)?;
    let inputs = match body.get("input") {
        None | Some(Value::Null) => 0,
        Some(Value::String(input)) => usize::from(!input.is_empty()),
        Some(Value::Array(inputs)) => inputs.len(),
        Some(_) => return Err((400, "invalid input type".to_owned())),
    };
    let used = engine.schedule(model, ask(&body)?)?;
    compute(engine, &used, inputs.try_into().unwrap_or_default(), request);
    Ok(json!({ "model": model.name, "embeddings": vec![[0.6, 0.8]; inputs] }))
}

/// Takes as long as so many tokens do; ends with the client.
fn compute(engine: &Engine, used: &Used, tokens: u64, request: &Request) {
    let slow = if used.is_whole { 1 } else { CRAWL };
    let each = engine.config().token_takes * slow;
    request.wait(each.saturating_mul(tokens.try_into().unwrap_or(u32::MAX)));
}

fn body(request: &Request) -> Result<Map<String, Value>, Refused> {
    if request.body.trim_ascii().is_empty() {
        return Err((400, "missing request body".to_owned()));
    }
    serde_json::from_slice(&request.body).map_err(|error| (400, error.to_string()))
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Result<&'a str, Refused> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err((400, format!("json: cannot unmarshal into field {key} of type string"))),
    }
}

fn name(body: &Map<String, Value>) -> Result<&str, Refused> {
    match text(body, "model")? {
        "" => text(body, "name"),
        name => Ok(name),
    }
}

fn model<'a>(engine: &'a Engine, name: &str) -> Result<&'a Model, Refused> {
    // Also an empty name, which stands for no model, and never for all of them.
    engine.config().model(name).ok_or_else(|| (404, format!("model '{name}' not found")))
}

fn options(body: &Map<String, Value>) -> Result<Map<String, Value>, Refused> {
    match body.get("options") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(options)) => Ok(options.clone()),
        Some(_) => Err((400, "json: cannot unmarshal into field options".to_owned())),
    }
}

fn ask(body: &Map<String, Value>) -> Result<Ask, Refused> {
    let options = options(body)?;
    let number = |key: &str| match options.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            value.as_i64().map(Some).ok_or_else(|| (400, format!("option {key:?} must be of type integer")))
        }
    };
    let keep_alive = match body.get("keep_alive") {
        None | Some(Value::Null) => None,
        Some(value) => Some(time::keep_alive(value).map_err(|text| (400, text))?),
    };
    let num_ctx = number("num_ctx")?.map(|tokens| tokens.try_into().unwrap_or(0)).filter(|tokens| *tokens > 0);
    Ok(Ask { num_gpu: number("num_gpu")?, num_ctx, keep_alive })
}
