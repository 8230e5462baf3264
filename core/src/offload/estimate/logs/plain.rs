//! The formulas of engines as they are described in short, counted once more from nothing but a model's head, beside ours.

use super::shapes::{self, Recipe};
use super::*;
use crate::model::Bytes;
use crate::offload::estimate::KvType;
use crate::offload::model::bytes;

/// What a GPU is taken to need for itself.
const MINIMUM: u64 = 457 << 20;
/// Tokens that are computed at once.
const BATCH: u64 = 512;

/// Numbers of a model's head.
struct Head {
    heads: u64,
    heads_kv: u64,
    key: u64,
    embedding: u64,
    vocabulary: u64,
}

impl Head {
    fn of(shape: &shapes::Shape) -> Self {
        let shapes::Shape { heads, heads_kv, head, embedding, vocabulary, .. } = *shape;
        let key = if head == 0 { embedding / heads } else { head };
        Self { heads, heads_kv, key, embedding, vocabulary }
    }

    /// Keys and values of a layer in 16 bits.
    fn cache(&self, context: u64) -> u64 {
        context * (self.key + self.key) * self.heads_kv * 2
    }

    /// Buffers with a part of the layers, and with all of them.
    fn graph(&self, architecture: &str, context: u64, layers: u64) -> (u64, u64) {
        let Self { heads, heads_kv, key, embedding, vocabulary } = *self;
        let output = 4 * BATCH * (embedding + vocabulary);
        if architecture != "llama" {
            // Nobody has terms for it.
            let guess = heads / heads_kv * self.cache(context) * layers / 6;
            return (guess, guess);
        }
        let full = (4 * BATCH * (1 + 4 * embedding + context * (1 + heads))).max(output);
        let copies = 4 * BATCH * (1 + embedding + context.max(embedding)) + embedding * embedding * 9 / 16;
        let keys = 4 * context * (BATCH * heads + key * heads_kv);
        let partial = 4 * BATCH * embedding + (copies + keys).max(output + embedding * vocabulary * 105 / 128);
        (partial, full)
    }
}

/// Returns the layers that Ollama 0.6.8 puts on one GPU, and the memory that it counts there.
fn layer_by_layer(model: &Model, of: &Head, context: u64, free: u64) -> (u32, u64) {
    let cache = of.cache(context);
    let (partial, full) = of.graph(&model.architecture, context, model.layers.len() as u64);
    let graph = partial.max(full);
    let held = bytes(&model.layers[0]) + cache;
    if free < graph + MINIMUM + 2 * held {
        return (0, 0);
    }
    let (mut used, mut count) = (MINIMUM + held, 0);
    for size in model.layers.iter().map(|layer| bytes(layer) + cache).chain([bytes(&model.output)]) {
        if free <= used + graph + size {
            break;
        }
        (used, count) = (used + size, count + 1);
    }
    let is_all = count as usize == model.layers.len() + 1;
    (count, used + if is_all { full } else { partial })
}

fn asked(engine: MemoryEngine, version: Option<Version>, context: u32, free: u64) -> Ask {
    Ask {
        engine,
        version,
        gpus: vec![Room { total: Bytes(free), free: Bytes(free) }],
        context,
        parallel: 1,
        batch: 512,
        keys: KvType::F16,
        values: KvType::F16,
        flash_attention: false,
        layers: Layers::Auto,
    }
}

fn sum(parts: &Parts) -> u64 {
    parts.weights.0 + parts.cache.0 + parts.compute.0 + parts.overhead.0
}

const SHAPES: [(&str, shapes::Shape); 8] = [
    ("llama 1.1b", shapes::TINYLLAMA),
    ("llama 3b", shapes::LLAMA_3B),
    ("llama 7b", shapes::LLAMA2_7B),
    ("llama 8b", shapes::LLAMA_8B),
    ("llama 70b", shapes::LLAMA_70B),
    ("mistral 7b", shapes::MISTRAL_7B),
    ("granite 8b", shapes::GRANITE_8B),
    ("qwen3 32b, without terms", shapes::QWEN3_32B),
];

#[test]
fn layers_and_memory_are_those_of_the_formula_counted_by_hand() {
    let (mut all, mut same, mut worst, mut partial) = (0, 0, 0.0_f64, 0);
    for (name, shape) in SHAPES {
        let model = shapes::model(&shape, Recipe::Q4Km);
        let head = Head::of(&shape);
        for context in [2048_u32, 8192, 32_768] {
            for gib in 1..=48_u64 {
                let by_hand = layer_by_layer(&model, &head, u64::from(context), gib << 30);
                let ask = asked(MemoryEngine::Layered, Some(Version(0, 6, 8)), context, gib << 30);
                let ours = estimate(&model, &ask);
                let gpu = sum(&ours.gpus[0]);
                all += 1;
                partial += usize::from(by_hand.0 > 0 && by_hand.0 < ours.layers_all);
                same += usize::from(by_hand.0 == ours.layers);
                let off = float(gpu.abs_diff(by_hand.1)) / float(by_hand.1.max(1));
                worst = worst.max(off);
                if by_hand.0 != ours.layers || off > 0.001 {
                    println!("{name}, context {context}, {gib} GiB: {by_hand:?}, ours {} {gpu}", ours.layers);
                }
            }
        }
    }
    println!(
        "{same} of {all} the same ({partial} with a part of the layers), memory off by {:.3} % at most",
        worst * 100.0
    );
    assert_eq!((all, same), (1152, 1152));
    assert!(worst < 0.001, "{worst}");
}

#[test]
fn what_ollama_from_0_30_on_checks_before_a_load_is_weights_and_cache_as_we_count_them() {
    let (mut worst, mut most) = (0.0_f64, 0.0_f64);
    for (name, shape) in SHAPES {
        let model = shapes::model(&shape, Recipe::Q4Km);
        for context in [2048_u32, 8192, 32_768] {
            let cache = Head::of(&shape).cache(u64::from(context)) * model.layers.len() as u64;
            // The size of the file, and keys and values in 16 bits.
            let checked = model.weights() + cache;
            let ask = asked(MemoryEngine::Fit, None, context, 1 << 40);
            let ours = estimate(&model, &Ask { flash_attention: true, ..ask });
            let all = ours.gpus.iter().chain([&ours.host]);
            let taken = all.clone().map(|parts| parts.weights.0 + parts.cache.0).sum::<u64>();
            let buffers = all.map(|parts| parts.compute.0).sum::<u64>();
            // A matrix that is input and output is on the GPU and in the machine's memory, and in the file once.
            let twice = if model.is_tied { bytes(&model.input) } else { 0 };
            let off = float(taken.abs_diff(checked + twice)) / float(checked);
            let more = float(taken + buffers) / float(checked) - 1.0;
            println!("{name}, context {context}: off by {:.3} %, takes {:.1} % more", off * 100.0, more * 100.0);
            (worst, most) = (worst.max(off), most.max(more));
            assert!(taken + buffers > checked, "{name}");
        }
    }
    println!("off by {:.3} % at most, takes up to {:.1} % more", worst * 100.0, most * 100.0);
    assert!(worst < 0.001 && most < 0.2, "{worst} {most}");
}
