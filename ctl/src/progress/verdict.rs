//! When a task is settled, and how.

use nixmox_api::{ServiceState, ServiceStatus};

use super::{Goal, Phase, Progress, Task, milliseconds};

/// New starts without success after which a service that starts over and over counts as failed.
const RESTARTS_MAX: u32 = 3;
/// Time, in milliseconds, after which a failure is told without another try: starts that run into a time limit would
/// keep a person waiting for three of them.
const TRIES_TIME_MAX: u64 = 60_000;

/// The change of services that the agent brings back: those that were not there then are gone afterwards.
pub(crate) const ROLLBACK: &str = "rollback";

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Something is still to come.
    Pending,
    /// It is as asked for.
    Reached,
    /// It will not become so by itself, or not soon.
    Failed,
    /// It waits for a service that failed, or that is held; or for room on a GPU that nobody is about to make.
    Blocked,
}

impl Task {
    /// Returns whether it took long until it failed last.
    fn tried_long(&self) -> bool {
        let failed = self.times.phase.and_then(|at| milliseconds(self.times.begun, at));
        failed.is_some_and(|took| took >= TRIES_TIME_MAX)
    }
}

impl Progress {
    /// Returns how a task stands by what the agent reports. `Reached` may still show what was before the request:
    /// see [`Progress::is_proven`].
    pub(crate) fn verdict(&self, task: &Task) -> Verdict {
        // A chain of services that wait for each other is at most as long as there are tasks.
        self.verdict_within(task, self.tasks().len())
    }

    /// Returns whether no task is pending.
    pub(crate) fn is_settled(&self) -> bool {
        self.tasks().iter().all(|task| self.verdict(task) != Verdict::Pending)
    }

    /// Returns the tasks of a verdict, in order.
    pub(crate) fn with(&self, verdict: Verdict) -> impl Iterator<Item = &Task> {
        self.tasks().iter().filter(move |task| self.verdict(task) == verdict)
    }

    /// Returns whether the verdict surely is of the time after the request: an event told it, another instance
    /// shows it, or nothing was to be done.
    pub(crate) fn is_proven(&self, task: &Task) -> bool {
        let another = || {
            let now = self.status(task).and_then(|status| status.invocation.as_ref());
            now.is_some() && now != task.invocation_before.as_ref()
        };
        match self.verdict(task) {
            Verdict::Pending => false,
            Verdict::Blocked => true,
            Verdict::Failed => matches!(task.phase, Phase::Failed | Phase::Unhealthy) || another(),
            Verdict::Reached => match self.goal() {
                Goal::Gone | Goal::Held | Goal::Released => true,
                Goal::Restarted => another() || matches!(task.phase, Phase::Healthy | Phase::Completed),
                // Whether a change has been made only the planner can tell.
                Goal::Up => false,
            },
        }
    }

    /// Returns whether a service runs as it was because what is asked for cannot be done to it.
    pub(crate) fn is_refused(&self, task: &Task) -> bool {
        let runs = |status: &ServiceStatus| status.state == ServiceState::Healthy;
        self.verdict(task) == Verdict::Failed && self.status(task).is_some_and(runs)
    }

    /// Returns the names of services whose failure keeps this one from starting.
    pub(crate) fn blockers<'a>(&'a self, task: &'a Task) -> Vec<&'a str> {
        self.awaited(task).filter(|name| self.is_hopeless(name, self.tasks().len())).collect()
    }

    /// Returns whether a task waits for a service, directly or through others.
    pub(crate) fn is_behind(&self, task: &Task, name: &str) -> bool {
        self.is_behind_within(task, name, self.tasks().len())
    }

    fn is_behind_within(&self, task: &Task, name: &str, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        self.awaited(task).any(|awaited| {
            let next = || self.tasks().iter().find(|task| task.name == awaited);
            awaited == name || next().is_some_and(|next| self.is_behind_within(next, name, depth))
        })
    }

