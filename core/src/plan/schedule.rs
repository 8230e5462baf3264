//! Steps and their edges, from the verdicts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::order::topological;
use super::verdict::satisfies;
use super::{Entry, Host, Verdict, Work};
use crate::container;
use crate::model::{
    Action, Assigned, ChangeKind, Condition, DropIn, Network, Reason, Step, StepId, Subject, System, SystemState,
};
use crate::network::{FirewallTable, hosts_file, servers};
use crate::slice;

/// Said of a host whose guests with a network of their own know no server that they reach.
const OUT_OF_REACH: &str = "guests with a network of their own have nobody to ask for names: /etc/resolv.conf names this host alone, \
    on loopback; have its resolver listen on an address that they reach, and name that there, or say `networking.nameservers` in \
    each of them";

/// The conflicts that `conflict::find` returns.
type Conflicts = BTreeMap<usize, BTreeSet<usize>>;

/// Returns the steps of a plan, roughly in the order in which they will be taken, and what a person should know.
pub(super) fn steps(
    host: &Host<'_>,
    verdicts: &[Verdict],
    conflicts: &Conflicts,
) -> (Vec<Step>, Vec<(Subject, String)>) {
    let count = host.entries.len();
    let mut schedule = Schedule {
        host,
        verdicts,
        steps: Vec::new(),
        warnings: Vec::new(),
        stops: vec![None; count],
        starts: vec![None; count],
        awaits: HashMap::new(),
    };
    schedule.add_stops();
    let published = schedule.add_tables();
    schedule.add_updates();
    schedule.add_starts(published, conflicts);
    schedule.delay_stops();
    (schedule.steps, schedule.warnings)
}

/// The host's tables that starts wait for.
#[derive(Clone, Copy)]
struct Published {
    ports: Option<StepId>,
    names: Option<StepId>,
    slices: Option<StepId>,
}

struct Schedule<'a> {
    host: &'a Host<'a>,
    verdicts: &'a [Verdict],
    steps: Vec<Step>,
    warnings: Vec<(Subject, String)>,
    /// The `Stop` step of each container.
    stops: Vec<Option<StepId>>,
    /// The `Start` step of each container.
    starts: Vec<Option<StepId>>,
    /// The `Await` steps, one for each thing to wait for.
    awaits: HashMap<(&'a str, Condition), StepId>,
}

impl<'a> Schedule<'a> {
    fn push(&mut self, subject: Subject, action: Action, after: BTreeSet<StepId>) -> StepId {
        self.steps.push(Step { subject, action, after });
        self.steps.len() - 1
    }

    fn push_for(&mut self, entry: &Entry<'_>, action: Action, after: BTreeSet<StepId>) -> StepId {
        self.push(Subject::Service(entry.name.clone()), action, after)
    }

    fn work(&self, index: usize) -> Work {
        self.verdicts.get(index).map_or(Work::Nothing, |verdict| verdict.work)
    }

    /// Adds the stops, dependents before what they depend on, and the removals.
    fn add_stops(&mut self) {
        let host = self.host;
        let stopping: Vec<usize> = (0..host.entries.len()).filter(|index| self.work(*index).stops()).collect();
        let place: HashMap<usize, usize> =
            stopping.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        // The dependents of each stopping container, as places in `stopping`.
        let mut dependents = vec![Vec::new(); stopping.len()];
        for (at, index) in stopping.iter().enumerate() {
            let dependencies = host.entries.get(*index).map(running_dependencies).unwrap_or_default();
            for dependency in dependencies.iter().filter_map(|name| host.indices.get(name.as_str())) {
                if let Some(of) = place.get(dependency).and_then(|place| dependents.get_mut(*place)) {
                    of.push(at);
                }
            }
        }
        let before = |node: usize| dependents.get(node).into_iter().flatten().copied();
        // Drop-ins of several generations can contradict each other: then one of their orders is as good as another.
        let (order, ignored) = topological(stopping.len(), before);
        for node in order {
            let Some((index, entry)) = stopping.get(node).and_then(|i| Some((*i, host.entries.get(*i)?))) else {
                continue;
            };
            let after = before(node)
                .filter(|dependent| *dependent != node && !ignored.contains(&(*dependent, node)))
                .filter_map(|dependent| self.stops.get(*stopping.get(dependent)?).copied().flatten())
                .collect();
            let stop = self.push_for(entry, Action::Stop, after);
            if let Some(slot) = self.stops.get_mut(index) {
                *slot = Some(stop);
            }
        }
        for (index, entry) in host.entries.iter().enumerate() {
            let after = match self.work(index) {
                Work::Remove => BTreeSet::new(),
                Work::StopRemove => self.stops.get(index).copied().flatten().into_iter().collect(),
                Work::Nothing | Work::Start | Work::AwaitJob | Work::StopStart | Work::Stop | Work::Update => {
                    continue;
                }
            };
            self.push_for(entry, Action::Remove, after);
        }
    }

