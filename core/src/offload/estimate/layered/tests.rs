//! Tests of the estimate layer by layer; against logs: `logs`.

use super::super::logs::shapes::{self, Recipe};
use super::super::{Ask, Estimate, KvType, Layers, Room};
use super::{MINIMUM, estimate};
use crate::model::Bytes;
use crate::offload::engine::{MemoryEngine, Version};
use crate::offload::gguf::Value;
use crate::offload::model::Model;

const GIB: u64 = 1 << 30;

fn ask(version: Version, gib: &[u64]) -> Ask {
    Ask {
        engine: MemoryEngine::Layered,
        version: Some(version),
        gpus: gib.iter().map(|gib| Room { total: Bytes(gib * GIB), free: Bytes(gib * GIB) }).collect(),
        context: 4096,
        parallel: 1,
        batch: 512,
        keys: KvType::F16,
        values: KvType::F16,
        flash_attention: false,
        layers: Layers::Auto,
    }
}

fn llama() -> Model {
    shapes::model(&shapes::LLAMA_8B, Recipe::Q4Km)
}

fn layers(estimate: &Estimate) -> Vec<u32> {
    estimate.gpus.iter().map(|gpu| gpu.layers).collect()
}

#[test]
fn without_a_gpu_everything_is_in_the_machines_memory() {
    let of = estimate(&llama(), &ask(Version(0, 6, 8), &[]));
    assert_eq!((of.layers, of.layers_all, of.host.layers), (0, 33, 33));
    assert_eq!(of.host.cache, Bytes(GIB / 2));
}

#[test]
fn a_gpu_with_too_little_room_for_two_layers_gets_none() {
    let of = estimate(&llama(), &ask(Version(0, 6, 8), &[1]));
    assert_eq!((layers(&of), of.gpus[0].overhead), (vec![0], Bytes(0)));
}

#[test]
fn a_model_that_fits_one_gpu_is_on_that_with_most_room() {
    assert_eq!(layers(&estimate(&llama(), &ask(Version(0, 6, 8), &[8, 24]))), [0, 33]);
}

#[test]
fn two_of_three_gpus_are_enough_since_the_fewest_are_looked_for() {
    let model = shapes::model(&shapes::QWEN2_32B, Recipe::Q4Km);
    let before = estimate(&model, &ask(Version(0, 11, 4), &[16, 16, 16]));
    assert!(before.gpus.iter().all(|gpu| gpu.layers > 0), "{before:?}");
    let since = layers(&estimate(&model, &ask(Version(0, 11, 5), &[16, 16, 16])));
    assert_eq!((since.iter().filter(|layers| **layers > 0).count(), since.iter().sum::<u32>()), (2, 65));
}

#[test]
fn more_room_never_means_fewer_layers() {
    for version in [Version(0, 1, 33), Version(0, 1, 40), Version(0, 5, 4), Version(0, 7, 0), Version(0, 12, 10)] {
        let on: Vec<u32> = (0..12).map(|gib| estimate(&llama(), &ask(version, &[gib])).layers).collect();
        assert!(on.is_sorted() && on.last() == Some(&33) && on.first() == Some(&0), "{version:?}: {on:?}");
    }
}

#[test]
fn what_is_on_a_gpu_is_within_its_room() {
    for gib in 2..8 {
        let of = estimate(&llama(), &ask(Version(0, 6, 8), &[gib]));
        let parts = of.gpus[0];
        let sum = parts.weights.0 + parts.cache.0 + parts.compute.0 + parts.overhead.0;
        assert!(sum <= gib * GIB, "{gib} GiB: {parts:?}");
    }
}

#[test]
fn layers_that_were_asked_for_are_placed_even_where_they_do_not_fit() {
    let asked = |layers| Ask { layers: Layers::Exactly(layers), ..ask(Version(0, 6, 8), &[4]) };
    let few = estimate(&llama(), &asked(5));
    assert_eq!((layers(&few), few.doubts.len()), (vec![5], 0));
    let many = estimate(&llama(), &asked(99));
    assert_eq!((layers(&many), many.doubts.len()), (vec![33], 1), "{:?}", many.doubts);
    assert_eq!(estimate(&llama(), &asked(0)).layers, 0);
}

