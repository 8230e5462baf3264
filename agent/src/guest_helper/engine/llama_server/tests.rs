//! `llama-server` alone and as a router, by what it answers.

use serde_json::{Value, json};

use super::super::listener::{Listener, soon};
use super::*;

const PROPS: &str = "GET /props";
const MODELS: &str = "GET /models";
const METRICS_AT: &str = "GET /metrics";
const LOAD: &str = "POST /models/load";
const UNLOAD: &str = "POST /models/unload";
const SLOTS: &str = "GET /slots?model=a%2Fb%3AQ4&autoload=false";

const ROUTER_PROPS: &str = r#"{"role":"router","max_instances":4,"model_alias":"llama-server","model_path":"none",
    "default_generation_settings":{"params":null,"n_ctx":0},"build_info":"b11434-abcdef0"}"#;
const SUCCESS: &str = r#"{"success":true}"#;
const LOADING: &str = r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;
const IDLE: &str = r#"[{"id":0,"n_ctx":256,"is_processing":false}]"#;
const BUSY: &str = r#"[{"id":0,"is_processing":false},{"id":1,"is_processing":true}]"#;
const ALONE: &str = r#"{"models":[{"name":"tiny"}],"object":"list","data":[{"id":"tiny","meta":{"n_ctx":256}}]}"#;

fn api(listener: &Listener) -> Api<'_> {
    Api::new(&listener.url, soon()).unwrap()
}

fn why<T: std::fmt::Debug>(result: Result<T, Trouble>) -> String {
    result.unwrap_err().to_string()
}

fn alone(is_sleeping: bool, endpoint_metrics: bool) -> String {
    json!({
        "default_generation_settings": { "params": {}, "n_ctx": 256 }, "total_slots": 4, "model_alias": "tiny",
        "model_path": "/models/tiny.gguf", "endpoint_metrics": endpoint_metrics, "build_info": "b11434-abcdef0",
        "is_sleeping": is_sleeping
    })
    .to_string()
}

fn models(status: &str, args: &[&str], failed: bool) -> String {
    let mut model = json!({ "id": "a/b:Q4", "status": { "value": status, "args": args } });
    if status == "loaded" {
        model["meta"] = json!({ "n_ctx": 4096 });
    }
    if failed {
        model["status"]["failed"] = Value::Bool(true);
        model["status"]["exit_code"] = 1.into();
    }
    let other = json!({ "id": "other", "status": { "value": "sleeping" } });
    json!({ "data": [model, other], "object": "list" }).to_string()
}

#[test]
fn one_with_a_single_model_says_which_and_cannot_change_it() {
    let listener = Listener::scripted(&[(PROPS, 200, &alone(false, false)), (MODELS, 200, ALONE)]);
    let view = look(&api(&listener)).unwrap();
    let loaded = Loaded {
        name: "tiny".to_owned(),
        digest: "/models/tiny.gguf".to_owned(),
        context: Some(256),
        ..Loaded::default()
    };
    assert_eq!((view.loaded, view.is_multi, view.version.as_str()), (vec![loaded], false, "b11434-abcdef0"));
    assert_eq!(view.available, ["tiny"]);
    assert_eq!(listener.targets(), [PROPS, MODELS], "slots would keep it awake");
    for refused in [load(&api(&listener), "tiny", None), unload(&api(&listener), "tiny")] {
        assert!(why(refused).starts_with("it has one model for as long as it runs; started with `--models-dir`"));
    }
    assert_eq!(path_of(&api(&listener), "tiny").unwrap(), "/models/tiny.gguf");
}

#[test]
fn metrics_say_whether_it_is_busy() {
    for (count, busy) in [("0", false), ("2", true)] {
        let text = format!("# HELP x\nllamacpp:requests_deferred 0\nllamacpp:requests_processing {count}\n");
        let listener = Listener::scripted(&[
            (PROPS, 200, &alone(false, true)),
            (MODELS, 200, ALONE),
            (METRICS_AT, 200, &text),
        ]);
        assert_eq!(look(&api(&listener)).unwrap().loaded[0].busy, Some(busy));
    }
    for text in ["", "llamacpp:requests_processing x\n", "requests_processing 1\n"] {
        assert_eq!(is_busy_by(text), None);
    }
}

#[test]
fn what_sleeps_is_not_loaded() {
    let listener = Listener::scripted(&[(PROPS, 200, &alone(true, true)), (MODELS, 200, ALONE)]);
    assert_eq!(look(&api(&listener)).unwrap().loaded, []);
    assert_eq!(listener.targets(), [PROPS, MODELS], "nothing wakes it");
}

#[test]
fn one_that_loads_or_wants_a_key_says_so() {
    let listener = Listener::scripted(&[(PROPS, 503, LOADING)]);
    assert_eq!(why(look(&api(&listener))), "it is loading its model");
    let refused = r#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#;
    let listener = Listener::scripted(&[(PROPS, 401, refused)]);
    let found = why(look(&api(&listener)));
    assert!(found.contains("wants a key (status 401)") && found.contains("without one"), "{found}");
}

#[test]
fn a_router_tells_each_of_its_models() {
    for (slots, busy) in [(IDLE, false), (BUSY, true)] {
        let listener = Listener::scripted(&[
            (PROPS, 200, ROUTER_PROPS),
            (MODELS, 200, &models("loaded", &["llama-server"], false)),
            (SLOTS, 200, slots),
        ]);
        let view = look(&api(&listener)).unwrap();
        let loaded =
            Loaded { name: "a/b:Q4".to_owned(), context: Some(4096), busy: Some(busy), ..Loaded::default() };
        assert_eq!((view.loaded, view.is_multi), (vec![loaded], true));
        assert_eq!(view.available, ["a/b:Q4", "other"]);
    }
}

