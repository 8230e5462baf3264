//! Ollama's layout of what its runners need (0.12.11 up to before 0.30; its own runner already from 0.11.11 on).
//!
//! Layers go to GPUs from the last one on, to as few GPUs as hold them, in even shares. What a layer needs is known, not estimated: its
//! weights, and its keys and values. Buffers to compute in are known to Ollama's own runner because it has built its graph
//! before; here they are estimated from the tensors of that graph that live at the same time (`runner`). For models that llama.cpp
//! runs Ollama still uses the terms of the estimate layer by layer: those figures are exact here too.

mod cache;
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

/// Layouts that are tried; real ones settle after two or three.
const ROUNDS: usize = 64;

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
    /// By layer, the largest matrix that is copied to the first GPU when the layer is in the machine's memory; empty: none is.
    copied: Vec<u64>,
}

pub(super) fn estimate(model: &Model, ask: &Ask) -> Estimate {
    let version = ask.version.unwrap_or(NEWEST);
    let shape = Shape::of(model);
    let load = load(&shape, ask, version);
    let is_own = is_own_runner(&model.architecture, version);
    let mut doubts = Vec::new();
    let needs = if is_own {
        runner::needs(model, &shape, &load, &mut doubts)
    } else {
        llama(model, &shape, &load, &mut doubts)
    };
    let requested = match ask.layers {
        Layers::Auto => None,
        Layers::Exactly(layers) => Some(usize::try_from(layers).unwrap_or(usize::MAX).min(needs.weights.len())),
    };
    let search = Search::new(&needs, ask);
    let on = if is_own { search.by_answers(requested) } else { search.by_terms(requested) };
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
    Needs {
        weights,
        cache,
        input: 0,
        full: sizes.full,
        partial: sizes.partial,
        host: (0, 0),
        buffer,
        copied: Vec::new(),
    }
}

/// The GPU of each layer; `None`: it is in the machine's memory.
type On = Vec<Option<usize>>;

/// A search for a layout: buffers become known once a GPU has layers, and then there is less room for layers.
struct Search<'ask> {
    needs: &'ask Needs,
    ask: &'ask Ask,
    /// GPUs, that with most room first.
    order: Vec<usize>,
    /// Weights, keys and values by layer.
    sizes: Vec<u64>,
}

impl<'ask> Search<'ask> {
    fn new(needs: &'ask Needs, ask: &'ask Ask) -> Self {
        let sizes =
            needs.weights.iter().zip(&needs.cache).map(|(weights, cache)| weights.saturating_add(*cache)).collect();
        Self { needs, ask, order: layout::order(&ask.gpus), sizes }
    }

    /// Assigns layers, with these buffers on the GPUs.
    fn assign(&self, graphs: &[u64], requested: Option<usize>) -> On {
        let gpus: Vec<Gpu> = self
            .order
            .iter()
            .map(|gpu| {
                let graph = graphs.get(*gpu).copied().unwrap_or(0);
                let free = self.ask.gpus.get(*gpu).map_or(0, |room| room.free.0);
                let reserved = MINIMUM.saturating_add(self.needs.buffer).saturating_add(graph);
                Gpu { index: *gpu, free: free.saturating_sub(reserved), is_used: graph > 0 }
            })
            .collect();
        layout::assign(&self.sizes, &gpus, requested)
    }

    /// Models that llama.cpp runs: the larger of both buffers on each GPU that has layers, until no more GPUs are added.
    fn by_terms(&self, requested: Option<usize>) -> On {
        let mut graphs = vec![0_u64; self.ask.gpus.len()];
        let mut on = self.assign(&graphs, requested);
        for _ in 0..self.ask.gpus.len() {
            let before = graphs.clone();
            for gpu in on.iter().flatten() {
                if let Some(graph) = graphs.get_mut(*gpu) {
                    *graph = self.needs.full.max(self.needs.partial);
                }
            }
            if graphs == before {
                break;
            }
            on = self.assign(&graphs, requested);
        }
        on
    }

    /// Models of Ollama's own runner: it says what buffers each layout needs, beginning with all layers on the GPU with most room.
    fn by_answers(&self, requested: Option<usize>) -> On {
        let Some(first) = self.order.first() else { return vec![None; self.sizes.len()] };
        let all = self.sizes.len();
        let wanted = requested.unwrap_or(all);
        // Where not all layers are asked for, the output is not one of them.
        let end = if wanted < all { all.saturating_sub(1) } else { all };
        let from = end.saturating_sub(wanted);
        let mut on: On = (0..all).map(|layer| (from..end).contains(&layer).then_some(*first)).collect();
        let mut seen = vec![on.clone()];
        // A layout is tried once, and none has more layers than the one before: this ends soon.
        for _ in 0..ROUNDS {
            let next = self.assign(&self.graphs(&on), requested);
            if count(&next) <= count(&on) && !seen.contains(&next) {
                seen.push(next.clone());
                on = next;
                continue;
            }
            let between = count(&on)..count(&next);
            if requested.is_none() && between.len() > 1 {
                return between.rev().find_map(|layers| self.stable(&on, layers)).unwrap_or(on);
            }
            break;
        }
        on
    }

    /// A layout with so many layers, if at least as many still fit once its buffers are known.
    fn stable(&self, on: &On, layers: usize) -> Option<On> {
        let tried = self.assign(&self.graphs(on), Some(layers));
        let verified = self.assign(&self.graphs(&tried), None);
        (count(&tried) <= count(&verified)).then_some(tried)
    }

    fn graphs(&self, on: &On) -> Vec<u64> {
        self.needs.buffers(on, self.ask.gpus.len())
    }
}

impl Needs {
    /// Buffers on each GPU, as Ollama's own runner needs them for a layout.
    fn buffers(&self, on: &[Option<usize>], count: usize) -> Vec<u64> {
        let output = on.last().copied().flatten();
        let graph = |gpu: usize| match (on.contains(&Some(gpu)), output == Some(gpu)) {
            (false, _) => 0,
            (true, true) => self.full,
            (true, false) => self.partial,
        };
        let mut graphs: Vec<u64> = (0..count).map(graph).collect();
        let on_host = on.iter().zip(&self.copied).filter(|(gpu, _)| gpu.is_none()).map(|(_, bytes)| *bytes);
        if let Some(first) = graphs.iter_mut().find(|graph| **graph > 0) {
            *first = first.saturating_add(on_host.max().unwrap_or(0));
        }
        graphs
    }
}

fn count(on: &On) -> usize {
    on.iter().flatten().count()
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
    let own = needs.buffers(on, count);
    for (parts, own) in gpus.iter_mut().zip(own) {
        if parts.layers > 0 {
            let terms = if is_full { needs.full } else { needs.partial };
            parts.compute = Bytes(if is_own { own } else { terms });
            parts.overhead = Bytes(MINIMUM);
        }
    }
    add(&mut host.weights, needs.input);
    if is_own {
        // Without a GPU that has layers, all is computed in the machine's memory, pictures as well.
        let is_alone = on.iter().all(Option::is_none);
        let compute = if is_full { needs.host.0 } else { needs.host.1 };
        add(&mut host.compute, if is_alone { needs.full } else { compute });
    }
    (gpus, host)
}
