//! What the agent tells: status from the values a plan was made of, and events from two statuses.
//!
//! Owns the texts, the numbers of events and the memory of since when. Level-triggered like everything here: an
//! event is a difference between what was published and what is, so none can be forgotten and none told twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nixmox_api::{
    Caller, Dependency, GpuStatus, HostStatus, RolledBack, ServiceState, ServiceStatus, StackInfo, StackStatus,
    Status, Update, UpdateKind,
};
use nixmox_core::container;
use nixmox_core::health;
use nixmox_core::model::{
    Assigned, ChangeKind, Condition, Container, ContainerName, Desired, GpuStanding, Kind, Observed, Plan,
    StackName, Subject, System, Word,
};
use nixmox_core::slice;
use nixmox_core::status::{self, State};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::cause::{Cause, Causes};
use super::change::Ledger;
use super::gpu_answers::GpuScene;
use super::handle::{Places, Published, now_usec};
use super::offload_answers::OffloadScene;
use super::offloads::Offloads;
use super::supervise::{Supervisor, Watched, start_period};
use super::words::{difference, drift, gpu_word, line, millis, place, port_text, reason, wire_state, with_hint};
use crate::notify;
use crate::settings::DriftPolicy;
use crate::state::{EventNumbers, Generation, StackRecord};

/// Everything that a status is made of.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) now: Duration,
    pub(super) ledger: &'a Ledger,
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) plan: &'a Plan,
    pub(super) supervisor: &'a Supervisor,
    pub(super) offloads: &'a Offloads,
    pub(super) busy: bool,
    /// The containers with a step under way.
    pub(super) acting_on: BTreeSet<ContainerName>,
    pub(super) policy: DriftPolicy,
    /// What hinders the host as a whole.
    pub(super) warnings: Vec<String>,
}

/// Publishes statuses and events.
#[derive(Debug)]
pub(super) struct Reporter {
    published: watch::Sender<Published>,
    events: broadcast::Sender<Arc<Update>>,
    numbers: EventNumbers,
    causes: Causes,
    /// In which state each service was last seen, and since when.
    since: BTreeMap<ContainerName, Since>,
}

/// Since when a service is in a state.
#[derive(Debug)]
struct Since {
    state: ServiceState,
    /// In seconds since 1970.
    at: u64,
    /// It ran before this agent did, whose first answer about its health tells nothing new.
    found: bool,
}

impl Since {
    /// Takes note of a service that was not seen before: what runs does so since it became active.
    fn first(state: ServiceState, container: &Container, now: u64) -> Self {
        match container.active_since.filter(|_| container.active.has_processes()) {
            Some(at) => Self { state, at: at.min(now), found: true },
            None => Self { state, at: now, found: false },
        }
    }

    /// Takes note of the state that it is in now.
    fn see(&mut self, state: ServiceState, now: u64) {
        if self.state != state {
            let same = self.found && self.state == ServiceState::Starting && state == ServiceState::Healthy;
            *self = Self { state, at: if same { self.at } else { now }, found: false };
        }
    }
}

impl Reporter {
    pub(super) fn new(
        published: watch::Sender<Published>,
        events: broadcast::Sender<Arc<Update>>,
        numbers: EventNumbers,
    ) -> Self {
        let causes = Causes::new(numbers.is_first_of_boot(), numbers.last());
        // A watch that begins before the first event is told where it stands.
        published.send_modify(|published| published.number = numbers.last());
        Self { published, events, numbers, causes, since: BTreeMap::new() }
    }

    /// Returns the number of the last event.
    pub(super) fn number(&self) -> u64 {
        self.numbers.last()
    }

    /// Takes note that somebody asked for these services: what happens to them is theirs until it is as asked.
    pub(super) fn asked(&mut self, names: &BTreeSet<ContainerName>, caller: &Caller, verb: &'static str) {
        self.causes.asked(names.iter().map(ContainerName::as_str), caller, verb, self.number());
    }

