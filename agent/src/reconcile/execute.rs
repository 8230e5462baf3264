//! Taking steps: which of a plan's ready steps are begun now, and what carries one out.
//!
//! Owns the limits on how much happens at once. What a step means is the host's; which steps there are is the
//! plan's.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::container::Files;
use nixmox_core::model::{
    Action, ActiveState, Assigned, ContainerName, Kind, Observed, Reason, Spec, Step, Subject,
};
use nixmox_core::network::{self, FirewallTable};
use nixmox_core::plan;
use nixmox_core::slice::{self, Slices};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use super::Round;
use crate::host::{Host, StepError};

/// How long the start of a job counts as one of those at the same time: its work may be part of its boot, take hours, and
/// must not keep others from being started. That of a service counts to its end, or else a machine on which many boot
/// slowly would get ever more to boot.
const JOB_COUNTS: Duration = Duration::from_mins(1);

/// A step that was begun.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    pub(super) subject: Subject,
    pub(super) action: Action,
    /// Why, as the plan had it.
    pub(super) reasons: Vec<Reason>,
    /// What is started; `None` unless it is a start.
    pub(super) spec: Option<Spec>,
    /// It is a start that a later stop calls off.
    pub(super) called_off: bool,
    since: Instant,
    /// Until when it counts as a start, if it is one; `None`: to its end.
    counts_until: Option<Instant>,
}

/// A step that ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) step: Begun,
    pub(super) took: Duration,
    pub(super) result: Result<(), StepError>,
}

/// What is needed to carry out one step, taken out of the plan's values.
#[derive(Debug)]
enum Order {
    PublishPorts(FirewallTable),
    PublishNames { hosts: String, resolv_conf: Option<String> },
    SetSlices(Slices),
    Stop(ContainerName),
    Remove(ContainerName),
    Start(Box<(Assigned, Files)>),
    Update(Box<(Assigned, Files)>),
}

/// The steps that are being taken.
#[derive(Debug)]
pub(super) struct Executor {
    tasks: JoinSet<Result<(), StepError>>,
    begun: HashMap<task::Id, Begun>,
    under_way: BTreeMap<Subject, BTreeSet<Action>>,
    parallel_starts: usize,
}

impl Executor {
    pub(super) fn new(parallel_starts: usize) -> Self {
        Self { tasks: JoinSet::new(), begun: HashMap::new(), under_way: BTreeMap::new(), parallel_starts }
    }

    /// Begins every ready step that `allowed` lets through and whose subject has nothing under way.
    ///
    /// Returns what was begun.
    pub(super) fn begin<H: Host>(
        &mut self,
        host: &Arc<H>,
        round: &Round,
        allowed: impl Fn(&Subject, Action) -> bool,
    ) -> Vec<Begun> {
        let mut begun = Vec::new();
        for step in plan::ready(&round.plan).filter_map(|id| round.plan.steps.get(id)) {
            let full = step.action == Action::Start && self.starts() >= self.parallel_starts;
            if full || self.is_in_the_way(step, &round.observed) || !allowed(&step.subject, step.action) {
                continue;
            }
            let Some(order) = order(&step.subject, step.action, round) else { continue };
            let (spec, job) = match &order {
                Order::Start(carried) => (Some(carried.1.spec.clone()), carried.0.service.kind == Kind::Job),
                Order::PublishPorts(_)
                | Order::PublishNames { .. }
                | Order::SetSlices(_)
                | Order::Stop(_)
                | Order::Remove(_)
                | Order::Update(_) => (None, false),
            };
            let change = match &step.subject {
                Subject::Service(name) => round.plan.changes.get(name),
                Subject::Host => None,
            };
            if step.action == Action::Stop {
                let same = self.begun.values_mut().filter(|other| other.subject == step.subject);
                same.for_each(|start| start.called_off = true);
            }
            let this = Begun {
                subject: step.subject.clone(),
                action: step.action,
                reasons: change.map(|change| change.reasons.clone()).unwrap_or_default(),
                spec,
                called_off: false,
                since: Instant::now(),
                counts_until: job.then(|| Instant::now() + JOB_COUNTS),
            };
            self.under_way.entry(step.subject.clone()).or_default().insert(step.action);
            let host = Arc::clone(host);
            let task = self.tasks.spawn(async move { carry_out(&*host, order).await });
            self.begun.insert(task.id(), this.clone());
            begun.push(this);
        }
        begun
    }

    /// Returns whether what is under way keeps a step from being taken.
    fn is_in_the_way(&self, step: &Step, observed: &Observed) -> bool {
        let Some(actions) = self.under_way.get(&step.subject) else { return false };
        match &step.subject {
            // The host's tables have nothing to do with each other.
            Subject::Host => actions.contains(&step.action),
            // One container, one action; but a start that takes its time is called off by a stop, as systemd does
            // it with its jobs, and so is a change of what runs: a guest may take long to be switched to another system.
            Subject::Service(name) => {
                let changes = actions.iter().all(|action| *action == Action::Update);
                let starts = actions.iter().all(|action| *action == Action::Start)
                    && observed.containers.get(name).is_some_and(|seen| seen.active == ActiveState::Activating);
                !((starts || changes) && step.action == Action::Stop)
            }
        }
    }

