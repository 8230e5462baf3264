//! Ollama's layout of what its runners need (0.12.11 up to before 0.30; its own runner already from 0.11.11 on).
//!
//! Layers go to GPUs from the last one on, to as few GPUs as hold them, in even shares. What a layer needs is known, not estimated: its
//! weights, and its keys and values. Buffers to compute in are known to Ollama's own runner because it has built its graph
//! before; here they are estimated from the tensors of that graph that live at the same time (`runner`). For models that llama.cpp
//! runs Ollama still uses the terms of the estimate layer by layer: those figures are exact here too.

mod layout;
mod runner;

#[cfg(test)]
mod tests;

use layout::Gpu;

use super::super::engine::Version;
use super::super::model::Model;
use super::layered::graph::{self, Load};
use super::layered::shape::Shape;
use super::layered::{MINIMUM, add, doubts, load, put};
use super::{Ask, Estimate, Layers, Parts};
use crate::model::Bytes;

/// The last version with this layout: whose it is when none is said.
const NEWEST: Version = Version(0, 24, 0);

/// Since when Ollama's own runner takes models of an architecture.
const OWN: &[(&str, Version)] = &[
    ("gemma3", Version(0, 6, 0)),
    ("mistral3", Version(0, 6, 5)),
    ("llama4", Version(0, 6, 7)),
    ("mllama", Version(0, 7, 0)),
    ("qwen25vl", Version(0, 7, 0)),
    ("gemma3n", Version(0, 9, 3)),
    ("gptoss", Version(0, 11, 0)),
    ("gpt-oss", Version(0, 11, 8)),
    ("qwen3", Version(0, 12, 0)),
    ("qwen3moe", Version(0, 12, 2)),
    ("qwen3vl", Version(0, 12, 7)),
    ("qwen3vlmoe", Version(0, 12, 7)),
    ("deepseek2", Version(0, 13, 0)),
    ("deepseekocr", Version(0, 13, 0)),
    ("nomic-bert", Version(0, 13, 1)),
    ("olmo3", Version(0, 13, 4)),
    ("bert", Version(0, 13, 5)),
    ("glm4moelite", Version(0, 14, 3)),
    ("lfm2", Version(0, 14, 3)),
    ("glmocr", Version(0, 15, 5)),
    ("qwen3next", Version(0, 15, 5)),
    ("lfm2moe", Version(0, 17, 1)),
    ("nemotron_h", Version(0, 17, 1)),
    ("nemotron_h_moe", Version(0, 17, 1)),
    ("qwen35", Version(0, 17, 1)),
    ("qwen35moe", Version(0, 17, 1)),
    ("gemma4", Version(0, 20, 0)),
    ("laguna", Version(0, 22, 0)),
    ("nemotron_h_omni", Version(0, 22, 0)),
];

/// Whether Ollama's own runner runs models of this architecture.
pub(super) fn is_own_runner(architecture: &str, version: Version) -> bool {
    if architecture == "qwen3" && version == Version(0, 12, 5) {
        return false;
    }
    OWN.iter().any(|(name, since)| *name == architecture && version >= *since)
}

/// What a model needs, wherever its layers are.
#[derive(Clone, Debug)]
struct Needs {
    /// Weights by layer; the last one is the output.
    weights: Vec<u64>,
    /// Keys and values by layer.
    cache: Vec<u64>,
    /// Weights that stay in the machine's memory.
    input: u64,
    /// Buffers on a GPU when all layers are on GPUs; of Ollama's own runner: on the GPU that has the output.
    full: u64,
    /// Buffers on other GPUs, or when not all layers are on GPUs.
    partial: u64,
    /// Buffers in the machine's memory when all layers are on GPUs, and when they are not.
    host: (u64, u64),
    /// Bytes of each GPU that are not given to layers, besides the minimum.
    buffer: u64,
}

pub(super) fn estimate(model: &Model, ask: &Ask) -> Estimate {
    let version = ask.version.unwrap_or(NEWEST);
    let shape = Shape::of(model);
    let load = load(&shape, ask, version);
    let is_own = is_own_runner(&model.architecture, version);
    let mut doubts = Vec::new();
    let needs = if is_own { runner::needs(model, &shape, &load, &mut doubts) } else { llama(model, &shape, &load, &mut doubts) };
    let requested = match ask.layers {
        Layers::Auto => None,
        Layers::Exactly(layers) => Some(usize::try_from(layers).unwrap_or(usize::MAX).min(needs.weights.len())),
    };
    let on = place(&needs, ask, requested, is_own);
    let (gpus, host) = parts(&needs, &on, ask.gpus.len(), is_own);
    Estimate {
        formula: if is_own { "Ollama, its own runner" } else { "Ollama, llama.cpp's runner" },
        layers: gpus.iter().fold(0, |sum, gpu| sum.saturating_add(gpu.layers)),
        layers_all: shape.count(),
        context: u32::try_from(load.context).unwrap_or(u32::MAX),
        gpus,
        host,
        doubts,
    }
}

