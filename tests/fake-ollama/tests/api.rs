//! The simulator behaves as Ollama does, as far as anybody can see over HTTP and by the memory that is held.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nixmox_fake_ollama::{Config, Counters, Engine, Here, serve};
use serde_json::{Value, json};

/// About 4.3, 2.2 and 1.2 GiB.
const MODELS: &str = "model big 16 4096 32 8 14336 32000 8192\nmodel mid 8 4096 32 8 14336 32000 8192\nmodel tiny 3 4096 32 8 14336 32000 8192\n\
                      load_takes 0.05\nmemory_returns 0.2\ntoken_takes 0.01\n";
const GIB: u64 = 1 << 30;

struct Ollama {
    address: SocketAddr,
    engine: Arc<Engine>,
    gpu: Arc<Here>,
}

impl Ollama {
    fn start(more: &str) -> Self {
        Self::on(more, &[12 * GIB])
    }

    fn on(more: &str, gpus: &[u64]) -> Self {
        let gpu = Arc::new(Here::new(gpus));
        let config = Config::parse(&format!("{MODELS}{more}")).expect("it can be read");
        let engine = Engine::start(config, Box::new(Arc::clone(&gpu)), &[]);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = Arc::clone(&engine);
        thread::spawn(move || serve(&listener, &served));
        Self { address, engine, gpu }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        ask(self.address, method, path, body)
    }

    fn generate(&self, body: &Value) -> (u16, Value) {
        self.ask("POST", "/api/generate", &body.to_string())
    }

    fn load(&self, model: &str, options: &Value) -> Value {
        let (status, answer) = self.generate(&json!({ "model": model, "options": options }));
        assert_eq!((status, &answer["done_reason"]), (200, &json!("load")), "{answer}");
        answer
    }

    /// A request that takes some hundredths of a second.
    fn prompt(&self, model: &str, hundredths: u32) -> JoinHandle<(u16, Value)> {
        let (address, body) =
            (self.address, json!({ "model": model, "prompt": "x", "options": { "num_predict": hundredths } }));
        thread::spawn(move || ask(address, "POST", "/api/generate", &body.to_string()))
    }

    fn unload(&self, model: &str) {
        let (status, answer) = self.generate(&json!({ "model": model, "keep_alive": 0 }));
        assert_eq!((status, &answer["done_reason"]), (200, &json!("unload")), "{answer}");
    }

