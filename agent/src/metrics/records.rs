//! What the reconcile task notes as it goes, for the next page: how long things took, and how often services were started anew.
//!
//! A note is a few additions under a lock that nobody holds for longer; there is no other cost where nobody asks for pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nixmox_core::model::ContainerName;

use super::histogram::{Histogram, LONG, SHORT};

/// What was noted since the agent's start.
#[derive(Clone, Debug)]
pub struct Records {
    /// Looks at the host.
    pub(super) observe: Histogram,
    /// Plans.
    pub(super) plan: Histogram,
    /// Steps that ended; each word once, sorted.
    pub(super) steps: Vec<Step>,
    /// Starts after an earlier instance, by service; absent: none.
    pub(super) restarts: BTreeMap<ContainerName, u64>,
}

/// Steps of one kind.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Their word, as in the journal.
    pub(super) word: &'static str,
    /// How long they took.
    pub(super) took: Histogram,
    /// How many failed.
    pub(super) failures: u64,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            observe: Histogram::new(SHORT),
            plan: Histogram::new(SHORT),
            steps: Vec::new(),
            restarts: BTreeMap::new(),
        }
    }
}

/// Takes the notes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Records>>);

impl Recorder {
    /// Notes how long a look at the host took.
    pub fn observed(&self, took: Duration) {
        self.records().observe.observe(took);
    }

    /// Notes how long it took to make a plan.
    pub fn planned(&self, took: Duration) {
        self.records().plan.observe(took);
    }

    /// Notes that a step ended: its word, how long it took, and whether it failed.
    pub fn ended(&self, step: &'static str, took: Duration, failed: bool) {
        let steps = &mut self.records().steps;
        // A handful of words: no map is needed.
        let place = steps.partition_point(|known| known.word < step);
        if steps.get(place).is_none_or(|known| known.word != step) {
            steps.insert(place, Step { word: step, took: Histogram::new(LONG), failures: 0 });
        }
        if let Some(known) = steps.get_mut(place) {
            known.took.observe(took);
            known.failures = known.failures.saturating_add(u64::from(failed));
        }
    }

    /// Notes that a service is started of which an earlier instance ended since boot.
    pub fn restarted(&self, name: &ContainerName) {
        let mut records = self.records();
        let restarts = records.restarts.entry(name.clone()).or_default();
        *restarts = restarts.saturating_add(1);
    }

    /// Forgets a service that was taken away.
    pub fn forget(&self, name: &ContainerName) {
        self.records().restarts.remove(name);
    }

    /// Returns what was noted so far.
    #[must_use]
    pub fn read(&self) -> Records {
        self.records().clone()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
