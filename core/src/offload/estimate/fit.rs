//! The placement that llama.cpp makes by itself (`--fit`).
//!
//! Owns its search (`common/fit.cpp`), step by step, since what it ends with depends on it: a shorter context first, if that was
//! left open; then as many layers as fit, from the last one on and the last GPU first; of models with experts, layers without
//! their experts first, and then experts as long as there is room, from the first GPU on.

use super::llama_cpp::{Build, Measure, Measured, Overflow, Placement, Setup};
use super::{Ask, Estimate, Layers, Parts};
use crate::offload::model::Model;

/// Tokens that a context is not shortened below (`--fit-ctx`).
const CONTEXT_MIN: u64 = 4_096;
/// Tokens that a context is shortened to a multiple of.
const CONTEXT_STEP: u64 = 256;
/// Rounds of a search that are enough for any number of layers; a bound, should figures make no sense.
const ROUNDS_MAX: usize = 4_096;

/// Returns what becomes of a model in llama.cpp.
pub(super) fn estimate(model: &Model, ask: &Ask) -> Estimate {
    let build = Build::of(ask.version);
    let trained = model.number("context_length").unwrap_or(CONTEXT_MIN).max(1);
    // What says nothing leaves it to the engine.
    let (sequences, slots) = match u64::from(ask.parallel) {
        0 => (1, build.slots),
        parallel => (parallel, 1),
    };
    let outputs = if build.few_outputs { sequences.saturating_mul(slots) } else { u64::from(ask.batch.max(1)) };
    let setup = Setup {
        context: if ask.context == 0 { trained } else { u64::from(ask.context) },
        sequences,
        slots,
        batch: u64::from(ask.batch.max(1)),
        outputs,
        keys: ask.keys,
        values: ask.values,
        flash_attention: ask.flash_attention,
        build,
    };
    let rooms: Vec<u64> = ask.gpus.iter().map(|room| room.free.0).collect();
    let fitted = match ask.layers {
        Layers::Exactly(layers) => {
            let measure = Measure::new(model, setup.clone());
            let layers = usize::try_from(layers).unwrap_or(usize::MAX);
            let placement = Placement::of(measure.layers(), layers, &shares(&rooms), build.output_first);
            Fitted { measured: measure.take(&placement), placement, context: setup.context }
        }
        Layers::Auto => fit(model, &setup, &rooms, ask.context == 0),
    };
    let Measured { gpus, host } = fitted.measured;
    Estimate {
        formula: "llama.cpp --fit",
        layers: fitted.placement.on_gpus(),
        layers_all: u32::try_from(model.layers.len()).unwrap_or(u32::MAX).saturating_add(1),
        context: u32::try_from(fitted.context).unwrap_or(u32::MAX),
        gpus: gpus.into_iter().map(|parts| Parts { overhead: super::overhead(&parts), ..parts }).collect(),
        host,
        doubts: super::llama_cpp::doubts(model),
    }
}

/// What a search ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Which device has what.
    pub placement: Placement,
    /// Tokens of context of one sequence.
    pub context: u64,
    /// What that takes.
    pub measured: Measured,
}

/// Searches a placement. `rooms`: what may be used of each GPU; `is_open`: the context may be shortened.
#[must_use]
pub fn fit(model: &Model, setup: &Setup, rooms: &[u64], is_open: bool) -> Fitted {
    let mut setup = setup.clone();
    let measure = Measure::new(model, setup.clone());
    let layers = measure.layers();
    let whole = Placement::of(layers, layers.saturating_add(1), &shares(rooms), true);
    let full = measure.take(&whole);
    let ready = |placement: &Placement, measured: &Measured, context| Fitted {
        placement: placement.clone(),
        context,
        measured: measured.clone(),
    };
    let fits = full.gpus.iter().zip(rooms).all(|(parts, room)| used(parts) <= i128::from(*room));
    if rooms.is_empty() || fits {
        return ready(&whole, &full, setup.context);
    }
    if is_open && let Some(context) = shortened(model, &setup, rooms, &whole, &full) {
        setup.context = context.tokens;
        if context.is_enough && rooms.len() == 1 {
            let measured = Measure::new(model, setup.clone()).take(&whole);
            return ready(&whole, &measured, setup.context);
        }
    }
    let measure = Measure::new(model, setup.clone());
    let mut search = Search::new(&measure, rooms, model.number("expert_count").is_some_and(|count| count > 0));
    search.fill();
    if search.has_experts && search.experts_would_fit_elsewhere(&whole) {
        search.convert();
    }
    let placement = search.placement(&search.now.counts, &search.spills);
    let measured = measure.take(&placement);
    ready(&placement, &measured, setup.context)
}