    /// Takes note that no more events follow.
    pub(super) fn end(&mut self) {
        self.numbers.end();
    }

    /// Returns the state of a service as it was last published.
    pub(super) fn state_of(&self, name: &ContainerName) -> Option<ServiceState> {
        let published = self.published.borrow();
        published.status.services.iter().find(|service| service.name == name.as_str()).map(|service| service.state)
    }

    /// Returns why a service is in its state, as it was last published.
    pub(super) fn reason_of(&self, name: &ContainerName) -> Option<String> {
        let published = self.published.borrow();
        let service = published.status.services.iter().find(|service| service.name == name.as_str());
        service.map(|service| service.reason.clone())
    }

    /// Publishes what is now, with an event for everything that became different.
    pub(super) fn publish(&mut self, scene: &Scene<'_>) {
        let next = self.status(scene);
        let services = next.services.iter();
        let open = services.filter(|service| !is_settled(service, scene)).map(|service| service.name.clone());
        let open: BTreeSet<String> = open.collect();
        let aside = Aside {
            looked: true,
            stacks: stacks(&scene.ledger.generation),
            places: Arc::new(places(scene)),
            memory_high: Arc::new(memory_high(scene.desired)),
        };
        self.causes.see_without_gpus(without_gpus(scene));
        self.announce(next, aside, |name| dependencies(scene, name));
        self.causes.settle(&open);
    }

    /// Publishes that nothing could be looked at: all is as it was last seen, but for these warnings.
    pub(super) fn publish_blind(&mut self, generation: &Generation, busy: bool, warnings: Vec<String>) {
        let Published { status, looked, stacks, places, memory_high, .. } = self.published.borrow().clone();
        let next = Status { host: host_status(generation, busy, warnings), ..Status::clone(&status) };
        self.announce(next, Aside { looked, stacks, places, memory_high }, |_| String::new());
    }

    /// Publishes a status, with an event for everything that is different in it.
    /// `dependencies` says what each service needs, for the record.
    fn announce(&mut self, mut next: Status, aside: Aside, dependencies: impl Fn(&str) -> String) {
        let Aside { looked, stacks, places, memory_high } = aside;
        let before = Arc::clone(&self.published.borrow().status);
        let is_first = !self.published.borrow().looked && looked;
        let mut updates = Vec::new();
        // First what the rest follows from: a new generation changes what is told of services, too.
        if before.host != next.host || before.stacks != next.stacks {
            let (event, message) = if is_first {
                ("agent", format!("the agent has started; {}", line(&next)))
            } else {
                of_host(&before, &next)
            };
            let stacks = (before.stacks != next.stacks).then(|| next.stacks.clone());
            updates.push(Event { host: Some(next.host.clone()), stacks, ..Event::new("", event, message) });
        }
        let old = |name: &str| before.services.iter().find(|service| service.name == name);
        for service in &next.services {
            let (event, message) = match old(&service.name) {
                Some(old) if old == service => continue,
                // Nothing happened but that somebody looks.
                None if is_first => ("found", format!("found {}", service.state.word())),
                old => difference(old, service),
            };
            updates.push(Event { current: Some(service.clone()), ..Event::new(&service.name, event, message) });
        }
        for service in &before.services {
            if !next.services.iter().any(|still| still.name == service.name) {
                updates.push(Event::new(&service.name, "removed", "removed".to_owned()));
            }
        }
        if updates.is_empty() && self.published.borrow().looked == looked {
            return;
        }
        let first = self.numbers.take(u64::try_from(updates.len()).unwrap_or(u64::MAX));
        next.sequence = self.number();
        let generation = next.host.generation;
        let mut probed = self.published.borrow().probed.clone();
        let gpus = Arc::clone(&self.published.borrow().gpus);
        let offloads = Arc::clone(&self.published.borrow().offloads);
        probed.retain(|name, _| next.services.iter().any(|service| service.name == name.as_str()));
        self.published.send_replace(Published {
            status: Arc::new(next),
            number: self.number(),
            looked,
            at: Some(Instant::now()),
            stacks,
            places,
            memory_high,
            probed,
            gpus,
            offloads,
        });
        notify::status(&line(&self.published.borrow().status));
        for (number, event) in (first..).zip(updates) {
            self.log(&Record { number, generation, needs: dependencies(&event.service) }, &event);
            self.send(number, event);
        }
    }