    fn ps(&self) -> Vec<Value> {
        self.ask("GET", "/api/ps", "").1["models"].as_array().expect("a list").clone()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.ps().iter().filter_map(|model| model["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}: {:?}", self.ask("GET", "/test/steps", ""));
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn counters(&self) -> Counters {
        self.engine.counters()
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

#[test]
fn what_is_wrong_is_refused_as_the_real_one_refuses_it() {
    let ollama = Ollama::start("");
    let generate = |body: &str| {
        let (status, answer) = ollama.ask("POST", "/api/generate", body);
        (status, answer["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(generate(r#"{"model":"","keep_alive":0}"#), (404, "model '' not found".to_owned()));
    assert_eq!(generate(r#"{"model":"none"}"#), (404, "model 'none' not found".to_owned()));
    assert_eq!(generate(""), (400, "missing request body".to_owned()));
    assert_eq!(generate(r#"{"model":"#).0, 400);
    assert_eq!(generate(r#"{"model":"big","keep_alive":"soon"}"#).0, 400);
    assert_eq!(ollama.ask("POST", "/api/show", r#"{"model":"none"}"#).0, 404);
    assert_eq!(ollama.ask("GET", "/api/none", "").0, 404);
    assert_eq!(ollama.counters(), Counters::default(), "nothing was loaded");
}

#[test]
fn what_it_has_is_told_as_its_version_tells_it() {
    let ollama = Ollama::start("version 0.6.8\n");
    assert_eq!(ollama.ask("GET", "/api/version", "").1, json!({ "version": "0.6.8" }));
    let tags = ollama.ask("GET", "/api/tags", "").1;
    assert_eq!(tags["models"].as_array().map(Vec::len), Some(3));
    let show = ollama.ask("POST", "/api/show", r#"{"model":"big"}"#).1;
    assert_eq!(show["model_info"]["llama.block_count"], 16);
    ollama.load("big", &json!({}));
    let [model] = &ollama.ps()[..] else { panic!("one is loaded") };
    assert!(model["name"] == "big:latest" && model.get("context_length").is_none(), "{model}");
    assert!(model["digest"] == tags["models"][0]["digest"] && model["expires_at"].as_str().is_some(), "{model}");
    let newer = Ollama::start("");
    newer.load("big", &json!({}));
    assert_eq!(newer.ps()[0]["context_length"], 4096);
}

#[test]
fn an_unload_is_answered_at_once_and_its_memory_comes_back_late() {
    let ollama = Ollama::start("memory_returns 0.4\n");
    ollama.load("big", &json!({}));
    let held = ollama.gpu.held();
    assert!(held > 3 * GIB, "{held}");
    assert!(
        ollama.ps()[0]["size_vram"].as_u64().is_some_and(|counted| counted < held),
        "the driver's own is not counted"
    );
    let begin = Instant::now();
    ollama.unload("big");
    assert!(begin.elapsed() < Duration::from_millis(300));
    ollama.wait("unloaded", || ollama.ps().is_empty());
    assert_eq!(ollama.gpu.held(), held, "not yet");
    ollama.wait("given back", || ollama.gpu.held() == 0);
    assert!(begin.elapsed() >= Duration::from_millis(400));
    ollama.unload("big");
    assert_eq!(ollama.counters().unloads, 1, "what is not loaded is not unloaded");
}

#[test]
fn a_busy_model_finishes_first() {
    let ollama = Ollama::start("");
    let request = ollama.prompt("big", 60);
    ollama.wait("busy", || {
        ollama.ask("GET", "/test/runners", "").1[0]["requests"] == 1 && ollama.counters().loads == 1
    });
    ollama.unload("big");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(ollama.names(), ["big:latest"], "it is still there");
    let (status, answer) = request.join().expect("it ends");
    assert_eq!((status, &answer["done_reason"]), (200, &json!("stop")));
    ollama.wait("unloaded after it", || ollama.gpu.held() == 0);
    assert_eq!((ollama.counters().loads, ollama.counters().unloads, ollama.counters().requests), (1, 1, 1));
}

#[test]
fn other_options_reload_and_negative_layers_never_do() {
    let ollama = Ollama::start("");
    ollama.load("big", &json!({}));
    ollama.load("big", &json!({ "num_gpu": -1 }));
    ollama.load("big", &json!({ "num_ctx": null }));
    assert_eq!(ollama.counters().loads, 1);
    ollama.load("big", &json!({ "num_gpu": 5 }));
    assert_eq!((ollama.counters().loads, ollama.counters().reloads), (2, 1));
    let model = &ollama.ps()[0];
    assert!(model["size_vram"].as_u64() < model["size"].as_u64(), "{model}");
    ollama.load("big", &json!({ "num_gpu": -1 }));
    ollama.load("big", &json!({}));
    assert_eq!(ollama.counters().loads, 2, "back to as many as fit only by way of an unload");
    ollama.load("big", &json!({ "num_ctx": 2048 }));
    assert_eq!((ollama.counters().reloads, &ollama.ps()[0]["context_length"]), (2, &json!(2048)));
    assert_eq!(ollama.ask("GET", "/test/runners", "").1[0]["layers"], 17);
    ollama.load("big", &json!({ "num_ctx": 99_999 }));
    assert_eq!(ollama.ps()[0]["context_length"], 8192, "no more than it was trained with");
}

#[test]
fn as_many_layers_as_nvml_leaves_room_for_are_placed_and_an_explicit_number_too_many_fails() {
    let ollama = Ollama::start("");
    ollama.gpu.take(0, 9 * GIB);
    ollama.load("big", &json!({}));
    let some = ollama.gpu.held();
    assert!(some > 0 && some <= 2 * GIB, "a GiB is left alone: {some}");
    ollama.unload("big");
    ollama.wait("given back", || ollama.gpu.held() == 0);
    let (status, answer) = ollama.generate(&json!({ "model": "big", "options": { "num_gpu": 17 } }));
    assert_eq!(status, 500, "{answer}");
    assert!(answer["error"].as_str().is_some_and(|text| text.contains("out of memory")), "{answer}");
    ollama.load("big", &json!({ "num_gpu": 0 }));
    assert_eq!((ollama.gpu.held(), &ollama.ps()[0]["size_vram"]), (0, &json!(0)));
    let by_variable = Ollama::start("env LLAMA_ARG_FIT_TARGET=12000\n");
    by_variable.load("tiny", &json!({}));
    assert_eq!(by_variable.gpu.held(), 0, "nothing is to be taken");
}

#[test]
fn a_model_without_room_beside_others_ends_the_one_that_is_missed_least() {
    let ollama = Ollama::on("", &[8 * GIB]);
    ollama.load("mid", &json!({}));
    ollama.generate(&json!({ "model": "tiny", "keep_alive": "1m" }));
    assert_eq!(ollama.names(), ["mid:latest", "tiny:latest"]);
    ollama.load("big", &json!({}));
    assert!(ollama.names().contains(&"big:latest".to_owned()) && ollama.counters().evictions >= 1);
    let steps = ollama.ask("GET", "/test/steps", "").1.to_string();
    let evicted = steps.find("evict tiny:latest").expect("the one with the shorter time to stay goes first");
    assert!(steps.find("evict mid:latest").is_none_or(|other| evicted < other), "{steps}");
    let few = Ollama::start("env OLLAMA_MAX_LOADED_MODELS=1\n");
    few.load("mid", &json!({}));
    few.load("tiny", &json!({}));
    assert_eq!(few.names(), ["tiny:latest"]);
}

#[test]
fn time_to_stay_begins_with_the_end_of_a_request() {
    let ollama = Ollama::start("");
    ollama.generate(&json!({ "model": "tiny", "keep_alive": "300ms" }));
    let expires = || ollama.ps().first().map(|model| model["expires_at"].to_string());
    let told = expires();
    assert_eq!(expires(), told, "while nobody asks it, that moment stays");
    let request = ollama.prompt("tiny", 50);
    ollama.wait("it computes", || ollama.ask("GET", "/test/runners", "").1[0]["requests"] == 1);
    assert_eq!(expires(), told, "nor does it move while one is answered");
    request.join().expect("it ends");
    assert_eq!(ollama.names(), ["tiny:latest"], "half a second later it has not run out");
    assert!(expires() > told, "it has moved");
    ollama.wait("run out", || ollama.names().is_empty());
    ollama.generate(&json!({ "model": "tiny", "keep_alive": -1 }));
    assert!(ollama.ps()[0]["expires_at"].as_str().is_some_and(|time| time > "2300"), "never");
}

#[test]
fn a_request_during_a_reload_waits_and_one_whose_client_is_gone_ends() {
    let ollama = Ollama::start("load_takes 0.3\n");
    ollama.load("big", &json!({}));
    let address = ollama.address;
    let reload =
        thread::spawn(move || ask(address, "POST", "/api/generate", r#"{"model":"big","options":{"num_gpu":3}}"#));
    ollama.wait("reloading", || ollama.counters().reloads == 1);
    let (status, _) = ollama.prompt("big", 1).join().expect("it ends");
    assert_eq!((status, ollama.counters().loads), (200, 2), "by the runner that was being loaded");
    assert_eq!(reload.join().expect("it ends").0, 200);

    let load = thread::spawn(move || ask(address, "POST", "/api/generate", r#"{"model":"tiny"}"#));
    ollama.wait("told of while it is loaded", || ollama.names().contains(&"tiny:latest".to_owned()));
    let begin = Instant::now();
    ollama.prompt("tiny", 1).join().expect("it ends");
    assert!(begin.elapsed() > Duration::from_millis(150), "it waits for the load: {:?}", begin.elapsed());
    assert_eq!(load.join().expect("it ends").0, 200);

    let mut stream = TcpStream::connect(address).expect("it listens");
    let body = r#"{"model":"big","prompt":"x","options":{"num_predict":100000}}"#;
    write!(stream, "POST /api/generate HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("written");
    let busy = || {
        ollama
            .ask("GET", "/test/runners", "")
            .1
            .as_array()
            .expect("a list")
            .iter()
            .any(|runner| runner["requests"] == 1)
    };
    ollama.wait("busy", busy);
    drop(stream);
    ollama.wait("idle again", || !busy());
}

#[test]
fn an_embedding_loads_its_model() {
    let ollama = Ollama::start("");
    let (status, answer) = ollama.ask("POST", "/api/embed", r#"{"model":"tiny","input":["a","b"]}"#);
    assert_eq!((status, answer["embeddings"].as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(ollama.names(), ["tiny:latest"]);
}

#[test]
fn one_that_finds_no_gpus_computes_on_the_cpu_without_a_word_and_crawls() {
    let ollama = Ollama::start("");
    assert_eq!(ollama.ask("POST", "/test/blind", "true").0, 200);
    ollama.load("tiny", &json!({ "num_gpu": 4 }));
    assert_eq!((ollama.gpu.held(), &ollama.ps()[0]["size_vram"]), (0, &json!(0)));
    let begin = Instant::now();
    ollama.prompt("tiny", 5).join().expect("it ends");
    assert!(begin.elapsed() >= Duration::from_millis(500), "ten times slower");
    ollama.ask("POST", "/test/blind", "false");
    ollama.unload("tiny");
    ollama.load("tiny", &json!({ "num_gpu": 4 }));
    assert!(ollama.gpu.held() > GIB, "all of it");
}