/// All that is used of a GPU.
fn used(parts: &Parts) -> i128 {
    i128::from(parts.weights.0) + i128::from(parts.cache.0) + i128::from(parts.compute.0)
}

/// Layers are split as what may be used of each GPU; evenly, where nothing may. llama.cpp splits by all that is free, of which a part is to be
/// left free: that is the same where GPUs are alike.
fn shares(rooms: &[u64]) -> Vec<u64> {
    if rooms.iter().all(|room| *room == 0) { vec![1; rooms.len()] } else { rooms.to_vec() }
}

/// A context that was shortened.
struct Shortened {
    tokens: u64,
    /// Whether all of the model fits then.
    is_enough: bool,
}

/// Shortens the context, by a straight line between its full length and the least one.
fn shortened(model: &Model, setup: &Setup, rooms: &[u64], whole: &Placement, full: &Measured) -> Option<Shortened> {
    let room: i128 = rooms.iter().map(|room| i128::from(*room)).sum();
    let used_full: i128 = full.gpus.iter().map(used).sum();
    let (most, least) = (setup.context, CONTEXT_MIN.min(setup.context));
    if used_full <= room || most <= CONTEXT_MIN {
        return None;
    }
    let mut room = room;
    if rooms.len() > 1 {
        // Layers do not fill several GPUs to the brim.
        let weights: i128 = full.gpus.iter().map(|parts| i128::from(parts.weights.0)).sum();
        let layers = i128::try_from(model.layers.len().max(1)).unwrap_or(1);
        let part = if model.number("expert_count").is_some_and(|count| count > 0) { 6 } else { 2 };
        let gpus = i128::try_from(rooms.len()).unwrap_or(1);
        room -= (gpus + 1) * (weights / layers) / part;
    }
    let at_least = Measure::new(model, Setup { context: least, ..setup.clone() }).take(whole);
    let used_least: i128 = at_least.gpus.iter().map(used).sum();
    if room <= used_least || used_full <= used_least {
        return Some(Shortened { tokens: least, is_enough: false });
    }
    // All sequences together, as llama.cpp counts them.
    let sequences = i128::from(setup.sequences);
    let (most, least) = (i128::from(most) * sequences, i128::from(least) * sequences);
    let tokens = least + (most - least) * (room - used_least) / (used_full - used_least);
    let step = i128::from(CONTEXT_STEP) * sequences;
    let tokens = (tokens - tokens % step).max(least) / sequences;
    Some(Shortened { tokens: u64::try_from(tokens).unwrap_or(CONTEXT_MIN), is_enough: true })
}

/// Layers of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    /// All of them.
    layers: usize,
    /// Those of which a part lies elsewhere.
    parted: usize,
    /// Which part, of the first of them; of the others it is the experts.
    first: Overflow,
}

/// A state of the search: layers, and what they take.
#[derive(Clone, Debug)]
struct State {
    counts: Vec<Count>,
    used: Vec<i128>,
    /// The first GPU that has layers without their experts.
    first_dense: usize,
}

/// The search.
struct Search<'a> {
    measure: &'a Measure<'a>,
    rooms: Vec<i128>,
    has_experts: bool,
    /// Where the first parted layer of each GPU has what does not lie there.
    spills: Vec<usize>,
    now: State,
}

impl<'a> Search<'a> {
    fn new(measure: &'a Measure<'a>, rooms: &[u64], has_experts: bool) -> Self {
        let gpus = rooms.len();
        let counts = vec![Count { layers: 0, parted: 0, first: Overflow::Experts }; gpus];
        let mut search = Self {
            measure,
            rooms: rooms.iter().map(|room| i128::from(*room)).collect(),
            has_experts,
            spills: vec![gpus; gpus],
            now: State { counts: counts.clone(), used: Vec::new(), first_dense: gpus },
        };
        search.now.used = search.taken(&counts, &search.spills);
        search
    }

    fn placement(&self, counts: &[Count], spills: &[usize]) -> Placement {
        let layers = self.measure.layers();
        let split: Vec<u64> = counts.iter().map(|count| u64::try_from(count.layers).unwrap_or(0)).collect();
        let all: usize = counts.iter().fold(0, |sum, count| sum.saturating_add(count.layers));
        let mut placement =
            if all == 0 { Placement::host(counts.len(), layers) } else { Placement::of(layers, all, &split, true) };
        let mut index = layers.saturating_add(1).saturating_sub(all);
        for (gpu, count) in counts.iter().enumerate() {
            index = index.saturating_add(count.layers.saturating_sub(count.parted));
            for part in 0..count.parted {
                let host = counts.len();
                let (what, place) = if part == 0 {
                    (count.first, spills.get(gpu).copied().unwrap_or(host))
                } else {
                    (Overflow::Experts, host)
                };
                placement.overflow(index.saturating_add(part), what, place);
            }
            index = index.saturating_add(count.parted);
        }
        placement
    }