    fn add_tables(&mut self) -> Published {
        let mut published = Published { ports: None, names: None, slices: None };
        let (desired, observed) = (self.host.desired, self.host.observed);
        if observed.system == SystemState::Stopping {
            return published;
        }
        let table = FirewallTable::of(desired);
        let same = match &observed.firewall {
            Some(found) => *found == table,
            None => table.is_empty(),
        };
        if !table.is_empty() {
            self.warnings.extend(observed.obstacles.iter().map(|text| (Subject::Host, text.clone())));
        }
        if !same {
            published.ports = Some(self.push(Subject::Host, Action::PublishPorts, BTreeSet::new()));
        }
        let is_apart = |assigned: &Assigned| {
            assigned.service.system != System::Adopted
                && matches!(assigned.service.network, Network::Private { .. })
        };
        if desired.services.values().any(is_apart) && servers::are_out_of_reach(&observed.servers) {
            self.warnings.push((Subject::Host, OUT_OF_REACH.to_owned()));
        }
        // Without containers that could bind them, nobody misses the files that guests share.
        let unshared = desired.services.values().all(|assigned| assigned.service.system == System::Adopted);
        let same = match &observed.hosts {
            Some(found) => *found == hosts_file(desired),
            None => unshared,
        };
        if !same || !(unshared || servers::are_right(&observed.servers)) {
            published.names = Some(self.push(Subject::Host, Action::PublishNames, BTreeSet::new()));
        }
        if !slice::are_right(&observed.slices, &slice::slices(desired, observed.protection_of_host)) {
            published.slices = Some(self.push(Subject::Host, Action::SetSlices, BTreeSet::new()));
        }
        published
    }

    fn add_updates(&mut self) {
        let host = self.host;
        for (index, entry) in host.entries.iter().enumerate() {
            if self.work(index) == Work::Update {
                self.push_for(entry, Action::Update, BTreeSet::new());
            }
        }
    }

    /// Adds the starts and their gates, what is depended on first.
    fn add_starts(&mut self, published: Published, conflicts: &Conflicts) {
        let host = self.host;
        if !self.verdicts.iter().any(|verdict| verdict.work.starts()) {
            return;
        }
        let before = |node: usize| {
            let assigned = host.entries.get(node).and_then(|entry| entry.assigned);
            assigned
                .into_iter()
                .flat_map(|assigned| assigned.service.depends_on.keys().filter_map(|name| host.index(name)))
        };
        let (order, ignored) = topological(host.entries.len(), before);
        for (dependency, dependent) in ignored {
            if let (Some(dependency), Some(dependent)) = (host.entries.get(dependency), host.entries.get(dependent))
            {
                let text = format!("depends on `{}` in a circle, so neither can start", dependency.name);
                self.warnings.push((Subject::Service(dependent.name.clone()), text));
            }
        }
        for index in order {
            let Some(entry) = host.entries.get(index) else { continue };
            let mut after = BTreeSet::new();
            match self.work(index) {
                Work::Start | Work::StopStart => {
                    after.extend(self.stops.get(index).copied().flatten());
                    for holder in conflicts.get(&index).into_iter().flatten() {
                        after.extend(self.stops.get(*holder).copied().flatten());
                    }
                    after.extend(Self::tables_of(entry, published));
                    self.add_gates(entry, &mut after);
                }
                Work::AwaitJob => {}
                Work::Nothing | Work::Stop | Work::StopRemove | Work::Remove | Work::Update => continue,
            }
            let start = self.push_for(entry, Action::Start, after);
            if let Some(slot) = self.starts.get_mut(index) {
                *slot = Some(start);
            }
        }
    }