    /// Writes an event to the journal, from where it can be read again.
    fn log(&mut self, record: &Record, event: &Event<'_>) {
        let Record { number, generation, needs } = record;
        let (service, message, word) = (event.service.as_str(), &event.message, event.word);
        // Figures and countdowns: of use to a watcher, not to the journal.
        if word == "changed" {
            return;
        }
        let Cause { by, why: cause, request } = self.causes.of(service, word);
        // What rests is counted in the event of the agent's start: a line for each tells nobody anything.
        if word == "found" && event.current.as_ref().is_some_and(|service| rests(service.state)) {
            return;
        }
        let (number, generation) = (*number, *generation);
        // What `Events` looks for.
        let record = "event";
        let text = if service.is_empty() { message.clone() } else { format!("{service}: {message}") };
        match word {
            "failed" | "unhealthy" | "drift" | "oom" | "gpu" => {
                warn!(record, number, service, event = word, generation, by, cause, request, needs, "{text}");
            }
            _ => info!(record, number, service, event = word, generation, by, cause, request, needs, "{text}"),
        }
    }

    /// Publishes an event that no status shows, such as a live change; of the host when `service` is empty.
    pub(super) fn tell(&mut self, generation: u64, service: &str, event: &str, message: String) {
        let number = self.numbers.take(1);
        let told = Event::new(service, event, message);
        self.log(&Record { number, generation, needs: String::new() }, &told);
        // Who begins to watch now has heard of it.
        self.published.send_modify(|published| {
            Arc::make_mut(&mut published.status).sequence = number;
            published.number = number;
        });
        let current = self.published.borrow().status.services.iter().find(|s| s.name == service).cloned();
        self.send(number, Event { current, ..told });
    }

    /// Takes note of when a probe was answered. No event: a healthy service is asked for as long as it runs.
    pub(super) fn probed(&self, name: &ContainerName) {
        self.published.send_if_modified(|published| {
            published.probed.insert(name.clone(), now_usec() / 1_000_000);
            false
        });
    }

    /// Publishes what answers about GPUs are made of. No event: a look tells nothing that is to be remembered.
    pub(super) fn gpus(&self, scene: Arc<GpuScene>) {
        self.published.send_if_modified(|published| {
            published.gpus = scene;
            false
        });
    }

    /// Publishes what answers about models are made of, where a service runs some, or did. No event, likewise.
    pub(super) fn offloads(&self, scene: OffloadScene) {
        if scene.is_empty() && self.published.borrow().offloads.is_empty() {
            return;
        }
        self.published.send_if_modified(|published| {
            published.offloads = Arc::new(scene);
            false
        });
    }

    fn send(&self, number: u64, event: Event<'_>) {
        let update = Update {
            kind: UpdateKind::Event,
            number,
            at_usec: now_usec(),
            resynchronize: false,
            service: event.service,
            event: event.word.to_owned(),
            message: event.message,
            status: None,
            current: event.current,
            host: event.host,
            stacks: event.stacks,
        };
        // Nobody listening is no error.
        let _ = self.events.send(Arc::new(update));
    }

