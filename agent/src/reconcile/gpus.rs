//! What the reconcile task knows of the GPUs: the last look, what services are given, and what guests see of it.
//!
//! Looks are made beside the rounds, and only while a declared service asks for GPUs: a driver that hangs holds nothing up.
//! Who is given what is `core::gpu`'s to decide, anew in every round; this file keeps what such a decision needs and what
//! follows from it. What runs goes on with what it was given, whatever becomes of NVML meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::gpu::admission::{self, Allocation, Ask, Decision, Outcome};
use nixmox_core::gpu::{Claim, Fault, FaultKind, Gates, GuestView, Inventory, Phase, gates, grant, ledger};
use nixmox_core::model::{
    ActiveState, Assigned, Bytes, Container, ContainerName, Desired, GpuStanding, Grant, InvocationId, Observed,
    PrivateUsers, Service, Vendor,
};
use nixmox_core::offload::engine;

use tokio::time::Instant;

use super::gpu_views::{Look, Views};
use super::handle::now_usec;
use super::offloads::Beside;
use crate::state::{Notes, VramSeen};

/// Said of who cannot be told yet.
const LOOKING: &str = "the GPUs are being looked at";
/// Time between two looks while all is as it should be.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The same while somebody has just begun to wait: for room that others make, which comes soon or not for long.
const LOOK_INTERVAL_WAITING: Duration = Duration::from_secs(2);
/// How long that is.
const SOON: Duration = Duration::from_mins(1);
/// How long somebody may use more than it was promised before that is told: budgets change, and memory comes back late.
const OVER_USE: Duration = Duration::from_mins(1);
/// The age from which on a look is too old to start something by it: more than the longest that the next one takes.
const LOOK_AGE_MAX: Duration = Duration::from_secs(90);
/// The age up to which somebody who asks is told what was seen, without another look.
const RECENT: Duration = Duration::from_secs(1);
/// Services of which it is remembered what they needed, before those are forgotten that are not declared any more.
const VRAM_NAMES_MAX: usize = 500;
/// How much more memory a service must have been seen with before that is written down: a write costs more than it tells.
const VRAM_STEP: u64 = 64 << 20;

/// One look at the GPUs.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) inventory: Inventory,
    /// When, since the task began.
    at: Duration,
    /// From when on it tells of what is: what happened later it may have missed.
    pub(super) begun: Duration,
    when: Instant,
    /// When, in microseconds since 1970.
    pub(super) at_usec: u64,
}

impl Seen {
    /// Returns what was found just now.
    pub(super) fn now(inventory: Inventory, at: Duration) -> Self {
        Self { inventory, at, begun: at, when: Instant::now(), at_usec: now_usec() }
    }

    /// Returns whether it is as good as another look.
    pub(super) fn is_recent(&self) -> bool {
        self.when.elapsed() < RECENT
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    seen: Option<Arc<Seen>>,
    looking: bool,
    /// When the look was begun that is under way, or was the last.
    begun: Duration,
    /// A look that is under way was begun before something changed: another one follows it.
    outdated: bool,
    grants: BTreeMap<ContainerName, Grant>,
    /// Who was granted what it asks for in the last round.
    granted: BTreeSet<ContainerName>,
    /// Who was to run in the last round, and its place among those who were: who came first has the lower number.
    wanting: BTreeMap<ContainerName, u64>,
    /// The last place that was given.
    places: u64,
    /// The instance of each that was seen last.
    instances: BTreeMap<ContainerName, Option<InvocationId>>,
    vram: BTreeMap<ContainerName, VramSeen>,
    /// What guests see of them.
    views: Views,
    /// Who uses more than it may, since when, and whether that was told.
    over: BTreeMap<ContainerName, (Duration, bool)>,
    /// The faults that were told, each by what it is: its words may have changed since.
    faults: Vec<(Option<Vendor>, FaultKind, String)>,
    /// Who waits, and since when it is these.
    waiting: (BTreeSet<ContainerName>, Duration),
    /// Who can give memory back while it runs.
    elastic: BTreeSet<ContainerName>,
    /// Memory is to come back that somebody has who runs.
    pressed: bool,
}

/// Something that nobody asked for, in a line for people; of the host when it names no service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) service: Option<ContainerName>,
    pub(super) text: String,
}

