//! Models as tests see them: GGUF files with a head and no data, and what services say of theirs.

use std::path::{Path, PathBuf};

use nixmox_api::{
    MeasuredLoad, ModelRoom, Offload, OffloadModel, OffloadModelReply, OffloadService, OffloadsReply,
};
use nixmox_core::offload::gguf;

const GIB: u64 = 1 << 30;

/// A value of metadata, as a file has it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(u32),
    Text(String),
}

/// A tensor of 16 bits: its name and its shape.
pub(crate) type Tensor = (String, Vec<u64>);

/// The bytes of a GGUF file of version 3, without the data of its tensors.
pub(crate) fn file(metadata: &[(&str, Value)], tensors: &[Tensor]) -> Vec<u8> {
    let text = |text: &str| [&u64::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat();
    let number = |number: usize| u64::try_from(number).unwrap().to_le_bytes();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(number(tensors.len()));
    bytes.extend(number(metadata.len()));
    for (key, value) in metadata {
        bytes.extend(text(key));
        match value {
            Value::Number(number) => bytes.extend([&4_u32.to_le_bytes()[..], &number.to_le_bytes()].concat()),
            Value::Text(word) => bytes.extend([&8_u32.to_le_bytes()[..], &text(word)].concat()),
        }
    }
    let mut offset = 0_u64;
    for (name, shape) in tensors {
        bytes.extend(text(name));
        bytes.extend(u32::try_from(shape.len()).unwrap().to_le_bytes());
        for extent in shape {
            bytes.extend(extent.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += (shape.iter().product::<u64>() * 2).next_multiple_of(32);
    }
    bytes
}

/// The metadata of a llama of this many layers, of the size of the one with 8 milliards of weights otherwise.
fn metadata(layers: u32) -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    vec![
        ("general.architecture", text("llama")),
        ("general.name", text("Llama of tests")),
        ("llama.block_count", Value::Number(layers)),
        ("llama.context_length", Value::Number(131_072)),
        ("llama.embedding_length", Value::Number(4096)),
        ("llama.feed_forward_length", Value::Number(14_336)),
        ("llama.attention.head_count", Value::Number(32)),
        ("llama.attention.head_count_kv", Value::Number(8)),
        ("llama.vocab_size", Value::Number(128_256)),
        ("tokenizer.ggml.model", text("gpt2")),
    ]
}

fn tensors(layers: u32) -> Vec<Tensor> {
    let (embedding, forward, tokens) = (4096, 14_336, 128_256);
    let layer = |layer: u32| {
        [
            ("attn_norm", vec![embedding]),
            ("attn_q", vec![embedding, embedding]),
            ("attn_k", vec![embedding, 1024]),
            ("attn_v", vec![embedding, 1024]),
            ("attn_output", vec![embedding, embedding]),
            ("ffn_norm", vec![embedding]),
            ("ffn_gate", vec![embedding, forward]),
            ("ffn_up", vec![embedding, forward]),
            ("ffn_down", vec![forward, embedding]),
        ]
        .map(|(name, shape)| (format!("blk.{layer}.{name}.weight"), shape))
    };
    let around = [
        ("token_embd.weight".to_owned(), vec![embedding, tokens]),
        ("output_norm.weight".to_owned(), vec![embedding]),
        ("output.weight".to_owned(), vec![embedding, tokens]),
    ];
    around.into_iter().chain((0..layers).flat_map(layer)).collect()
}

/// The bytes of a llama of this many layers, with 16 bits a weight.
pub(crate) fn llama(layers: u32) -> Vec<u8> {
    file(&metadata(layers), &tensors(layers))
}

/// Writes a llama of this many layers in three parts; returns the first.
pub(crate) fn split(folder: &Path, layers: u32) -> PathBuf {
    let all = tensors(layers);
    let path = |number: u32| folder.join(format!("llama-{:05}-of-00003.gguf", number + 1));
    for (number, tensors) in (0..).zip(all.chunks(all.len().div_ceil(3))) {
        let mut metadata = if number == 0 { metadata(layers) } else { Vec::new() };
        metadata.push(("split.no", Value::Number(number)));
        metadata.push(("split.count", Value::Number(3)));
        metadata.push(("split.tensors.count", Value::Number(all.len().try_into().unwrap())));
        std::fs::write(path(number), file(&metadata, tensors)).unwrap();
    }
    path(0)
}

/// What the agent says of the same model.
pub(crate) fn served(layers: u32) -> OffloadModelReply {
    let head = gguf::read(&mut llama(layers).as_slice()).unwrap();
    OffloadModelReply {
        version: "0.12.10".to_owned(),
        parallel: 1,
        kv: "f16".to_owned(),
        context: Some(8192),
        budget: Some(20 * GIB),
        gpus: vec![ModelRoom { id: "GPU-5a6c0a2e-93be".to_owned(), total: 24 * GIB, free: 20 * GIB }],
        measured: Vec::new(),
        ..OffloadModelReply::from(&head)
    }
}

/// A load that was measured, with all layers of [`served`] on GPUs.
pub(crate) fn measured(layers: u32, bytes: u64) -> MeasuredLoad {
    MeasuredLoad { context: 8192, parallel: 1, kv: "f16".to_owned(), layers, bytes }
}

pub(crate) fn service(name: &str, state: &str) -> OffloadService {
    OffloadService {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        offload: Offload {
            engine: "ollama".to_owned(),
            url: "http://localhost:11434".to_owned(),
            cpu_fallback: "refuse".to_owned(),
            ..Offload::default()
        },
        state: state.to_owned(),
        ..OffloadService::default()
    }
}

pub(crate) fn model(name: &str, state: &str) -> OffloadModel {
    OffloadModel { name: name.to_owned(), state: state.to_owned(), ..OffloadModel::default() }
}

/// Everything at once: models in every state, an incident, an engine that is silent, one that does not run.
pub(crate) fn reply() -> OffloadsReply {
    let loaded = |name: &str, state: &str, size, on_gpu, layers| OffloadModel {
        size: Some(size),
        size_vram: Some(on_gpu),
        layers: Some(layers),
        layers_all: Some(33),
        context: Some(8192),
        busy: Some(false),
        ..model(name, state)
    };
    let incident = "4.0G of its 6.0G are on the GPU, and 1.5G of its budget are free".to_owned();
    let hint = "see what its log says of memory: nixmoxctl logs ollama".to_owned();
    let models = vec![
        OffloadModel { keep: true, busy: Some(true), ..loaded("llama3.1:8b", "gpu", 5 * GIB, 5 * GIB, 33) },
        OffloadModel { incident, hint, ..loaded("qwen2.5-coder:7b", "partial", 6 * GIB, 4 * GIB, 25) },
        loaded("phi4", "cpu", 2 * GIB, 0, 0),
        model("gemma3:4b", "loading"),
        OffloadModel { keep: true, ..model("nomic-embed-text", "unloaded") },
        OffloadModel { size: Some(GIB), ..model("hf.co/somebody/with-a-name-that-does-not-end:Q4_K_M", "unknown") },
    ];
    let ollama = OffloadService {
        version: "0.12.10".to_owned(),
        memory_engine: "Ollama, layer by layer".to_owned(),
        budget: Some(11 * GIB),
        used: Some(9 * GIB + GIB / 2),
        decision: "nomic-embed-text is unloaded: whisper, which goes first, needs 4.0G of GPU 0".to_owned(),
        models,
        ..service("ollama", "answers")
    };
    let silent = OffloadService {
        reason: "no answer from http://localhost:8080/health within 2 s".to_owned(),
        budget: Some(4 * GIB),
        ..service("llama", "silent")
    };
    OffloadsReply { services: vec![silent, ollama, service("spare", "down")] }
}
