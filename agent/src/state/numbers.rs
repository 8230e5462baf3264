//! The numbers of events: each is used once, whatever becomes of the agent.
//!
//! `events.json` says up to which number they are given out already. A block of them is given out at a time, so an event
//! costs no write, and an agent that was killed leaves a gap and no doubles. An orderly end gives the rest back.
//!
//! The write is a rename that is not waited for: whatever kills the agent, the kernel has it. A power cut may take it
//! back, so the first agent of a boot leaves another block out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::disk::{self, Durability};

const FORMAT: u64 = 1;
/// How many are given out at a time. More than one round of a large host needs.
const BLOCK: u64 = 4096;
/// What the kernel calls this boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Gives out numbers, each greater than the one before.
#[derive(Debug)]
pub struct EventNumbers {
    path: PathBuf,
    boot: String,
    last: u64,
    /// Up to which number they were given out on disk.
    reserved: u64,
    first_of_boot: bool,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    format: u64,
    /// The boot in which it was written.
    boot: String,
    /// No number up to this one is used again.
    reserved: u64,
}

impl EventNumbers {
    /// Goes on after the last agent that kept its state in this folder (`/var/lib/nixmox`).
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self::open_in(state, boot)
    }

    fn open_in(state: &Path, boot: String) -> Self {
        let path = state.join("events.json");
        let before = super::read::<OnDisk>(&path, FORMAT).unwrap_or_else(|error| {
            warn!(event = "numbers", "{error}: events are numbered from the time of day on");
            // More than there ever were.
            Some(OnDisk { format: FORMAT, boot: String::new(), reserved: seconds_since_1970() })
        });
        let first_of_boot = before.as_ref().is_none_or(|before| before.boot != boot);
        let skipped = if before.is_some() && first_of_boot { BLOCK } else { 0 };
        let last = before.map_or(0, |before| before.reserved).saturating_add(skipped);
        Self { path, boot, last, reserved: last, first_of_boot }
    }

    /// Returns whether no other agent has run since the host booted.
    #[must_use]
    pub fn is_first_of_boot(&self) -> bool {
        self.first_of_boot
    }

    /// Returns the last number that was given out; that of an agent before, before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Gives out as many, and returns the first of them.
    pub fn take(&mut self, count: u64) -> u64 {
        let first = self.last.saturating_add(1);
        self.last = self.last.saturating_add(count);
        if self.last > self.reserved {
            self.reserved = self.last.saturating_add(BLOCK);
            self.write();
        }
        first
    }

    /// Gives back what was not given out: this agent ends.
    pub fn end(&mut self) {
        if self.reserved != self.last {
            self.reserved = self.last;
            self.write();
        }
    }

    fn write(&self) {
        let disk = OnDisk { format: FORMAT, boot: self.boot.clone(), reserved: self.reserved };
        let written = serde_json::to_vec(&disk)
            .map_err(std::io::Error::from)
            .and_then(|text| disk::replace(&self.path, &text, 0o600, Durability::Runtime));
        if let Err(error) = written {
            warn!(
                event = "numbers",
                "cannot write {}: {error}; another agent may use numbers again",
                self.path.display()
            );
            return;
        }
        // Beside everything else: a disk may take its time.
        if let (Ok(file), Ok(runtime)) = (File::open(&self.path), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(file.sync_all()));
        }
    }
}

fn seconds_since_1970() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(state: &Path, boot: &str) -> EventNumbers {
        EventNumbers::open_in(state, boot.to_owned())
    }

    #[test]
    fn an_agent_that_is_killed_leaves_a_gap_and_one_that_ends_none() {
        let state = tempfile::tempdir().unwrap();
        let mut first = open(state.path(), "a");
        assert_eq!((first.take(1), first.take(3), first.last()), (1, 2, 4));
        // Killed.
        drop(first);
        let mut second = open(state.path(), "a");
        let next = second.take(1);
        assert!(next > 4, "{next}");
        second.end();
        drop(second);
        let mut third = open(state.path(), "a");
        assert_eq!(third.take(1), next + 1);
    }

    #[test]
    fn no_number_is_used_twice_however_often_it_is_killed() {
        let state = tempfile::tempdir().unwrap();
        let mut last = 0;
        for count in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1] {
            let mut numbers = open(state.path(), "a");
            for _ in 0..count {
                let number = numbers.take(1);
                assert!(number > last);
                last = number;
            }
        }
    }

    #[test]
    fn a_power_cut_that_takes_the_last_write_back_takes_no_number_back() {
        let state = tempfile::tempdir().unwrap();
        open(state.path(), "a").take(1);
        let before = fs::read(state.path().join("events.json")).unwrap();
        let mut numbers = open(state.path(), "a");
        let last = numbers.take(BLOCK);
        fs::write(state.path().join("events.json"), before).unwrap();
        let mut after = open(state.path(), "b");
        assert!(after.is_first_of_boot());
        assert!(after.take(1) > last, "{last}");
        assert!(!open(state.path(), "b").is_first_of_boot());
    }

    #[test]
    fn a_damaged_file_leads_to_greater_numbers() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("events.json"), "{").unwrap();
        assert!(open(state.path(), "a").take(1) > 1_700_000_000);
    }
}