impl Gpus {
    /// Begins with what was noted before.
    pub(super) fn new(notes: &Notes) -> Self {
        Self { grants: notes.grants.clone(), vram: notes.vram.clone(), ..Self::default() }
    }

    /// Returns the last look.
    pub(super) fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.clone()
    }

    /// Takes note that the look is over which `begin_look` began.
    pub(super) fn end_look(&mut self, look: &super::GpuLook) {
        match look {
            super::GpuLook::Machine(_) => self.looking = false,
            super::GpuLook::Guest(..) => {}
        }
    }

    /// Returns what hinders services with GPUs, in sentences with the way out.
    pub(super) fn warnings(&self, desired: &Desired) -> Vec<String> {
        if !desired.services.values().any(|assigned| assigned.service.gpu.is_some()) {
            return Vec::new();
        }
        let faults = self.faults.iter().map(|(_, _, text)| format!("{text}; see `nixmoxctl gpu doctor`"));
        faults.chain(self.views.warnings()).collect()
    }

    /// Takes in a look, whoever made it. Returns what it tells that was not known.
    pub(super) fn looked(&mut self, now: Duration, inventory: Inventory, observed: Option<&Observed>) -> Vec<News> {
        let mut news = Vec::new();
        let host = |text: String| News { service: None, text };
        let is_told =
            |fault: &Fault| self.faults.iter().find(|told| (told.0, told.1) == (fault.vendor, fault.kind));
        let mut faults: Vec<(Option<Vendor>, FaultKind, String)> = Vec::new();
        for fault in &inventory.faults {
            let told = is_told(fault).cloned();
            news.extend(told.is_none().then(|| host(fault.message.clone())));
            faults.push(told.unwrap_or_else(|| (fault.vendor, fault.kind, fault.message.clone())));
        }
        if faults.is_empty() && !self.faults.is_empty() {
            news.push(host("the GPUs can be asked again".to_owned()));
        }
        self.faults = faults;
        for name in self.grants.keys().cloned().collect::<Vec<_>>() {
            let container = observed.and_then(|observed| observed.containers.get(&name));
            if let (Some(container), Some(used)) = (container, ledger::used(&inventory, &name)) {
                self.remember(&name, container, used);
            }
        }
        if self.seen.as_ref().is_some_and(|seen| numbers(&seen.inventory) != numbers(&inventory)) {
            // A module was loaded anew: what guests have is of numbers that are gone.
            self.views.doubt(now);
        }
        // One that somebody else made can have begun before any of ours.
        let begun =
            if self.looking { self.seen.as_ref().map_or(Duration::ZERO, |seen| seen.begun) } else { self.begun };
        self.seen = Some(Arc::new(Seen { begun, ..Seen::now(inventory, now) }));
        news.extend(self.news_of_over_use(now));
        news
    }

    fn remember(&mut self, name: &ContainerName, container: &Container, used: Bytes) {
        let Some(invocation) = container.invocation.filter(|_| used.0 > 0) else { return };
        let fresh = VramSeen { invocation, most: used, most_before: Bytes(0) };
        let seen = self.vram.entry(name.clone()).or_insert(fresh);
        if seen.invocation != invocation {
            *seen = VramSeen { most_before: seen.most, ..fresh };
        }
        seen.most = seen.most.max(used);
    }

    /// Tells once of each service that it uses more than it may, and has for a while, until it does not. What can be made to give memory back
    /// is on its way to that.
    fn news_of_over_use(&mut self, now: Duration) -> Vec<News> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let mut news = Vec::new();
        let mut over = BTreeMap::new();
        for (name, grant) in &self.grants {
            let (Some(budget), Some(used)) = (grant.budget, ledger::used(&seen.inventory, name)) else { continue };
            if used <= budget || self.elastic.contains(name) {
                continue;
            }
            let (since, was_told) = self.over.get(name).copied().unwrap_or((now, false));
            let is_told = was_told || now.saturating_sub(since) >= OVER_USE;
            if is_told && !was_told {
                let text = format!(
                    "uses {} of video memory, and was promised {}: nothing but its own programs can hold it to that",
                    used.roughly(),
                    budget.roughly()
                );
                news.push(News { service: Some(name.clone()), text });
            }
            over.insert(name.clone(), (since, is_told));
        }
        self.over = over;
        news
    }

    /// Returns whether a look is due now; it is then under way.
    pub(super) fn begin_look(&mut self, now: Duration, desired: &Desired) -> bool {
        if self.looking || self.next_look(desired).is_none_or(|due| due > now) {
            return false;
        }
        (self.looking, self.outdated, self.begun) = (true, false, now);
        true
    }

    fn next_look(&self, desired: &Desired) -> Option<Duration> {
        // Of what has given up, is done or held nobody needs to know, and a GPU may sleep.
        let is_asked_for =
            |(name, assigned): (&ContainerName, &Assigned)| assigned.service.gpu.is_some() && self.wants(name);
        if !desired.services.iter().any(is_asked_for) {
            return None;
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.outdated) else { return Some(Duration::ZERO) };
        let (waiting, since) = &self.waiting;
        let waits = !waiting.is_empty() && seen.at < since.saturating_add(SOON);
        let soon = (waits || self.pressed) && self.faults.is_empty();
        let interval = if soon { LOOK_INTERVAL_WAITING } else { LOOK_INTERVAL };
        Some(seen.at.saturating_add(interval))
    }

    /// Returns when there is something to be looked at though nothing happens.
    pub(super) fn next_due(&self, desired: &Desired) -> Option<Duration> {
        let look = self.next_look(desired).filter(|_| !self.looking);
        look.into_iter().chain(self.views.next_due()).min()
    }

    /// Decides how every service stands that asks for GPUs, and keeps what they are given.
    ///
    /// `gates` are those of all services that ask for GPUs; `gave_up` says whether a service is not started again by itself.
    pub(super) fn stand(
        &mut self,
        now: Duration,
        desired: &mut Desired,
        observed: &Observed,
        gates: &AllGates,
        gave_up: impl Fn(&ContainerName) -> bool,
    ) {
        self.grants
            .retain(|name, _| desired.services.get(name).is_some_and(|assigned| assigned.service.gpu.is_some()));
        if self.vram.len() > VRAM_NAMES_MAX {
            self.vram.retain(|name, _| self.grants.contains_key(name));
        }
        self.granted.retain(|name| self.grants.contains_key(name));
        self.see_instances(observed);
        let (decisions, wanting) = self.preview(now, desired, observed, gates, gave_up);
        self.wanting.retain(|name, _| wanting.contains(name));
        for name in wanting {
            if !self.wanting.contains_key(&name) {
                self.places = self.places.saturating_add(1);
                self.wanting.insert(name, self.places);
            }
        }
        for (name, decision) in decisions {
            match decision {
                Decision::Granted(_) | Decision::Shrinks { .. } => self.granted.insert(name),
                Decision::Waits { .. } | Decision::Yields { .. } => self.granted.remove(&name),
            };
        }
        for (name, assigned) in &desired.services {
            if let GpuStanding::Granted(grant)
            | GpuStanding::Kept { grant, .. }
            | GpuStanding::Shrinking { grant, .. } = &assigned.gpu
            {
                self.grants.insert(name.clone(), grant.clone());
            }
        }
        let waits = |assigned: &Assigned| {
            matches!(assigned.gpu, GpuStanding::Waiting { .. } | GpuStanding::Yielding { .. })
        };
        let now_waiting = desired.services.iter().filter(|(name, assigned)| waits(assigned) && self.wants(name));
        let now_waiting: BTreeSet<ContainerName> = now_waiting.map(|(name, _)| name.clone()).collect();
        if self.waiting.0 != now_waiting {
            self.waiting = (now_waiting, now);
        }
    }

    /// Takes note of instances that came or went, by whomever: what the last look says of their memory is over.
    fn see_instances(&mut self, observed: &Observed) {
        let instance = |name: &ContainerName| {
            let container = observed.containers.get(name)?;
            container.invocation.filter(|_| container.active.has_processes())
        };
        let now: BTreeMap<_, _> = self.grants.keys().map(|name| (name.clone(), instance(name))).collect();
        let came_or_went =
            now.iter().any(|(name, now)| self.instances.get(name).is_some_and(|before| before != now));
        self.outdated |= came_or_went;
        self.instances = now;
    }

    /// Decides the same of what is only asked about. Returns the decisions, of which there are none before the first look, and
    /// who is to run.
    pub(super) fn preview(
        &self,
        now: Duration,
        desired: &mut Desired,
        observed: &Observed,
        gates: &AllGates,
        gave_up: impl Fn(&ContainerName) -> bool,
    ) -> (BTreeMap<ContainerName, Decision>, BTreeSet<ContainerName>) {
        for (name, assigned) in &mut desired.services {
            if assigned.service.gpu.is_some() {
                assigned.gpu = waiting(self.grants.get(name), LOOKING.to_owned(), String::new());
            }
        }
        let claims = self.claims(desired, observed, gates, gave_up);
        let wanting = claims.iter().filter(|claim| claim.wants).map(|claim| claim.name.clone()).collect();
        let Some(seen) = &self.seen else {
            self.keep_what_runs(desired, observed);
            return (BTreeMap::new(), wanting);
        };
        let decisions = admission::admit(&seen.inventory, &claims);
        let beside = Beside::of_all(desired, &seen.inventory, &claims, &decisions);
        let is_old = now.saturating_sub(seen.at) > LOOK_AGE_MAX || self.outdated;
        for (name, assigned) in &mut desired.services {
            if assigned.service.gpu.is_none() {
                continue;
            }
            let (held, runs) = (self.grants.get(name), phase(observed, name) == Phase::Up);
            assigned.gpu = match decisions.get(name) {
                // What is not to run asks for nothing.
                None => held.cloned().map_or(GpuStanding::None, GpuStanding::Granted),
                Some(Decision::Granted(_)) if is_old && !runs => continue,
                Some(Decision::Granted(allocation)) => {
                    let grant = settle(
                        allocation,
                        &seen.inventory,
                        held.filter(|_| runs),
                        held,
                        &assigned.service,
                        beside.get(name),
                    );
                    match unseen(&grant, &seen.inventory) {
                        Some(why) if runs => GpuStanding::Kept { grant, why },
                        Some(_) | None => GpuStanding::Granted(grant),
                    }
                }
                Some(Decision::Shrinks { allocation, to, why }) => {
                    let grant = settle(
                        allocation,
                        &seen.inventory,
                        held.filter(|_| runs),
                        held,
                        &assigned.service,
                        beside.get(name),
                    );
                    GpuStanding::Shrinking { grant, to: to.clone(), why: why.clone() }
                }
                Some(Decision::Waits { why, hint }) => waiting(held, why.clone(), hint.clone()),
                Some(Decision::Yields { to, why }) => {
                    GpuStanding::Yielding { keeps: held.cloned(), to: to.clone(), why: why.clone() }
                }
            };
        }
        (decisions, wanting)
    }

    /// Returns why this machine can never give a service what it asks for, and the way out; `None`: it can, or nobody knows.
    pub(super) fn never_fits(
        &self,
        name: &ContainerName,
        desired: &Desired,
        observed: &Observed,
    ) -> Option<(String, String)> {
        let seen = self.seen.as_ref().filter(|seen| !seen.inventory.gpus.is_empty())?;
        let gates = all_gates(desired, Some(observed));
        let claims = self.claims(desired, observed, &gates, |_| false);
        // As if it was started anew: what it has now says nothing of what it asks for.
        let share = desired.services.get(name)?.service.gpu.as_ref();
        let fit = admission::fit(&seen.inventory, &claims, &Ask { name: Some(name), share })?;
        (fit.outcome == Outcome::Never).then_some((fit.why, fit.hint))
    }

    /// Leaves what runs as it is, before anything is known of the GPUs.
    fn keep_what_runs(&self, desired: &mut Desired, observed: &Observed) {
        for (name, grant) in &self.grants {
            if let Some(assigned) = desired.services.get_mut(name).filter(|assigned| assigned.service.gpu.is_some())
                && phase(observed, name) == Phase::Up
            {
                assigned.gpu = GpuStanding::Kept { grant: grant.clone(), why: LOOKING.to_owned() };
            }
        }
    }

    /// Returns what is asked for.
    fn claims<'a>(
        &'a self,
        desired: &'a Desired,
        observed: &Observed,
        gates: &'a AllGates,
        gave_up: impl Fn(&ContainerName) -> bool,
    ) -> Vec<Claim<'a>> {
        let claim = |(name, assigned): (&'a ContainerName, &'a Assigned)| {
            let gates = gates.get(name)?;
            let done = desired.holds.contains_key(name) || is_completed(assigned, observed) || gave_up(name);
            Some(Claim {
                name,
                share: assigned.service.gpu.as_ref()?,
                holds: self.grants.get(name),
                phase: phase(observed, name),
                wants: !done,
                ready: gates.ready,
                needs: &gates.needs,
                granted: self.granted.contains(name),
                since: self.since(name),
                remembered: self.expected(name),
                elastic: self.elastic.contains(name),
            })
        };
        desired.services.iter().filter_map(claim).collect()
    }

    /// Takes in what a guest saw. Returns what it tells that was not known.
    pub(super) fn looked_into(&mut self, now: Duration, look: &Look, seen: &GuestView) -> Option<News> {
        self.views.looked(now, look, seen, self.seen.as_ref().map(|seen| &seen.inventory))
    }

    /// Returns what guests see of them.
    pub(super) fn views(&mut self) -> &mut Views {
        &mut self.views
    }

    /// Puts what outlives this agent into the notes.
    pub(super) fn write_down(&self, notes: &mut Notes) {
        notes.grants.clone_from(&self.grants);
        notes.vram.retain(|name, _| self.vram.contains_key(name));
        for (name, seen) in &self.vram {
            let before = notes.vram.get(name);
            let grew = before.is_none_or(|before| {
                before.invocation != seen.invocation || seen.most.0 >= before.most.0.saturating_add(VRAM_STEP)
            });
            if grew {
                notes.vram.insert(name.clone(), *seen);
            }
        }
    }

    /// Returns what a service was given last.
    pub(super) fn grant(&self, name: &ContainerName) -> Option<&Grant> {
        self.grants.get(name)
    }

    /// Returns whether a service was granted what it asks for in the last round.
    pub(super) fn was_granted(&self, name: &ContainerName) -> bool {
        self.granted.contains(name)
    }

    /// Returns whether a service was to run in the last round.
    pub(super) fn wants(&self, name: &ContainerName) -> bool {
        self.wanting.contains_key(name)
    }

    /// Returns the place of a service among those that are to run.
    pub(super) fn since(&self, name: &ContainerName) -> u64 {
        // Who was not to run comes last.
        self.wanting.get(name).copied().unwrap_or(u64::MAX)
    }

    /// Takes note of who can give memory back while it runs.
    pub(super) fn set_elastic(&mut self, elastic: &BTreeSet<ContainerName>) {
        self.elastic.clone_from(elastic);
    }

    /// Returns whether a service can give memory back while it runs.
    pub(super) fn is_elastic(&self, name: &ContainerName) -> bool {
        self.elastic.contains(name)
    }

    /// Takes note of whether memory is to come back that somebody has who runs: it is looked for more often then.
    pub(super) fn set_pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Returns the most that was seen of a service.
    pub(super) fn expected(&self, name: &ContainerName) -> Option<Bytes> {
        self.vram.get(name).map(VramSeen::expected)
    }
}