#[test]
fn slots_of_a_model_that_may_fall_asleep_are_not_asked() {
    let args = ["llama-server", "--sleep-idle-seconds", "60"];
    let listener =
        Listener::scripted(&[(PROPS, 200, ROUTER_PROPS), (MODELS, 200, &models("loaded", &args, false))]);
    assert_eq!(look(&api(&listener)).unwrap().loaded[0].busy, None);
    assert_eq!(listener.targets(), [PROPS, MODELS]);
}

#[test]
fn a_router_without_slots_does_not_say_whether_it_is_busy() {
    let off = r#"{"error":{"code":501,"message":"This server does not support slots endpoint.","type":"not_supported_error"}}"#;
    let script = [(PROPS, 200, ROUTER_PROPS), (MODELS, 200, &*models("loaded", &[], false)), (SLOTS, 501, off)];
    assert_eq!(look(&api(&Listener::scripted(&script))).unwrap().loaded[0].busy, None);
}

#[test]
fn a_load_is_over_when_the_model_is_loaded() {
    let [unloaded, loading, loaded] =
        ["unloaded", "loading", "loaded"].map(|status| models(status, &[], status == "unloaded"));
    let listener = Listener::scripted(&[
        (PROPS, 200, ROUTER_PROPS),
        (MODELS, 200, &unloaded),
        (MODELS, 200, &loading),
        (MODELS, 200, &loaded),
        (LOAD, 200, SUCCESS),
    ]);
    load(&api(&listener), "a/b:Q4", None).unwrap();
    assert_eq!(listener.targets(), [PROPS, MODELS, LOAD, MODELS, MODELS]);
    assert_eq!(listener.calls()[2].1, json!({ "model": "a/b:Q4" }));
    load(&api(&listener), "a/b:Q4", None).unwrap();
    assert_eq!(listener.targets().iter().filter(|target| *target == LOAD).count(), 1, "it is loaded");
}

#[test]
fn a_load_that_fails_says_how_the_server_of_the_model_ended() {
    let [before, loading, failed] =
        [models("unloaded", &[], false), models("loading", &[], false), models("unloaded", &[], true)];
    let listener = Listener::scripted(&[
        (PROPS, 200, ROUTER_PROPS),
        (MODELS, 200, &before),
        (MODELS, 200, &loading),
        (MODELS, 200, &failed),
        (LOAD, 200, SUCCESS),
    ]);
    assert_eq!(why(load(&api(&listener), "a/b:Q4", None)), "its server ended with 1 while it was loaded");
}

#[test]
fn a_router_is_not_asked_for_layers_nor_for_what_it_does_not_have() {
    let listener =
        Listener::scripted(&[(PROPS, 200, ROUTER_PROPS), (MODELS, 200, &models("unloaded", &[], false))]);
    let found = why(load(&api(&listener), "a/b:Q4", Some(20)));
    assert_eq!(found, "a router loads models as their presets say, and cannot be asked for 20 layers");
    assert_eq!(why(load(&api(&listener), "b", None)), "it has no model `b`");
    assert!(!listener.targets().contains(&LOAD.to_owned()));
    for name in ["", "a\u{1b}b"] {
        assert_eq!(why(load(&api(&listener), name, None)), "this is no name of a model");
        assert_eq!(why(unload(&api(&listener), name)), "this is no name of a model");
    }
}

#[test]
fn a_model_with_a_request_under_way_is_unloaded_after_it() {
    let [loaded, unloaded] = ["loaded", "unloaded"].map(|status| models(status, &[], false));
    let listener = Listener::scripted(&[
        (PROPS, 200, ROUTER_PROPS),
        (MODELS, 200, &loaded),
        (MODELS, 200, &loaded),
        (MODELS, 200, &unloaded),
        (SLOTS, 200, BUSY),
        (SLOTS, 200, IDLE),
        (UNLOAD, 200, SUCCESS),
    ]);
    unload(&api(&listener), "a/b:Q4").unwrap();
    assert_eq!(listener.targets(), [PROPS, MODELS, SLOTS, MODELS, SLOTS, UNLOAD, MODELS]);
}

#[test]
fn what_is_not_loaded_need_not_be_unloaded() {
    let not = r#"{"error":{"code":400,"message":"model is not running","type":"invalid_request_error"}}"#;
    let listener = Listener::scripted(&[
        (PROPS, 200, ROUTER_PROPS),
        (MODELS, 200, &models("unloaded", &[], false)),
        (UNLOAD, 400, not),
    ]);
    unload(&api(&listener), "a/b:Q4").unwrap();
}

#[test]
fn a_router_says_where_the_file_of_a_model_is() {
    let args = ["llama-server", "--model", "/models/b.gguf", "--port", "0"];
    let listener =
        Listener::scripted(&[(PROPS, 200, ROUTER_PROPS), (MODELS, 200, &models("loaded", &args, false))]);
    assert_eq!(path_of(&api(&listener), "a/b:Q4").unwrap(), "/models/b.gguf");
    assert_eq!(why(path_of(&api(&listener), "other")), "it does not tell where the file of `other` is");
}

#[test]
fn nonsense_is_told_and_survived() {
    for (props, models) in
        [("[]", "{}"), (r#"{"role":7}"#, "{}"), ("{}", r#"{"data":null}"#), ("{}", r#"{"data":[{"id":1}]}"#)]
    {
        let listener = Listener::scripted(&[(PROPS, 200, props), (MODELS, 200, models)]);
        let found = why(look(&api(&listener)));
        assert!(found.starts_with("did not answer sensibly"), "{found}");
    }
    let listener = Listener::scripted(&[(PROPS, 200, "{}"), (MODELS, 200, r#"{"data":[]}"#)]);
    assert_eq!(look(&api(&listener)).unwrap(), View::default());
}