    fn taken(&self, counts: &[Count], spills: &[usize]) -> Vec<i128> {
        self.measure.take(&self.placement(counts, spills)).gpus.iter().map(used).collect()
    }

    fn room(&self, gpu: usize) -> i128 {
        self.rooms.get(gpu).copied().unwrap_or(0)
    }

    /// Fills GPUs with layers, the last one first; of layers with experts, without these.
    fn fill(&mut self) {
        let gpus = self.rooms.len();
        for gpu in (0..gpus).rev() {
            let is_last = gpu.saturating_add(1) == gpus;
            let behind: usize = self
                .now
                .counts
                .iter()
                .skip(gpu.saturating_add(1))
                .fold(0, |sum, count| sum.saturating_add(count.layers));
            let left = self.measure.layers().saturating_add(1).saturating_sub(behind);
            let mut high = self.now.clone();
            if let Some(count) = high.counts.get_mut(gpu) {
                count.layers = left;
                if self.has_experts {
                    // The output is no layer that could be parted.
                    count.parted = if is_last { left.saturating_sub(1) } else { left };
                }
            }
            if left == 0 {
                continue;
            }
            high.used = self.taken(&high.counts, &self.spills);
            if at(&high.used, gpu) <= self.room(gpu) {
                self.now = high;
                continue;
            }
            let has_experts = self.has_experts;
            self.narrow(
                gpu,
                high,
                |count| count.layers,
                |state, step| {
                    if let Some(count) = state.counts.get_mut(gpu) {
                        count.layers = count.layers.saturating_add(step);
                        if has_experts {
                            let whole = usize::from(is_last && count.parted == 0);
                            count.parted = count.parted.saturating_add(step.saturating_sub(whole));
                        }
                    }
                },
            );
        }
    }

    /// Comes closer to what just fits, between what does (now) and what does not: where a straight line says it should be.
    fn narrow(
        &mut self,
        gpu: usize,
        mut high: State,
        size: impl Fn(&Count) -> usize,
        advance: impl Fn(&mut State, usize),
    ) -> State {
        let of = |state: &State| state.counts.get(gpu).map_or(0, &size);
        if at(&self.now.used, gpu) > self.room(gpu) {
            let begin = of(&self.now);
            self.skip(gpu, &mut high, begin, of, &advance);
        }
        for _ in 0..ROUNDS_MAX {
            let apart = of(&high).saturating_sub(of(&self.now));
            if apart <= 1 {
                break;
            }
            let (low_used, high_used) = (at(&self.now.used, gpu), at(&high.used, gpu));
            let guess = i128::try_from(apart)
                .unwrap_or(1)
                .checked_mul(self.room(gpu) - low_used)
                .and_then(|product| product.checked_div(high_used - low_used))
                .unwrap_or(1);
            // A guess below zero is a large number in llama.cpp, and then the largest step.
            let most = apart.saturating_sub(1);
            let step = if guess < 0 { most } else { usize::try_from(guess).unwrap_or(most).clamp(1, most) };
            let mut test = self.now.clone();
            advance(&mut test, step);
            test.used = self.taken(&test.counts, &self.spills);
            if at(&test.used, gpu) <= self.room(gpu) {
                self.now = test;
            } else {
                high = test;
            }
        }
        high
    }

    /// Skips what cannot fit, where nothing fits yet: llama.cpp comes closer a layer at a time then. Of what has more weights and
    /// cache than there is room, the buffers do not matter.
    fn skip(
        &self,
        gpu: usize,
        high: &mut State,
        begin: usize,
        of: impl Fn(&State) -> usize,
        advance: impl Fn(&mut State, usize),
    ) {
        let with = |step: usize| {
            let mut state = self.now.clone();
            advance(&mut state, step);
            state
        };
        let fits = |step: usize| {
            let parts = self.measure.settled(&self.placement(&with(step).counts, &self.spills));
            parts.get(gpu).is_some_and(|parts| used(parts) <= self.room(gpu))
        };
        let (mut low, mut least) = (0, of(high).saturating_sub(begin));
        let all = least;
        while least.saturating_sub(low) > 1 {
            let middle = low.midpoint(least);
            if fits(middle) { low = middle } else { least = middle }
        }
        if least < all {
            *high = with(least);
            high.used = self.taken(&high.counts, &self.spills);
        }
    }

