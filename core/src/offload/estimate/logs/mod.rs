//! Estimates of Ollama's own engines against what Ollama logs: a table, and how close they are.

mod cases;
mod plain;
pub(super) mod shapes;

use cases::Case;

use super::layered::graph;
use super::layered::shape::Shape;
use super::{Ask, Estimate, Layers, Parts, Room, estimate, layered};
use crate::model::Bytes;
use crate::offload::engine::{MemoryEngine, Version};
use crate::offload::model::Model;

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// A figure of a log is rounded to a tenth: so much of it is not known.
fn rounding(logged: f64) -> f64 {
    0.051 / logged.max(0.1)
}

fn float(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "compared to a tenth of a GiB")]
    let float = bytes as f64;
    float
}

fn bytes(gib: f64) -> Bytes {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure of a log")]
    let bytes = (gib * GIB) as u64;
    Bytes(bytes)
}

fn ask(case: &Case, more: f64) -> Ask {
    Ask {
        engine: if case.version >= Version(0, 12, 11) { MemoryEngine::Exact } else { MemoryEngine::Layered },
        version: Some(case.version),
        gpus: case.free.iter().map(|free| Room { total: bytes(96.0), free: bytes(free + more) }).collect(),
        context: case.context.0,
        parallel: case.context.1,
        batch: case.batch,
        keys: case.kind,
        values: case.kind,
        flash_attention: case.flash_attention,
        layers: case.asked.map_or(Layers::Auto, Layers::Exactly),
    }
}

/// What Ollama logs as the memory of a GPU: of the estimate layer by layer, with what it keeps free on it.
fn on_gpu(parts: &Parts, estimate: &Estimate) -> f64 {
    let kept = if estimate.formula.ends_with("layer by layer") { parts.overhead.0 } else { 0 };
    float(parts.weights.0 + parts.cache.0 + parts.compute.0 + kept)
}

/// How far it is off, relative to what is logged; what the log's rounding hides is none.
fn off(estimated: f64, logged: f64) -> f64 {
    ((estimated - logged).abs() / logged - rounding(logged)).max(0.0)
}

/// What became of a case.
struct Row {
    is_exact: Option<bool>,
    /// Exact for what may be free, with the rounding of the log.
    is_possible: bool,
    errors: Vec<f64>,
    text: String,
}

fn row(case: &Case) -> Row {
    let model = shapes::model(&case.shape, case.recipe);
    let estimate = estimate(&model, &ask(case, 0.0));
    let layers: Vec<u32> = estimate.gpus.iter().map(|gpu| gpu.layers).collect();
    let is_exact = (!case.layers.is_empty()).then(|| layers == case.layers);
    let is_possible = [-0.049, 0.0, 0.049].into_iter().any(|more| {
        let estimate = super::estimate(&model, &ask(case, more));
        estimate.gpus.iter().map(|gpu| gpu.layers).eq(case.layers.iter().copied())
    });
    let mut errors = Vec::new();
    let on: Vec<f64> = estimate.gpus.iter().map(|gpu| on_gpu(gpu, &estimate) / GIB).collect();
    for (estimated, logged) in on.iter().zip(case.memory).filter(|(_, logged)| **logged > 0.0) {
        errors.push(off(*estimated, *logged));
    }
    let all = on.iter().sum::<f64>() + on_host(&estimate) / GIB;
    if case.total > 0.0 {
        errors.push(off(all, case.total));
    }
    let known = known(&model, case, &estimate);
    errors.extend(known.iter().filter(|(_, logged)| *logged > 0.0).map(|(estimated, logged)| {
        let unit = if *logged >= 1024.0 { 1024.0 } else { 1.0 };
        off(estimated / unit, logged / unit)
    }));
    let Version(major, minor, patch) = case.version;
    let shown = |all: &[f64]| all.iter().map(|gib| format!("{gib:.1}")).collect::<Vec<_>>().join(" + ");
    let count = |all: &[u32]| all.iter().map(u32::to_string).collect::<Vec<_>>().join(" + ");
    let worst = errors.iter().copied().fold(0.0, f64::max) * 100.0;
    let text = format!(
        "| {} | {major}.{minor}.{patch} | {} × {} | {} | {} | {} | {} | {} | {all:.1} | {worst:.1} % |",
        case.model,
        case.context.0,
        case.context.1,
        count(case.layers),
        if case.free.is_empty() { String::new() } else { count(&layers) },
        shown(case.memory),
        shown(&on),
        if case.total > 0.0 { format!("{:.1}", case.total) } else { String::new() },
    );
    Row { is_exact, is_possible, errors, text }
}

fn on_host(estimate: &Estimate) -> f64 {
    float(estimate.host.weights.0 + estimate.host.cache.0 + estimate.host.compute.0)
}

/// Keys and values, both buffers, and repeating layers: as estimated and as logged, in MiB.
fn known(model: &Model, case: &Case, estimate: &Estimate) -> [(f64, f64); 4] {
    let shape = Shape::of(model);
    let load = layered::load(&shape, &ask(case, 0.0), case.version);
    let sizes = graph::sizes(model, &shape, &load);
    let mib = |bytes: u64| float(bytes) / MIB;
    let full = if estimate.formula.ends_with("own runner") {
        estimate.gpus.first().unwrap_or(&estimate.host).compute.0
    } else if case.free.len() > 1 {
        sizes.partial
    } else {
        sizes.full
    };
    let parts = estimate.gpus.iter().chain([&estimate.host]);
    // Before 0.7.0 what is left over was not counted layer by layer: only what was logged of all of it can be compared.
    let cache = if case.version < Version(0, 7, 0) {
        sizes.cache.iter().sum()
    } else {
        parts.map(|parts| parts.cache.0).sum()
    };
    [
        (mib(cache), case.cache),
        (mib(full), case.graph.0),
        (mib(sizes.partial), case.graph.1),
        (mib(shape.layers.iter().sum()), case.repeating * 1024.0),
    ]
}

/// How close estimates are, as `docs/offload-accuracy.md` says it too.
#[test]
fn estimates_are_as_close_to_logs_as_the_documentation_says() {
    let rows: Vec<Row> = cases::all().map(row).collect();
    for row in &rows {
        println!("{}", row.text);
    }
    let placed: Vec<(&Case, &Row)> = cases::all().zip(&rows).filter(|(_, row)| row.is_exact.is_some()).collect();
    // Where all layers fit with room to spare, or none do, a layout is easily right.
    let is_partial = |case: &Case| case.layers.iter().sum::<u32>() <= u32::try_from(case.shape.layers).unwrap();
    let partial: Vec<_> = placed.iter().filter(|(case, _)| is_partial(case)).collect();
    let exact = placed.iter().filter(|(_, row)| row.is_exact == Some(true)).count();
    let possible = placed.iter().filter(|(_, row)| row.is_possible).count();
    let exact_partial = partial.iter().filter(|(_, row)| row.is_exact == Some(true)).count();
    let figures: Vec<f64> = rows.iter().flat_map(|row| row.errors.clone()).collect();
    let close = figures.iter().filter(|error| **error <= 0.05).count();
    println!("{exact} of {} layouts are exact, {possible} with the rounding of free memory", placed.len());
    println!("{exact_partial} of {} with a part of the layers", partial.len());
    println!("{close} of {} figures are within 5 %", figures.len());
    assert_eq!(rows.len(), 70);
    assert_eq!((placed.len(), exact, possible), (40, 38, 40));
    assert_eq!((partial.len(), exact_partial), (27, 25));
    assert_eq!((figures.len(), close), (294, 290));
}
