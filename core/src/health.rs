//! The health of one instance: a state machine fed with answers and times.
//!
//! Owns when to ask next and what an answer means. Asks nothing itself, and reads no clock: times are durations
//! since any fixed moment, as long as they never go back.
//!
//! ```text
//!             success                    `retries` failures in a row
//!  Starting ───────────▶ Healthy ─────────────────────────────────────▶ Unhealthy
//!     │                     ▲                                              │  ▲
//!     │                     └───────────────── success ────────────────────┘  │
//!     └── failure at or after the end of the start period ────────────────────┘
//! ```
//!
//! Failures within the start period do not count. In it, the first questions come quickly one after the other
//! and slow down to `interval`, so that `up` is not held back by a long interval.

use std::time::Duration;

use crate::model::{Health, HealthCheck};

/// The wait before the second question; doubles up to the interval.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);

/// When to ask and how to judge. Taken from a health check; see there for ranges and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time from one answer to the next question.
    pub interval: Duration,
    /// Failures in a row after which a healthy instance is unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period: Duration,
}

impl Timing {
    /// For a service without a health check, whose guest's systemd is asked: it has said READY by then, so
    /// that the question is only whether it still has all its units.
    pub const WITHOUT_CHECK: Self =
        Self { interval: Duration::from_secs(30), retries: 1, start_period: Duration::from_mins(1) };
}

impl From<&HealthCheck> for Timing {
    fn from(check: &HealthCheck) -> Self {
        Self { interval: check.interval, retries: check.retries, start_period: check.start_period }
    }
}

/// The health of one instance of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    timing: Timing,
    started: Duration,
    health: Health,
    since: Duration,
    failures: u32,
    last_output: String,
    wait: Duration,
    next: Duration,
}

impl Tracker {
    /// Returns the tracker of an instance that became active at `now`: it is starting, and asked at once.
    #[must_use]
    pub fn new(timing: Timing, now: Duration) -> Self {
        Self {
            timing,
            started: now,
            health: Health::Starting,
            since: now,
            failures: 0,
            last_output: String::new(),
            wait: FIRST_INTERVAL.min(timing.interval),
            next: now,
        }
    }

    /// Changes when is asked and how is judged, from the next answer on; asks at once.
    pub fn set_timing(&mut self, timing: Timing, now: Duration) {
        if self.timing != timing {
            self.timing = timing;
            self.wait = FIRST_INTERVAL.min(timing.interval);
            self.next = now;
        }
    }

    /// Asks at this time at the latest: somebody wants to know.
    pub fn ask_by(&mut self, at: Duration) {
        self.next = self.next.min(at);
    }

    /// Takes an answer; returns whether the health changed with it.
    pub fn record(&mut self, now: Duration, healthy: bool, output: String) -> bool {
        let before = self.health;
        self.last_output = output;
        self.failures = if healthy { 0 } else { self.failures.saturating_add(1) };
        self.health = match (self.health, healthy) {
            (Health::Unknown | Health::Starting, false) if now >= self.deadline() => Health::Unhealthy,
            (Health::Unknown | Health::Starting, false) => Health::Starting,
            (Health::Healthy, false) if self.failures >= self.timing.retries => Health::Unhealthy,
            (_, true) | (Health::Healthy, false) => Health::Healthy,
            (Health::Unhealthy, false) => Health::Unhealthy,
        };
        self.schedule(now);
        let changed = before != self.health;
        if changed {
            self.since = now;
        }
        changed
    }

    fn schedule(&mut self, now: Duration) {
        self.next = match self.health {
            Health::Unknown | Health::Starting => {
                let next = now.saturating_add(self.wait);
                self.wait = self.wait.saturating_mul(2).min(self.timing.interval);
                // The last question of the start period comes at its end, not an interval later.
                if now < self.deadline() { next.min(self.deadline()) } else { next }
            }
            Health::Healthy | Health::Unhealthy => now.saturating_add(self.timing.interval),
        };
    }

    fn deadline(&self) -> Duration {
        self.started.saturating_add(self.timing.start_period)
    }

    /// Returns what the answers so far say.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Returns since when they say so.
    #[must_use]
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Returns the time after the start in which failures do not count.
    #[must_use]
    pub fn start_period(&self) -> Duration {
        self.timing.start_period
    }

    /// Returns when to ask next.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Returns the failures since the last success, or since the start.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns what the last answer said; empty before the first.
    #[must_use]
    pub fn last_output(&self) -> &str {
        &self.last_output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timing() -> Timing {
        Timing { interval: 5 * SECOND, retries: 3, start_period: 60 * SECOND }
    }

    /// Asks whenever due until `until`; returns how often.
    fn fail_until(tracker: &mut Tracker, until: Duration) -> u32 {
        let mut asked = 0;
        while tracker.next() <= until && tracker.health() != Health::Unhealthy {
            tracker.record(tracker.next(), false, "no".to_owned());
            asked += 1;
        }
        asked
    }

    #[test]
    fn failures_within_the_start_period_do_not_count() {
        let mut tracker = Tracker::new(timing(), SECOND);
        fail_until(&mut tracker, 60 * SECOND);
        assert_eq!(tracker.health(), Health::Starting);
        assert!(tracker.record(60 * SECOND, true, "ok".to_owned()));
        assert_eq!((tracker.health(), tracker.since(), tracker.failures()), (Health::Healthy, 60 * SECOND, 0));
    }

    #[test]
    fn an_instance_that_never_answers_is_unhealthy_exactly_at_the_end_of_its_start_period() {
        let mut tracker = Tracker::new(timing(), SECOND);
        fail_until(&mut tracker, 600 * SECOND);
        assert_eq!((tracker.health(), tracker.since()), (Health::Unhealthy, 61 * SECOND));
    }

    #[test]
    fn the_first_questions_come_quickly() {
        let mut tracker = Tracker::new(timing(), SECOND);
        assert_eq!(fail_until(&mut tracker, 2 * SECOND), 4);
        assert!(fail_until(&mut tracker, 60 * SECOND) < 20);
    }

    #[test]
    fn a_healthy_instance_has_its_retries_and_one_success_heals() {
        let mut tracker = Tracker::new(timing(), SECOND);
        tracker.record(SECOND, true, "ok".to_owned());
        assert_eq!(tracker.next(), 6 * SECOND);
        assert!(!tracker.record(100 * SECOND, false, "no".to_owned()));
        assert!(!tracker.record(105 * SECOND, false, "no".to_owned()));
        assert!(tracker.record(110 * SECOND, false, "503".to_owned()));
        assert_eq!((tracker.health(), tracker.last_output(), tracker.failures()), (Health::Unhealthy, "503", 3));
        assert!(tracker.record(115 * SECOND, true, "ok".to_owned()));
        assert_eq!(tracker.health(), Health::Healthy);
    }
}
