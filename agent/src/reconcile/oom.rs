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
/// What ends within this time of a kill ended of it: a guest takes its time to come down without a process.
const BEFORE_END: Duration = Duration::from_secs(5);
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
    /// Whether it ran at the last look; `None`: there was none yet.
    runs: Option<bool>,
    /// The last kills that came close to each other, and when the last of them was noticed.
    burst: (u64, Duration),
    /// How many came so shortly before the run was over that it ended of them.
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
    pub(super) fn see(&mut self, now: Duration, container: &mut Container) -> bool {
        let runs = container.active.has_processes();
        let (run, count) = match &container.exit {
            Some(exit) if !runs => (Some(exit.invocation), Some(exit.oom_kills)),
            Some(_) | None => (container.invocation, container.oom_kills),
        };
        let before = self.runs.replace(runs);
        if run.is_none() {
            return false;
        }
        let is_young = before.is_none();
        if run != self.run {
            (self.run, self.count, self.at_end) = (run, 0, 0);
            self.burst = (0, now);
        }
        let new = count.and_then(|count| count.checked_sub(self.count)).unwrap_or_default();
        if now > self.burst.1.saturating_add(BEFORE_END) {
            self.burst.0 = 0;
        }
        if new > 0 {
            if !(is_young && runs) {
                self.burst = (self.burst.0.saturating_add(new), now);
            }
            self.count += new;
            self.is_newest = false;
            if is_young {
                self.found = true;
            } else {
                self.untold = self.untold.saturating_add(new);
                self.noticed = Some(now_usec());
            }
        }
        if !runs && (new > 0 || before == Some(true)) {
            self.at_end = self.burst.0;
            // What is dead is to be told of in full before it is started again.
            self.next = Duration::ZERO;
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

#[cfg(test)]
mod tests {
    use nixmox_core::model::ActiveState;

    use super::*;

    #[test]
    fn kills_before_the_first_look_at_a_run_are_told_of_except_by_an_agent_that_finds_it_running() {
        let run = || Container {
            active: ActiveState::Active,
            invocation: Some(InvocationId(7)),
            oom_kills: Some(2),
            ..Container::default()
        };
        let told = |oom: &mut Oom, now| {
            let look = oom.due(now).unwrap();
            oom.read(now, look, Vec::new(), None)
        };
        let mut watched = Oom::default();
        assert!(!watched.see(Duration::ZERO, &mut Container::default()));
        assert!(watched.see(PAUSE, &mut run()));
        assert_eq!(told(&mut watched, PAUSE).as_deref(), Some("out of memory: the kernel killed 2 processes"));

        let mut found = Oom::default();
        assert!(!found.see(PAUSE, &mut run()));
        assert_eq!(told(&mut found, PAUSE), None);
        assert!(found.status(None).is_some());
    }
}
