//! What a service is doing, in one word, and what it waits for.
//!
//! Owns the reading of an observation for people: from the same values that the plan was made of, so that
//! status and plan cannot disagree. Times, figures and texts are added by the agent.

use crate::model::{
    Action, ActiveState, Change, ChangeKind, Condition, Container, ContainerName, Desired, Health, Kind, Observed,
    Plan, Reason, Subject,
};

/// What a service does, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It runs and its health check succeeds.
    Healthy,
    /// It runs and its health check fails.
    Unhealthy,
    /// It starts, or runs and has not been healthy yet; a job: it runs.
    Starting,
    /// It is to be started when its dependencies are ready, or when a person was given time to say otherwise.
    Waiting,
    /// It is being stopped.
    Stopping,
    /// It is held by `stop`.
    Stopped,
    /// It ended or did not start, and will not be started again by itself, or not before its back-off is over.
    Failed,
    /// It is a job, and this specification of it ended with 0.
    Completed,
}

/// Returns what a declared service does.
#[must_use]
pub fn state(name: &ContainerName, desired: &Desired, observed: &Observed, plan: &Plan) -> State {
    let absent = Container::default();
    let container = observed.containers.get(name).unwrap_or(&absent);
    let held = desired.holds.contains_key(name);
    let job = desired.services.get(name).is_some_and(|assigned| assigned.service.kind == Kind::Job);
    match container.active {
        ActiveState::Deactivating => State::Stopping,
        ActiveState::Activating | ActiveState::Active if held => State::Stopping,
        ActiveState::Activating => State::Starting,
        ActiveState::Active if job => State::Starting,
        ActiveState::Active => match container.health {
            Health::Healthy => State::Healthy,
            Health::Unhealthy => State::Unhealthy,
            Health::Starting | Health::Unknown => State::Starting,
        },
        ActiveState::Inactive | ActiveState::Failed if held => State::Stopped,
        ActiveState::Inactive | ActiveState::Failed => at_rest(name, container, job, plan),
    }
}

fn at_rest(name: &ContainerName, container: &Container, job: bool, plan: &Plan) -> State {
    let Some(Change { kind, reasons }) = plan.changes.get(name) else { return State::Failed };
    match kind {
        // Only a job that succeeded rests as it should.
        ChangeKind::Unchanged if job => State::Completed,
        ChangeKind::Unchanged | ChangeKind::Live | ChangeKind::Remove | ChangeKind::Hold => State::Stopped,
        ChangeKind::Create | ChangeKind::Restart if waits_for(name, plan).is_empty() => State::Starting,
        ChangeKind::Create | ChangeKind::Restart => State::Waiting,
        ChangeKind::Blocked => {
            if reasons.iter().any(|reason| matches!(reason, Reason::GpuWaits(_) | Reason::GpuYields { .. })) {
                return State::Waiting;
            }
            let by_others = container.exit.as_ref().is_some_and(|exit| exit.stopped);
            if reasons.contains(&Reason::BackOff) && by_others { State::Waiting } else { State::Failed }
        }
    }
}

/// Returns the gates that a service's start waits for, in the order of the plan's steps.
#[must_use]
pub fn waits_for(name: &ContainerName, plan: &Plan) -> Vec<(ContainerName, Condition)> {
    let own = Subject::Service(name.clone());
    let start = plan.steps.iter().find(|step| step.subject == own && step.action == Action::Start);
    let gates = start.into_iter().flat_map(|step| &step.after).filter_map(|id| plan.steps.get(*id));
    gates
        .filter_map(|gate| match (&gate.subject, gate.action) {
            (Subject::Service(name), Action::Await(condition)) => Some((name.clone(), condition)),
            (Subject::Service(_) | Subject::Host, _) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::model::{ExitRecord, InvocationId, Step};

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    fn resting(kind: ChangeKind, reasons: Vec<Reason>, stopped: bool) -> State {
        let exit = ExitRecord {
            invocation: InvocationId(1),
            spec: None,
            result: "success".to_owned(),
            status: "0".to_owned(),
            stopped,
            oom_kills: 0,
        };
        let container = Container { exit: Some(exit), ..Container::default() };
        let observed = Observed { containers: BTreeMap::from([(name("web"), container)]), ..Observed::default() };
        let plan = Plan { changes: BTreeMap::from([(name("web"), Change { kind, reasons })]), ..Plan::default() };
        state(&name("web"), &Desired::default(), &observed, &plan)
    }

    #[test]
    fn a_back_off_is_a_failure_unless_somebody_stopped_it() {
        assert_eq!(resting(ChangeKind::Blocked, vec![Reason::BackOff], false), State::Failed);
        assert_eq!(resting(ChangeKind::Blocked, vec![Reason::BackOff], true), State::Waiting);
        assert_eq!(resting(ChangeKind::Blocked, vec![Reason::GaveUp], true), State::Failed);
    }

    #[test]
    fn a_start_behind_a_gate_waits_and_names_it() {
        let await_db = Step {
            subject: Subject::Service(name("db")),
            action: Action::Await(Condition::Healthy),
            after: BTreeSet::new(),
        };
        let start =
            Step { subject: Subject::Service(name("web")), action: Action::Start, after: BTreeSet::from([0]) };
        let change = Change { kind: ChangeKind::Create, reasons: vec![Reason::New] };
        let mut plan = Plan {
            changes: BTreeMap::from([(name("web"), change)]),
            steps: vec![await_db, start],
            warnings: Vec::new(),
        };
        let state_of = |plan: &Plan| state(&name("web"), &Desired::default(), &Observed::default(), plan);
        assert_eq!(state_of(&plan), State::Waiting);
        assert_eq!(waits_for(&name("web"), &plan), [(name("db"), Condition::Healthy)]);
        plan.steps[1].after.clear();
        assert_eq!(state_of(&plan), State::Starting);
    }
}
