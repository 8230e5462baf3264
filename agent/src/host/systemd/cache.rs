//! Properties of units, by their names, that cannot have changed since they were read.
//!
//! systemd takes about 1 ms to tell all properties of one unit, so a hundred containers are not asked again at every
//! look. What is known is forgotten as soon as anything may have changed it: a signal about the unit (state, job), a
//! reload, a file of live properties, an own call, a new connection. Nothing is kept longer than `AGE_MAX`, so that a
//! lost signal is a delay and not a lie for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::UnitProperties;

/// Longest time for which properties are taken as known.
const AGE_MAX: Duration = Duration::from_mins(10);

/// What is known of units.
#[derive(Debug, Default)]
pub(in crate::host) struct UnitCache(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Counts changes.
    now: u64,
    /// When something changed that may concern all units.
    all_changed: u64,
    /// When something changed on a unit.
    changed: BTreeMap<String, u64>,
    units: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// When the reading began.
    read: u64,
    at: Instant,
    properties: UnitProperties,
}

/// The moment at which a reading began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl UnitCache {
    /// Says that a unit may have changed.
    pub(in crate::host) fn unit_changed(&self, unit: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.now += 1;
        let now = known.now;
        known.changed.insert(unit.to_owned(), now);
        known.units.remove(unit);
    }

    /// Says that any unit may have changed.
    pub(in crate::host) fn all_changed(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.now += 1;
        known.all_changed = known.now;
        known.changed.clear();
        known.units.clear();
    }

    /// Returns the moment, to be taken before a reading begins.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.0.lock().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// Returns what is known of a unit.
    pub(super) fn get(&self, unit: &str) -> Option<UnitProperties> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.units.get(unit).filter(|entry| entry.at.elapsed() < AGE_MAX)?;
        Some(entry.properties.clone())
    }

    /// Keeps what was read, unless the unit may have changed since the reading began.
    pub(super) fn keep(&self, unit: &str, began: Moment, properties: &UnitProperties) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = known.changed.get(unit).copied().unwrap_or(0).max(known.all_changed);
        let newer = known.units.get(unit).is_some_and(|entry| entry.read > began.0);
        if changed <= began.0 && !newer {
            let entry = Entry { read: began.0, at: Instant::now(), properties: properties.clone() };
            known.units.insert(unit.to_owned(), entry);
        }
    }

    /// Forgets containers that systemd does not list any more.
    pub(super) fn retain(&self, listed: &BTreeSet<String>) {
        let stays = |unit: &String| unit.strip_suffix(".slice").is_some() || listed.contains(unit);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.units.retain(|unit, _| stays(unit));
        // Only readings that are under way need to know of changes: those of listed units.
        known.changed.retain(|unit, _| stays(unit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pid: u32) -> UnitProperties {
        UnitProperties { main_pid: Some(pid), ..UnitProperties::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_changed_while_it_was_read_is_not_kept() {
        let cache = UnitCache::default();
        let (web, db) = ("container@web.service", "container@db.service");
        let began = cache.moment();
        cache.unit_changed(web);
        cache.keep(web, began, &properties(1));
        cache.keep(db, began, &properties(2));
        assert!(cache.get(web).is_none());
        assert_eq!(cache.get(db).and_then(|unit| unit.main_pid()), Some(2));
        cache.keep(web, cache.moment(), &properties(3));
        assert_eq!(cache.get(web).and_then(|unit| unit.main_pid()), Some(3));

        let began = cache.moment();
        cache.all_changed();
        cache.keep(web, began, &properties(4));
        assert!(cache.get(web).is_none() && cache.get(db).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_reading_does_not_replace_a_newer_one() {
        let cache = UnitCache::default();
        let (web, db) = ("container@web.service", "container@db.service");
        let first = cache.moment();
        cache.unit_changed(db);
        cache.keep(web, cache.moment(), &properties(2));
        cache.keep(web, first, &properties(1));
        assert_eq!(cache.get(web).and_then(|unit| unit.main_pid()), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_known_for_ever() {
        let cache = UnitCache::default();
        let web = "container@web.service";
        cache.keep(web, cache.moment(), &properties(1));
        tokio::time::advance(AGE_MAX).await;
        assert!(cache.get(web).is_none());
    }
}
