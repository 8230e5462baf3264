//! Whether a new generation of a stack has proven itself: what of each service counts as a pass, and what as a failure.
//!
//! A stack that was changed is on trial until every service that the change concerns is as declared and healthy. One that
//! does not become healthy within its time fails the trial; what follows from that is the agent's. Pure: what is seen
//! now goes in, a verdict comes out, and nothing is remembered here.
//!
//! ```text
//!            every service passed
//!  Pending ────────────────────────▶ Passed
//!     │
//!     └── one failed ──────────────▶ Failed
//! ```

use std::time::Duration;

use crate::model::{ChangeKind, ContainerName, Reason, Retry};
use crate::status::State;

/// Starts without success after which a service that starts over and over has failed: one whose database is a moment
/// late is given another try or two.
pub const TRIES_MAX: u32 = 3;
/// The time after which a failure counts without another try: starts that run into a time limit would take three of them.
pub const TRIES_TIME: Duration = Duration::from_mins(1);
/// Failures in a row of a live change after which it counts as refused.
const REFUSALS_MAX: u32 = 2;

/// What is seen of one service that is on trial.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// What it does.
    pub state: State,
    /// What the plan still wants of it.
    pub change: ChangeKind,
    /// Why.
    pub reasons: &'a [Reason],
    /// Whether it is started again by itself.
    pub retry: Retry,
    /// How often it was started again without success.
    pub attempts: u32,
    /// The time since it was first started on trial; zero before that, and where it is not known.
    pub tried: Duration,
    /// Whether its health was asked since then, and what the last answer was; `None`: not yet.
    pub answer: Option<bool>,
    /// Whether it was unhealthy before, and has not yet had its start period with what was changed.
    pub is_given_time: bool,
    /// Whether its last instance was stopped by somebody, not through NixMox.
    pub was_stopped: bool,
    /// How often in a row a live change of it failed.
    pub refusals: u32,
}

/// How one service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Something is still to come.
    Pending,
    /// It is as declared, and well.
    Passed,
    /// It did not become healthy within its time.
    Failed,
}

/// How a stack stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Something is still to come.
    Pending,
    /// Every service passed.
    Passed,
    /// These services failed; not empty, in the order in which they were given.
    Failed(Vec<ContainerName>),
}

/// Returns how a service stands.
#[must_use]
pub fn standing(sight: &Sight<'_>) -> Standing {
    match sight.state {
        // A person holds it, who knows why.
        State::Stopped => Standing::Passed,
        State::Completed if sight.change == ChangeKind::Unchanged => Standing::Passed,
        State::Healthy if sight.refusals >= REFUSALS_MAX => Standing::Failed,
        State::Healthy if sight.change == ChangeKind::Unchanged && sight.answer == Some(true) => Standing::Passed,
        // Of what was there before, an answer says nothing.
        State::Unhealthy if is_as_declared(sight) && sight.answer == Some(false) && !sight.is_given_time => {
            Standing::Failed
        }
        State::Failed if is_over(sight) => Standing::Failed,
        State::Healthy
        | State::Completed
        | State::Unhealthy
        | State::Failed
        | State::Starting
        | State::Waiting
        | State::Stopping => Standing::Pending,
    }
}

/// Returns how a stack stands, from how each of its services that are on trial does.
pub fn verdict(standings: impl IntoIterator<Item = (ContainerName, Standing)>) -> Verdict {
    let (mut failed, mut pending) = (Vec::new(), false);
    for (name, standing) in standings {
        match standing {
            Standing::Pending => pending = true,
            Standing::Passed => {}
            Standing::Failed => failed.push(name),
        }
    }
    match (failed.is_empty(), pending) {
        (false, _) => Verdict::Failed(failed),
        (true, true) => Verdict::Pending,
        (true, false) => Verdict::Passed,
    }
}

/// Returns whether what runs is what is declared: its health alone is left to be changed.
fn is_as_declared(sight: &Sight<'_>) -> bool {
    sight.change == ChangeKind::Unchanged
        || sight.reasons.iter().all(|reason| matches!(reason, Reason::Unhealthy | Reason::BackOff | Reason::GaveUp))
}

