//! Taking steps: which of a plan's ready steps are begun now, and what carries one out.
//!
//! Owns the limits on how much happens at once. What a step means is the host's; which steps there are is the
//! plan's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::container::Files;
use nixmox_core::model::{Action, Assigned, ContainerName, Desired, Plan, Subject};
use nixmox_core::network::{self, FirewallTable};
use nixmox_core::plan::{self, AllFiles};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::host::{Host, StepError};

/// A step that ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) subject: Subject,
    pub(super) action: Action,
    pub(super) took: Duration,
    pub(super) result: Result<(), StepError>,
}

/// What is needed to carry out one step, taken out of the plan's values.
#[derive(Debug)]
enum Order {
    PublishPorts(FirewallTable),
    PublishNames(String),
    Stop(ContainerName),
    Remove(ContainerName),
    Start(Box<(Assigned, Files)>),
    Update(Box<(Assigned, Files)>),
}

/// The steps that are being taken.
#[derive(Debug)]
pub(super) struct Executor {
    tasks: JoinSet<Outcome>,
    under_way: BTreeMap<Subject, BTreeSet<Action>>,
    parallel_starts: usize,
}

impl Executor {
    pub(super) fn new(parallel_starts: usize) -> Self {
        Self { tasks: JoinSet::new(), under_way: BTreeMap::new(), parallel_starts }
    }

    /// Begins every ready step that `allowed` lets through and whose subject has nothing under way.
    ///
    /// Returns what was begun.
    pub(super) fn begin<H: Host>(
        &mut self,
        host: &Arc<H>,
        desired: &Desired,
        files: &AllFiles,
        plan: &Plan,
        allowed: impl Fn(&Subject, Action) -> bool,
    ) -> Vec<(Subject, Action)> {
        let mut begun = Vec::new();
        for step in plan::ready(plan).filter_map(|id| plan.steps.get(id)) {
            let busy = self.under_way.get(&step.subject).is_some_and(|actions| match &step.subject {
                // One container, one action; the host's two tables have nothing to do with each other.
                Subject::Service(_) => !actions.is_empty(),
                Subject::Host => actions.contains(&step.action),
            });
            let full = step.action == Action::Start && self.starts() >= self.parallel_starts;
            if busy || full || !allowed(&step.subject, step.action) {
                continue;
            }
            let Some(order) = order(&step.subject, step.action, desired, files) else { continue };
            self.under_way.entry(step.subject.clone()).or_default().insert(step.action);
            begun.push((step.subject.clone(), step.action));
            let (host, subject, action) = (Arc::clone(host), step.subject.clone(), step.action);
            self.tasks.spawn(async move {
                let since = Instant::now();
                let result = carry_out(&*host, order).await;
                Outcome { subject, action, took: since.elapsed(), result }
            });
        }
        begun
    }

    /// Waits for the next step to end. Never returns while none is under way. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Outcome {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(outcome)) => {
                    self.forget(&outcome);
                    return outcome;
                }
                // A step cannot be cancelled and does not panic; if it does, the plan will ask for it again.
                Some(Err(error)) => {
                    tracing::error!(event = "crash", "a step was lost: {error}");
                    if self.tasks.is_empty() {
                        self.under_way.clear();
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Returns a step that has ended already, if there is one.
    pub(super) fn ended_already(&mut self) -> Option<Outcome> {
        let outcome = self.tasks.try_join_next()?.ok()?;
        self.forget(&outcome);
        Some(outcome)
    }

    fn forget(&mut self, outcome: &Outcome) {
        if let Some(actions) = self.under_way.get_mut(&outcome.subject) {
            actions.remove(&outcome.action);
            if actions.is_empty() {
                self.under_way.remove(&outcome.subject);
            }
        }
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

    fn starts(&self) -> usize {
        self.under_way.values().filter(|actions| actions.contains(&Action::Start)).count()
    }
}

/// Returns an action's name, for the journal.
pub(super) fn verb(action: Action) -> &'static str {
    match action {
        Action::PublishPorts => "publish-ports",
        Action::PublishNames => "publish-names",
        Action::Stop => "stop",
        Action::Remove => "remove",
        Action::Start => "start",
        Action::Update => "update",
        Action::Await(_) => "await",
    }
}

fn order(subject: &Subject, action: Action, desired: &Desired, files: &AllFiles) -> Option<Order> {
    let carried = |name: &ContainerName| {
        Some(Box::new((desired.services.get(name)?.clone(), files.get(name)?.as_ref().ok()?.clone())))
    };
    match (subject, action) {
        (Subject::Host, Action::PublishPorts) => Some(Order::PublishPorts(FirewallTable::of(desired))),
        (Subject::Host, Action::PublishNames) => Some(Order::PublishNames(network::hosts_file(desired))),
        (Subject::Service(name), Action::Stop) => Some(Order::Stop(name.clone())),
        (Subject::Service(name), Action::Remove) => Some(Order::Remove(name.clone())),
        (Subject::Service(name), Action::Start) => carried(name).map(Order::Start),
        (Subject::Service(name), Action::Update) => carried(name).map(Order::Update),
        (Subject::Service(_), Action::PublishPorts | Action::PublishNames | Action::Await(_))
        | (Subject::Host, Action::Stop | Action::Remove | Action::Start | Action::Update | Action::Await(_)) => {
            None
        }
    }
}

async fn carry_out<H: Host>(host: &H, order: Order) -> Result<(), StepError> {
    match order {
        Order::PublishPorts(table) => host.publish_ports(&table).await,
        Order::PublishNames(text) => host.publish_names(&text).await,
        Order::Stop(name) => host.stop(&name).await,
        Order::Remove(name) => host.remove(&name).await,
        Order::Start(carried) => host.start(&carried.0, &carried.1).await,
        Order::Update(carried) => host.update(&carried.0, &carried.1).await,
    }
}
