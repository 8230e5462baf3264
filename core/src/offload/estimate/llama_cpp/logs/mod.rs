//! Estimates against what llama.cpp logged on GPUs: a table, and how close they are. What a log does not say is 0.

mod cases;
mod found;
mod hybrid;

use super::{Build, Measure, Measured, Placement, Setup};
use crate::model::Bytes;
use crate::offload::engine::Version;
use crate::offload::estimate::KvType;
use crate::offload::estimate::fit::fit;
use crate::offload::model::Model;

/// Where layers were placed.
#[derive(Clone, Copy)]
enum Asked {
    /// By `--fit`, with so many MiB free, of which 1024 were to be left.
    Fit(u64),
    /// So many layers.
    Layers(usize),
}

/// A load.
struct Case {
    name: &'static str,
    model: Model,
    build: u32,
    context: u64,
    sequences: u64,
    slots: u64,
    batch: u64,
    outputs: u64,
    kind: KvType,
    flash_attention: bool,
    asked: Asked,
    layers: u32,
    /// MiB of weights, cache and compute buffers on the GPU, and of the compute buffer on the host.
    logged: [f64; 4],
    /// The first three of a second GPU.
    second: Option<[f64; 3]>,
}

impl Case {
    /// A load of one sequence, with what most builds take where nothing else is asked for.
    fn new(
        name: &'static str,
        model: Model,
        build: u32,
        context: u64,
        asked: Asked,
        layers: u32,
        logged: [f64; 4],
    ) -> Self {
        Self {
            name,
            model,
            build,
            context,
            sequences: 1,
            slots: 1,
            batch: 512,
            outputs: if build >= super::FEW_OUTPUTS_SINCE { 1 } else { 512 },
            kind: KvType::F16,
            flash_attention: true,
            asked,
            layers,
            logged,
            second: None,
        }
    }
}

fn estimated(case: &Case) -> (u32, Measured) {
    let build = Build::of(Some(Version(0, 0, case.build)));
    let setup = Setup {
        context: case.context,
        sequences: case.sequences,
        slots: case.slots,
        batch: case.batch,
        outputs: case.outputs,
        keys: case.kind,
        values: case.kind,
        flash_attention: case.flash_attention,
        build,
    };
    match case.asked {
        Asked::Fit(free) => {
            let fitted = fit(&case.model, &setup, &[(free - 1024) << 20], false);
            (fitted.placement.on_gpus(), fitted.measured)
        }
        Asked::Layers(layers) => {
            let measure = Measure::new(&case.model, setup);
            let gpus = 1 + usize::from(case.second.is_some());
            let placement = Placement::of(measure.layers(), layers, &vec![1; gpus], build.output_first);
            (placement.on_gpus(), measure.take(&placement))
        }
    }
}

fn mib(bytes: Bytes) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "compared to hundredths of a MiB")]
    let bytes = bytes.0 as f64;
    bytes / f64::from(1 << 20)
}

/// The three of a GPU.
fn parts(measured: &Measured, gpu: usize) -> [f64; 3] {
    let gpu = measured.gpus[gpu];
    [mib(gpu.weights), mib(gpu.cache), mib(gpu.compute)]
}

fn shown(all: &[f64]) -> String {
    all.iter()
        .map(|mib| if *mib > 0.0 { format!("{mib:.2}") } else { String::new() })
        .collect::<Vec<_>>()
        .join(" · ")
}

/// How close estimates are, as `docs/offload-accuracy.md` says it too.
#[test]
fn estimates_are_as_close_to_logs_as_the_documentation_says() {
    let mut cases = cases::cases();
    cases.extend(found::cases());
    let (mut exact, mut errors, mut totals) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let (layers, measured) = estimated(case);
        exact += usize::from(layers == case.layers);
        let [weights, cache, compute] = parts(&measured, 0);
        let mut said = vec![weights, cache, compute, mib(measured.host.compute)];
        let mut logged = case.logged.to_vec();
        let mut gpus = vec![(parts(&measured, 0), [case.logged[0], case.logged[1], case.logged[2]])];
        if let Some(second) = case.second {
            said.extend(parts(&measured, 1));
            logged.extend(second);
            gpus.push((parts(&measured, 1), second));
        }
        let known = said.iter().zip(&logged).filter(|(_, logged)| **logged > 0.0);
        errors.extend(known.map(|(said, logged)| (said - logged).abs() / logged));
        for (said, logged) in gpus.iter().filter(|(_, logged)| logged.iter().all(|mib| *mib > 0.0)) {
            let sum: f64 = logged.iter().sum();
            totals.push((said.iter().sum::<f64>() - sum).abs() / sum);
        }
        println!(
            "| {} | b{} | {} {} | {} | {layers} | {} | {} |",
            case.name,
            case.build,
            case.context,
            case.kind.as_word(),
            case.layers,
            shown(&logged),
            shown(&said)
        );
    }
    let close = errors.iter().filter(|error| **error <= 0.05).count();
    println!("{exact} of {} exact, {close} of {} figures within 5 %, totals {totals:?}", cases.len(), errors.len());
    assert_eq!((cases.len(), exact), (26, 25));
    assert!(totals.iter().all(|error| *error <= 0.05), "{totals:?}");
    assert_eq!((errors.len(), close), (83, 78));
}
