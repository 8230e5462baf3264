//! Which layer goes to which GPU: the fewest GPUs that hold all of them, in even shares; else as many layers as fit.

use super::super::Room;

/// A GPU that layers can be placed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gpu {
    /// Its place in the ask.
    pub(super) index: usize,
    /// Bytes for layers.
    pub(super) free: u64,
    /// Whether it has buffers already: it is used then, whatever else is.
    pub(super) is_used: bool,
}

/// Steps of the search for even shares: a share of room is a whole number of `1 / STEPS`.
const STEPS: u128 = 1 << 20;

/// So many times the room that there is counts as endless.
const ENDLESS: u128 = 1000;

/// Returns the GPUs by room, that with most first.
pub(super) fn order(gpus: &[Room]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..gpus.len()).collect();
    order.sort_by_key(|gpu| std::cmp::Reverse(gpus.get(*gpu).map_or(0, |room| room.free.0)));
    order
}

/// Returns the GPU of each layer; `requested`: so many layers, if they fit or not; else as many as fit.
pub(super) fn assign(sizes: &[u64], gpus: &[Gpu], requested: Option<usize>) -> Vec<Option<usize>> {
    let mut best: Vec<Option<usize>> = vec![None; sizes.len()];
    let used = gpus.iter().rposition(|gpu| gpu.is_used).unwrap_or(0);
    // A second time without the output, which is worth less than another layer.
    for without in 0..2 {
        let end = sizes.len().saturating_sub(without);
        let Some(layers) = sizes.get(..end) else { break };
        let wanted = requested.map(|wanted| wanted.min(layers.len()));
        let mut found = Vec::new();
        for last in used..gpus.len() {
            let Some(some) = gpus.get(..=last) else { break };
            let is_forced = wanted.is_some() && last.saturating_add(1) == gpus.len();
            found = evenly(layers, some, wanted, is_forced);
            let count = found.iter().flatten().count();
            if count == layers.len() || Some(count) == wanted {
                break;
            }
        }
        found.resize(sizes.len(), None);
        let count = found.iter().flatten().count();
        best = found;
        if count == sizes.len() {
            break;
        }
    }
    best
}

/// Looks for the smallest share of each GPU's room that still takes as many layers as all of it does.
fn evenly(layers: &[u64], gpus: &[Gpu], wanted: Option<usize>, is_forced: bool) -> Vec<Option<usize>> {
    let scale = if is_forced { ENDLESS } else { 1 };
    let mut high = STEPS.saturating_mul(scale);
    let mut low = 0_u128;
    let mut best = greedily(layers, gpus, wanted, high);
    let most = best.iter().flatten().count();
    while high.saturating_sub(low) > 1 {
        let middle = high.saturating_add(low) / 2;
        let found = greedily(layers, gpus, wanted, middle);
        if found.iter().flatten().count() == most {
            high = middle;
            best = found;
        } else {
            low = middle;
        }
    }
    best
}

/// Fills GPUs from the one with least room on, with layers from the last one on.
fn greedily(layers: &[u64], gpus: &[Gpu], wanted: Option<usize>, share: u128) -> Vec<Option<usize>> {
    let mut found = vec![None; layers.len()];
    let room = |gpu: &Gpu| u128::from(gpu.free).saturating_mul(share) / STEPS;
    let mut rest = gpus.iter().rev();
    let Some(mut gpu) = rest.next() else { return found };
    let mut free = room(gpu);
    let mut count: usize = 0;
    for (layer, size) in layers.iter().enumerate().rev() {
        if wanted.is_some_and(|wanted| count >= wanted) {
            break;
        }
        while u128::from(*size) > free {
            let Some(next) = rest.next() else { return found };
            gpu = next;
            free = room(gpu);
        }
        free = free.saturating_sub(u128::from(*size));
        if let Some(slot) = found.get_mut(layer) {
            *slot = Some(gpu.index);
        }
        count = count.saturating_add(1);
    }
    found
}
