//! Loads in logs that were estimated first and compared then.

use super::hybrid::{self, Kinds, QWEN35_9B, QWEN35_27B};
use super::{Asked, Case};
use crate::offload::estimate::KvType;
use crate::offload::estimate::logs::shapes::{self, Recipe, Shape};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = older();
    cases.extend(newer());
    cases
}

/// Builds of 2024 and 2025.
fn older() -> Vec<Case> {
    let qwen2_half = Shape {
        layers: 24,
        embedding: 896,
        hidden: 4864,
        heads: 14,
        heads_kv: 2,
        output: Some("Q8_0"),
        ..shapes::QWEN2_1B
    };
    let qwen2_14b = Shape { vocabulary: 151_665, ..shapes::QWEN2_14B };
    let qwen3_half = Shape { layers: 28, embedding: 1024, hidden: 3072, is_tied: false, ..shapes::QWEN3_1B };
    let qwen3_14b = Shape { layers: 40, hidden: 17408, heads: 40, ..shapes::QWEN3_32B };
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
    let gpt_oss = Shape { architecture: "gpt-oss", ..shapes::GPT_OSS_20B };
    let case = |name, shape, recipe, build, context, asked, layers, logged| Case {
        flash_attention: false,
        ..Case::new(name, shapes::model(&shape, recipe), build, context, asked, layers, logged)
    };
    vec![
        Case {
            second: Some([226.06, 176.0, 1166.02]),
            ..case(
                "Qwen 2 0.5B, two GPUs",
                qwen2_half,
                Recipe::Q4_0,
                3_400,
                32_768,
                Asked::Layers(99),
                25,
                [104.91, 208.0, 1166.01, 257.77],
            )
        },
        case(
            "Qwen 2 14B, Metal",
            qwen2_14b,
            Recipe::Q4Km,
            4_840,
            4096,
            Asked::Layers(99),
            49,
            [0.0, 768.0, 368.0, 18.01],
        ),
        case(
            "Gemma 3 1B",
            gemma_1b,
            Recipe::Q8_0,
            4_879,
            8192,
            Asked::Layers(99),
            27,
            [1013.54, 208.0, 514.25, 34.26],
        ),
        case(
            "Qwen 3 235B-A22B",
            shapes::QWEN3_235B,
            Recipe::Q4Km,
            5_398,
            4096,
            Asked::Layers(93),
            93,
            [0.0, 744.0, 791.61, 16.01],
        ),
        case(
            "Qwen 3 30B-A3B",
            shapes::QWEN3_30B,
            Recipe::Q4Km,
            5_466,
            4096,
            Asked::Layers(30),
            30,
            [10750.86, 0.0, 0.0, 0.0],
        ),
        case("Qwen 3 0.6B", qwen3_half, Recipe::Q4Km, 5_900, 4096, Asked::Layers(0), 0, [0.0, 0.0, 422.92, 12.01]),
        case("Qwen 3 14B", qwen3_14b, Recipe::Q8_0, 5_900, 4096, Asked::Layers(0), 0, [0.0, 0.0, 1094.99, 18.01]),
        Case {
            flash_attention: true,
            batch: 2048,
            outputs: 2048,
            ..case(
                "gpt-oss 20B, Metal",
                gpt_oss,
                Recipe::Mxfp4,
                7_200,
                131_072,
                Asked::Layers(99),
                25,
                [0.0, 3126.0, 1672.08, 1064.59],
            )
        },
    ]
}

/// Builds since December 2025.
fn newer() -> Vec<Case> {
    // Logs say no more than four bits, or the size of a file: what a layer takes on average follows from that.
    let plain = Kinds { attention: "Q4_K", down: "Q4_K", others: "Q4_K" };
    let more = Kinds { attention: "Q6_K", down: "Q5_K", others: "Q4_K" };
    vec![
        Case::new(
            "Qwen 3 Coder 30B-A3B",
            shapes::model(&shapes::QWEN3_30B, Recipe::Q8_0),
            7_342,
            65_536,
            Asked::Layers(99),
            49,
            [30658.12, 6144.0, 300.75, 132.01],
        ),
        Case::new(
            "Qwen 2.5 Coder 7B",
            shapes::model(&shapes::QWEN2_7B, Recipe::Q4Km),
            7_437,
            4096,
            Asked::Layers(99),
            29,
            [4168.09, 224.0, 304.0, 15.01],
        ),
        Case {
            kind: KvType::Q8_0,
            ..Case::new(
                "Qwen 3.8 27B",
                hybrid::model(&QWEN35_27B, plain),
                8_946,
                200_192,
                Asked::Fit(23_154),
                65,
                [14032.23, 6796.62, 654.78, 411.29],
            )
        },
        Case {
            kind: KvType::Q8_0,
            ..Case::new(
                "Qwen 3.5 9B, Metal",
                hybrid::model(&QWEN35_9B, plain),
                9_000,
                262_144,
                Asked::Layers(99),
                33,
                [4588.0, 4402.25, 832.6, 528.29],
            )
        },
        Case {
            batch: 2048,
            ..Case::new(
                "Qwen 3.5 9B",
                hybrid::model(&QWEN35_9B, more),
                9_849,
                8192,
                Asked::Fit(5_173),
                20,
                [3393.11, 189.31, 498.0, 128.16],
            )
        },
        // The four share one context.
        Case {
            slots: 4,
            batch: 2048,
            outputs: 4,
            ..Case::new(
                "Qwen 3.5 9B, four requests",
                hybrid::model(&QWEN35_9B, more),
                9_849,
                8192,
                Asked::Fit(5_022),
                18,
                [3123.8, 260.5, 0.0, 0.0],
            )
        },
        Case {
            slots: 4,
            batch: 2048,
            outputs: 4,
            ..Case::new(
                "Qwen 3.5 9B, four requests",
                hybrid::model(&QWEN35_9B, more),
                9_849,
                8192,
                Asked::Fit(6_898),
                31,
                [4854.94, 440.25, 0.0, 0.0],
            )
        },
    ]
}