    /// Whether all fits, once the experts of all layers are in the machine's memory.
    fn experts_would_fit_elsewhere(&self, whole: &Placement) -> bool {
        let mut placement = whole.clone();
        for layer in 0..self.measure.layers() {
            placement.overflow(layer, Overflow::Experts, self.rooms.len());
        }
        let used: i128 = self.measure.take(&placement).gpus.iter().map(used).sum();
        self.rooms.iter().sum::<i128>() > used
    }

    /// Makes layers without experts, from the last GPUs, whole ones on the first GPUs.
    fn convert(&mut self) {
        let gpus = self.rooms.len();
        let with_layers = |count: &&Count| count.layers > 0;
        self.now.first_dense = gpus.saturating_sub(self.now.counts.iter().rev().take_while(with_layers).count());
        let mut gpu = 0;
        while gpu < gpus && gpu <= self.now.first_dense && self.now.first_dense < gpus {
            let mut high = self.now.clone();
            for from in self.now.first_dense..gpus {
                let is_last = from.saturating_add(1) == gpus;
                let Some(count) = high.counts.get_mut(from) else { continue };
                let moves = if is_last { count.layers.saturating_sub(1) } else { count.layers };
                count.layers = count.layers.saturating_sub(moves);
                count.parted = 0;
                if let Some(count) = high.counts.get_mut(gpu) {
                    count.layers = count.layers.saturating_add(moves);
                }
            }
            high.first_dense = gpus.saturating_sub(1);
            high.used = self.taken(&high.counts, &self.spills);
            if at(&high.used, gpu) > self.room(gpu) {
                self.narrow(
                    gpu,
                    high,
                    |count| count.layers.saturating_sub(count.parted),
                    |state, step| {
                        convert_some(state, gpu, step);
                    },
                );
            } else {
                self.now = high;
            }
            self.squeeze(gpu);
            gpu = gpu.saturating_add(1);
        }
    }

    /// Tries to have a part of one more layer.
    fn squeeze(&mut self, gpu: usize) {
        let gpus = self.rooms.len();
        let is_last = gpu.saturating_add(1) == gpus;
        let from = self.now.first_dense;
        let has_more = self.now.counts.get(from).is_some_and(|count| count.layers > usize::from(is_last));
        if !has_more {
            return;
        }
        let mut test = self.now.clone();
        if let Some(count) = test.counts.get_mut(from) {
            count.layers = count.layers.saturating_sub(1);
            count.parted = count.parted.saturating_sub(1);
            if count.parted == 0 {
                test.first_dense = from.saturating_add(1);
            }
        }
        if let Some(count) = test.counts.get_mut(gpu) {
            count.layers = count.layers.saturating_add(1);
            count.parted = count.parted.saturating_add(1);
        }
        let mut spills = self.spills.clone();
        if !is_last && let Some(spill) = spills.get_mut(gpu) {
            *spill = gpu.saturating_add(1);
        }
        let next = gpu.saturating_add(1);
        let mut attempt = |search: &mut Self, what: Overflow| {
            if let Some(count) = test.counts.get_mut(gpu) {
                count.first = what;
            }
            test.used = search.taken(&test.counts, &spills);
            let fits =
                at(&test.used, gpu) < search.room(gpu) && (is_last || at(&test.used, next) < search.room(next));
            if fits {
                search.now = test.clone();
                search.spills.clone_from(&spills);
            }
            fits
        };
        if attempt(self, Overflow::UpStays) {
            attempt(self, Overflow::GateStays);
        } else {
            attempt(self, Overflow::AttentionStays);
        }
    }
}

/// Makes so many layers without experts whole ones of this GPU.
fn convert_some(state: &mut State, gpu: usize, step: usize) {
    let mut left = step;
    let gpus = state.counts.len();
    while state.first_dense < gpus {
        let Some(count) = state.counts.get_mut(state.first_dense) else { return };
        let converts = left.min(count.parted);
        count.layers = count.layers.saturating_sub(converts);
        count.parted = count.parted.saturating_sub(converts);
        let remaining = count.parted;
        left = left.saturating_sub(converts);
        if let Some(count) = state.counts.get_mut(gpu) {
            count.layers = count.layers.saturating_add(converts);
        }
        if remaining > 0 {
            return;
        }
        state.first_dense = state.first_dense.saturating_add(1);
    }
}

fn at(used: &[i128], gpu: usize) -> i128 {
    used.get(gpu).copied().unwrap_or(0)
}
