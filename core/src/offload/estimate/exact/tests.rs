//! Tests of the layout of what runners need; against logs: `logs`.

use super::super::logs::shapes::{self, Recipe};
use super::super::{Ask, Estimate, KvType, Layers, Room};
use super::layout::{Gpu, assign};
use super::{estimate, is_own_runner};
use crate::model::Bytes;
use crate::offload::engine::{MemoryEngine, Version};
use crate::offload::model::Model;

const GIB: u64 = 1 << 30;

fn ask(gib: &[u64]) -> Ask {
    Ask {
        engine: MemoryEngine::Exact,
        version: None,
        gpus: gib.iter().map(|gib| Room { total: Bytes(gib * GIB), free: Bytes(gib * GIB) }).collect(),
        context: 8192,
        parallel: 1,
        batch: 512,
        keys: KvType::F16,
        values: KvType::F16,
        flash_attention: true,
        layers: Layers::Auto,
    }
}

fn gpus(free: &[u64]) -> Vec<Gpu> {
    free.iter().enumerate().map(|(index, free)| Gpu { index, free: *free, is_used: false }).collect()
}

fn layers(estimate: &Estimate) -> Vec<u32> {
    estimate.gpus.iter().map(|gpu| gpu.layers).collect()
}

#[test]
fn layers_are_shared_out_evenly_on_as_few_gpus_as_hold_them() {
    let sizes = [10; 9];
    assert_eq!(assign(&sizes, &gpus(&[95, 95, 95]), None), [Some(0); 9]);
    let two = assign(&sizes, &gpus(&[80, 80, 80]), None);
    assert_eq!(two, [Some(0), Some(0), Some(0), Some(0), Some(1), Some(1), Some(1), Some(1), Some(1)]);
}

#[test]
fn the_output_is_left_out_before_a_layer_is() {
    let sizes = [10, 10, 10, 50];
    assert_eq!(assign(&sizes, &gpus(&[40]), None), [Some(0), Some(0), Some(0), None]);
    assert_eq!(assign(&sizes, &gpus(&[25]), None), [None, Some(0), Some(0), None]);
    assert_eq!(assign(&sizes, &gpus(&[80]), None), [Some(0); 4]);
}

#[test]
fn layers_that_were_asked_for_are_placed_even_where_they_do_not_fit() {
    let sizes = [10; 8];
    assert_eq!(assign(&sizes, &gpus(&[15]), Some(5)).iter().flatten().count(), 5);
    // The output is not one of them, unless all are asked for.
    assert_eq!(assign(&sizes, &gpus(&[90]), Some(2)), [None, None, None, None, None, Some(0), Some(0), None]);
    assert_eq!(assign(&sizes, &gpus(&[15]), Some(8)), [Some(0); 8]);
    assert_eq!(assign(&sizes, &gpus(&[90]), Some(0)), [None; 8]);
}

#[test]
fn a_gpu_that_has_buffers_is_used_again() {
    let mut some = gpus(&[95, 95]);
    some[1].is_used = true;
    let on = assign(&[10; 8], &some, None);
    assert_eq!(on.iter().flatten().filter(|gpu| **gpu == 1).count(), 4);
}

#[test]
fn windowed_layers_keep_their_window_and_a_batch() {
    let gemma = shapes::model(&shapes::GEMMA3_12B, Recipe::Q4Km);
    // 8 layers of all tokens, 40 of 1024 and 512; 8 KiB each.
    let of = estimate(&gemma, &ask(&[24]));
    assert_eq!((of.layers, of.gpus[0].cache), (49, Bytes((8 * 8192 + 40 * 1536) * 8192)));
    let two = estimate(&gemma, &Ask { parallel: 2, ..ask(&[24]) });
    // One token more of each request is kept, and all of it is rounded up to 256.
    assert_eq!(two.gpus[0].cache, Bytes((8 * 16384 + 40 * 2816) * 8192));
}

#[test]
fn states_are_kept_with_their_checkpoints() {
    let next = shapes::model(&shapes::QWEN3_NEXT, Recipe::Q4Km);
    let cache = |version| estimate(&next, &Ask { version: Some(version), ..ask(&[96]) }).gpus[0].cache.0;
    // 36 layers: 3 tokens of 8192 numbers are convolved, and 4096 rows of 128 kept; the others have 2 heads of 256.
    let (state, keys) = (36 * 4 * (3 * 8192 + 4096 * 128), 12 * 8192 * 2 * 2 * 256 * 2);
    assert_eq!(cache(Version(0, 15, 5)), 33 * state + keys);
    assert_eq!(cache(Version(0, 17, 1)), 25 * state + keys);
}

#[test]
fn keys_that_all_heads_share_are_kept_once() {
    let glm = shapes::model(&shapes::GLM4_FLASH, Recipe::Q4Km);
    assert_eq!(estimate(&glm, &ask(&[48])).gpus[0].cache, Bytes(47 * 8192 * (576 + 512) * 2));
}

#[test]
fn the_first_gpu_has_room_for_a_matrix_of_layers_that_are_elsewhere_since_0_12_8() {
    let qwen = shapes::model(&shapes::QWEN3_30B, Recipe::Q8_0);
    let compute = |version, layers| {
        let ask = Ask { version: Some(version), layers: Layers::Exactly(layers), ..ask(&[48, 48]) };
        estimate(&qwen, &ask).gpus.iter().map(|gpu| gpu.compute.0).collect::<Vec<_>>()
    };
    // 128 experts of 2048 times 768 numbers, 34 bytes for 32 of them.
    let matrix = 128 * 2048 * 768 * 34 / 32;
    let (before, since) = (compute(Version(0, 12, 7), 30), compute(Version(0, 12, 8), 30));
    assert_eq!(since.iter().sum::<u64>() - before.iter().sum::<u64>(), matrix);
    assert_eq!(compute(Version(0, 12, 7), 49), compute(Version(0, 12, 8), 49));
    // The machine itself does no more than to read tokens.
    let ask = Ask { version: Some(Version(0, 12, 8)), layers: Layers::Exactly(30), ..ask(&[48, 48]) };
    assert_eq!(estimate(&qwen, &ask).host.compute, Bytes(512 * 2048 * 4));
}

