//! Ollama as it answers in several versions, and as something that only looks like it.

use nixmox_core::offload::gguf::{TensorType, Value as GgufValue};
use serde_json::{Value, json};

use super::super::listener::{Listener, soon};
use super::*;
use crate::guest_helper::engine::{HeadTensor, HeadValue};

const VERSION: &str = "GET /api/version";
const PS: &str = "GET /api/ps";
const TAGS: &str = "GET /api/tags";
const SHOW: &str = "POST /api/show";
const GENERATE: &str = "POST /api/generate";
const EMBED: &str = "POST /api/embed";

const NEW: &str = r#"{"models":[{"name":"llama3:8b","model":"llama3:8b","size":6654289920,"digest":"365c0bd3c000","details":
    {"format":"gguf","family":"llama","families":["llama"],"parameter_size":"8.0B","quantization_level":"Q4_K_M"},
    "expires_at":"2026-11-30T23:39:02.5+00:00","size_vram":4402341478,"context_length":8192}]}"#;
const OLD: &str = r#"{"models":[{"name":"llama3:8b","model":"llama3:8b","size":5137025024,"digest":"365c0bd3c000",
    "expires_at":"2318-03-10T10:20:30.4+02:00","size_vram":5137025024}]}"#;
const TAGGED: &str = r#"{"models":[{"name":"llama3:8b","size":1},{"name":"all-minilm:latest","size":2}]}"#;
const NONE: &str = r#"{"models":[]}"#;
const DONE: &str = r#"{"model":"llama3:8b","response":"","done":true,"done_reason":"load"}"#;
const CANNOT: &str = r#"{"error":"\"all-minilm\" does not support generate"}"#;

fn api(listener: &Listener) -> Api<'_> {
    Api::new(&listener.url, soon()).unwrap()
}

fn why<T: std::fmt::Debug>(result: Result<T, Trouble>) -> String {
    result.unwrap_err().to_string()
}

fn plain(model: &str) -> Load<'_> {
    Load { model, layers: None, context: None, stays: Stays::AsItLikes }
}

