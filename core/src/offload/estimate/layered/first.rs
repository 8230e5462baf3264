//! Ollama's first formula (0.1.33 up to 0.1.44): all GPUs are one, with buffers for each of them.

use super::{Case, MINIMUM, Placed, add, put};
use crate::model::Bytes;
use crate::offload::estimate::{Parts, Room};

impl Case<'_> {
    /// The first formula: all GPUs are one, with buffers for each of them.
    pub(super) fn together(&self, gpus: &[Room], asked: Option<u32>) -> Placed {
        // One GPU that holds everything is preferred, that with most room first.
        let mut order: Vec<usize> = (0..gpus.len()).collect();
        order.sort_by_key(|gpu| std::cmp::Reverse(gpus.get(*gpu).map_or(0, |room| room.free.0)));
        let wanted = asked.unwrap_or_else(|| self.shape.count());
        for gpu in order {
            let Some(room) = gpus.get(gpu) else { continue };
            let (layers, parts, host) = self.sum(room.free.0, 1, asked);
            if layers >= wanted && layers > 0 {
                let mut all = vec![Parts::default(); gpus.len()];
                if let Some(slot) = all.get_mut(gpu) {
                    *slot = parts;
                }
                return Placed { gpus: all, host };
            }
        }
        let free = gpus.iter().fold(0_u64, |sum, gpu| sum.saturating_add(gpu.free.0));
        let (layers, parts, host) = self.sum(free, gpus.len(), asked);
        if layers == 0 {
            return self.nowhere(gpus.len());
        }
        Placed { gpus: share(&parts, gpus, free), host }
    }

    fn sum(&self, free: u64, gpus: usize, asked: Option<u32>) -> (u32, Parts, Parts) {
        let each = u64::try_from(gpus).unwrap_or(u64::MAX);
        let (partial, full) = (self.sizes.partial.saturating_mul(each), self.sizes.full.saturating_mul(each));
        let least = MINIMUM.saturating_add(self.buffer);
        let mut on = Parts { overhead: Bytes(least), ..Parts::default() };
        let mut host = Parts::default();
        let mut all = Parts { overhead: Bytes(least), compute: Bytes(full), ..Parts::default() };
        let mut used = least.saturating_add(partial);
        let is_hopeless = used > free;
        // Until 0.1.37 layers that were asked for were not looked at here: the runner got them anyway.
        for layer in 0..self.shape.layers.len() {
            let (weights, cache) = self.layer(layer);
            let size = weights.saturating_add(cache);
            put(&mut all, weights, cache);
            let fits = match asked {
                Some(asked) => on.layers < asked,
                None => free > used.saturating_add(size),
            };
            if fits {
                used = used.saturating_add(size);
                put(&mut on, weights, cache);
            } else {
                put(&mut host, weights, cache);
            }
        }
        put(&mut all, self.shape.output, 0);
        let is_full = match asked {
            Some(asked) => asked >= self.shape.count(),
            None => free > sum_of(&all),
        };
        if is_full && !is_hopeless {
            return (self.shape.count(), all, Parts::default());
        }
        put(&mut host, self.shape.output, 0);
        if is_hopeless && asked.is_none() {
            on.layers = 0;
        }
        add(&mut on.compute, partial);
        (on.layers, on, host)
    }
}

/// Shares out what lies on all GPUs by their room, as the runner does.
fn share(parts: &Parts, gpus: &[Room], free: u64) -> Vec<Parts> {
    let part = |bytes: u64, room: u64| -> u64 {
        let scaled = u128::from(bytes).saturating_mul(u128::from(room)).checked_div(u128::from(free)).unwrap_or(0);
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let mut left = parts.layers;
    let last = gpus.len().saturating_sub(1);
    gpus.iter()
        .enumerate()
        .map(|(gpu, room)| {
            let layers = u32::try_from(part(u64::from(parts.layers), room.free.0)).unwrap_or(u32::MAX).min(left);
            let layers = if gpu == last { left } else { layers };
            left = left.saturating_sub(layers);
            Parts {
                layers,
                weights: Bytes(part(parts.weights.0, room.free.0)),
                cache: Bytes(part(parts.cache.0, room.free.0)),
                compute: Bytes(part(parts.compute.0, room.free.0)),
                overhead: Bytes(part(parts.overhead.0, room.free.0)),
            }
        })
        .collect()
}

/// All of the parts.
fn sum_of(parts: &Parts) -> u64 {
    parts.weights.0.saturating_add(parts.cache.0).saturating_add(parts.compute.0).saturating_add(parts.overhead.0)
}