/// What each service that asks for GPUs waits for beside them.
pub(super) type AllGates = BTreeMap<ContainerName, Gates>;

/// Returns what each service that asks for GPUs waits for beside them. Health, and the success of jobs that systemd has forgotten, are known
/// only of what a round has observed to its end; `None`: none has.
pub(super) fn all_gates(desired: &Desired, observed: Option<&Observed>) -> AllGates {
    let asks = desired.services.iter().filter(|(_, assigned)| assigned.service.gpu.is_some());
    asks.map(|(name, _)| (name.clone(), gates(desired, observed, name))).collect()
}

/// Returns what a service is given that may have it, as the machine is now. `had` is what it had last, and `runs_with` the same of one
/// that runs.
///
/// What runs keeps the mounts and the environment that it was started with: those of the machine may be others after a
/// rebuild, and count from its next start on, and so may what holds an engine to its budget. With users of its own a node that is new could
/// only be had by a restart, which is not for something that came up meanwhile.
fn settle(
    allocation: &Allocation,
    inventory: &Inventory,
    runs_with: Option<&Grant>,
    had: Option<&Grant>,
    service: &Service,
    beside: Option<&Beside>,
) -> Grant {
    let mut given = grant::grant(allocation, inventory, had);
    if let Some(offload) = &service.offload {
        let devices = beside.map(|beside| beside.devices(&given, inventory)).unwrap_or_default();
        given.environment.extend(engine::environment(offload, given.budget, &devices));
    }
    let is_picked = service.private_users == PrivateUsers::Pick;
    if let Some(held) = runs_with.filter(|held| held.gpus == given.gpus) {
        given.mounts.clone_from(&held.mounts);
        given.environment.clone_from(&held.environment);
        if is_picked && held.nodes.iter().all(|node| given.nodes.contains(node)) {
            given.nodes.clone_from(&held.nodes);
        }
    }
    given
}