    fn status(&mut self, scene: &Scene<'_>) -> Status {
        let Ledger { generation, notes } = scene.ledger;
        self.since.retain(|name, _| scene.desired.services.contains_key(name));
        let mut services: Vec<ServiceStatus> =
            scene.desired.services.values().map(|assigned| self.service(scene, assigned)).collect();
        let order = start_order(scene.desired);
        services.sort_by_key(|service| (service.stack.clone(), order.get(service.name.as_str()).copied()));
        services.extend(self.leaving(scene));
        let mut warnings = scene.warnings.clone();
        warnings.extend(scene.plan.warnings.iter().map(|(subject, text)| match subject {
            Subject::Host => text.clone(),
            Subject::Service(name) => format!("{name}: {text}"),
        }));
        let tables = &scene.supervisor.tables;
        if scene.policy == DriftPolicy::Report {
            warnings.extend(tables.drifts().map(|line| with_hint(line, "the next `nixmoxctl up` puts it right")));
        }
        warnings.extend(slice::overridden(&scene.observed.slices).map(|(unit, path)| {
            let overrides = format!("`{}` overrides what is declared for `{unit}`", path.display());
            with_hint(&overrides, &format!("`systemctl revert {unit}` removes it"))
        }));
        let failures = tables.failures();
        warnings.extend(failures.map(|failure| with_hint(&failure.message, &failure.hint)));
        let stack = |(name, record): (&StackName, &StackRecord)| {
            let good = notes.is_good(name, record.changed_in);
            StackStatus {
                name: name.to_string(),
                file: record.file.clone(),
                generation: record.changed_in,
                changed_at: record.changed_at,
                changed_by: record.changed_by.clone(),
                good,
                on_trial: !good && record.trial.goes_back,
                rolled_back: record.rolled_back.clone(),
                owner: record.owner.clone(),
            }
        };
        Status {
            sequence: self.number(),
            host: host_status(generation, scene.busy, warnings),
            stacks: generation.stacks.iter().map(stack).collect(),
            services,
        }
    }

    fn service(&mut self, scene: &Scene<'_>, assigned: &Assigned) -> ServiceStatus {
        let service = &assigned.service;
        let name = &service.name;
        let absent = Container::default();
        let container = scene.observed.containers.get(name).unwrap_or(&absent);
        let watched = scene.supervisor.of(name);
        let tracker = watched.and_then(super::supervise::Watched::health);
        let waits_for = status::waits_for(name, scene.plan);
        let state = told(status::state(name, scene.desired, scene.observed, scene.plan), &waits_for, watched);
        let hold = scene.desired.holds.get(name);
        let wire = wire_state(state);
        let now = now_usec() / 1_000_000;
        let seen = self.since.entry(name.clone()).or_insert_with(|| Since::first(wire, container, now));
        seen.see(wire, now);
        let since = hold.map_or(seen.at, |hold| hold.at);
        let well = matches!(state, State::Healthy | State::Completed | State::Stopped);
        let (reason, hint) = reason(scene, name, container, state);
        let running = container.active.has_processes();
        ServiceStatus {
            name: name.to_string(),
            stack: service.stack.to_string(),
            job: service.kind == Kind::Job,
            state: wire,
            since: Some(since),
            reason,
            hint,
            waits_for: waits_for
                .into_iter()
                .map(|(name, condition)| format!("{name}: {}", condition.as_word()))
                .collect(),
            probe: tracker.map(|tracker| tracker.last_output().to_owned()).unwrap_or_default(),
            probe_failures: tracker.map_or(0, health::Tracker::failures),
            start_period_ms: millis(start_period(service.health.as_ref())),
            log: watched.filter(|_| !well).map(|watched| watched.log.clone()).unwrap_or_default(),
            declared_at: place(&service.origin.file, service.origin.line),
            health_declared_at: match service.origin.health_line {
                0 => String::new(),
                line => place(&service.origin.file, line),
            },
            restarts: watched.map_or(0, |watched| watched.restarts(scene.now)),
            address: assigned.addresses.map(|addresses| addresses.local.to_string()),
            ports: service.ports.iter().map(port_text).collect(),
            invocation: container.invocation.filter(|_| running).map(|invocation| invocation.to_string()),
            system: match &service.system {
                System::Store(path) => Some(path.to_string()),
                System::Adopted => None,
            },
            memory_current: None,
            memory_max: service.limits.memory_max.map(|bytes| bytes.0),
            cpu_usec: None,
            cpu_percent: None,
            tasks_current: None,
            drift: drift(scene, name),
            held_by: hold.map(|hold| hold.by.clone()),
            restart_at: watched
                .filter(|_| !running && !well)
                .and_then(|watched| watched.retry.due(scene.now))
                .map(|due| (now_usec() / 1_000_000).saturating_add(seconds_until(scene.now, due))),
            depends_on: Dependency::of(service),
            probe_at: None,
            last_end: watched.and_then(|watched| watched.ends.last().cloned()),
            oom_kills: watched.and_then(|watched| watched.oom.status(service.limits.memory_max)),
            gpu: gpu_status(scene, assigned),
        }
    }

