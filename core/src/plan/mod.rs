//! The planner: from what is desired and what is observed to the steps in between.
//!
//! Owns every decision about which container is started, changed, stopped or left alone, in which order, and why.
//! Does not carry anything out, keeps nothing between two calls, and does not decide when a retry is due
//! (`restart`) or whether a container is healthy (`health`): both arrive in `Observed`.
//!
//! ```text
//! desired ──┐                        ┌─▶ changes: what happens to each service, and why
//! observed ─┼─▶ judge each service ──┤
//! files ────┘   (verdict)            └─▶ conflicts ─▶ steps with edges (schedule)
//! ```
//!
//! The edges of a plan point down these levels only, which is why it cannot have a cycle:
//!
//! 1. `Stop`, each after the stops of what depends on it (in the order that the running instances were given),
//! 2. `PublishPorts`, `PublishNames`, `SetSlices`,
//! 3. `Start` and `Await`, in the order of the declared dependencies: a start after its gates, a gate after the
//!    start of what it watches. `Remove` follows its own stop, and nothing follows it or an `Update`.
//!
//! One edge points up: the stop of a restart waits for gates that do not hold and that this plan does nothing
//! about, so that a container is not stopped long before it can be started again. Those gates wait for nothing.

mod boot;
mod conflict;
mod difference;
mod fingerprint;
mod machine;
mod order;
mod schedule;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::container::{Files, Uncarriable};
use crate::model::{
    Action, Assigned, ChangeKind, Condition, Container, ContainerName, Desired, Observed, Plan, StepId,
};

pub use boot::boot_warnings;
pub use difference::limits as limit_differences;
pub use fingerprint::{Fingerprint, InvalidFingerprint, fingerprint};
pub use machine::machine_warnings;
use verdict::{Verdict, Work, judge};

/// The texts of every desired container, as `container::all_files` returns them.
pub type AllFiles = BTreeMap<ContainerName, Result<Files, Uncarriable>>;

/// Returns what leads from what is observed to what is desired.
///
/// `files` are the texts of all desired services; a service without an entry is left alone, blocked.
///
/// Planning again after every step is expected: a plan never has a step whose effect is already there, except
/// `Start` of a container that is activating, which waits for its job.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed, files: &AllFiles) -> Plan {
    let host = Host::new(desired, observed, files);
    let mut verdicts: Vec<Verdict> = host.entries.iter().map(|entry| judge(&host, entry)).collect();
    let conflicts = conflict::find(&host, &mut verdicts);
    let (steps, warnings) = schedule::steps(&host, &verdicts, &conflicts);
    let changes = host
        .entries
        .iter()
        .zip(verdicts)
        .filter_map(|(entry, verdict)| Some((entry.name.clone(), verdict.change?)))
        .collect();
    Plan { changes, steps, warnings }
}

/// Returns the steps that can be taken at once: those that wait for nothing and do something.
pub fn ready(plan: &Plan) -> impl Iterator<Item = StepId> + '_ {
    let acts = |action: Action| match action {
        Action::PublishPorts
        | Action::PublishNames
        | Action::SetSlices
        | Action::Stop
        | Action::Remove
        | Action::Start
        | Action::Update => true,
        Action::Await(_) => false,
    };
    plan.steps
        .iter()
        .enumerate()
        .filter(move |(_, step)| step.after.is_empty() && acts(step.action))
        .map(|(id, _)| id)
}

/// Returns whether a plan would change nothing: every service is as declared or held, the host's tables are too.
#[must_use]
pub fn is_empty(plan: &Plan) -> bool {
    plan.steps.is_empty() && plan.changes.values().all(|change| change.kind == ChangeKind::Unchanged)
}

/// Returns whether a service has reached a condition now: what dependents wait for.
///
/// Only an instance that was started as declared counts. A job whose specification succeeded satisfies every
/// condition, since it will not run again.
#[must_use]
pub fn holds(desired: &Desired, observed: &Observed, files: &AllFiles, name: &str, condition: Condition) -> bool {
    let (Some(assigned), Some(container)) = (desired.services.get(name), observed.containers.get(name)) else {
        return false;
    };
    let files = files.get(name).and_then(|files| files.as_ref().ok());
    files.is_some_and(|files| verdict::satisfies(assigned, files, container, condition))
}

/// Returns the running services that a stop of these would leave without what they depend on, without the given
/// ones themselves; over all stacks, dependents of dependents included.
#[must_use]
pub fn running_dependents(
    desired: &Desired,
    observed: &Observed,
    names: &BTreeSet<ContainerName>,
) -> BTreeSet<ContainerName> {
    let mut dependents: HashMap<&str, Vec<&ContainerName>> = HashMap::new();
    for (name, assigned) in &desired.services {
        for dependency in assigned.service.depends_on.keys() {
            dependents.entry(dependency.as_str()).or_default().push(name);
        }
    }
    let runs = |name: &str| observed.containers.get(name).is_some_and(|container| container.active.has_processes());
    let mut found = BTreeSet::new();
    let mut open: Vec<&ContainerName> = names.iter().collect();
    while let Some(name) = open.pop() {
        for &dependent in dependents.get(name.as_str()).into_iter().flatten() {
            // Through a dependent that does not run nothing is lost: it waits for its gates anyway.
            if !names.contains(dependent) && runs(dependent.as_str()) && found.insert(dependent.clone()) {
                open.push(dependent);
            }
        }
    }
    found
}

/// Everything a plan is made of, with an index per container: 10,000 names are compared once.
struct Host<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// Every container that is desired or observed, in the order of names.
    entries: Vec<Entry<'a>>,
    indices: HashMap<&'a str, usize>,
}

/// One container from all sides.
struct Entry<'a> {
    name: &'a ContainerName,
    /// What is declared; `None`: nothing.
    assigned: Option<&'a Assigned>,
    /// What is there; `None`: nothing.
    container: Option<&'a Container>,
    /// The texts it should have.
    files: Option<&'a Result<Files, Uncarriable>>,
}

impl<'a> Host<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed, files: &'a AllFiles) -> Self {
        // All three follow the same names in the same order, so no look-up is needed.
        let (mut texts, mut seen) = (files.iter().peekable(), observed.containers.iter().peekable());
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(desired.services.len());
        let undeclared =
            |(name, container)| Entry { name, assigned: None, container: Some(container), files: None };
        for (name, assigned) in &desired.services {
            while let Some(other) = seen.next_if(|(other, _)| *other < name) {
                entries.push(undeclared(other));
            }
            while texts.next_if(|(other, _)| *other < name).is_some() {}
            entries.push(Entry {
                name,
                assigned: Some(assigned),
                container: seen.next_if(|(other, _)| *other == name).map(|(_, container)| container),
                files: texts.next_if(|(other, _)| *other == name).map(|(_, files)| files),
            });
        }
        entries.extend(seen.map(undeclared));
        let indices = entries.iter().enumerate().map(|(index, entry)| (entry.name.as_str(), index)).collect();
        Self { desired, observed, entries, indices }
    }

    fn index(&self, name: &ContainerName) -> Option<usize> {
        self.indices.get(name.as_str()).copied()
    }
}

#[cfg(test)]
mod model_host;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