    /// Returns the tables that a container needs at its start: its own services may ask for names at once, and it is to run
    /// in slices that hold it and protect it from the first moment.
    fn tables_of(entry: &Entry<'_>, published: Published) -> impl Iterator<Item = StepId> {
        let service = entry.assigned.map(|assigned| &assigned.service);
        let private = service.is_some_and(|service| match service.network {
            Network::Private { .. } => true,
            Network::Bridge(_) | Network::Host => false,
        });
        let managed = service.is_some_and(|service| service.system != System::Adopted);
        let ports = published.ports.filter(|_| private && managed);
        ports.into_iter().chain(published.names.filter(|_| managed)).chain(published.slices)
    }

    /// Adds the gates of one start that do not hold, or will not for long.
    fn add_gates(&mut self, entry: &Entry<'a>, after: &mut BTreeSet<StepId>) {
        let host = self.host;
        let Some(assigned) = entry.assigned else { return };
        for (name, condition) in &assigned.service.depends_on {
            let dependency = host.index(name).and_then(|index| Some((index, host.entries.get(index)?)));
            if dependency.is_some_and(|(index, dependency)| self.holds(index, dependency, *condition)) {
                continue;
            }
            let declared = dependency.is_some_and(|(_, dependency)| dependency.assigned.is_some());
            let warning = match host.desired.holds.get(name) {
                Some(hold) if declared => Some(format!("waits for `{name}`, which is held by {}", hold.by)),
                Some(_) | None if declared => None,
                Some(_) | None => Some(format!("waits for `{name}`, which no stack declares")),
            };
            self.warnings.extend(warning.map(|text| (Subject::Service(entry.name.clone()), text)));
            let key = (name.as_str(), *condition);
            let known = self.awaits.get(&key).copied();
            let gate = known.unwrap_or_else(|| {
                let start = dependency.and_then(|(index, _)| self.starts.get(index).copied().flatten());
                let subject = Subject::Service(name.clone());
                self.push(subject, Action::Await(*condition), start.into_iter().collect())
            });
            self.awaits.insert(key, gate);
            after.insert(gate);
        }
    }

    /// Returns whether a gate holds and nothing in this plan will open it again.
    fn holds(&self, index: usize, entry: &Entry<'_>, condition: Condition) -> bool {
        let work = self.work(index);
        let (Some(assigned), Some(container), Some(Ok(files))) = (entry.assigned, entry.container, entry.files)
        else {
            return false;
        };
        !work.stops() && !work.starts() && satisfies(assigned, files, container, condition)
    }

    /// Lets the stop of a restart wait for the gates of its start that this plan does nothing about, unless
    /// somebody asked for the restart or another step needs the stop.
    fn delay_stops(&mut self) {
        let mut needed = vec![0_usize; self.steps.len()];
        for id in self.steps.iter().flat_map(|step| &step.after) {
            if let Some(count) = needed.get_mut(*id) {
                *count += 1;
            }
        }
        for (index, verdict) in self.verdicts.iter().enumerate() {
            let Some(change) = &verdict.change else { continue };
            if change.kind != ChangeKind::Restart || change.reasons.contains(&Reason::Requested) {
                continue;
            }
            let steps = (self.stops.get(index).copied().flatten(), self.starts.get(index).copied().flatten());
            let (Some(stop), Some(start)) = steps else { continue };
            // Its own start is the one step that always needs it.
            if needed.get(stop) != Some(&1) {
                continue;
            }
            let gates: Vec<StepId> = self
                .steps
                .get(start)
                .into_iter()
                .flat_map(|step| &step.after)
                .filter(|id| self.steps.get(**id).is_some_and(is_idle_gate))
                .copied()
                .collect();
            if let Some(step) = self.steps.get_mut(stop) {
                step.after.extend(gates);
            }
        }
    }
}

fn is_idle_gate(step: &Step) -> bool {
    match step.action {
        Action::Await(_) => step.after.is_empty(),
        Action::PublishPorts
        | Action::PublishNames
        | Action::SetSlices
        | Action::Stop
        | Action::Remove
        | Action::Start
        | Action::Update => false,
    }
}

/// Returns what a running container was ordered after: by the drop-in it was started with, which knows it even
/// when nothing declares the container any more, else by what is declared.
fn running_dependencies(entry: &Entry<'_>) -> Vec<crate::model::ContainerName> {
    match entry.container.map(|container| &container.drop_in) {
        Some(DropIn::Ours(text)) => container::dependencies(text),
        Some(DropIn::Absent) | None => {
            entry.assigned.map(|assigned| assigned.service.depends_on.keys().cloned().collect()).unwrap_or_default()
        }
    }
}
