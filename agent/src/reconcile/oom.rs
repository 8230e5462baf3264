//! What is remembered of the processes of a container that the kernel killed for want of memory.
//!
//! The count is the kernel's, and is the truth; its log tells which process that was and how much it held, a moment later or never. So
//! a new count is noted at once, the log is read beside the rounds, and the event is told with what came of that.
//!
//! ```text
//!  count grew ──▶ due ──▶ read (one at a time, at most every 5 s) ──▶ event, status
//! ```

use std::time::Duration;

use nixmox_api::OomKills;
use nixmox_core::model::{Bytes, Container, InvocationId};
use nixmox_core::oom::{self, OomKill};

use super::handle::now_usec;

/// The time between two looks at the log: what is killed again and again is told in one event for so long.
const PAUSE: Duration = Duration::from_secs(5);
/// How much earlier than it was noticed a kill may lie.
const LATE_USEC: u64 = 60_000_000;
/// Kills this close to each other are of one event, of which the process that held most is told.
const TOGETHER_USEC: u64 = 1_000_000;

/// The kills of one container.
#[derive(Debug, Default)]
pub(super) struct Oom {
    /// The run that the count is of; `None`: none was seen yet.
    run: Option<InvocationId>,
    /// The kernel's count.
    count: u64,
    /// Kills of this and earlier runs that no event told of yet.
    untold: u64,
    /// Kills that a young agent found: the log is asked for them, and nothing is told.
    found: bool,
    /// How many came so late that the run was over before they were seen: it ended of them.
    at_end: u64,
    /// When one was last noticed, in microseconds since 1970; `None`: before this agent's time.
    noticed: Option<u64>,
    /// The last kill of which the log told; of several together, of the process that held most.
    last: Option<OomKill>,
    /// Up to when the log was read, in microseconds since 1970.
    read_until: u64,
    /// Whether that is the last of all that were counted.
    is_newest: bool,
    reading: bool,
    /// Not before is the log read again.
    next: Duration,
}

/// A look at the log that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Kills after this are wanted, in microseconds since 1970.
    pub(super) since_usec: u64,
    untold: u64,
}

impl Oom {
    /// Takes in how the container is now, and leaves in the record of one that ended only those kills of which it ended. Returns
    /// whether one was killed since the last look.
    pub(super) fn see(&mut self, container: &mut Container) -> bool {
        let runs = container.active.has_processes();
        let (run, count) = match &container.exit {
            Some(exit) if !runs => (Some(exit.invocation), Some(exit.oom_kills)),
            Some(_) | None => (container.invocation, container.oom_kills),
        };
        if run.is_none() {
            return false;
        }
        let is_young = self.run.is_none();
        if run != self.run {
            (self.run, self.count, self.at_end) = (run, 0, 0);
        }
        let new = count.and_then(|count| count.checked_sub(self.count)).unwrap_or_default();
        if new > 0 {
            self.count += new;
            self.is_newest = false;
            if is_young {
                self.found = true;
            } else {
                self.untold = self.untold.saturating_add(new);
                self.noticed = Some(now_usec());
            }
            if !runs {
                self.at_end = new;
                // What is dead is to be told of in full before it is started again.
                self.next = Duration::ZERO;
            }
        }
        if !runs && let Some(exit) = &mut container.exit {
            exit.oom_kills = self.at_end;
        }
        new > 0 && !is_young
    }

    /// Returns the look at the log that is due, once until it is answered.
    pub(super) fn due(&mut self, now: Duration) -> Option<Look> {
        self.next_due().filter(|due| *due <= now)?;
        self.reading = true;
        let earliest = self.noticed.map_or(0, |noticed| noticed.saturating_sub(LATE_USEC));
        let since_usec = earliest.max(self.read_until);
        Some(Look { since_usec, untold: self.untold })
    }

    /// Returns when to look at the log; `None`: there is no need.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let wanted = self.found || self.untold > 0;
        (wanted && !self.reading).then_some(self.next)
    }

    /// Takes in what the log says. Returns the event that is to be told; `None`: nothing new happened.
    pub(super) fn read(
        &mut self,
        now: Duration,
        look: Look,
        kills: Vec<OomKill>,
        limit: Option<Bytes>,
    ) -> Option<String> {
        (self.reading, self.found) = (false, false);
        self.next = now.saturating_add(PAUSE);
        self.untold = self.untold.saturating_sub(look.untold);
        self.read_until = kills.last().map_or(self.read_until, |kill| kill.at_usec);
        let together =
            kills.into_iter().filter(|kill| kill.at_usec.saturating_add(TOGETHER_USEC) >= self.read_until);
        let last = together.max_by_key(|kill| kill.resident);
        let text = (look.untold > 0).then(|| oom::text(last.as_ref(), look.untold, limit));
        if last.is_some() {
            (self.last, self.is_newest) = (last, self.untold == 0);
        }
        text
    }

    /// Returns of what it ended, in one line; `None`: not of this.
    pub(super) fn cause_of_end(&self, container: &Container, limit: Option<Bytes>) -> Option<String> {
        let is_over = !container.active.has_processes();
        container.exit.as_ref().filter(|exit| is_over && exit.out_of_memory())?;
        Some(oom::text(self.last.as_ref().filter(|_| self.is_newest), self.at_end, limit))
    }

    /// Returns what is told of it in a status; `None`: nothing was ever killed, as far as is known.
    pub(super) fn status(&self, limit: Option<Bytes>) -> Option<OomKills> {
        let last = self.last.as_ref().filter(|_| self.is_newest);
        if last.is_none() && self.count == 0 && self.noticed.is_none() {
            return None;
        }
        Some(OomKills {
            count: self.count,
            at: last.map(|last| last.at_usec).or(self.noticed).map(|usec| usec / 1_000_000),
            process: last.map(|last| last.process.clone()),
            pid: last.map(|last| last.pid),
            resident: last.and_then(|last| last.resident),
            why: oom::text(last, self.count.max(1), limit),
        })
    }
}