/// What a model that llama.cpp runs needs, by Ollama's terms.
fn llama(model: &Model, shape: &Shape, load: &Load, lines: &mut Vec<String>) -> Needs {
    let mut load = *load;
    if shape.is_embedding && load.version >= Version(0, 13, 0) {
        load.batch = load.batch.max(load.context);
    }
    let sizes = graph::sizes(model, shape, &load);
    lines.extend(doubts(shape, &sizes));
    let first = |all: &[u64]| all.first().copied().unwrap_or(0);
    let buffer = first(&shape.layers).saturating_add(first(&sizes.cache));
    let mut weights = shape.layers.clone();
    weights.push(shape.output);
    let mut cache = sizes.cache;
    cache.push(0);
    Needs { weights, cache, input: 0, full: sizes.full, partial: sizes.partial, host: (0, 0), buffer }
}

/// Looks for a layout: buffers become known once a GPU has layers, and then there is less room for layers.
///
/// Returns the GPU of each layer.
fn place(needs: &Needs, ask: &Ask, requested: Option<usize>, is_own: bool) -> Vec<Option<usize>> {
    let sizes: Vec<u64> =
        needs.weights.iter().zip(&needs.cache).map(|(weights, cache)| weights.saturating_add(*cache)).collect();
    let reserved = |graph: u64| MINIMUM.saturating_add(needs.buffer).saturating_add(graph);
    let order = layout::order(&ask.gpus);
    let mut graphs = vec![0_u64; ask.gpus.len()];
    let mut on: Vec<Option<usize>> = vec![None; sizes.len()];
    // The first try of Ollama's own runner is all layers on the GPU with most room: it learns the buffers of that.
    if let Some(graph) = order.first().and_then(|most| graphs.get_mut(*most)).filter(|_| is_own) {
        *graph = needs.full;
    }
    // Each round but the last adds a GPU that has buffers, so this ends.
    for _ in 0..=ask.gpus.len() {
        let gpus: Vec<Gpu> = order
            .iter()
            .map(|gpu| {
                let graph = graphs.get(*gpu).copied().unwrap_or(0);
                let free = ask.gpus.get(*gpu).map_or(0, |room| room.free.0);
                Gpu { index: *gpu, free: free.saturating_sub(reserved(graph)), is_used: graph > 0 }
            })
            .collect();
        on = layout::assign(&sizes, &gpus, requested);
        let before = graphs.clone();
        for gpu in on.iter().flatten() {
            let has_output = on.last().copied().flatten() == Some(*gpu);
            let graph = match (is_own, has_output) {
                // For llama.cpp's models the larger of the two is reserved, whatever becomes of them.
                (false, _) => needs.full.max(needs.partial),
                (true, true) => needs.full,
                (true, false) => needs.partial,
            };
            if let Some(known) = graphs.get_mut(*gpu) {
                *known = graph.max(*known);
            }
        }
        if graphs == before {
            break;
        }
    }
    on
}

fn parts(needs: &Needs, on: &[Option<usize>], count: usize, is_own: bool) -> (Vec<Parts>, Parts) {
    let mut gpus = vec![Parts::default(); count];
    let mut host = Parts::default();
    for ((weights, cache), gpu) in needs.weights.iter().zip(&needs.cache).zip(on) {
        match gpu.and_then(|gpu| gpus.get_mut(gpu)) {
            Some(parts) => put(parts, *weights, *cache),
            None => put(&mut host, *weights, *cache),
        }
    }
    let is_full = !on.is_empty() && on.iter().all(Option::is_some);
    let output = on.last().copied().flatten();
    for (gpu, parts) in gpus.iter_mut().enumerate() {
        if parts.layers > 0 {
            let has_full = if is_own { output == Some(gpu) } else { is_full };
            parts.compute = Bytes(if has_full { needs.full } else { needs.partial });
            parts.overhead = Bytes(MINIMUM);
        }
    }
    add(&mut host.weights, needs.input);
    if is_own {
        add(&mut host.compute, if is_full { needs.host.0 } else { needs.host.1 });
    }
    (gpus, host)
}