    /// Returns what is told of containers that no generation declares and that are still to be stopped or cleared
    /// away: else `down` would look done while they run.
    fn leaving(&self, scene: &Scene<'_>) -> Vec<ServiceStatus> {
        let published = self.published.borrow();
        let removed = scene.plan.changes.iter().filter(|(name, change)| {
            change.kind == ChangeKind::Remove && !scene.desired.services.contains_key(*name)
        });
        let leaving = removed.map(|(name, _)| {
            let before = published.status.services.iter().find(|service| service.name == name.as_str());
            let failure = scene.supervisor.of(name).and_then(|watched| watched.failure.as_ref());
            let container = scene.observed.containers.get(name);
            let running = container.filter(|container| container.active.has_processes());
            ServiceStatus {
                state: if failure.is_some() { ServiceState::Failed } else { ServiceState::Stopping },
                reason: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
                hint: failure.map(|failure| failure.hint.clone()).unwrap_or_default(),
                invocation: running.and_then(|running| running.invocation).map(|id| id.to_string()),
                waits_for: Vec::new(),
                drift: Vec::new(),
                held_by: None,
                restart_at: None,
                ..before.cloned().unwrap_or_else(|| unknown(name))
            }
        });
        leaving.collect()
    }
}

/// What is published beside a status.
struct Aside {
    looked: bool,
    stacks: Vec<StackInfo>,
    places: Places,
    memory_high: Arc<BTreeMap<ContainerName, u64>>,
}

/// What the journal is told of an event beside the event.
struct Record {
    number: u64,
    generation: u64,
    /// The services that it needs, each as `name:condition`.
    needs: String,
}

/// Something that happened, as an update tells it.
struct Event<'a> {
    /// The service; empty for the host.
    service: String,
    word: &'a str,
    message: String,
    current: Option<ServiceStatus>,
    host: Option<HostStatus>,
    stacks: Option<Vec<StackStatus>>,
}

impl<'a> Event<'a> {
    fn new(service: &str, word: &'a str, message: String) -> Self {
        Self { service: service.to_owned(), word, message, current: None, host: None, stacks: None }
    }
}

/// Returns the state that is told of a service.
pub(super) fn told(state: State, waits_for: &[(ContainerName, Condition)], watched: Option<&Watched>) -> State {
    match state {
        // A start that failed leaves no end of its own: the last one tells of the stop before it.
        State::Waiting if waits_for.is_empty() && watched.is_some_and(|watched| watched.failure.is_some()) => {
            State::Failed
        }
        state => state,
    }
}