#[test]
fn the_first_formula_takes_all_gpus_as_one() {
    let model = shapes::model(&shapes::LLAMA_70B, Recipe::Q4_0);
    let of = estimate(&model, &ask(Version(0, 1, 38), &[24, 24]));
    assert_eq!(layers(&of).iter().sum::<u32>(), 81);
    assert_eq!(of.gpus[0].layers.abs_diff(of.gpus[1].layers), 1);
    assert!(of.gpus.iter().map(|gpu| gpu.overhead.0).sum::<u64>() > MINIMUM);
}

#[test]
fn keys_and_values_take_fewer_bits_only_with_flash_attention_and_since_0_5() {
    let cache = |version, flash_attention| {
        let ask = Ask { keys: KvType::Q8_0, values: KvType::Q8_0, flash_attention, ..ask(version, &[24]) };
        estimate(&llama(), &ask).gpus[0].cache.0
    };
    assert_eq!(cache(Version(0, 5, 0), true), GIB / 4);
    assert_eq!(cache(Version(0, 5, 0), false), GIB / 2);
    assert_eq!(cache(Version(0, 4, 7), true), GIB / 2);
}

#[test]
fn requests_at_the_same_time_multiply_the_context() {
    let two = Ask { parallel: 2, ..ask(Version(0, 9, 0), &[24]) };
    let of = estimate(&llama(), &two);
    assert_eq!((of.context, of.gpus[0].cache), (4096, Bytes(GIB)));
}

#[test]
fn a_context_beyond_what_the_model_was_trained_with_is_cut_since_0_9_3() {
    let model = shapes::model(&shapes::LLAMA2_7B, Recipe::Q4_0);
    let context = |version| estimate(&model, &Ask { context: 9000, ..ask(version, &[24]) }).context;
    assert_eq!((context(Version(0, 9, 2)), context(Version(0, 9, 3))), (9000, 4096));
}

#[test]
fn models_of_ollamas_own_runner_leave_this_formula_with_0_11_11() {
    let model = shapes::model(&shapes::GEMMA3_4B, Recipe::Q4Km);
    assert_eq!(estimate(&model, &ask(Version(0, 11, 10), &[24])).formula, "Ollama, layer by layer");
    assert_eq!(estimate(&model, &ask(Version(0, 11, 11), &[24])).formula, "Ollama, its own runner");
    assert_eq!(estimate(&llama(), &ask(Version(0, 12, 10), &[24])).formula, "Ollama, layer by layer");
}

#[test]
fn an_architecture_without_terms_is_a_doubt() {
    let mut model = llama();
    assert_eq!(estimate(&model, &ask(Version(0, 6, 8), &[24])).doubts, Vec::<String>::new());
    model.architecture = "starcoder2".to_owned();
    let doubts = estimate(&model, &ask(Version(0, 6, 8), &[24])).doubts;
    assert!(doubts[0].contains("starcoder2"), "{doubts:?}");
}

#[test]
fn numbers_of_a_hostile_file_saturate() {
    for shape in [shapes::LLAMA_8B, shapes::GEMMA3_4B, shapes::GPT_OSS_20B, shapes::MISTRAL3, shapes::DEEPSEEK_LITE]
    {
        let mut model = shapes::model(&shape, Recipe::Q4Km);
        for value in model.metadata.values_mut() {
            if let Value::Unsigned(number) = value {
                *number = u64::MAX;
            }
        }
        for version in [Version(0, 1, 33), Version(0, 6, 8), Version(0, 12, 10), Version(0, 24, 0)] {
            let asked = Ask { context: u32::MAX, parallel: u32::MAX, ..ask(version, &[24, 8]) };
            assert_eq!(estimate(&model, &asked).layers, 0, "{} {version:?}", shape.architecture);
        }
    }
}
