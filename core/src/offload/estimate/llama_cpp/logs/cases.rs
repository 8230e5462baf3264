//! Loads in logs up to October 2026 that estimates were made with.

use super::{Asked, Case};
use crate::offload::estimate::KvType;
use crate::offload::estimate::logs::shapes::{self, Recipe, Shape};

#[allow(clippy::too_many_lines, reason = "a table")]
pub(super) fn cases() -> Vec<Case> {
    let llama = Shape { context: 131_072, ..shapes::LLAMA_8B };
    let llama_1b = Shape {
        layers: 16,
        embedding: 2048,
        hidden: 8192,
        heads: 32,
        heads_kv: 8,
        is_tied: true,
        ..shapes::LLAMA_8B
    };
    let qwen_3b = Shape { layers: 36, embedding: 2048, hidden: 11008, heads: 16, heads_kv: 2, ..shapes::QWEN2_1B };
    let qwen3_4b = Shape {
        layers: 36,
        embedding: 2560,
        hidden: 9728,
        heads: 32,
        heads_kv: 8,
        head: 128,
        is_tied: true,
        vocabulary: 151_936,
        ..shapes::QWEN3_32B
    };
    let qwen3_8b = Shape { embedding: 4096, hidden: 12288, is_tied: false, ..qwen3_4b };
    let gemma_1b = Shape {
        layers: 26,
        embedding: 1152,
        hidden: 6912,
        heads: 4,
        heads_kv: 1,
        window: 512,
        vision: None,
        ..shapes::GEMMA3_4B
    };
    let case = |name, shape, recipe, build, context, asked, layers, logged| {
        Case::new(name, shapes::model(&shape, recipe), build, context, asked, layers, logged)
    };
    let mut cases = vec![
        case(
            "Llama 3.1 8B",
            llama,
            Recipe::Q4_0,
            9_700,
            32_768,
            Asked::Fit(5141),
            15,
            [2049.43, 1792.0, 248.0, 48.01],
        ),
        case(
            "Qwen 2.5 7B",
            shapes::QWEN2_7B,
            Recipe::Q4Km,
            9_700,
            4096,
            Asked::Fit(3773),
            16,
            [2439.44, 120.0, 183.44, 0.0],
        ),
        case(
            "Qwen 2.5 7B",
            shapes::QWEN2_7B,
            Recipe::Q4Km,
            9_700,
            4096,
            Asked::Layers(25),
            25,
            [3616.41, 192.0, 183.44, 0.0],
        ),
        case(
            "Qwen 3 4B",
            qwen3_4b,
            Recipe::Q4Km,
            11_300,
            8192,
            Asked::Layers(99),
            37,
            [2375.91, 1152.0, 85.01, 28.02],
        ),
        case(
            "Qwen 2.5 7B",
            shapes::QWEN2_7B,
            Recipe::Q4Km,
            10_600,
            16_384,
            Asked::Layers(99),
            29,
            [4168.09, 476.0, 148.09, 0.0],
        ),
        case(
            "Qwen 3 30B-A3B",
            shapes::QWEN3_30B,
            Recipe::Q4Km,
            9_700,
            131_072,
            Asked::Layers(99),
            49,
            [17524.43, 12288.0, 168.0, 0.0],
        ),
        case("Llama 3.2 1B", llama_1b, Recipe::Q4Km, 7_100, 4096, Asked::Layers(99), 17, [0.0, 0.0, 254.5, 12.01]),
        case(
            "Llama 3 8B",
            shapes::LLAMA_8B,
            Recipe::Q4Km,
            3_000,
            8192,
            Asked::Layers(99),
            33,
            [4403.49, 1024.0, 0.0, 0.0],
        ),
    ];
    let mut old = vec![
        case("Qwen 2.5 3B", qwen_3b, Recipe::Q4Km, 4_701, 4096, Asked::Layers(99), 37, [0.0, 144.0, 300.75, 12.01]),
        case(
            "Gemma 3 1B",
            gemma_1b,
            Recipe::Q4Km,
            4_950,
            4096,
            Asked::Layers(99),
            27,
            [762.54, 104.0, 514.25, 18.26],
        ),
        case(
            "Qwen 3 8B",
            qwen3_8b,
            Recipe::Q4Km,
            5_950,
            131_072,
            Asked::Layers(19),
            19,
            [0.0, 9728.0, 9240.0, 264.01],
        ),
    ];
    for case in &mut old {
        case.flash_attention = false;
    }
    cases.append(&mut old);
    for case in &mut cases {
        // Four slots share one context.
        (case.slots, case.outputs) = if case.build >= 10_600 { (4, 4) } else { (case.slots, case.outputs) };
        if case.context == 16_384 {
            case.kind = KvType::Q8_0;
        }
    }
    cases
}