/// Returns what happened to the host as a whole: a word, and a line for people.
fn of_host(before: &Status, next: &Status) -> (&'static str, String) {
    let generation = next.host.generation;
    let old = |name: &str| before.stacks.iter().find(|stack| stack.name == name);
    if before.host.generation != generation {
        let newest = next.stacks.iter().find(|stack| stack.generation == generation);
        return match newest.and_then(|stack| Some((stack, stack.rolled_back.as_ref()?))) {
            Some((stack, RolledBack { from, to, reasons, .. })) => {
                let reasons = reasons.join("; ");
                let text = format!(
                    "generation {generation}: {} is as in {to} again, since {from} is bad: {reasons}",
                    stack.name
                );
                ("rollback", text)
            }
            None => ("generation", format!("generation {generation}")),
        };
    }
    let proven = |stack: &&StackStatus| stack.good && old(&stack.name).is_some_and(|old| !old.good);
    let proven = next.stacks.iter().filter(proven);
    let proven: Vec<String> = proven
        .map(|stack| format!("generation {} is good: all that changed in {} is well", stack.generation, stack.name))
        .collect();
    if proven.is_empty() { ("changed", String::new()) } else { ("good", proven.join("; ")) }
}

fn host_status(generation: &Generation, busy: bool, warnings: Vec<String>) -> HostStatus {
    HostStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: generation.number,
        generation_at: generation.made_at,
        generation_by: generation.made_by.clone(),
        busy,
        warnings,
    }
}

/// Returns the status of a container of which nothing is known but that it is there.
pub(super) fn unknown(name: &ContainerName) -> ServiceStatus {
    ServiceStatus {
        name: name.to_string(),
        stack: String::new(),
        job: false,
        state: ServiceState::Stopping,
        since: None,
        reason: String::new(),
        hint: String::new(),
        waits_for: Vec::new(),
        probe: String::new(),
        probe_failures: 0,
        start_period_ms: 0,
        log: Vec::new(),
        declared_at: String::new(),
        health_declared_at: String::new(),
        restarts: 0,
        address: None,
        ports: Vec::new(),
        invocation: None,
        system: None,
        memory_current: None,
        memory_max: None,
        cpu_usec: None,
        cpu_percent: None,
        tasks_current: None,
        drift: Vec::new(),
        held_by: None,
        restart_at: None,
        depends_on: Vec::new(),
        probe_at: None,
        last_end: None,
        oom_kills: None,
        gpu: None,
    }
}

/// Returns what is told of a service's share of the GPUs; what it uses is added when somebody asks.
fn gpu_status(scene: &Scene<'_>, assigned: &Assigned) -> Option<GpuStatus> {
    assigned.service.gpu.as_ref()?;
    let held = scene.desired.holds.contains_key(&assigned.service.name);
    let grant = assigned.gpu.grant().filter(|_| !held);
    Some(GpuStatus {
        state: gpu_word(&assigned.gpu, held).to_owned(),
        gpus: grant.iter().flat_map(|grant| &grant.gpus).map(ToString::to_string).collect(),
        budget: grant.and_then(|grant| grant.budget).map(|budget| budget.0),
        used: None,
    })
}

/// Returns who is not given the GPUs that it asks for, and waits for nothing else.
fn without_gpus(scene: &Scene<'_>) -> BTreeSet<String> {
    let is_without = |assigned: &&Assigned| {
        matches!(assigned.gpu, GpuStanding::Waiting { .. } | GpuStanding::Yielding { .. })
            && status::waits_for(&assigned.service.name, scene.plan).is_empty()
    };
    let without = scene.desired.services.values().filter(is_without);
    without.map(|assigned| assigned.service.name.to_string()).collect()
}

/// Returns whether a service is as it was asked for.
fn is_settled(service: &ServiceStatus, scene: &Scene<'_>) -> bool {
    let change = scene.plan.changes.get(service.name.as_str()).map(|change| change.kind);
    let acts = scene.acting_on.contains(service.name.as_str());
    rests(service.state) && !acts && matches!(change, None | Some(ChangeKind::Unchanged | ChangeKind::Hold))
}

