//! Ollama's estimate before a model is loaded (0.1.33 up to 0.12.10): layer by layer, on whatever GPU has room.
//!
//! What it counts and what it does with it changed with versions; each change is a comparison with [`Version`] here, in `graph` and in
//! `vision`. From 0.11.11 on, models of Ollama's own runner are no longer estimated this way: they go to [`super::exact`].
//!
//! Figures are those that Ollama logs and `/api/ps` reports: with the least that a GPU is taken to need and one layer more,
//! as `overhead`, which is *in* Ollama's sum; without the input's weights, which Ollama does not count.

mod first;
pub(super) mod graph;
pub(super) mod shape;
pub(super) mod vision;

#[cfg(test)]
mod tests;

use graph::{Load, Sizes};
use shape::Shape;

use super::super::engine::Version;
use super::super::model::{Model, bytes};
use super::{Ask, Estimate, Layers, Parts, Room};
use crate::model::Bytes;

/// What Ollama takes a GPU to need for itself: 457 MiB.
pub(super) const MINIMUM: u64 = 457 * 1024 * 1024;

/// The last version with this estimate: whose formula it is when none is said.
const NEWEST: Version = Version(0, 12, 10);

/// The first version that lets its own runner say what it has allocated.
const RUNNER_SAYS: Version = Version(0, 11, 11);

/// Layers were looked at from the last to the first, from this version on.
const BACKWARDS: Version = Version(0, 7, 0);

/// Pictures are counted with the output, no longer with the first GPU, from this version on.
const SEES_LAST: Version = Version(0, 7, 1);

/// The fewest GPUs that hold a model are looked for, not just one or all of them, from this version on.
const FEWEST_GPUS: Version = Version(0, 11, 5);

/// GPUs are looked at one by one, not their sum, from this version on.
const BY_GPU: Version = Version(0, 1, 45);

pub(super) fn estimate(model: &Model, ask: &Ask) -> Estimate {
    let version = ask.version.unwrap_or(NEWEST);
    if version >= RUNNER_SAYS && super::exact::is_own_runner(&model.architecture, version) {
        return super::exact::estimate(model, &Ask { version: Some(version), ..ask.clone() });
    }
    let shape = Shape::of(model);
    let load = load(&shape, ask, version);
    let case = Case::new(model, &shape, &load);
    let mut doubts = doubts(&shape, &case.sizes);
    let asked = match ask.layers {
        Layers::Auto => None,
        Layers::Exactly(layers) => Some(layers.min(shape.count())),
    };
    let mut placed = if version < BY_GPU { case.together(&ask.gpus, asked) } else { case.choose(&ask.gpus, asked) };
    if let Some(asked) = asked.filter(|asked| placed.layers() < *asked && !ask.gpus.is_empty()) {
        let placed_only = placed.layers();
        doubts.push(format!("{asked} layers are asked for, but Ollama's estimate places only {placed_only}"));
        // The runner gets as many as were asked for, whatever the estimate says.
        let boundless: Vec<Room> = ask.gpus.iter().map(|gpu| Room { free: Bytes(u64::MAX / 4), ..*gpu }).collect();
        placed = case.place(&boundless, Some(asked));
    }
    Estimate {
        formula: "Ollama, layer by layer",
        layers: placed.layers(),
        layers_all: shape.count(),
        context: u32::try_from(load.context).unwrap_or(u32::MAX),
        gpus: placed.gpus,
        host: placed.host,
        doubts,
    }
}

/// Returns what the formula is asked: the context is cut to what the model was trained with, where the version does that.
pub(super) fn load(shape: &Shape, ask: &Ask, version: Version) -> Load {
    let trained = match shape.context_trained {
        0 => u64::MAX,
        trained => trained,
    };
    let cuts = version < Version(0, 1, 35) || version >= Version(0, 9, 3);
    let mut context = u64::from(ask.context).max(4);
    if cuts {
        context = context.min(trained);
    }
    let parallel = u64::from(ask.parallel.max(1));
    // For two versions the floor of models that see was everybody's.
    if version >= SEES_LAST && version < FEWEST_GPUS && context.saturating_mul(parallel) < 2048 {
        context = 2048_u64.div_ceil(parallel);
    }
    let all = if version < FEWEST_GPUS { context.saturating_mul(parallel) } else { context };
    let can_flash = !shape.is_embedding && shape.key == shape.value && shape.key != 0;
    let is_refused = shape.architecture == "gemma2" && version >= RUNNER_SAYS;
    Load {
        context,
        parallel,
        batch: u64::from(ask.batch.max(1)).min(all),
        keys: ask.keys,
        values: ask.values,
        flash_attention: ask.flash_attention && can_flash && !is_refused,
        version,
    }
}