#[test]
fn buffers_are_those_of_attention_or_of_feed_forward_whichever_has_more() {
    let qwen = shapes::model(&shapes::QWEN3_8B_LIBRARY, Recipe::Q4Km);
    let host =
        |flash_attention| estimate(&qwen, &Ask { context: 4096, flash_attention, ..ask(&[]) }).host.compute.0;
    let row = 512 * 4;
    // Twice the vector of a token; queries, scores and what comes of them for 32 heads; the mask as it comes.
    assert_eq!(host(false), row * (2 * 4096 + 32 * (2 * 128 + 4096) + 4096));
    // Three hidden vectors, and a mask of 16 bits.
    assert_eq!(host(true), row * (2 * 4096 + 3 * 12288 + 4096 / 2));
}

#[test]
fn what_makes_vectors_of_texts_keeps_nothing() {
    let nomic = shapes::model(&shapes::NOMIC, Recipe::F16);
    let kept = |version| estimate(&nomic, &Ask { version: Some(version), ..ask(&[8]) }).gpus[0].cache;
    assert!(kept(Version(0, 13, 0)) > Bytes(0));
    assert_eq!(kept(Version(0, 13, 1)), Bytes(0));
}

#[test]
fn what_reads_tokens_stays_in_the_machines_memory_and_is_counted() {
    let qwen = shapes::model(&shapes::QWEN3_32B, Recipe::Q4Km);
    let of = estimate(&qwen, &ask(&[48]));
    assert_eq!((layers(&of), of.host.weights), (vec![65], Bytes(151_936 * 5120 * 9 / 16)));
    assert_eq!(of.host.compute, Bytes(5120 * 512 * 4));
}

#[test]
fn more_room_never_means_fewer_layers() {
    for shape in [shapes::LLAMA_8B, shapes::GEMMA3_12B, shapes::QWEN3_30B] {
        let model = shapes::model(&shape, Recipe::Q4Km);
        let on: Vec<u32> = (0..40).map(|gib| estimate(&model, &ask(&[gib])).layers).collect();
        let all = u32::try_from(shape.layers).unwrap() + 1;
        assert!(on.is_sorted() && on[0] == 0 && on[39] == all, "{}: {on:?}", shape.architecture);
    }
}

#[test]
fn what_is_on_gpus_is_within_their_room() {
    for shape in [shapes::LLAMA_70B, shapes::GPT_OSS_120B, shapes::GEMMA3_27B] {
        let model = shapes::model(&shape, Recipe::Q4_0);
        for room in [[4, 8], [8, 8], [24, 6], [24, 24]] {
            for parts in estimate(&model, &ask(&room)).gpus.iter().zip(room).map(|(parts, gib)| (*parts, gib * GIB))
            {
                let (parts, room) = parts;
                let sum = parts.weights.0 + parts.cache.0 + parts.compute.0 + parts.overhead.0;
                assert!(sum <= room, "{}: {parts:?} of {room}", shape.architecture);
            }
        }
    }
}

#[test]
fn a_model_moves_to_the_own_runner_with_a_version_and_once_moved_back() {
    let is_own = |patch| is_own_runner("qwen3", Version(0, 12, patch));
    assert_eq!([0, 4, 5, 6].map(is_own), [true, true, false, true]);
    assert!(!is_own_runner("qwen3", Version(0, 11, 11)) && !is_own_runner("llama", Version(0, 24, 0)));
}

#[test]
fn an_architecture_that_was_not_compared_is_a_doubt() {
    let mut model = shapes::model(&shapes::QWEN3_32B, Recipe::Q4Km);
    assert_eq!(estimate(&model, &ask(&[48])).doubts, Vec::<String>::new());
    model.architecture = "glm4moelite".to_owned();
    assert!(estimate(&model, &ask(&[48])).doubts[0].contains("glm4moelite"));
}

#[test]
fn pictures_take_buffers_and_are_a_doubt_where_they_were_not_compared() {
    let model = shapes::model(&shapes::MISTRAL3, Recipe::Q4Km);
    let of = |model: &Model, version, flash_attention| {
        estimate(model, &Ask { version: Some(version), flash_attention, ..ask(&[64]) })
    };
    assert_eq!(of(&model, Version(0, 13, 3), false).doubts, Vec::<String>::new());
    assert!(of(&model, Version(0, 13, 3), true).doubts[0].contains("flash attention"));
    // Larger pictures are taken since 0.13.4.
    let mut model = named(&model, "qwen25vl");
    let before = of(&model, Version(0, 13, 3), false).gpus[0].compute;
    let since = of(&model, Version(0, 13, 4), false).gpus[0].compute;
    assert!(since.0 > 3 * before.0, "{before:?} {since:?}");
    model = named(&model, "qwen3vl");
    assert!(of(&model, Version(0, 13, 3), false).doubts[0].contains("not counted"));
}

/// The model as one of another architecture.
fn named(model: &Model, architecture: &str) -> Model {
    let mut named = model.clone();
    named.architecture = architecture.to_owned();
    named.metadata = model
        .metadata
        .iter()
        .map(|(key, value)| (key.replacen(&model.architecture, architecture, 1), value.clone()))
        .collect();
    named
}