/// Returns whether nothing follows from a state by itself.
fn rests(state: ServiceState) -> bool {
    matches!(state, ServiceState::Healthy | ServiceState::Completed | ServiceState::Stopped)
}

/// Returns what a service needs, each as `name:condition`, separated by blanks.
fn dependencies(scene: &Scene<'_>, name: &str) -> String {
    let needs = scene.desired.services.get(name).map(|assigned| &assigned.service.depends_on);
    let needs = needs.into_iter().flatten().map(|(name, condition)| format!("{name}:{}", condition.as_word()));
    needs.collect::<Vec<_>>().join(" ")
}

/// Returns the rank of every service in start order: dependencies before dependents, then by name.
pub(super) fn start_order(desired: &Desired) -> BTreeMap<&str, usize> {
    fn depth<'a>(name: &'a ContainerName, desired: &'a Desired, known: &mut BTreeMap<&'a str, usize>) -> usize {
        if let Some(depth) = known.get(name.as_str()) {
            return *depth;
        }
        // Guards against a cycle, which a generation never has.
        known.insert(name.as_str(), 0);
        let needs = desired.services.get(name).map(|assigned| &assigned.service.depends_on);
        let deepest =
            needs.into_iter().flat_map(BTreeMap::keys).map(|needed| depth(needed, desired, known) + 1).max();
        let own = deepest.unwrap_or(0);
        known.insert(name.as_str(), own);
        own
    }
    let mut known = BTreeMap::new();
    let mut ranked: Vec<(usize, &str)> =
        desired.services.keys().map(|name| (depth(name, desired, &mut known), name.as_str())).collect();
    ranked.sort_unstable();
    ranked.into_iter().enumerate().map(|(rank, (_, name))| (name, rank)).collect()
}

/// Returns the time until something happens in whole seconds, rounded up: it is not over before it happens.
fn seconds_until(now: Duration, due: Duration) -> u64 {
    due.saturating_sub(now).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

fn stacks(generation: &Generation) -> Vec<StackInfo> {
    let info = |(name, record): (&StackName, &StackRecord)| StackInfo {
        name: name.to_string(),
        file: record.file.clone(),
        services: generation.of_stack(name).map(|assigned| assigned.service.name.to_string()).collect(),
        generation: record.changed_in,
        changed_by: record.changed_by.clone(),
        changed_at: record.changed_at,
    };
    generation.stacks.iter().map(info).collect()
}

fn memory_high(desired: &Desired) -> BTreeMap<ContainerName, u64> {
    let of = |(name, assigned): (&ContainerName, &Assigned)| {
        Some((name.clone(), assigned.service.limits.memory_high?.0))
    };
    desired.services.iter().filter_map(of).collect()
}

/// Returns where everything of each declared service lies.
fn places(scene: &Scene<'_>) -> BTreeMap<ContainerName, Vec<(String, String)>> {
    let of = |assigned: &Assigned| {
        let service = &assigned.service;
        let name = &service.name;
        let unit = name.unit();
        let mut places = vec![
            ("unit", unit.clone()),
            ("drop-in", format!("/run/systemd/system/{unit}.d/10-nixmox.conf")),
            ("conf", format!("{}/{name}.conf", container::CONF_FOLDER)),
            ("state", format!("/var/lib/nixos-containers/{name}")),
        ];
        if let System::Store(path) = &service.system {
            places.push(("system", path.to_string()));
        }
        if !service.environment.is_empty() {
            places.push(("environment", format!("{}/{name}.conf", container::ENVIRONMENT_FOLDER)));
        }
        places.extend(service.mounts.iter().map(|mount| ("mount", mount.source.display().to_string())));
        places.extend(service.credentials.values().map(|path| ("credential", path.display().to_string())));
        places.into_iter().map(|(what, path)| (what.to_owned(), path)).collect()
    };
    scene.desired.services.iter().map(|(name, assigned)| (name.clone(), of(assigned))).collect()
}
