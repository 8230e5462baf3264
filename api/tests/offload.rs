//! The messages about models as golden files, and what of them is refused.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use nixmox_api::{
    MeasuredLoad, ModelRoom, ModelTensor, ModelValue, Offload, OffloadModel, OffloadModelReply, OffloadService,
    OffloadsReply, Service,
};
use nixmox_core::offload::gguf::{Header, Tensor, TensorType, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares a message with its golden file, and what is read back with the message.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    let text = serde_json::to_string_pretty(message).expect("a message can be written");
    insta::assert_snapshot!(name, text);
    assert_eq!(&serde_json::from_str::<T>(&text).expect("a message can be read"), message);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn offload() -> Offload {
    Offload {
        engine: "ollama".into(),
        url: "http://localhost:11434".into(),
        keep: words(&["llama3.1:8b", "nomic-embed-text"]),
        idle_unload_ms: Some(1_800_000),
        context: Some(8192),
        request_grace_ms: Some(120_000),
        cpu_fallback: "refuse".into(),
    }
}

#[test]
fn what_runs_models_is_as_its_golden_file_has_it() {
    let model = OffloadModel {
        name: "llama3.1:8b".into(),
        state: "partial".into(),
        size: Some(6 << 30),
        size_vram: Some(5 << 30),
        layers: Some(25),
        layers_all: Some(33),
        context: Some(8192),
        busy: Some(true),
        keep: true,
        incident: "5G of 6G are on the GPU, and 2G of its budget are free".into(),
        hint: "see its log: nixmoxctl logs ollama".into(),
    };
    let service = OffloadService {
        name: "ollama".into(),
        stack: "cloud".into(),
        offload: offload(),
        state: "answers".into(),
        reason: String::new(),
        version: "0.12.10".into(),
        memory_engine: "Ollama, layer by layer".into(),
        budget: Some(8 << 30),
        used: Some(5 << 30),
        decision: "nomic-embed-text is unloaded: whisper needs 4G".into(),
        models: vec![
            model,
            OffloadModel { name: "nomic-embed-text".into(), state: "unloaded".into(), ..OffloadModel::default() },
        ],
    };
    // An engine that tells nothing: nothing is made up.
    let silent = OffloadService {
        name: "llama".into(),
        state: "silent".into(),
        reason: "no answer within 2 s".into(),
        ..OffloadService::default()
    };
    check("offloads", &OffloadsReply { services: vec![service, silent] });
}

#[test]
fn what_a_model_is_made_of_is_as_its_golden_file_has_it() {
    let key = |key: &str| ModelValue { key: key.into(), ..ModelValue::default() };
    let reply = OffloadModelReply {
        metadata: vec![
            ModelValue { text: Some("llama".into()), ..key("general.architecture") },
            ModelValue { number: Some(32), ..key("llama.block_count") },
            ModelValue { fraction: Some(0.5), ..key("llama.rope.freq_base") },
            ModelValue { truth: Some(true), ..key("tokenizer.ggml.add_bos_token") },
            ModelValue { numbers: Some(vec![8, 4]), ..key("llama.attention.head_count_kv") },
            ModelValue { length: Some(128_256), ..key("tokenizer.ggml.tokens") },
        ],
        tensors: vec![ModelTensor { name: "output.weight".into(), kind: 14, shape: vec![4096, 128_256] }],
        version: "0.12.10".into(),
        parallel: 2,
        kv: "q8_0".into(),
        context: Some(8192),
        budget: Some(8 << 30),
        gpus: vec![ModelRoom { id: "GPU-5a6c0a2e".into(), total: 12 << 30, free: 8 << 30 }],
        measured: vec![MeasuredLoad { context: 8192, parallel: 2, kv: "q8_0".into(), layers: 33, bytes: 5 << 30 }],
    };
    check("offload_model", &reply);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..=i64::MAX.unsigned_abs()).prop_map(Value::Unsigned),
        (i64::MIN..0).prop_map(Value::Signed),
        // JSON readers may lose the last bit of others, on which no memory depends.
        any::<i32>().prop_map(|number| Value::Float(f64::from(number) / 8.0)),
        any::<bool>().prop_map(Value::Bool),
        "\\PC{0,9}".prop_map(Value::Text),
        vec(any::<i64>(), 0..5).prop_map(Value::Numbers),
        any::<u64>().prop_map(Value::Length),
    ]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let kinds: Vec<TensorType> = TensorType::all().collect();
    ("[a-z0-9._]{1,20}", prop::sample::select(kinds), vec(1_u64..99, 1..=4)).prop_map(|(name, kind, mut shape)| {
        shape[0] = shape[0].saturating_mul(kind.block());
        Tensor::new(name, kind, shape).expect("a tensor")
    })
}

proptest! {
    #[test]
    fn what_a_model_is_made_of_survives_the_wire(
        metadata in btree_map("[a-z._]{1,9}", value(), 0..5),
        tensors in vec(tensor(), 0..5),
    ) {
        let header = Header { metadata, tensors };
        let text = serde_json::to_string(&OffloadModelReply::from(&header)).expect("a message can be written");
        let wire: OffloadModelReply = serde_json::from_str(&text).expect("a message can be read");
        prop_assert_eq!(wire.header(), Ok(header));
    }
}

