//! Whether and when a container that ended is started again: back-off, cap, and time for second thoughts.
//!
//! Owns the one restarter's memory of one container. Starts nothing, and reads no clock: times are durations
//! since any fixed moment, as long as they never go back.

use std::time::Duration;

use crate::model::{Kind, Restart, RestartPolicy, Retry};

/// A run of this length counts as well: what follows is a new failure, not a further one.
pub const GOOD_RUN: Duration = Duration::from_mins(10);

/// A guest that reboots after a run of this length is at it again at once; one that does so earlier may be in a loop.
pub const REBOOT_RUN: Duration = Duration::from_mins(1);

/// The time in which a person who stopped a container behind the agent's back can say so with `stop`.
pub const GRACE: Duration = Duration::from_secs(20);

/// How a container ended, or failed to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an error, or it did not start, or it was unhealthy and is declared to be restarted then.
    Failed,
    /// By itself, with 0.
    Exited,
    /// By itself, since its guest asked for a reboot: it goes on under every policy.
    Rebooted,
    /// Somebody stopped its unit, not the agent.
    StoppedByOthers,
}

/// What the restarter remembers of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    attempts: u32,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verdict {
    #[default]
    Now,
    At(Duration),
    Never,
}

impl Tracker {
    /// Takes note of an end. `ran` is how long it had been active; zero when it did not get there.
    pub fn ended(&mut self, now: Duration, end: End, ran: Duration, kind: Kind, restart: &Restart) {
        if ran >= GOOD_RUN {
            self.attempts = 0;
        }
        let again = match (kind, restart.policy, end) {
            (_, RestartPolicy::No, End::Failed | End::Exited | End::StoppedByOthers)
            | (_, RestartPolicy::OnFailure, End::Exited)
            | (Kind::Job, RestartPolicy::Always, End::Exited) => false,
            (_, _, End::Rebooted)
            | (_, RestartPolicy::OnFailure | RestartPolicy::Always, End::Failed | End::StoppedByOthers)
            | (Kind::Service, RestartPolicy::Always, End::Exited) => true,
        };
        self.verdict = if !again {
            Verdict::Never
        } else if end == End::StoppedByOthers {
            // No failure: it neither waits longer nor counts.
            Verdict::At(now.saturating_add(GRACE))
        } else if end == End::Rebooted && ran >= REBOOT_RUN {
            Verdict::Now
        } else if restart.attempts_max.is_some_and(|most| self.attempts >= most) {
            Verdict::Never
        } else {
            let doubled = restart.delay.saturating_mul(2_u32.saturating_pow(self.attempts));
            self.attempts = self.attempts.saturating_add(1);
            Verdict::At(now.saturating_add(doubled.min(restart.delay_max)))
        };
    }

    /// Takes note that it reached health, or a person asked for it: the count starts anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Returns whether it may be started now.
    #[must_use]
    pub fn retry(&self, now: Duration) -> Retry {
        match self.verdict {
            Verdict::Now => Retry::Now,
            Verdict::At(when) if when <= now => Retry::Now,
            Verdict::At(_) => Retry::Later,
            Verdict::Never => Retry::Never,
        }
    }

    /// Returns when `retry` turns from `Later` to `Now`; `None` when it does not by itself.
    #[must_use]
    pub fn due(&self, now: Duration) -> Option<Duration> {
        match self.verdict {
            Verdict::At(when) if when > now => Some(when),
            Verdict::Now | Verdict::At(_) | Verdict::Never => None,
        }
    }

