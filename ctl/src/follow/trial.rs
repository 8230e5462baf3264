//! The trial of a new generation, as the one who made it sees it: whether there is more to come once all looks settled,
//! and what is told when the agent goes back to the last good generation.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_api::{RolledBack, ServiceState, ServiceStatus, StackStatus, Update};

use crate::context::Context;
use crate::error::CtlError;
use crate::progress::{Goal, Progress, ROLLBACK, Task, Verdict};
use crate::render;

/// How long a generation that looks settled is watched for the agent's own verdict on it.
const VERDICT: Duration = Duration::from_secs(30);

/// What is known of a generation's trial.
#[derive(Debug, Default)]
pub(super) struct Trial {
    /// Services as they were when they last were not well.
    failures: BTreeMap<String, ServiceStatus>,
    /// What was rolled back, with the generation that came of it; `None`: nothing was.
    back: Option<(RolledBack, u64)>,
}

impl Trial {
    /// Keeps how a service fails: what is rolled back is soon well again.
    pub(super) fn take(&mut self, update: &Update) {
        if self.back.is_some() {
            return;
        }
        if let Some(current) = &update.current
            && matches!(current.state, ServiceState::Unhealthy | ServiceState::Failed)
        {
            self.failures.insert(current.name.clone(), current.clone());
        }
    }

    /// Returns whether the agent has gone back.
    pub(super) fn went_back(&self) -> bool {
        self.back.is_some()
    }

    /// Returns whether a verdict of the agent is still to come on what has looked settled for `settled`; `made` is the
    /// generation that is followed.
    pub(super) fn is_open(
        &self,
        progress: &Progress,
        made: u64,
        stack: Option<&StackStatus>,
        settled: Duration,
    ) -> bool {
        let Some(stack) = stack.filter(|_| settled < VERDICT) else { return false };
        if progress.mirror().host().generation < made {
            // It shows what was before.
            return true;
        }
        if self.went_back() {
            // What failed still runs for a moment, and what depends on it needs another to be well again.
            return !stack.good || progress.with(Verdict::Failed).next().is_some();
        }
        // What is only blocked waits for something else.
        let failed = progress.with(Verdict::Failed).next().is_some();
        stack.on_trial && (failed || progress.with(Verdict::Blocked).next().is_none())
    }

    /// Notes that the agent went back, and returns the work that is watched from now on.
    pub(super) fn go_back(
        &mut self,
        rolled_back: RolledBack,
        generation: u64,
        progress: &Progress,
        stack: &str,
        context: &Context,
    ) -> Progress {
        let services = progress.mirror().status().services.iter().filter(|service| service.stack == stack);
        let tasks = services.map(|service| Task::of_verb(ROLLBACK, &service.name, Some(service))).collect();
        self.back = Some((rolled_back, generation));
        let after = progress.mirror().number().unwrap_or(0);
        Progress::new(Goal::Up, tasks, progress.mirror().clone(), context.clock.now_usec(), after)
    }

    /// Says what failed and that the old state is there again; returns the complaint. `None`: nothing was rolled back.
    pub(super) fn complain(
        &self,
        progress: &Progress,
        context: &mut Context,
    ) -> Result<Option<CtlError>, CtlError> {
        let Some((rolled_back, generation)) = &self.back else { return Ok(None) };
        let screen = context.output.screen();
        let moment = context.moment();
        for name in &rolled_back.services {
            if let Some(status) = self.failures.get(name) {
                let report = render::failure(status, &moment, false, &[]);
                context.output.note(&report.text(screen.error_width, screen.error_style))?;
            }
        }
        let not_well = |task: &&Task| progress.verdict(task) != Verdict::Reached;
        let not_well = progress.tasks().iter().filter(not_well).map(|task| task.name.clone()).collect();
        Ok(Some(CtlError::RolledBack {
            from: rolled_back.from,
            to: rolled_back.to,
            generation: *generation,
            reasons: rolled_back.reasons.clone(),
            not_well,
        }))
    }
}