#[test]
fn what_no_model_can_have_is_refused() {
    let value = |value: ModelValue| OffloadModelReply { metadata: vec![value], ..OffloadModelReply::default() };
    let tensor = |kind, shape: &[u64]| OffloadModelReply {
        tensors: vec![ModelTensor { name: "output.weight".into(), kind, shape: shape.to_vec() }],
        ..OffloadModelReply::default()
    };
    let one = ModelValue { key: "a".into(), number: Some(1), ..ModelValue::default() };
    assert!(value(one.clone()).header().is_ok() && tensor(0, &[4]).header().is_ok());
    for wrong in [
        value(ModelValue { number: None, ..one.clone() }),
        value(ModelValue { truth: Some(true), ..one.clone() }),
        OffloadModelReply { metadata: vec![one.clone(), one], ..OffloadModelReply::default() },
        tensor(u32::MAX, &[4]),
        tensor(0, &[0]),
        tensor(0, &[u64::MAX, u64::MAX]),
        tensor(12, &[255]),
    ] {
        assert!(wrong.header().is_err(), "{wrong:?}");
    }
}

/// Numbers that JSON cannot hold are told as texts: no number that memory depends on is one of them.
#[test]
fn what_json_cannot_hold_is_told_as_a_text() {
    for (value, text) in [
        (Value::Unsigned(u64::MAX), "18446744073709551615"),
        (Value::Float(f64::INFINITY), "inf"),
        (Value::Float(f64::NAN), "NaN"),
    ] {
        assert_eq!(ModelValue::of("key", &value).text.as_deref(), Some(text));
    }
}

/// A service with models that passes.
fn service() -> Service {
    let json = serde_json::json!({
        "name": "ollama",
        "origin": { "file": "nixmox.toml", "line": 1, "health_line": 0 },
        "kind": "service",
        "depends_on": [],
        "limits": { "allowed_cpus": [], "io_read_bandwidth_max": [], "io_write_bandwidth_max": [] },
        "network": { "mode": "private" },
        "ports": [],
        "mounts": [],
        "tmpfs": [],
        "credentials": {},
        "environment": {},
        "devices": [],
        "gpu": { "all": false, "count": 1, "ids": [], "vram": 1 << 30, "priority": 50 },
        "offload": offload(),
        "capabilities": [],
        "ephemeral": false,
        "private_users": "no",
        "nspawn_flags": [],
        "restart": { "policy": "always", "delay_ms": 1000, "delay_max_ms": 300_000 },
    });
    serde_json::from_value(json).expect("a service")
}

/// Returns what is said about what runs models in a service.
fn faults(change: impl FnOnce(&mut Service)) -> Vec<String> {
    let mut service = service();
    change(&mut service);
    service.into_model(&"cloud".parse().expect("a name")).err().unwrap_or_default()
}

/// The same, of what is changed in the table itself.
fn faults_of(change: impl FnOnce(&mut Offload)) -> Vec<String> {
    faults(|service| change(service.offload.as_mut().expect("it has one")))
}

#[test]
fn every_fault_of_what_runs_models_is_named_by_its_key() {
    assert_eq!(faults(|_| ()), Vec::<String>::new());
    let all = faults_of(|offload| {
        offload.engine = "vllm".into();
        offload.url = "http://localhost/\u{1b}".into();
        offload.keep = words(&["a", "", "a\nb"]);
        offload.idle_unload_ms = Some(999);
        offload.context = Some(255);
        offload.request_grace_ms = Some(86_400_001);
        offload.cpu_fallback = "maybe".into();
    });
    let keys = ["engine", "url", "keep[1]", "keep[2]", "idle_unload", "context", "request_grace", "cpu_fallback"];
    for key in keys {
        let found = all.iter().filter(|fault| fault.starts_with(&format!("ollama: offload.{key}: "))).count();
        assert_eq!(found, 1, "{key} in {all:#?}");
    }
    assert_eq!(all.len(), keys.len(), "{all:#?}");
    assert!(all.iter().all(|fault| !fault.contains(char::is_control)), "{all:#?}");
}

#[test]
fn what_runs_models_is_bounded() {
    for (fault, of) in [
        ("http://localhost:PORT", faults_of(|offload| offload.url = "http://10.0.0.1:11434".into())),
        ("http://localhost:PORT", faults_of(|offload| offload.url = "http://llm.lan:11434".into())),
        ("is there twice", faults_of(|offload| offload.keep = words(&["a", "a"]))),
        ("at most 256 characters", faults_of(|offload| offload.keep = vec!["x".repeat(257)])),
        ("not from 256", faults_of(|offload| offload.context = Some(10_000_001))),
        ("longer than", faults_of(|offload| offload.idle_unload_ms = Some(u64::MAX))),
        ("longer than", faults_of(|offload| offload.request_grace_ms = Some(u64::MAX))),
        ("begin with http", faults_of(|offload| offload.url = "https://localhost".into())),
        ("needs `gpu.vram`", faults(|service| service.gpu = None)),
        ("needs `gpu.vram`", faults(|service| service.gpu.iter_mut().for_each(|gpu| gpu.vram = None))),
        ("a job runs no models", faults(|service| service.kind = "job".into())),
    ] {
        assert!(of.len() == 1 && of[0].contains(fault), "{fault}: {of:?}");
    }
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    let mut json = serde_json::to_value(service()).expect("a message can be written");
    json["offload"]["num_gpu"] = 7.into();
    assert!(serde_json::from_value::<Service>(json).is_err());
}

#[test]
fn a_service_without_models_is_written_as_by_those_that_know_none() {
    let without = Service { offload: None, ..service() };
    let text = serde_json::to_string(&without).expect("a message can be written");
    assert!(!text.contains("offload"), "{text}");
}
