//! What loads of models were measured to take of GPUs: of all services, since the same model takes the same in each.

use std::sync::Arc;

use nixmox_core::model::Bytes;
use nixmox_core::offload::arbiter::{Load, Measured};

use crate::state::MEASURED_MAX;

/// How much another measure must differ before it counts: nobody decides otherwise for less, and a write of the notes costs more.
const DIFFERENCE_MIN: u64 = 32 << 20;

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Loads {
    pub(super) measured: Measured,
    /// The same, the oldest measure first; shared with who answers questions.
    order: Arc<Vec<(Load, Bytes)>>,
}

impl Loads {
    /// Begins with what was noted, the oldest first.
    pub(super) fn new(noted: &[(Load, Bytes)]) -> Self {
        let mut loads = Self::default();
        loads.keep(noted.iter().cloned());
        loads
    }

    /// Keeps what was measured just now; the oldest are forgotten where there are too many.
    pub(super) fn keep(&mut self, found: impl IntoIterator<Item = (Load, Bytes)>) {
        let mut found = found.into_iter().peekable();
        if found.peek().is_none() {
            return;
        }
        let Measured(known) = &mut self.measured;
        let order = Arc::make_mut(&mut self.order);
        for (load, bytes) in found {
            if known.get(&load).is_some_and(|before| before.0.abs_diff(bytes.0) < DIFFERENCE_MIN) {
                continue;
            }
            if known.insert(load.clone(), bytes).is_some() {
                order.retain(|(other, _)| *other != load);
            }
            order.push((load, bytes));
        }
        let excess = order.len().saturating_sub(MEASURED_MAX);
        for (load, _) in order.drain(..excess) {
            known.remove(&load);
        }
    }

    /// Returns all of them, the oldest first.
    pub(super) fn shared(&self) -> Arc<Vec<(Load, Bytes)>> {
        Arc::clone(&self.order)
    }

    /// Writes all down, the oldest first.
    pub(super) fn write_down(&self, noted: &mut Vec<(Load, Bytes)>) {
        if *noted != *self.order {
            noted.clone_from(&self.order);
        }
    }
}

#[cfg(test)]
mod tests {
    use nixmox_core::offload::estimate::KvType;

    use super::*;

    fn load(context: u32) -> Load {
        Load { model: "sha256:1".to_owned(), context, parallel: 1, kv: KvType::F16, layers: 33 }
    }

    #[test]
    fn a_measure_replaces_an_earlier_one_where_it_differs_and_the_oldest_are_forgotten() {
        let mut loads = Loads::default();
        loads.keep([(load(1), Bytes(5 << 30)), (load(2), Bytes(6 << 30))]);
        // A little more is no news.
        loads.keep([(load(1), Bytes((5 << 30) + 1000))]);
        let mut noted = Vec::new();
        loads.write_down(&mut noted);
        assert_eq!(noted, [(load(1), Bytes(5 << 30)), (load(2), Bytes(6 << 30))]);
        loads.keep([(load(1), Bytes(7 << 30))]);
        loads.write_down(&mut noted);
        assert_eq!(noted, [(load(2), Bytes(6 << 30)), (load(1), Bytes(7 << 30))]);

        let most = u32::try_from(MEASURED_MAX).unwrap();
        let mut loads = Loads::new(&noted);
        loads.keep((0..most - 1).map(|number| (load(number + 10), Bytes(1 << 30))));
        loads.write_down(&mut noted);
        assert_eq!(
            (noted.len(), noted[0].0.context, noted[MEASURED_MAX - 1].0.context),
            (MEASURED_MAX, 1, most + 8)
        );
    }
}
