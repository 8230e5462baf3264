//! Layers that repeat, so that not all of them need be written down.
//!
//! Owns which layers are alike as far as a batch's memory depends on them. What is computed of a long row of layers, alike or in
//! a pattern, takes turns with the same blocks of memory: its beginning and what is left over behind whole patterns reach as far
//! as all of it.

use super::placement::{Overflow, Placement};
use super::weights::of_layer;
use crate::offload::estimate::kv::{Keeps, LayerKeeps};
use crate::offload::gguf::{Tensor, TensorType};

/// The longest pattern that is looked for, in layers.
const PATTERN_MAX: usize = 8;
/// So many patterns make a unit: neighbours take turns with two blocks for what they hand on.
const PATTERNS: usize = 2;
/// The fewest layers of a unit.
const UNIT_MIN: usize = 4;
/// Units of a row that are written down, besides what is left over behind whole ones.
const UNITS: usize = 2;

/// What a layer is made of: its tensors in their order, and what it keeps.
type Made<'a> = (Vec<(&'a str, &'a [u64], Option<TensorType>)>, LayerKeeps);

/// Which layers are alike, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Classes {
    /// With the types of their tensors.
    exact: Vec<usize>,
    /// Whatever types their tensors have: these count only where weights are copied.
    rough: Vec<usize>,
}

/// A layer in a placement: all that its memory depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Placed {
    class: usize,
    place: usize,
    overflow: Option<(Overflow, usize)>,
    is_last: bool,
}

impl Classes {
    /// Looks at all layers once.
    pub(super) fn of(layers: &[Vec<Tensor>], keeps: &Keeps) -> Self {
        let number = |with_types: bool| {
            let mut known: Vec<Made<'_>> = Vec::new();
            let layers = layers.iter().enumerate().map(|(index, tensors)| {
                let keeps = keeps.layers.get(index).copied().unwrap_or_default();
                let made = (tensors.iter().map(|tensor| about(tensor, with_types)).collect(), keeps);
                known.iter().position(|other| *other == made).unwrap_or_else(|| {
                    known.push(made);
                    known.len().saturating_sub(1)
                })
            });
            layers.collect()
        };
        Self { exact: number(true), rough: number(false) }
    }

    /// Returns the layers that have to be written down for a batch to take the memory that it takes with all of them.
    pub(super) fn needed(&self, placement: &Placement) -> Vec<usize> {
        let layers: Vec<Placed> = (0..self.exact.len()).map(|index| self.placed(index, placement)).collect();
        let mut needed = Vec::new();
        let mut index = 0;
        while index < layers.len() {
            let rest = layers.get(index..).unwrap_or_default();
            // The longest row; of those, that of the shortest pattern.
            let rows = (1..=PATTERN_MAX).map(|pattern| (row(rest, pattern), std::cmp::Reverse(pattern)));
            let Some((length, std::cmp::Reverse(pattern))) = rows.max() else { break };
            let unit = pattern.saturating_mul(PATTERNS).max(UNIT_MIN).next_multiple_of(pattern.max(1));
            let least = unit.saturating_mul(UNITS);
            if length < least.saturating_add(unit) {
                needed.push(index);
                index = index.saturating_add(1);
                continue;
            }
            let kept = least.saturating_add(length.checked_rem(unit).unwrap_or(0));
            needed.extend(index..index.saturating_add(kept));
            index = index.saturating_add(length);
        }
        needed
    }

    fn placed(&self, index: usize, placement: &Placement) -> Placed {
        let (place, overflow) = (placement.layer(index), placement.overflow_of(index));
        // Weights are copied from the machine's memory alone, and only where there is a GPU.
        let are_copied = placement.gpus() > 0 && (place >= placement.gpus() || overflow.is_some());
        let classes = if are_copied { &self.exact } else { &self.rough };
        let is_last = index.saturating_add(1) == self.exact.len();
        Placed { class: classes.get(index).copied().unwrap_or(usize::MAX), place, overflow, is_last }
    }
}

/// Returns how many layers at the beginning are a pattern of so many over and over.
fn row(layers: &[Placed], pattern: usize) -> usize {
    let repeated = layers.iter().zip(layers.iter().skip(pattern)).take_while(|(one, other)| one == other).count();
    repeated.saturating_add(pattern).min(layers.len())
}

fn about(tensor: &Tensor, with_type: bool) -> (&str, &[u64], Option<TensorType>) {
    (of_layer(&tensor.name), &tensor.shape, with_type.then_some(tensor.kind))
}

#[cfg(test)]
mod tests {
    use crate::offload::estimate::KvType;
    use crate::offload::estimate::llama_cpp::{Build, Measure, Overflow, Placement, Setup};
    use crate::offload::estimate::logs::shapes::{self, Recipe, Shape};

    fn setup(kind: KvType, flash_attention: bool, outputs: u64) -> Setup {
        Setup {
            context: 4096,
            sequences: 1,
            slots: 1,
            batch: 512,
            outputs,
            keys: kind,
            values: kind,
            flash_attention,
            build: Build::of(None),
        }
    }

    #[test]
    fn memory_is_the_same_whether_all_layers_are_written_down_or_those_that_are_needed() {
        let bases = [shapes::LLAMA_8B, shapes::GEMMA3_4B, shapes::QWEN3_30B, shapes::GPT_OSS_20B, shapes::QWEN2_7B];
        let setups = [setup(KvType::F16, true, 1), setup(KvType::Q8_0, true, 512), setup(KvType::F16, false, 512)];
        let mut shorter = 0;
        for base in bases {
            for layers in [29, 61] {
                let model = shapes::model(&Shape { layers, ..base }, Recipe::Q4Km);
                let layers = model.layers.len();
                let all: Vec<usize> = (0..layers).collect();
                for setup in &setups {
                    let measure = Measure::new(&model, setup.clone());
                    let splits: [&[u64]; 3] = [&[1], &[2, 1], &[1, 3, 2]];
                    for (split, on) in
                        splits.into_iter().flat_map(|split| (0..=layers + 1).step_by(12).map(move |on| (split, on)))
                    {
                        let mut placement = Placement::of(layers, on, split, true);
                        // Of some, parts of layers are elsewhere.
                        if on % 5 == 4 {
                            (layers / 4..layers)
                                .for_each(|layer| placement.overflow(layer, Overflow::Experts, split.len()));
                        } else if on % 5 == 3 {
                            placement.overflow(layers - 2, Overflow::GateStays, split.len() - 1);
                        }
                        let needed = measure.classes.needed(&placement);
                        shorter += usize::from(needed.len() < layers);
                        assert_eq!(
                            measure.computing(&placement, &needed),
                            measure.computing(&placement, &all),
                            "{} with {layers} layers, {on} of them on {split:?}: {needed:?}, {setup:?}",
                            base.architecture
                        );
                    }
                }
            }
        }
        assert!(shorter > 60, "{shorter}");
    }

    #[test]
    fn few_of_a_thousand_layers_are_written_down() {
        let model = shapes::model(&Shape { layers: 1000, ..shapes::GEMMA3_4B }, Recipe::Q4Km);
        let measure = Measure::new(&model, setup(KvType::F16, true, 1));
        for on in [0, 1, 500, 1001] {
            let needed = measure.classes.needed(&Placement::of(1000, on, &[1], true));
            assert!(needed.len() < 150, "{on}: {}", needed.len());
            assert_eq!(needed.last(), Some(&999), "the last one is different");
        }
    }
}