/// Returns whether a service that failed is not given another try.
fn is_over(sight: &Sight<'_>) -> bool {
    // Somebody's job on its unit passes, as does the host's shutdown; and who stops it by hand says nothing about it.
    let by_others = sight.reasons.iter().any(|reason| matches!(reason, Reason::ForeignJob | Reason::Stopping));
    if by_others || sight.was_stopped {
        return false;
    }
    match sight.retry {
        Retry::Later => sight.attempts >= TRIES_MAX || sight.tried >= TRIES_TIME,
        // It is not tried again, or cannot be started at all.
        Retry::Never | Retry::Now => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SpecField;

    fn sight(state: State) -> Sight<'static> {
        Sight {
            state,
            change: ChangeKind::Unchanged,
            reasons: &[],
            retry: Retry::Now,
            attempts: 0,
            tried: Duration::ZERO,
            answer: Some(true),
            is_given_time: false,
            was_stopped: false,
            refusals: 0,
        }
    }

    #[test]
    fn what_was_there_before_neither_passes_nor_fails() {
        let field = [Reason::Field(SpecField::System)];
        let before = |state, answer| Sight { change: ChangeKind::Restart, reasons: &field, answer, ..sight(state) };
        assert_eq!(standing(&before(State::Healthy, Some(true))), Standing::Pending);
        assert_eq!(standing(&before(State::Unhealthy, Some(false))), Standing::Pending);
        let live = |state| Sight { change: ChangeKind::Live, reasons: &[Reason::Files], ..sight(state) };
        assert_eq!(standing(&live(State::Healthy)), Standing::Pending);
    }

    #[test]
    fn health_counts_once_it_was_asked_for() {
        let asked = |state, answer| standing(&Sight { answer, ..sight(state) });
        assert_eq!(asked(State::Healthy, None), Standing::Pending);
        assert_eq!(asked(State::Healthy, Some(false)), Standing::Pending);
        assert_eq!(asked(State::Healthy, Some(true)), Standing::Passed);
        assert_eq!(asked(State::Unhealthy, None), Standing::Pending);
        assert_eq!(asked(State::Unhealthy, Some(false)), Standing::Failed);
        let given_time = Sight { is_given_time: true, answer: Some(false), ..sight(State::Unhealthy) };
        assert_eq!(standing(&given_time), Standing::Pending);
        // It is being restarted for its health alone.
        let restarts = Sight {
            change: ChangeKind::Restart,
            reasons: &[Reason::Unhealthy],
            answer: Some(false),
            ..sight(State::Unhealthy)
        };
        assert_eq!(standing(&restarts), Standing::Failed);
    }

    #[test]
    fn what_ended_is_given_another_try_or_two() {
        let failed = |retry, attempts, tried| {
            standing(&Sight { retry, attempts, tried, change: ChangeKind::Blocked, ..sight(State::Failed) })
        };
        assert_eq!(failed(Retry::Later, 2, Duration::ZERO), Standing::Pending);
        assert_eq!(failed(Retry::Later, 3, Duration::ZERO), Standing::Failed);
        assert_eq!(failed(Retry::Later, 1, TRIES_TIME), Standing::Failed);
        assert_eq!(failed(Retry::Never, 0, Duration::ZERO), Standing::Failed);
        assert_eq!(failed(Retry::Now, 0, Duration::ZERO), Standing::Failed);
        for retry in [Retry::Now, Retry::Later, Retry::Never] {
            let at_rest = Sight { retry, tried: TRIES_TIME, change: ChangeKind::Blocked, ..sight(State::Failed) };
            let job = Sight { reasons: &[Reason::ForeignJob], ..at_rest };
            assert_eq!(standing(&job), Standing::Pending, "somebody's job on its unit passes");
            let stopped = Sight { was_stopped: true, ..at_rest };
            assert_eq!(standing(&stopped), Standing::Pending, "somebody stopped it");
        }
    }

    #[test]
    fn a_live_change_that_is_refused_fails() {
        let refused = |refusals| standing(&Sight { refusals, change: ChangeKind::Live, ..sight(State::Healthy) });
        assert_eq!((refused(1), refused(2)), (Standing::Pending, Standing::Failed));
    }

    #[test]
    fn one_failure_decides_and_one_open_question_keeps_it_open() {
        let of = |standings: &[(&str, Standing)]| {
            verdict(standings.iter().map(|(name, standing)| (name.parse().unwrap(), *standing)))
        };
        assert_eq!(of(&[]), Verdict::Passed);
        assert_eq!(of(&[("a", Standing::Passed), ("b", Standing::Pending)]), Verdict::Pending);
        let failed = of(&[("a", Standing::Pending), ("b", Standing::Failed), ("c", Standing::Passed)]);
        assert_eq!(failed, Verdict::Failed(vec!["b".parse().unwrap()]));
    }
}