pub(super) fn doubts(shape: &Shape, sizes: &Sizes) -> Vec<String> {
    let mut doubts = Vec::new();
    if !sizes.is_known {
        doubts.push(format!(
            "Ollama has no terms for buffers of architecture {}: it guesses from keys and values",
            shape.architecture
        ));
    }
    if shape.layers.is_empty() || shape.embedding == 0 {
        doubts.push("the model says nothing of its layers".to_owned());
    }
    doubts
}

/// Where everything is.
#[derive(Clone, Debug)]
struct Placed {
    gpus: Vec<Parts>,
    host: Parts,
}

impl Placed {
    fn layers(&self) -> u32 {
        self.gpus.iter().fold(0, |sum, gpu| sum.saturating_add(gpu.layers))
    }
}

/// A GPU while layers are placed on it.
#[derive(Clone, Copy, Debug)]
struct Taken {
    free: u64,
    used: u64,
    parts: Parts,
}

/// A model and all that does not depend on GPUs.
struct Case<'model> {
    shape: &'model Shape,
    sizes: Sizes,
    version: Version,
    /// One layer's bytes, kept free on each GPU.
    buffer: u64,
    /// What sees: weights and buffers.
    vision: (u64, u64),
}

impl<'model> Case<'model> {
    fn new(model: &Model, shape: &'model Shape, load: &Load) -> Self {
        let sizes = graph::sizes(model, shape, load);
        let first = shape.layers.first().copied().unwrap_or(0);
        let buffer = if load.version == Version(0, 7, 0) {
            // In this one version it was the largest of anything.
            let one = |tensors: &[_]| -> u64 {
                tensors.iter().map(|tensor| bytes(std::slice::from_ref(tensor))).max().unwrap_or(0)
            };
            shape.layers.iter().copied().max().unwrap_or(0).max(one(&model.input)).max(one(&model.output))
        } else if load.version < Version(0, 1, 34) {
            0
        } else {
            first
        };
        let vision = vision::sizes(model, load.version);
        Self { shape, sizes, version: load.version, buffer, vision }
    }

    /// A layer's weights, keys and values.
    fn layer(&self, layer: usize) -> (u64, u64) {
        let of = |all: &[u64]| all.get(layer).copied().unwrap_or(0);
        (of(&self.shape.layers), of(&self.sizes.cache))
    }

    /// What sees is counted once the output is placed.
    fn sees_last(&self) -> bool {
        self.version >= SEES_LAST
    }

    /// Looks for GPUs that hold all of the model, with most room first; where there are none, takes all, in their order.
    fn choose(&self, gpus: &[Room], asked: Option<u32>) -> Placed {
        let mut order: Vec<usize> = (0..gpus.len()).collect();
        order.sort_by_key(|gpu| std::cmp::Reverse(gpus.get(*gpu).map_or(0, |room| room.free.0)));
        let wanted = asked.unwrap_or_else(|| self.shape.count());
        let mut subsets: Vec<Vec<usize>> = if self.version >= FEWEST_GPUS {
            (1..=order.len()).map(|count| order.iter().copied().take(count).collect()).collect()
        } else {
            order.iter().map(|gpu| vec![*gpu]).collect()
        };
        subsets.push(order);
        for subset in subsets {
            let rooms: Vec<Room> = subset.iter().filter_map(|gpu| gpus.get(*gpu).copied()).collect();
            let placed = self.place(&rooms, asked);
            if placed.layers() > 0 && placed.layers() >= wanted {
                let mut all = vec![Parts::default(); gpus.len()];
                for (gpu, parts) in subset.iter().zip(&placed.gpus) {
                    if let Some(slot) = all.get_mut(*gpu) {
                        *slot = *parts;
                    }
                }
                return Placed { gpus: all, host: placed.host };
            }
        }
        self.place(gpus, asked)
    }

