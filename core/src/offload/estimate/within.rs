//! What is laid out by itself keeps to what may be used of a GPU, by every formula.
//!
//! Of several GPUs no such thing holds: engines look at one after the other, and buffers on those before change by it.

use super::logs::shapes::{self, Recipe};
use super::{Ask, KvType, Layers, MemoryEngine, Room, estimate};
use crate::model::Bytes;
use crate::offload::engine::Version;

#[test]
fn a_gpu_with_layers_gets_no_more_than_may_be_used_of_it() {
    let engines = [
        (MemoryEngine::Layered, Version(0, 1, 48)),
        (MemoryEngine::Layered, Version(0, 6, 8)),
        (MemoryEngine::Layered, Version(0, 12, 10)),
        (MemoryEngine::Exact, Version(0, 12, 11)),
        (MemoryEngine::Exact, Version(0, 24, 0)),
        (MemoryEngine::Fit, Version(0, 33, 0)),
        (MemoryEngine::Fit, Version(0, 0, 11_434)),
    ];
    let mut failed = Vec::new();
    let mut compared = 0;
    for shape in [shapes::LLAMA_3B, shapes::GEMMA3_4B, shapes::QWEN3_30B, shapes::GPT_OSS_20B, shapes::QWEN2_7B] {
        let model = shapes::model(&shape, Recipe::Q4Km);
        for (engine, version) in engines {
            for part in [0, 3, 8, 15, 30, 45, 60, 75, 90, 100, 110, 125, 150] {
                let free = Bytes(model.weights() / 100 * part);
                let ask = Ask {
                    engine,
                    version: Some(version),
                    gpus: vec![Room { total: free, free }],
                    context: 8192,
                    parallel: 1,
                    batch: 512,
                    keys: KvType::F16,
                    values: KvType::F16,
                    flash_attention: engine != MemoryEngine::Layered,
                    layers: Layers::Auto,
                };
                let found = estimate(&model, &ask);
                for gpu in found.gpus.iter().filter(|gpu| gpu.layers > 0) {
                    // The driver's part comes on top of what `--fit` lays out.
                    let overhead = if engine == MemoryEngine::Fit { 0 } else { gpu.overhead.0 };
                    let all = gpu.weights.0 + gpu.cache.0 + gpu.compute.0 + overhead;
                    compared += 1;
                    if all > free.0 {
                        failed.push(format!(
                            "{} of {engine:?} {version}, {part} %: it has {} of {} MiB",
                            shape.architecture,
                            all >> 20,
                            free.0 >> 20
                        ));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "{} of {compared}: {failed:#?}", failed.len());
    assert!(compared > 300, "{compared}");
}
