//! One service under work: what is to happen to it and how far that is.

use nixmox_api::{Planned, ServiceState, ServiceStatus};

use super::What;

/// What is reached for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// As declared: `up`.
    Up,
    /// Not there any more: `down`.
    Gone,
    /// Held stopped: `stop`.
    Held,
    /// Not held any more: `start`.
    Released,
    /// Another instance: `restart`.
    Restarted,
}

/// How far a task is; the diagram is in the module above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing has happened yet.
    #[default]
    Quiet,
    /// It is being stopped.
    Stopping,
    /// It is stopped.
    Stopped,
    /// Its unit is being started.
    Starting,
    /// Its unit is up.
    Started,
    /// It is healthy.
    Healthy,
    /// It is a job that is done.
    Completed,
    /// It was changed while it runs.
    Live,
    /// It did not become, or did not stay healthy.
    Unhealthy,
    /// It did not start, or ended.
    Failed,
    /// Nothing of it is left.
    Removed,
}

impl Phase {
    /// Returns the phase that an event of the agent leads to; `None`: it leads to none.
    pub(super) fn of_event(word: &str) -> Option<Self> {
        Some(match word {
            "live" => Self::Live,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            "starting" => Self::Starting,
            "started" => Self::Started,
            "healthy" => Self::Healthy,
            "completed" => Self::Completed,
            "unhealthy" => Self::Unhealthy,
            "failed" => Self::Failed,
            "removed" => Self::Removed,
            _ => return None,
        })
    }
}

/// When what happened, in microseconds since 1970; `None`: not yet, or not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// Work on it began.
    pub(crate) begun: Option<u64>,
    /// Its stop began.
    pub(crate) stopping: Option<u64>,
    /// Its last start began.
    pub(crate) starting: Option<u64>,
    /// Its unit was up.
    pub(crate) started: Option<u64>,
    /// It reached the phase it is in now.
    pub(crate) phase: Option<u64>,
}

/// One service under work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// The service's name.
    pub(crate) name: String,
    /// What is to happen, in the words of `Planned.change`, or the verb.
    pub(crate) change: String,
    /// Why, each in one line.
    pub(crate) reasons: Vec<String>,
    /// What it waits for before it is started, each as `name: condition`.
    pub(crate) after: Vec<String>,
    /// The invocation that ran before the request; `None`: none did.
    pub(crate) invocation_before: Option<String>,
    /// Failed probes that were known before the request, of an unhealthy service.
    pub(crate) failures_before: Option<u32>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// When what happened.
    pub(crate) times: Times,
    /// Whether it was healthy since its last start.
    pub(crate) was_healthy: bool,
}

/// Milliseconds from one moment to another, where both are known.
pub(crate) fn milliseconds(from: Option<u64>, to: u64) -> Option<u64> {
    Some(to.saturating_sub(from?) / 1000)
}

fn failures_of_unhealthy(status: &ServiceStatus) -> Option<u32> {
    (status.state == ServiceState::Unhealthy).then_some(status.probe_failures)
}

impl Task {
    /// Returns the task that a line of a plan makes.
    pub(crate) fn of_plan(planned: &Planned, before: Option<&ServiceStatus>) -> Self {
        Self {
            name: planned.name.clone(),
            change: planned.change.clone(),
            // `create` says as much.
            reasons: planned.reasons.iter().filter(|reason| reason.kind != "new").map(|r| r.text.clone()).collect(),
            after: planned.after.clone(),
            invocation_before: before.and_then(|status| status.invocation.clone()),
            failures_before: before.and_then(failures_of_unhealthy),
            ..Self::default()
        }
    }

    /// Returns the task that a verb makes.
    pub(crate) fn of_verb(verb: &str, name: &str, before: Option<&ServiceStatus>) -> Self {
        Self {
            name: name.to_owned(),
            change: verb.to_owned(),
            invocation_before: before.and_then(|status| status.invocation.clone()),
            failures_before: before.and_then(failures_of_unhealthy),
            ..Self::default()
        }
    }

    /// Returns whether nothing is to be done to it.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.change == "unchanged"
    }

    /// Returns whether it is reached when the service is gone.
    pub(crate) fn is_to_be_gone(&self, goal: Goal) -> bool {
        goal == Goal::Gone || (goal == Goal::Up && self.change == "remove")
    }

    /// Goes on to a phase because an event says so; returns what is worth a line.
    pub(super) fn enter(&mut self, phase: Phase, at: u64, current: Option<&ServiceStatus>) -> Option<What> {
        // The agent tells a state again when something else about it changed; a live change may follow another.
        if phase == self.phase && phase != Phase::Live {
            return None;
        }
        let first = self.times.begun.is_none();
        self.times.begun.get_or_insert(at);
        match phase {
            Phase::Stopping => self.times.stopping = Some(at),
            Phase::Starting => {
                (self.times.starting, self.times.started) = (Some(at), None);
                self.was_healthy = false;
            }
            Phase::Started => self.times.started = Some(at),
            Phase::Healthy => self.was_healthy = true,
            Phase::Quiet
            | Phase::Stopped
            | Phase::Completed
            | Phase::Live
            | Phase::Unhealthy
            | Phase::Failed
            | Phase::Removed => {}
        }
        let what = self.what(phase, at, first, current);
        self.phase = phase;
        self.times.phase = Some(at);
        what
    }

    /// Goes on to a phase that a snapshot shows: when it was reached is not known.
    pub(super) fn enter_untimed(&mut self, phase: Phase, at: u64, current: Option<&ServiceStatus>) -> Option<What> {
        let begun = self.times.begun;
        self.times = Times::default();
        let what = self.enter(phase, at, current);
        self.times.begun = begun;
        what
    }

    fn what(&self, phase: Phase, at: u64, first: bool, current: Option<&ServiceStatus>) -> Option<What> {
        let Times { stopping, starting, started, .. } = self.times;
        Some(match phase {
            Phase::Live => What::Live,
            Phase::Stopping | Phase::Starting if first => What::Begun,
            Phase::Starting if matches!(self.phase, Phase::Failed | Phase::Unhealthy) => What::StartedAgain,
            Phase::Quiet | Phase::Stopping | Phase::Starting => return None,
            Phase::Stopped if matches!(self.change.as_str(), "create" | "restart" | "start") => return None,
            Phase::Stopped => What::Stopped(milliseconds(stopping, at)),
            Phase::Started => {
                // A job has no health to wait for: it runs to its end.
                let waits = |current: &&ServiceStatus| current.state == ServiceState::Starting && !current.job;
                let limit = current.filter(waits).map(|current| current.start_period_ms);
                What::Started { took: milliseconds(starting, at), limit }
            }
            Phase::Healthy => What::Healthy(milliseconds(started, at)),
            Phase::Completed => What::Completed(milliseconds(starting, at)),
            Phase::Removed => What::Removed(milliseconds(self.times.begun.filter(|_| !first), at)),
            Phase::Unhealthy => What::Failed,
            Phase::Failed => match current.and_then(|current| Some((current, current.restart_at?))) {
                Some((current, restart_at)) => What::Retried {
                    reason: current.reason.clone(),
                    seconds: restart_at.saturating_sub(at / 1_000_000),
                },
                None => What::Failed,
            },
        })
    }
}