    /// Places layers on these GPUs: each in turn gets one, as long as it has room.
    fn place(&self, gpus: &[Room], asked: Option<u32>) -> Placed {
        let blocks = self.shape.layers.len();
        let (partial, full) = self.graphs(gpus.len());
        let graph = partial.max(full);
        let mut buffer = self.buffer.saturating_add(self.layer(0).1);
        if self.shape.layers.is_empty() {
            buffer = 0;
        }
        let seeing = if self.sees_last() { 0 } else { self.vision.0.saturating_add(self.vision.1) };
        let mut all: Vec<Taken> =
            gpus.iter().map(|gpu| Taken { free: gpu.free.0, used: 0, parts: Parts::default() }).collect();
        let mut open: Vec<usize> = Vec::new();
        for (gpu, taken) in all.iter_mut().enumerate() {
            let first = if open.is_empty() { seeing } else { 0 };
            let least =
                first.saturating_add(graph).saturating_add(MINIMUM).saturating_add(buffer.saturating_mul(2));
            if taken.free < least {
                continue;
            }
            open.push(gpu);
            taken.parts.overhead = Bytes(MINIMUM.saturating_add(buffer));
            taken.used = MINIMUM.saturating_add(buffer).saturating_add(first);
            if first > 0 {
                taken.parts.weights = Bytes(self.vision.0);
                taken.parts.compute = Bytes(self.vision.1);
            }
        }
        let mut host = Parts::default();
        if open.is_empty() {
            add(&mut host.weights, if self.sees_last() { 0 } else { self.vision.0 });
        }
        let mut count: usize = 0;
        let limit = asked.map_or(usize::MAX, |asked| usize::try_from(asked).unwrap_or(usize::MAX));
        let mut order: Vec<usize> = (0..blocks).collect();
        if self.version >= BACKWARDS {
            order.reverse();
        }
        for layer in order {
            let (weights, cache) = self.layer(layer);
            let size = weights.saturating_add(cache);
            let mut is_placed = false;
            while count < limit && !open.is_empty() {
                let turn = layer.checked_rem(open.len()).unwrap_or(0);
                let Some(taken) = open.get(turn).and_then(|gpu| all.get_mut(*gpu)) else { break };
                if taken.free > taken.used.saturating_add(graph).saturating_add(size) {
                    taken.used = taken.used.saturating_add(size);
                    put(&mut taken.parts, weights, cache);
                    count = count.saturating_add(1);
                    is_placed = true;
                    break;
                }
                open.remove(turn);
            }
            if !is_placed {
                put(&mut host, weights, cache);
            }
        }
        if self.version < BACKWARDS && count < blocks {
            // What is left over was counted as so many layers like the last one.
            let (weights, cache) = self.layer(blocks.saturating_sub(1));
            let left = u64::try_from(blocks.saturating_sub(count)).unwrap_or(u64::MAX);
            host.weights = Bytes(weights.saturating_mul(left));
            host.cache = Bytes(cache.saturating_mul(left));
        }
        let mut is_full = count >= blocks;
        self.place_output(&mut all, &open, &mut count, limit, graph, &mut host, &mut is_full);
        for taken in &mut all {
            if taken.parts.layers > 0 {
                add(&mut taken.parts.compute, if is_full { full } else { partial });
            }
        }
        if count == 0 {
            return self.nowhere(gpus.len());
        }
        Placed { gpus: all.into_iter().map(|taken| taken.parts).collect(), host }
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of one loop over the same state")]
    fn place_output(
        &self,
        all: &mut [Taken],
        open: &[usize],
        count: &mut usize,
        limit: usize,
        graph: u64,
        host: &mut Parts,
        is_full: &mut bool,
    ) {
        let seeing = if self.sees_last() { self.vision } else { (0, 0) };
        let size = self.shape.output.saturating_add(seeing.0).saturating_add(seeing.1);
        if size == 0 {
            return;
        }
        let mut is_placed = false;
        let is_wanted = *count < limit;
        if is_wanted {
            for turns in (1..=open.len()).rev() {
                let turn = count.checked_rem(turns).unwrap_or(0);
                let Some(taken) = open.get(turn).and_then(|gpu| all.get_mut(*gpu)) else { continue };
                if taken.free > taken.used.saturating_add(graph).saturating_add(size) {
                    taken.used = taken.used.saturating_add(size);
                    put(&mut taken.parts, self.shape.output.saturating_add(seeing.0), 0);
                    add(&mut taken.parts.compute, seeing.1);
                    *count = count.saturating_add(1);
                    is_placed = true;
                    break;
                }
            }
        }
        // Before, an output that nobody asked for did not make the model less than full.
        if *count <= self.shape.layers.len() && (self.sees_last() || is_wanted) {
            *is_full = false;
        }
        if !is_placed {
            put(host, self.shape.output.saturating_add(seeing.0), 0);
            add(&mut host.compute, seeing.1);
        }
    }

    /// Buffers on a GPU that has a part of the layers, and on one that has all: on several GPUs, always those of a part.
    fn graphs(&self, gpus: usize) -> (u64, u64) {
        let full = if gpus > 1 { self.sizes.partial } else { self.sizes.full };
        (self.sizes.partial, full)
    }

    /// Nothing on GPUs.
    fn nowhere(&self, gpus: usize) -> Placed {
        let mut host = Parts::default();
        for layer in 0..self.shape.layers.len() {
            let (weights, cache) = self.layer(layer);
            put(&mut host, weights, cache);
        }
        put(&mut host, self.shape.output.saturating_add(self.vision.0), 0);
        Placed { gpus: vec![Parts::default(); gpus], host }
    }
}

/// Counts a layer.
pub(super) fn put(parts: &mut Parts, weights: u64, cache: u64) {
    parts.layers = parts.layers.saturating_add(1);
    add(&mut parts.weights, weights);
    add(&mut parts.cache, cache);
}

pub(super) fn add(bytes: &mut Bytes, more: u64) {
    bytes.0 = bytes.0.saturating_add(more);
}