    /// Returns how often it was started again since it was last well.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn restart(policy: RestartPolicy, attempts_max: Option<u32>) -> Restart {
        Restart { policy, delay: SECOND, delay_max: 10 * SECOND, attempts_max }
    }

    /// Returns the waits of `count` failures in a row; `None` where it gives up.
    fn waits(count: usize, restart: &Restart) -> Vec<Option<u64>> {
        let mut tracker = Tracker::default();
        let mut wait = || {
            tracker.ended(Duration::ZERO, End::Failed, Duration::ZERO, Kind::Service, restart);
            tracker.due(Duration::ZERO).map(|due| due.as_secs())
        };
        (0..count).map(|_| wait()).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let expected = [Some(1), Some(2), Some(4), Some(8), Some(10), Some(10)];
        assert_eq!(waits(6, &restart(RestartPolicy::Always, None)), expected);
        assert_eq!(waits(40, &restart(RestartPolicy::Always, None)).last(), Some(&Some(10)));
    }

    #[test]
    fn gives_up_at_the_cap_until_it_is_asked() {
        let restart = restart(RestartPolicy::OnFailure, Some(2));
        assert_eq!(waits(4, &restart), [Some(1), Some(2), None, None]);
        let mut tracker = Tracker::default();
        for _ in 0..3 {
            tracker.ended(SECOND, End::Failed, Duration::ZERO, Kind::Service, &restart);
        }
        assert_eq!(tracker.retry(1000 * SECOND), Retry::Never);
        tracker.reset();
        assert_eq!(tracker.retry(1000 * SECOND), Retry::Now);
    }

    #[test]
    fn a_good_run_makes_the_next_failure_a_first_one() {
        let restart = restart(RestartPolicy::Always, None);
        let mut tracker = Tracker::default();
        for ran in [Duration::ZERO, Duration::ZERO, GOOD_RUN] {
            tracker.ended(SECOND, End::Failed, ran, Kind::Service, &restart);
        }
        assert_eq!((tracker.due(SECOND), tracker.attempts()), (Some(2 * SECOND), 1));
    }

    #[test]
    fn what_a_person_stopped_is_given_time_and_is_no_failure() {
        let mut tracker = Tracker::default();
        let restart = restart(RestartPolicy::Always, Some(1));
        for _ in 0..3 {
            tracker.ended(SECOND, End::StoppedByOthers, SECOND, Kind::Service, &restart);
        }
        assert_eq!(tracker.retry(GRACE), Retry::Later);
        assert_eq!((tracker.retry(SECOND + GRACE), tracker.attempts()), (Retry::Now, 0));
    }

    #[test]
    fn a_reboot_is_at_once_and_a_loop_of_them_waits_counts_and_ends() {
        let restart = restart(RestartPolicy::No, Some(3));
        let mut tracker = Tracker::default();
        let mut reboot = |ran| {
            tracker.ended(SECOND, End::Rebooted, ran, Kind::Service, &restart);
            (tracker.retry(SECOND), tracker.due(SECOND).map(|due| due.as_secs() - 1), tracker.attempts())
        };
        assert_eq!(reboot(REBOOT_RUN), (Retry::Now, None, 0));
        assert_eq!(reboot(SECOND), (Retry::Later, Some(1), 1));
        assert_eq!(reboot(SECOND), (Retry::Later, Some(2), 2));
        assert_eq!(reboot(SECOND), (Retry::Later, Some(4), 3));
        assert_eq!(reboot(REBOOT_RUN), (Retry::Now, None, 3));
        assert_eq!(reboot(SECOND), (Retry::Never, None, 3));
    }

    #[test]
    fn policies_say_what_a_clean_end_means() {
        let verdict = |policy, kind, end| {
            let mut tracker = Tracker::default();
            tracker.ended(SECOND, end, SECOND, kind, &restart(policy, None));
            tracker.retry(SECOND)
        };
        assert_eq!(verdict(RestartPolicy::Always, Kind::Service, End::Exited), Retry::Later);
        assert_eq!(verdict(RestartPolicy::OnFailure, Kind::Service, End::Exited), Retry::Never);
        assert_eq!(verdict(RestartPolicy::Always, Kind::Job, End::Exited), Retry::Never);
        assert_eq!(verdict(RestartPolicy::Always, Kind::Job, End::Failed), Retry::Later);
        assert_eq!(verdict(RestartPolicy::No, Kind::Service, End::StoppedByOthers), Retry::Never);
    }
}
