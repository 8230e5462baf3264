//! Which device has which layer, and what of a layer lies elsewhere.
//!
//! Owns llama.cpp's rule for `-ngl` and `--tensor-split`, and the parts of a layer that `--fit` keeps in the machine's memory.

use super::tape::Place;

/// What of a layer does not lie where the layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// All but attention: gate, up and down.
    AttentionStays,
    /// Gate and down.
    UpStays,
    /// Down.
    GateStays,
    /// The experts.
    Experts,
}

impl Overflow {
    /// Whether a tensor of a layer, named behind `blk.N.`, lies elsewhere.
    #[must_use]
    pub fn moves(self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix("ffn_") else { return false };
        match self {
            Self::AttentionStays => ["gate", "up", "down"].iter().any(|part| rest.starts_with(part)),
            Self::UpStays => ["gate", "down"].iter().any(|part| rest.starts_with(part)),
            Self::GateStays => rest.starts_with("down"),
            Self::Experts => ["up", "down", "gate_up", "gate"].iter().any(|part| {
                rest.strip_prefix(part).is_some_and(|rest| rest.starts_with("_exps") || rest.starts_with("_chexps"))
            }),
        }
    }
}

/// Which device has which layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    gpus: usize,
    /// The device of each layer, and of the output as the last one; the number after the last GPU is the host.
    places: Vec<Place>,
    /// What of a layer lies elsewhere, and where.
    overflows: Vec<Option<(Overflow, Place)>>,
}

impl Placement {
    /// Returns one that has everything in the machine's memory.
    #[must_use]
    pub fn host(gpus: usize, layers: usize) -> Self {
        Self { gpus, places: vec![gpus; layers.saturating_add(1)], overflows: vec![None; layers] }
    }

    /// Returns that of so many layers on GPUs, the output among them, split as these numbers are to each other.
    ///
    /// `output_first`: the last layers and the output are on GPUs; else the output only once all layers are.
    #[must_use]
    pub fn of(layers: usize, on_gpus: usize, split: &[u64], output_first: bool) -> Self {
        let gpus = split.len();
        let mut placement = Self::host(gpus, layers);
        let all = layers.saturating_add(1);
        let on_gpus = on_gpus.min(all);
        let first = if output_first { all.saturating_sub(on_gpus) } else { layers.saturating_sub(on_gpus) };
        let sum: u128 = split.iter().map(|share| u128::from(*share)).sum();
        for (index, place) in placement.places.iter_mut().enumerate() {
            let Some(position) = index.checked_sub(first).filter(|position| *position < on_gpus) else { continue };
            // The first GPU whose share of all reaches beyond the layer's position among those on GPUs.
            let mut reached: u128 = 0;
            *place = split
                .iter()
                .position(|share| {
                    reached = reached.saturating_add(u128::from(*share));
                    reached.saturating_mul(on_gpus as u128) > sum.saturating_mul(position as u128)
                })
                .unwrap_or(gpus.saturating_sub(1).min(gpus));
        }
        if gpus == 0 {
            return Self::host(0, layers);
        }
        placement
    }

    /// Has a part of a layer elsewhere.
    pub fn overflow(&mut self, layer: usize, what: Overflow, place: usize) {
        if let Some(slot) = self.overflows.get_mut(layer) {
            *slot = Some((what, place));
        }
    }

    /// How many GPUs there are.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.gpus
    }

    /// Whether everything is on GPUs, but what overflows.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.places.iter().all(|place| *place < self.gpus)
    }

    /// Whether a part of any layer lies elsewhere.
    #[must_use]
    pub fn overflows(&self) -> bool {
        self.overflows.iter().any(Option::is_some)
    }

    /// Layers on GPUs; the output counts as one.
    #[must_use]
    pub fn on_gpus(&self) -> u32 {
        u32::try_from(self.places.iter().filter(|place| **place < self.gpus).count()).unwrap_or(u32::MAX)
    }

    /// What of a layer lies elsewhere, and where; `None`: nothing.
    pub(super) fn overflow_of(&self, layer: usize) -> Option<(Overflow, Place)> {
        self.overflows.get(layer).copied().flatten()
    }

    /// The device of a layer.
    pub(super) fn layer(&self, index: usize) -> Place {
        self.places.get(index).copied().unwrap_or(self.gpus)
    }

    /// The device of the output.
    pub(super) fn output(&self) -> Place {
        self.places.last().copied().unwrap_or(self.gpus)
    }

    /// The device of a tensor of a layer, named behind `blk.N.`.
    pub(super) fn tensor(&self, layer: usize, name: &str) -> Place {
        match self.overflow_of(layer) {
            Some((what, place)) if what.moves(name) => place,
            Some(_) | None => self.layer(layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Overflow, Placement};

    #[test]
    fn the_last_layers_are_on_gpus_and_the_output_is_the_first_of_them_or_the_last() {
        let places = |on_gpus, output_first| Placement::of(4, on_gpus, &[1], output_first).places;
        assert_eq!(places(2, true), [1, 1, 1, 0, 0]);
        assert_eq!(places(2, false), [1, 1, 0, 0, 1]);
        assert_eq!(places(4, false), [0, 0, 0, 0, 1]);
        assert_eq!(places(99, true), [0, 0, 0, 0, 0]);
        assert_eq!(Placement::of(2, 3, &[], true).places, [0, 0, 0], "the host is the only one");
    }

    #[test]
    fn layers_are_split_as_numbers_are_to_each_other() {
        assert_eq!(Placement::of(4, 5, &[2, 3], true).places, [0, 0, 1, 1, 1]);
        assert_eq!(Placement::of(4, 3, &[1, 2], true).places, [2, 2, 0, 1, 1]);
        assert_eq!(Placement::of(4, 5, &[0, 1], true).places, [1; 5]);
    }

    #[test]
    fn an_overflow_moves_the_tensors_that_it_names() {
        assert!(
            Overflow::Experts.moves("ffn_gate_up_exps.weight") && !Overflow::Experts.moves("ffn_gate_shexp.weight")
        );
        assert!(Overflow::UpStays.moves("ffn_gate.weight") && !Overflow::UpStays.moves("ffn_up_exps.weight"));
        assert!(!Overflow::AttentionStays.moves("attn_q.weight"));
    }
}