    /// Waits for the next step to end. Never returns while none is under way. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Outcome {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(joined) => {
                    if let Some(outcome) = self.outcome(joined) {
                        return outcome;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Returns a step that has ended already, if there is one.
    pub(super) fn ended_already(&mut self) -> Option<Outcome> {
        let joined = self.tasks.try_join_next_with_id()?;
        self.outcome(joined)
    }

    fn outcome(&mut self, joined: Result<(task::Id, Result<(), StepError>), JoinError>) -> Option<Outcome> {
        let (id, result) = match joined {
            Ok(ended) => ended,
            // A step does not panic; if it does, it failed like any other.
            Err(error) => {
                let subject = self.begun.get(&error.id()).map(|step| format!("{:?}", step.subject));
                let (call, subject) = ("a step", subject.unwrap_or_default());
                (error.id(), Err(StepError::Bus { call, subject, source: Box::new(error) }))
            }
        };
        let step = self.begun.remove(&id)?;
        if let Some(actions) = self.under_way.get_mut(&step.subject) {
            actions.remove(&step.action);
            if actions.is_empty() {
                self.under_way.remove(&step.subject);
            }
        }
        Some(Outcome { took: step.since.elapsed(), step, result })
    }

    /// Returns the containers that have a step under way.
    pub(super) fn acting_on(&self) -> BTreeSet<ContainerName> {
        let name = |subject: &Subject| match subject {
            Subject::Service(name) => Some(name.clone()),
            Subject::Host => None,
        };
        self.under_way.keys().filter_map(name).collect()
    }

    /// Returns whether anything is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Returns when a start makes room for another one though it has not ended; `None`: there is room, or nothing starts.
    pub(super) fn next_room(&self) -> Option<Instant> {
        let first = self.counting().filter_map(|step| step.counts_until).min();
        first.filter(|_| self.starts() >= self.parallel_starts)
    }

    fn starts(&self) -> usize {
        self.counting().count()
    }

    /// Returns the starts that count.
    fn counting(&self) -> impl Iterator<Item = &Begun> {
        let counts = |step: &&Begun| step.counts_until.is_none_or(|until| until > Instant::now());
        self.begun.values().filter(|step| step.action == Action::Start).filter(counts)
    }
}

/// Returns an action's name, for the journal.
pub(super) fn verb(action: Action) -> &'static str {
    match action {
        Action::PublishPorts => "publish-ports",
        Action::PublishNames => "publish-names",
        Action::SetSlices => "set-slices",
        Action::Stop => "stop",
        Action::Remove => "remove",
        Action::Start => "start",
        Action::Update => "update",
        Action::Await(_) => "await",
    }
}

fn order(subject: &Subject, action: Action, round: &Round) -> Option<Order> {
    let Round { desired, files, .. } = round;
    let carried = |name: &ContainerName| {
        Some(Box::new((desired.services.get(name)?.clone(), files.get(name)?.as_ref().ok()?.clone())))
    };
    match (subject, action) {
        (Subject::Host, Action::PublishPorts) => Some(Order::PublishPorts(FirewallTable::of(desired))),
        (Subject::Host, Action::PublishNames) => Some(Order::PublishNames {
            hosts: network::hosts_file(desired),
            resolv_conf: network::servers::for_guests(&round.observed.servers),
        }),
        (Subject::Host, Action::SetSlices) => {
            Some(Order::SetSlices(slice::slices(desired, round.observed.protection_of_host)))
        }
        (Subject::Service(name), Action::Stop) => Some(Order::Stop(name.clone())),
        (Subject::Service(name), Action::Remove) => Some(Order::Remove(name.clone())),
        (Subject::Service(name), Action::Start) => carried(name).map(Order::Start),
        (Subject::Service(name), Action::Update) => carried(name).map(Order::Update),
        (
            Subject::Service(_),
            Action::PublishPorts | Action::PublishNames | Action::SetSlices | Action::Await(_),
        )
        | (Subject::Host, Action::Stop | Action::Remove | Action::Start | Action::Update | Action::Await(_)) => {
            None
        }
    }
}

async fn carry_out<H: Host>(host: &H, order: Order) -> Result<(), StepError> {
    match order {
        Order::PublishPorts(table) => host.publish_ports(&table).await,
        Order::PublishNames { hosts, resolv_conf } => host.publish_names(&hosts, resolv_conf.as_deref()).await,
        Order::SetSlices(slices) => host.set_slices(&slices).await,
        Order::Stop(name) => host.stop(&name).await,
        Order::Remove(name) => host.remove(&name).await,
        Order::Start(carried) => host.start(&carried.0, &carried.1).await,
        Order::Update(carried) => host.update(&carried.0, &carried.1).await,
    }
}
