//! What is known of work under way: the services concerned, how far each is, and when all are settled.
//!
//! Pure: fed with the agent's updates, it answers questions; it asks nobody and knows no text form. Built on the
//! state that the agent reports, so that a lost event delays nothing; events add the times.
//!
//! A task's phase, with the event on each arrow:
//!
//! ```text
//! Quiet ──stopping──▶ Stopping ──stopped──▶ Stopped ──starting──▶ Starting ──started──▶ Started ──healthy──▶ Healthy
//!   │                     └──removed──▶ Removed       (or from Quiet)  └──completed──▶ Completed    └──unhealthy──▶ Unhealthy
//!   └──live──▶ Live                                                    └──failed──▶ Failed ──starting──▶ Starting
//! ```

mod task;
mod verdict;

use nixmox_api::{ServiceState, ServiceStatus, Update, UpdateKind};

use crate::client::Mirror;

pub(crate) use task::{Goal, Phase, Task, milliseconds};
pub(crate) use verdict::{ROLLBACK, Verdict};

/// Work under way.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// What is reached for.
    goal: Goal,
    /// The services concerned, in the order in which they are shown; names are unique.
    tasks: Vec<Task>,
    mirror: Mirror,
    /// When the request was made, in microseconds since 1970.
    begun_usec: u64,
    /// The number of the last event before the request; 0 once the agent was restarted and counts anew.
    after: u64,
}

/// Something that happened to a service, worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// When, in microseconds since 1970.
    pub(crate) at_usec: u64,
    /// The service.
    pub(crate) service: String,
    /// What.
    pub(crate) what: What,
}

/// What happened to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Work on it began.
    Begun,
    /// It was changed while it runs.
    Live,
    /// A start was tried again.
    StartedAgain,
    /// Its unit is up; with the time it took and the time it has to become healthy, where known.
    Started {
        /// In milliseconds.
        took: Option<u64>,
        /// In milliseconds; `None`: health is not waited for.
        limit: Option<u64>,
    },
    /// It is healthy; with the time since it was up, in milliseconds, where known.
    Healthy(Option<u64>),
    /// It is a job that is done; with the time it took, in milliseconds, where known.
    Completed(Option<u64>),
    /// It is stopped; with the time it took, in milliseconds, where known.
    Stopped(Option<u64>),
    /// Nothing of it is left; with the time since work on it began, in milliseconds, where known.
    Removed(Option<u64>),
    /// It failed and will be started again.
    Retried {
        /// Why it failed; may be empty.
        reason: String,
        /// The wait, in seconds.
        seconds: u64,
    },
    /// It failed.
    Failed,
    /// Anything else, in the agent's words.
    Other(String),
}

impl Progress {
    /// Begins with what was seen before the request, and the number of the last event before it.
    pub(crate) fn new(goal: Goal, tasks: Vec<Task>, mirror: Mirror, begun_usec: u64, after: u64) -> Self {
        Self { goal, tasks, mirror, begun_usec, after }
    }

    /// Returns when the request was made, in microseconds since 1970.
    pub(crate) fn begun_usec(&self) -> u64 {
        self.begun_usec
    }

    /// Returns when something last happened to a task, in microseconds since 1970; at least when it began.
    pub(crate) fn last_usec(&self) -> u64 {
        self.tasks.iter().filter_map(|task| task.times.phase).fold(self.begun_usec, u64::max)
    }

    /// Takes an update; returns what is worth a line.
    pub(crate) fn take(&mut self, update: &Update) -> Vec<Happening> {
        self.mirror.take(update);
        match update.kind {
            UpdateKind::Snapshot => self.catch_up(update.at_usec),
            UpdateKind::Event if update.number <= self.after => Vec::new(),
            UpdateKind::Event => self.happened(update).into_iter().collect(),
        }
    }

    /// Notes that the agent was lost: its next event counts whatever its number.
    pub(crate) fn lost(&mut self) {
        self.after = 0;
    }

    /// Returns what is reached for.
    pub(crate) fn goal(&self) -> Goal {
        self.goal
    }

    /// Returns the services concerned.
    pub(crate) fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Returns the snapshot as it is now.
    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Returns what the agent says of a task's service; `None`: nothing is known of it.
    pub(crate) fn status(&self, task: &Task) -> Option<&ServiceStatus> {
        self.mirror.service(&task.name)
    }

    /// Returns whether a service was healthy before it failed: since its last start, or unchanged as it was.
    pub(crate) fn was_healthy(&self, name: &str) -> bool {
        self.tasks.iter().any(|task| task.name == name && task.was_healthy)
    }

    fn happened(&mut self, update: &Update) -> Option<Happening> {
        let task = self.tasks.iter_mut().find(|task| task.name == update.service)?;
        let current = update.current.as_ref();
        let what = match Phase::of_event(&update.event) {
            Some(phase) => task.enter(phase, update.at_usec, current)?,
            // `changed` only refreshes figures; who waits says so by not going on.
            None if matches!(update.event.as_str(), "changed" | "waiting") || update.message.is_empty() => {
                return None;
            }
            // The agent's line often begins with the word already: `waiting: waits for db`.
            None if update.message.starts_with(&update.event) => What::Other(update.message.clone()),
            None => What::Other(format!("{}: {}", update.event, update.message)),
        };
        Some(Happening { at_usec: update.at_usec, service: task.name.clone(), what })
    }

    /// After a gap: what the snapshot shows that no event told.
    fn catch_up(&mut self, at_usec: u64) -> Vec<Happening> {
        let Self { tasks, mirror, goal, .. } = self;
        let mut told = Vec::new();
        for task in tasks {
            let current = mirror.service(&task.name);
            let Some(phase) = current.map_or(Some(Phase::Removed), |current| seen(task, *goal, current)) else {
                continue;
            };
            let gone_is_news = phase != Phase::Removed || task.is_to_be_gone(*goal);
            if phase != task.phase
                && gone_is_news
                && let Some(what) = task.enter_untimed(phase, at_usec, current)
            {
                told.push(Happening { at_usec, service: task.name.clone(), what });
            }
        }
        told
    }
}

/// Returns the phase that a snapshot shows beyond doubt; `None` while it may show what was before the request.
fn seen(task: &Task, goal: Goal, current: &ServiceStatus) -> Option<Phase> {
    let ended = match current.state {
        ServiceState::Healthy => Phase::Healthy,
        ServiceState::Unhealthy => Phase::Unhealthy,
        ServiceState::Failed => Phase::Failed,
        ServiceState::Completed => Phase::Completed,
        ServiceState::Stopped => Phase::Stopped,
        ServiceState::Starting | ServiceState::Waiting | ServiceState::Stopping => return None,
    };
    match goal {
        Goal::Held => (ended == Phase::Stopped).then_some(ended),
        Goal::Gone => None,
        Goal::Up | Goal::Released | Goal::Restarted => {
            let another = current.invocation.is_some() && current.invocation != task.invocation_before;
            (another && ended != Phase::Stopped).then_some(ended)
        }
    }
}