#[test]
fn a_new_version_tells_context_and_expiry() {
    let listener =
        Listener::scripted(&[(VERSION, 200, r#"{"version":"0.30.1"}"#), (PS, 200, NEW), (TAGS, 200, TAGGED)]);
    let view = look(&api(&listener)).unwrap();
    assert_eq!((view.version.as_str(), view.is_multi), ("0.30.1", true));
    assert_eq!(view.available, ["llama3:8b", "all-minilm:latest"]);
    let loaded = Loaded {
        name: "llama3:8b".to_owned(),
        digest: "365c0bd3c000".to_owned(),
        size: Some(6_654_289_920),
        size_vram: Some(4_402_341_478),
        context: Some(8192),
        busy: None,
        expires_usec: Some(1_796_081_942_500_000),
    };
    assert_eq!(view.loaded, [loaded]);
}

#[test]
fn an_old_version_tells_less() {
    let listener =
        Listener::scripted(&[(VERSION, 200, r#"{"version":"0.3.0"}"#), (PS, 200, OLD), (TAGS, 200, NONE)]);
    let view = look(&api(&listener)).unwrap();
    assert_eq!((view.loaded[0].context, view.loaded[0].expires_usec), (None, Some(10_987_690_830_400_000)));
    assert_eq!(view.loaded[0].size_vram, Some(5_137_025_024));
}

#[test]
fn where_there_are_too_many_to_be_told_nobody_says_that_one_is_not_there() {
    let tags = |count: usize| {
        let models: Vec<Value> = (0..count).map(|number| json!({ "name": format!("m{number}:latest") })).collect();
        json!({ "models": models }).to_string()
    };
    for (count, told) in [(MODELS_MAX, MODELS_MAX), (MODELS_MAX + 1, 0)] {
        let tags = tags(count);
        let listener =
            Listener::scripted(&[(VERSION, 200, r#"{"version":"0.30.1"}"#), (PS, 200, NONE), (TAGS, 200, &tags)]);
        assert_eq!(look(&api(&listener)).unwrap().available.len(), told, "of {count}");
    }
}

/// The earlier manager asked `/api/tags` whether anything was loaded, which names what lies on the disk.
#[test]
fn what_could_be_loaded_is_not_taken_for_what_is() {
    let listener =
        Listener::scripted(&[(VERSION, 200, r#"{"version":"0.12.10"}"#), (PS, 200, NONE), (TAGS, 200, TAGGED)]);
    let view = look(&api(&listener)).unwrap();
    assert_eq!((view.loaded.len(), view.available.len()), (0, 2));
    unload(&api(&listener), "llama3:8b").unwrap();
    assert!(!listener.targets().contains(&GENERATE.to_owned()), "it is not loaded: {:?}", listener.targets());
}

/// The earlier manager did, and was answered with 404 whatever was loaded.
#[test]
fn an_empty_name_is_never_sent() {
    let listener = Listener::scripted(&[(PS, 200, NEW), (GENERATE, 200, DONE)]);
    for name in ["", " ", "a\nb", &"x".repeat(1000)] {
        assert_eq!(why(unload(&api(&listener), name)), "this is no name of a model");
        assert_eq!(why(load(&api(&listener), &plain(name))), "this is no name of a model");
        assert_eq!(why(show(&api(&listener), name)), "this is no name of a model");
    }
    assert_eq!(listener.targets(), [""; 0]);
}

#[test]
fn numbers_that_cannot_be_are_not_told_and_hostile_names_left_out() {
    let ps = r#"{"models":[{"name":"a","size":-5,"size_vram":99999999999999999999999,"context_length":0,"expires_at":"soon"},
        {"name":""},{"name":"x\u001b[31m"},{"name":"b","digest":null,"size":1.5,"context_length":99999999999}]}"#;
    let listener = Listener::scripted(&[(VERSION, 200, r#"{"version":"1\n2"}"#), (PS, 200, ps), (TAGS, 200, "{}")]);
    let view = look(&api(&listener)).unwrap();
    assert_eq!(view.version, "1 2");
    let told = |loaded: &Loaded| (loaded.name.clone(), loaded.size, loaded.size_vram, loaded.context);
    let expected = [("a".to_owned(), None, Some(u64::MAX), None), ("b".to_owned(), None, None, Some(u32::MAX))];
    assert_eq!(view.loaded.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_not_ollama_did_not_answer_sensibly() {
    for (status, body, expected) in [
        (200, "[]", "did not answer sensibly"),
        (200, r#"{"version":7}"#, "did not answer sensibly"),
        (200, "<html>", "did not answer sensibly"),
        (302, "", "answered with status 302"),
        (404, "404 page not found", "answered with status 404"),
        (401, "", "NixMox has none"),
        (500, r#"{"error":"a\nb"}"#, "a b"),
        (500, r#"{"error":{"code":500,"message":"its words"}}"#, "its words"),
    ] {
        let listener = Listener::scripted(&[(VERSION, status, body)]);
        let found = why(look(&api(&listener)));
        assert!(found.contains(expected), "{status} {body}: {found}");
    }
}

fn shown(info: &Value, tensors: &Value) -> String {
    json!({ "model_info": info, "tensors": tensors, "license": "x", "details": {} }).to_string()
}

fn info() -> Value {
    json!({ "general.architecture": "llama", "llama.block_count": 1, "llama.rope.freq_base": 500_000.0, "tokenizer.ggml.tokens": null })
}

#[test]
fn a_model_is_what_its_metadata_and_tensors_say() {
    let tensors = json!([{ "name": "blk.0.attn_q.weight", "type": "Q4_K", "shape": [4096, 4096] }]);
    let listener =
        Listener::scripted(&[(SHOW, 200, &shown(&info(), &tensors)), (VERSION, 200, r#"{"version":"0.12.11"}"#)]);
    let head = show(&api(&listener), "llama3:8b").unwrap();
    assert_eq!(head.metadata["llama.block_count"], HeadValue::Unsigned(1));
    assert_eq!(head.tensors, [HeadTensor("blk.0.attn_q.weight".to_owned(), 12, vec![4096, 4096])]);
    let header = head.into_header().unwrap();
    assert_eq!(header.metadata["general.architecture"], GgufValue::Text("llama".to_owned()));
    assert_eq!(
        (header.tensors[0].kind, header.tensors[0].bytes),
        (TensorType::from_name("Q4_K").unwrap(), 9_437_184)
    );
    assert_eq!(listener.calls()[0].1, json!({ "model": "llama3:8b", "verbose": false }));
}

#[test]
fn heads_by_layer_are_asked_for_once_more() {
    let tensors = json!([{ "name": "a", "type": "F32", "shape": [1] }]);
    let mut without = info();
    without["llama.attention.head_count_kv"] = Value::Null;
    let mut with = info();
    with["llama.attention.head_count_kv"] = json!([8, 4]);
    with["tokenizer.ggml.tokens"] = json!(["a", "b"]);
    let answers = [shown(&without, &tensors), shown(&with, &tensors)];
    let listener = Listener::scripted(&[
        (SHOW, 200, &answers[0]),
        (SHOW, 200, &answers[1]),
        (VERSION, 200, r#"{"version":"0.30.0"}"#),
    ]);
    let head = show(&api(&listener), "a").unwrap();
    assert_eq!(head.metadata["llama.attention.head_count_kv"], HeadValue::Numbers(vec![8, 4]));
    assert!(!head.metadata.contains_key("tokenizer.ggml.tokens"), "it is large, and of no interest");
}

#[test]
fn a_version_that_tells_no_tensors_says_which_does() {
    let body = json!({ "model_info": info() }).to_string();
    let listener = Listener::scripted(&[(SHOW, 200, &body), (VERSION, 200, r#"{"version":"0.3.0"}"#)]);
    let expected = "Ollama 0.3.0 does not tell the tensors of a model; 0.6.2 and later do";
    assert_eq!(why(show(&api(&listener), "a")), expected);
}

#[test]
fn types_that_0_6_names_wrongly_are_put_right() {
    let tensors = json!([{ "name": "a", "type": "Q3_K_M", "shape": [256] }, { "name": "b", "type": "Q4_K_S", "shape": [256] },
        { "name": "c", "type": "F32", "shape": [1] }, { "name": "d", "type": "Q5_0", "shape": [32] }]);
    let listener =
        Listener::scripted(&[(SHOW, 200, &shown(&info(), &tensors)), (VERSION, 200, r#"{"version":"0.6.8"}"#)]);
    let head = show(&api(&listener), "a").unwrap();
    assert_eq!(head.tensors.iter().map(|tensor| tensor.1).collect::<Vec<_>>(), [12, 14, 0, 8]);
}

#[test]
fn tensors_that_cannot_be_are_an_error() {
    let tensors = json!([{ "name": "a", "type": "Q4_K", "shape": [3] }]);
    let listener =
        Listener::scripted(&[(SHOW, 200, &shown(&info(), &tensors)), (VERSION, 200, r#"{"version":"0.12.10"}"#)]);
    assert!(why(show(&api(&listener), "a")).contains("whole blocks"), "{}", why(show(&api(&listener), "a")));
}

#[test]
fn a_loaded_model_is_unloaded_by_its_name() {
    let listener =
        Listener::scripted(&[(PS, 200, &NEW.replace("llama3:8b", "llama3:latest")), (GENERATE, 200, DONE)]);
    unload(&api(&listener), "Llama3").unwrap();
    let calls = listener.calls();
    assert_eq!(calls[1], (GENERATE.to_owned(), json!({ "model": "Llama3", "keep_alive": 0, "stream": false })));
}

#[test]
fn a_load_says_layers_context_and_how_long_it_stays() {
    let listener = Listener::scripted(&[(PS, 200, NEW), (GENERATE, 200, DONE)]);
    let exact = Load { model: "a", layers: Some(20), context: Some(8192), stays: Stays::Always };
    load(&api(&listener), &exact).unwrap();
    load(&api(&listener), &Load { layers: Some(0), context: None, stays: Stays::Seconds(0), ..exact }).unwrap();
    let expected = [
        json!({ "model": "a", "stream": false, "keep_alive": -1, "options": { "num_gpu": 20, "num_ctx": 8192 } }),
        json!({ "model": "a", "stream": false, "keep_alive": 1, "options": { "num_gpu": 0 } }),
    ];
    assert_eq!(listener.calls().into_iter().map(|(_, body)| body).collect::<Vec<_>>(), expected);
}

#[test]
fn as_many_layers_as_fit_needs_the_model_to_be_gone_first() {
    let listener = Listener::scripted(&[
        (PS, 200, NEW),
        (PS, 200, NEW),
        (PS, 200, NEW),
        (PS, 200, NONE),
        (GENERATE, 200, DONE),
    ]);
    load(&api(&listener), &plain("llama3:8b")).unwrap();
    assert_eq!(listener.targets(), [PS, PS, GENERATE, PS, PS, GENERATE]);
    let calls = listener.calls();
    assert_eq!(calls[2].1["keep_alive"], 0);
    assert_eq!(calls[5].1, json!({ "model": "llama3:8b", "stream": false, "options": {} }));
}

#[test]
fn a_model_that_is_all_on_the_gpu_is_not_unloaded_to_be_loaded_again() {
    let listener = Listener::scripted(&[(PS, 200, OLD), (GENERATE, 200, DONE)]);
    load(&api(&listener), &Load { stays: Stays::Always, ..plain("llama3:8b") }).unwrap();
    assert_eq!(listener.targets(), [PS, GENERATE]);
}

#[test]
fn a_model_that_makes_vectors_only_is_loaded_and_unloaded_as_such() {
    let there = r#"{"models":[{"name":"all-minilm:latest"}]}"#;
    let listener = Listener::scripted(&[
        (PS, 200, NONE),
        (PS, 200, NONE),
        (PS, 200, there),
        (GENERATE, 400, CANNOT),
        (EMBED, 200, "{}"),
    ]);
    load(&api(&listener), &Load { stays: Stays::Always, ..plain("all-minilm") }).unwrap();
    let inputs: Vec<_> =
        listener.calls().into_iter().filter(|call| call.0 == EMBED).map(|call| call.1["input"].clone()).collect();
    assert_eq!(inputs, ["", " "], "an old version loads nothing for an empty one");
    unload(&api(&listener), "all-minilm").unwrap();
    assert_eq!(listener.calls().last().unwrap().1, json!({ "model": "all-minilm", "keep_alive": 0, "input": " " }));
}

#[test]
fn a_refusal_is_told_in_the_engines_words() {
    let listener = Listener::scripted(&[
        (PS, 200, NONE),
        (GENERATE, 404, r#"{"error":"model 'x' not found"}"#),
        (GENERATE, 400, r#"{"error":"bad option"}"#),
        (EMBED, 400, r#"{"error":"another"}"#),
    ]);
    assert_eq!(why(load(&api(&listener), &plain("x"))), "model 'x' not found");
    assert_eq!(why(load(&api(&listener), &plain("x"))), "bad option");
}

#[test]
fn a_tag_may_be_left_out() {
    let is_same = |one, other| Engine::Ollama.is_same_model(one, other);
    assert!(
        is_same("llama3", "llama3:latest")
            && is_same("a/b", "A/b:latest")
            && is_same("host:1/a/b", "host:1/a/b:latest")
    );
    assert!(!is_same("llama3", "llama3:8b") && !is_same("a/b", "b"));
}
