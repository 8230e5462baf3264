//! Estimates against what llama.cpp logged on GPUs: a table, and how close they are. What a log does not say is 0.

use super::{Build, Measure, Measured, Placement, Setup};
use crate::model::Bytes;
use crate::offload::engine::Version;
use crate::offload::estimate::KvType;
use crate::offload::estimate::fit::fit;
use crate::offload::estimate::logs::shapes::{self, Recipe, Shape};

/// Where layers were placed.
enum Asked {
    /// By `--fit`, with so many MiB free, of which 1024 were to be left.
    Fit(u64),
    /// So many layers.
    Layers(usize),
}

/// A load.
struct Case {
    model: &'static str,
    shape: Shape,
    recipe: Recipe,
    build: u32,
    context: u64,
    outputs: u64,
    kind: KvType,
    flash_attention: bool,
    asked: Asked,
    layers: u32,
    /// MiB of weights, cache and compute buffers on the GPU, and of the compute buffer on the host.
    logged: [f64; 4],
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
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
    let case = |model, shape, recipe, build, context, asked, layers, logged| Case {
        model,
        shape,
        recipe,
        build,
        context,
        outputs: if build >= super::FEW_OUTPUTS_SINCE { 1 } else { 512 },
        kind: KvType::F16,
        flash_attention: true,
        asked,
        layers,
        logged,
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
        case.outputs = if case.build >= 10_600 { 4 } else { case.outputs };
        if case.context == 16_384 {
            case.kind = KvType::Q8_0;
        }
    }
    cases
}

fn estimated(case: &Case) -> (u32, Measured) {
    let model = shapes::model(&case.shape, case.recipe);
    let build = Build::of(Some(Version(0, 0, case.build)));
    let setup = Setup {
        context: case.context,
        sequences: 1,
        batch: 512,
        outputs: case.outputs,
        keys: case.kind,
        values: case.kind,
        flash_attention: case.flash_attention,
        build,
    };
    match case.asked {
        Asked::Fit(free) => {
            let fitted = fit(&model, &setup, &[(free - 1024) << 20], false);
            (fitted.placement.on_gpus(), fitted.measured)
        }
        Asked::Layers(layers) => {
            let measure = Measure::new(&model, setup);
            let placement = Placement::of(measure.layers(), layers, &[1], build.output_first);
            (placement.on_gpus(), measure.take(&placement))
        }
    }
}

fn mib(bytes: Bytes) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "compared to hundredths of a MiB")]
    let bytes = bytes.0 as f64;
    bytes / f64::from(1 << 20)
}

/// How close estimates are, as `docs/offload-accuracy.md` says it too.
#[test]
fn estimates_are_as_close_to_logs_as_the_documentation_says() {
    let cases = cases();
    let (mut exact, mut errors, mut totals) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let (layers, measured) = estimated(case);
        exact += usize::from(layers == case.layers);
        let gpu = measured.gpus[0];
        let said = [mib(gpu.weights), mib(gpu.cache), mib(gpu.compute), mib(measured.host.compute)];
        let known: Vec<(f64, f64)> =
            said.into_iter().zip(case.logged).filter(|(_, logged)| *logged > 0.0).collect();
        errors.extend(known.iter().map(|(said, logged)| (said - logged).abs() / logged));
        if case.logged[..3].iter().all(|logged| *logged > 0.0) {
            let sum: f64 = case.logged[..3].iter().sum();
            totals.push((said[..3].iter().sum::<f64>() - sum).abs() / sum);
        }
        let shown =
            |all: [f64; 4]| all.map(|mib| if mib > 0.0 { format!("{mib:.2}") } else { String::new() }).join(" · ");
        println!(
            "| {} | b{} | {} {} | {} | {layers} | {} | {} |",
            case.model,
            case.build,
            case.context,
            case.kind.as_word(),
            case.layers,
            shown(case.logged),
            shown(said)
        );
    }
    let close = errors.iter().filter(|error| **error <= 0.05).count();
    println!("{exact} of {} exact, {close} of {} figures within 5 %, totals {totals:?}", cases.len(), errors.len());
    assert_eq!((cases.len(), exact), (11, 11));
    assert!(totals.iter().all(|error| *error <= 0.05), "{totals:?}");
    assert_eq!((errors.len(), close), (34, 31));
}