/// Returns why nobody can say how it is about a GPU of a grant; `None`: all of them answer.
fn unseen(grant: &Grant, inventory: &Inventory) -> Option<String> {
    let lost = grant.gpus.iter().find(|id| inventory.gpus.iter().all(|gpu| gpu.id != **id))?;
    let concerns = |fault: &&Fault| fault.vendor.is_none_or(|vendor| vendor == grant.vendor);
    let fault = inventory.faults.iter().find(concerns);
    Some(fault.map_or_else(|| format!("the GPU {lost} is not there any more"), |fault| fault.message.clone()))
}

/// Returns the number that the kernel has for each node that it knows.
fn numbers(inventory: &Inventory) -> BTreeMap<&Path, (u32, u32)> {
    let of_gpus = inventory.gpus.iter().flat_map(|gpu| &gpu.nodes);
    let nodes = of_gpus.chain(inventory.drivers.values().flat_map(|driver| &driver.nodes));
    nodes.filter_map(|node| Some((node.path.as_path(), node.number?))).collect()
}

fn waiting(held: Option<&Grant>, why: String, hint: String) -> GpuStanding {
    GpuStanding::Waiting { keeps: held.cloned(), why, hint }
}

/// Returns where a service's unit is.
pub(super) fn phase(observed: &Observed, name: &ContainerName) -> Phase {
    match observed.containers.get(name).map(|container| container.active) {
        None | Some(ActiveState::Inactive | ActiveState::Failed) => Phase::Down,
        Some(ActiveState::Activating | ActiveState::Active) => Phase::Up,
        Some(ActiveState::Deactivating) => Phase::Ending,
    }
}

/// Returns whether it is a job whose work is done.
fn is_completed(assigned: &Assigned, observed: &Observed) -> bool {
    let container = observed.containers.get(&assigned.service.name);
    container.is_some_and(|container| gates::is_completed(assigned, container))
}