    fn verdict_within(&self, task: &Task, depth: usize) -> Verdict {
        let Some(status) = self.status(task) else {
            let may_be_gone = task.is_to_be_gone(self.goal()) || task.change == ROLLBACK;
            return if may_be_gone { Verdict::Reached } else { Verdict::Pending };
        };
        if task.is_to_be_gone(self.goal()) {
            return if task.phase == Phase::Failed { Verdict::Failed } else { Verdict::Pending };
        }
        match (self.goal(), status.state) {
            (Goal::Held, ServiceState::Stopped | ServiceState::Completed | ServiceState::Failed) => {
                Verdict::Reached
            }
            // A rollback leaves held what is held.
            (Goal::Up, ServiceState::Stopped) if is_left_held(task, status) => Verdict::Reached,
            (Goal::Held, _) | (_, ServiceState::Stopping | ServiceState::Stopped) => Verdict::Pending,
            // It runs as it was: what is asked for could not be done to it.
            (Goal::Up | Goal::Restarted, ServiceState::Healthy) if !status.reason.is_empty() => Verdict::Failed,
            (_, ServiceState::Healthy | ServiceState::Completed) => Verdict::Reached,
            // A service that ended is given another try or two: its database may have been a moment late.
            (_, ServiceState::Failed)
                if status.restart_at.is_some() && status.restarts < RESTARTS_MAX && !task.tried_long() =>
            {
                Verdict::Pending
            }
            // It was unhealthy before; what is asked for is how it is now, and the agent asks at once.
            (_, ServiceState::Unhealthy) if task.failures_before == Some(status.probe_failures) => Verdict::Pending,
            (_, ServiceState::Unhealthy | ServiceState::Failed) => Verdict::Failed,
            (_, ServiceState::Waiting) if self.is_blocked(task, depth) || self.waits_for_gpu(task) => {
                Verdict::Blocked
            }
            (_, ServiceState::Waiting | ServiceState::Starting) => Verdict::Pending,
        }
    }

    /// Returns whether a service waits for its share of the GPUs, and nobody is on the way to make room: that can take for ever.
    pub(crate) fn waits_for_gpu(&self, task: &Task) -> bool {
        let waits = |status: &ServiceStatus| {
            status.state == ServiceState::Waiting
                && status.waits_for.is_empty()
                && status.gpu.as_ref().is_some_and(|gpu| gpu.state == "waiting")
        };
        self.status(task).is_some_and(waits) && !self.mirror().status().services.iter().any(makes_room)
    }

    fn is_blocked(&self, task: &Task, depth: usize) -> bool {
        self.awaited(task).any(|name| self.is_hopeless(name, depth))
    }

    /// The services that a task waits for: as the agent says now, else as the plan said.
    fn awaited<'a>(&'a self, task: &'a Task) -> impl Iterator<Item = &'a str> {
        let now = self.status(task).map(|status: &ServiceStatus| status.waits_for.as_slice()).unwrap_or_default();
        let gates = if now.is_empty() { task.after.as_slice() } else { now };
        gates.iter().map(|gate| gate.split(':').next().unwrap_or(gate).trim())
    }

    fn is_hopeless(&self, name: &str, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        match self.tasks().iter().find(|task| task.name == name) {
            Some(task) if self.status(task).is_some_and(|status| is_left_held(task, status)) => true,
            Some(task) => match self.verdict_within(task, depth) {
                Verdict::Failed | Verdict::Blocked => true,
                Verdict::Pending | Verdict::Reached => false,
            },
            None => match self.mirror().service(name).map(|status| status.state) {
                Some(ServiceState::Unhealthy | ServiceState::Failed | ServiceState::Stopped) => true,
                Some(
                    ServiceState::Healthy
                    | ServiceState::Completed
                    | ServiceState::Starting
                    | ServiceState::Waiting
                    | ServiceState::Stopping,
                )
                | None => false,
            },
        }
    }
}

/// Returns whether a service is held, and what is asked for leaves it so.
fn is_left_held(task: &Task, status: &ServiceStatus) -> bool {
    let leaves = matches!(task.change.as_str(), ROLLBACK | "hold");
    leaves && status.state == ServiceState::Stopped && status.held_by.is_some()
}

/// Returns whether a service is on the way to give up video memory that it has.
fn makes_room(other: &ServiceStatus) -> bool {
    let Some(gpu) = &other.gpu else { return false };
    // What has given back all that it was asked for makes no more room.
    let gives = gpu.state == "shrinking" && gpu.used.zip(gpu.budget).is_none_or(|(used, budget)| used > budget);
    gives || gpu.state == "yielding" || other.state == ServiceState::Stopping
}

#[cfg(test)]
mod tests {
    use nixmox_api::GpuStatus;

    use super::*;
    use crate::testing::sample;

    #[test]
    fn room_is_made_by_who_is_stopped_and_by_who_has_not_given_back_enough_yet() {
        let of = |word: &str, used, state| {
            let gpu = GpuStatus { state: word.to_owned(), used, budget: Some(2 << 30), ..GpuStatus::default() };
            makes_room(&ServiceStatus { state, gpu: Some(gpu), ..sample::service("ollama") })
        };
        let healthy = ServiceState::Healthy;
        assert!(of("shrinking", Some(3 << 30), healthy) && of("shrinking", None, healthy));
        assert!(!of("shrinking", Some(1 << 30), healthy) && !of("granted", Some(3 << 30), healthy));
        assert!(of("yielding", None, healthy) && of("granted", None, ServiceState::Stopping));
        assert!(!makes_room(&ServiceStatus { state: ServiceState::Stopping, ..sample::service("web") }));
    }
}
