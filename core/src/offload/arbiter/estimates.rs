//! What models were estimated to take: each once, and only so many in one round.
//!
//! A decision tries layers and contexts, which takes up to a hundred estimates of each model, and a model is what somebody's file says: with
//! thousands of layers one estimate takes its time. What is not estimated yet when a round has had its share is estimated in the next ones;
//! until then nothing is decided.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::estimate::{Ask, Estimate, Layers};
use super::super::model::Model;
use crate::model::Bytes;

/// Estimates that are kept. A decision of which more are needed would not come to its end: 30 models with a hundred each.
const KEPT_MAX: usize = 8192;

/// What was estimated of the models of one engine, by the names that it has for them.
pub struct Estimates {
    estimate: fn(&Model, &Ask) -> Estimate,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// All that they were made for, but for the context and the layers.
    of: Option<Ask>,
    known: HashMap<String, HashMap<(u32, u32), Bytes>>,
    count: usize,
    /// Of how many layers they may yet be made; `None`: of as many as are wanted.
    left: Option<u32>,
    /// More were wanted than might be made.
    is_short: bool,
}

impl Estimates {
    /// Makes them by this formula, as many as are wanted.
    #[must_use]
    pub fn new(estimate: fn(&Model, &Ask) -> Estimate) -> Self {
        Self { estimate, made: Mutex::default() }
    }

    /// Lets them be made of so many layers from now on, all models together: each takes its time by the layers of its model. The last one may
    /// take more, so that one is made in any case.
    pub fn allow(&self, left: u32) {
        let mut made = self.made();
        (made.left, made.is_short) = (Some(left), false);
    }

    /// Returns of how many layers they may yet be made; `None`: of as many as are wanted.
    #[must_use]
    pub fn left(&self) -> Option<u32> {
        self.made().left
    }

    /// Returns whether more were wanted than were allowed: what was made of these is to be asked again.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.made().is_short
    }

    /// Forgets what is known of a model: another one has its name.
    pub fn forget(&self, name: &str) {
        let mut made = self.made();
        let gone = made.known.remove(name).map_or(0, |known| known.len());
        made.count = made.count.saturating_sub(gone);
    }

    /// Returns what a model takes on all GPUs; `None`: no more may be estimated for now.
    pub(super) fn need(&self, name: &str, model: &Model, ask: &Ask) -> Option<Bytes> {
        let layers = match ask.layers {
            Layers::Exactly(layers) => layers,
            Layers::Auto => u32::MAX,
        };
        let key = (ask.context, layers);
        let of = Ask { context: 0, layers: Layers::Auto, ..ask.clone() };
        let mut made = self.made();
        if made.of.as_ref() != Some(&of) {
            (made.known, made.count, made.of) = (HashMap::new(), 0, Some(of));
        }
        if let Some(known) = made.known.get(name).and_then(|known| known.get(&key)) {
            return Some(*known);
        }
        match &mut made.left {
            Some(0) => {
                made.is_short = true;
                return None;
            }
            Some(left) => *left = left.saturating_sub(u32::try_from(model.layers.len()).unwrap_or(u32::MAX).max(1)),
            None => {}
        }
        if made.count >= KEPT_MAX {
            (made.known, made.count) = (HashMap::new(), 0);
        }
        let estimate = (self.estimate)(model, ask);
        let parts = estimate.gpus.iter().flat_map(|gpu| [gpu.weights, gpu.cache, gpu.compute, gpu.overhead]);
        let need = Bytes(parts.fold(0, |sum: u64, part| sum.saturating_add(part.0)));
        made.count = made.count.saturating_add(1);
        made.known.entry(name.to_owned()).or_default().insert(key, need);
        Some(need)
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Estimates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = self.made();
        f.debug_struct("Estimates").field("known", &made.count).field("left", &made.left).finish_non_exhaustive()
    }
}
