//! A simulated host, for tests of whatever drives one.
//!
//! Units change state by themselves, as under systemd: a start that nobody waits for any more goes on, a container
//! that ends by itself wakes whoever watches. Time is tokio's, so a test with paused time is deterministic and takes
//! none. Files are kept as texts, and what a container was started with is what was written then.
//!
//! ```text
//!             start                 start_time                       stop, end
//!  inactive ──────────▶ activating ────────────▶ active ──────────────────────────▶ deactivating ──▶ inactive
//!     ▲                     │ failing_starts        │ end with a status other than 0                     │
//!     └─── reset by start ──┴──────▶ failed ◀───────┘                                  stop_time ◀───────┘
//! ```

mod behaviour;
mod container;
mod engines;
mod gpus;
mod outside;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nixmox_api::{CopyReply, CopyRequest, ExecReply, ExecRequest};
use nixmox_core::container::{Files, Layout};
use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::model::Offload;
use nixmox_core::model::{
    ActiveState, Assigned, Bytes, Condition, ConfFile, Container, ContainerName, Facts, GpuId, Grant, InvocationId,
    Kind, Observed, Port, Probe, Protection, Servers, Service, StorePath, System, SystemState,
};
use nixmox_core::network::FirewallTable;
use nixmox_core::offload::arbiter::Step;
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::EngineSeen;
use nixmox_core::oom::OomKill;
use nixmox_core::slice::{self, Slices};
use tokio::sync::{oneshot, watch};

pub use behaviour::{Behaviour, BrokenGate, End, Fault, HealthBehaviour, Operation};
use container::Simulated;
pub use engines::{EngineCalls, FakeEngine, FakeModel};

use super::{
    EventQuery, Figures, Host, LogQuery, OtherRoots, Pressure, ProbeResult, Readers, Session, SessionError,
    StepError, Usage,
};

/// How long slices take: systemd reads its files.
const SLICES_TIME: Duration = Duration::from_millis(100);

/// A simulated host. Clones share it: a second "agent" can be given the same host after the first one is gone.
#[derive(Clone, Debug)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    system: SystemState,
    containers: BTreeMap<ContainerName, Simulated>,
    behaviours: BTreeMap<ContainerName, Behaviour>,
    /// How a container behaves once it runs a system.
    behaviours_of_systems: BTreeMap<(ContainerName, StorePath), Behaviour>,
    /// What each container was last started with.
    last_systems: BTreeMap<ContainerName, System>,
    firewall: Option<FirewallTable>,
    hosts: Option<String>,
    servers: Servers,
    slices: Slices,
    facts: Facts,
    roots: BTreeSet<StorePath>,
    foreign_containers: BTreeMap<ContainerName, Vec<Ipv4Addr>>,
    /// Ports of the host that are listened on: by a container while it runs, or by somebody else.
    listeners: BTreeMap<u16, Option<ContainerName>>,
    trace: Vec<Operation>,
    faults: Vec<(Operation, Fault)>,
    interruption: Option<Interruption>,
    broken_gates: Vec<BrokenGate>,
    lacking: BTreeSet<ContainerName>,
    /// Pressures for memory that differ from a container's own; `None`: the kernel counts none.
    pressures: Option<BTreeMap<ContainerName, f64>>,
    /// What the kernel's log says of kills for want of memory.
    oom_kills: BTreeMap<ContainerName, Vec<OomKill>>,
    /// Jobs that ended with 0, ever.
    succeeded: BTreeSet<ContainerName>,
    /// The most containers that were activating at the same time.
    most_activating: usize,
    /// Whether systemd cannot be asked.
    blind: bool,
    looks: u64,
    /// Systems that Nix does not know.
    invalid: BTreeSet<StorePath>,
    most_looks: Option<u64>,
    invocations: u128,
    /// What is known of the GPUs, and how long it takes to be found out.
    gpus: Inventory,
    gpus_hang: Duration,
    gpu_looks: u64,
    /// What each container uses of their memory while it runs.
    vram: BTreeMap<ContainerName, Vec<(GpuId, Bytes)>>,
    /// The nodes that guests cannot use, until they are given anew; those of the second set cannot be repaired.
    lost_nodes: BTreeMap<ContainerName, BTreeSet<PathBuf>>,
    broken_nodes: BTreeMap<ContainerName, BTreeSet<PathBuf>>,
    /// What runs models in containers.
    engines: BTreeMap<ContainerName, engines::Running>,
}

/// What happens when an operation begins, by its number.
struct Interruption {
    left: usize,
    fault: Option<Fault>,
    then: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("containers", &self.containers)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

impl Default for Fake {
    fn default() -> Self {
        let state = State { pressures: Some(BTreeMap::new()), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), changes: watch::Sender::new(0) }
    }
}

impl Fake {
    /// Returns a host on which nothing is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets Nix forget a system.
    pub fn invalidate(&self, system: &StorePath) {
        self.state().invalid.insert(system.clone());
    }

    /// Sets how a container behaves from its next start on.
    pub fn behave(&self, name: &ContainerName, behaviour: Behaviour) {
        self.state().behaviours.insert(name.clone(), behaviour);
    }

    /// Sets how a container behaves once it is started with this system in place of another.
    pub fn behave_with(&self, name: &ContainerName, system: &StorePath, behaviour: Behaviour) {
        self.state().behaviours_of_systems.insert((name.clone(), system.clone()), behaviour);
    }

    /// Lets the next call of this operation go wrong; may be called again for the calls after it.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.state().faults.push((operation, fault));
    }

    /// Lets something happen when the operation after the next `skipped` ones begins, before it does anything.
    pub fn interrupt(&self, skipped: usize, fault: Option<Fault>, then: impl FnOnce() + Send + 'static) {
        self.state().interruption = Some(Interruption { left: skipped, fault, then: Box::new(then) });
    }

    /// Takes back an interruption that has not happened.
    pub fn no_interruption(&self) {
        self.state().interruption = None;
    }

    /// Takes away what a container needs of the host for a start, or gives it back.
    pub fn set_lacking(&self, name: &ContainerName, lacking: bool) {
        let mut state = self.state();
        if lacking {
            state.lacking.insert(name.clone());
        } else {
            state.lacking.remove(name);
        }
    }

    /// Lets systemd answer no question, or again.
    pub fn set_blind(&self, blind: bool) {
        self.state().blind = blind;
    }

    /// Lets whoever looks more often than this panic: so ends a test whose time stands still because somebody spins.
    pub fn limit_looks(&self, most: u64) {
        self.state().most_looks = Some(most);
    }

    /// Returns how often everything was looked at.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.state().looks
    }

    /// Returns a container as it is; `None`: nothing of it is there.
    #[must_use]
    pub fn container(&self, name: &ContainerName) -> Option<Container> {
        self.state().containers.get(name).map(|container| container.seen.clone())
    }

    /// Returns the names of all containers of which anything is there.
    #[must_use]
    pub fn names(&self) -> BTreeSet<ContainerName> {
        let state = self.state();
        let there = state.containers.iter().filter(|(_, container)| container.seen != Container::default());
        there.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the table of published ports.
    #[must_use]
    pub fn firewall(&self) -> Option<FirewallTable> {
        self.state().firewall.clone()
    }

    /// Returns who guests ask for names.
    #[must_use]
    pub fn servers_of_guests(&self) -> Option<String> {
        self.state().servers.guests.clone()
    }

    /// Returns the hosts file that guests share.
    #[must_use]
    pub fn hosts(&self) -> Option<String> {
        self.state().hosts.clone()
    }

    /// Returns what the slices carry.
    #[must_use]
    pub fn slices(&self) -> Slices {
        self.state().slices.clone()
    }

    /// Returns the starts that began too early, in their order.
    #[must_use]
    pub fn broken_gates(&self) -> Vec<BrokenGate> {
        self.state().broken_gates.clone()
    }

    /// Returns how many containers were activating at the same time, at most.
    #[must_use]
    pub fn most_activating(&self) -> usize {
        self.state().most_activating
    }

    /// Returns the operations so far, in the order of their calls.
    #[must_use]
    pub fn trace(&self) -> Vec<Operation> {
        self.state().trace.clone()
    }

    /// Forgets the operations so far.
    pub fn clear_trace(&self) {
        self.state().trace.clear();
    }

    /// Returns the roots that are set.
    #[must_use]
    pub fn roots(&self) -> BTreeSet<StorePath> {
        self.state().roots.clone()
    }

    /// Puts a container under this pressure for memory, in percent, until it is under another.
    pub fn press(&self, name: &ContainerName, share: f64) {
        self.state().pressures.get_or_insert_default().insert(name.clone(), share);
    }

    /// Lets the kernel count no pressure.
    pub fn count_no_pressure(&self) {
        self.state().pressures = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Notes a call and returns how it goes wrong, if it does.
    fn begin(&self, operation: &Operation) -> Option<Fault> {
        let mut state = self.state();
        state.trace.push(operation.clone());
        match &mut state.interruption {
            Some(interruption) if interruption.left > 0 => interruption.left -= 1,
            Some(_) | None => {
                if let Some(Interruption { fault, then, .. }) = state.interruption.take() {
                    then();
                    if fault.is_some() {
                        return fault;
                    }
                }
            }
        }
        let at = state.faults.iter().position(|(faulty, _)| faulty == operation)?;
        Some(state.faults.remove(at).1)
    }

    /// Runs an operation with its scripted fault.
    async fn run(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<(), StepError>> + Send,
    ) -> Result<(), StepError> {
        // As every call of a real host, none is done before others had a chance to run.
        tokio::task::yield_now().await;
        match self.begin(&operation) {
            None => work.await,
            Some(fault @ (Fault::Before | Fault::Refused)) => Err(fault.error(&operation)),
            Some(fault @ Fault::After) => work.await.and(Err(fault.error(&operation))),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    /// Waits until a container's unit is in one of these states.
    async fn settled(&self, name: &ContainerName, states: &[ActiveState]) -> ActiveState {
        let mut changes = self.changes.subscribe();
        loop {
            let active = self.state().containers.get(name).map_or(ActiveState::Inactive, Simulated::active);
            if states.contains(&active) {
                return active;
            }
            // The sender lives in `self`.
            let _ = changes.changed().await;
        }
    }

    /// Returns the error for a container that lacks what it needs of the host.
    fn prepare(&self, name: &ContainerName) -> Result<(), StepError> {
        if self.state().lacking.contains(name) {
            return Err(StepError::SourceMissing { path: format!("/srv/{name}").into() });
        }
        Ok(())
    }

    async fn start_unit(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        let name = &assigned.service.name;
        self.settled(
            name,
            &[ActiveState::Inactive, ActiveState::Failed, ActiveState::Activating, ActiveState::Active],
        )
        .await;
        self.prepare(name)?;
        self.begin_start(assigned, files)?;
        match self.settled(name, &[ActiveState::Active, ActiveState::Inactive, ActiveState::Failed]).await {
            ActiveState::Active => Ok(()),
            ActiveState::Inactive if assigned.service.kind == Kind::Job => Ok(()),
            ActiveState::Inactive | ActiveState::Failed | ActiveState::Activating | ActiveState::Deactivating => {
                Err(StepError::StartFailed { unit: name.unit(), result: "exit-code 1".to_owned() })
            }
        }
    }

    /// Lets a unit start, as systemd does: it goes on when nobody waits for it.
    fn begin_start(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        let name = assigned.service.name.clone();
        let mut state = self.state();
        let before = state.last_systems.insert(name.clone(), assigned.service.system.clone());
        if let System::Store(system) = &assigned.service.system
            && before.as_ref() != Some(&assigned.service.system)
            && let Some(behaviour) = state.behaviours_of_systems.get(&(name.clone(), system.clone())).cloned()
        {
            state.behaviours.insert(name.clone(), behaviour);
        }
        let behaviour = state.behaviours.get(&name).cloned().unwrap_or_default();
        let invocation = InvocationId(state.invocations + 1);
        let container = state.containers.entry(name.clone()).or_default();
        if container.seen.foreign_machine {
            return Err(StepError::ForeignMachine { name, unit: String::new() });
        }
        if container.active().has_processes() {
            return Ok(());
        }
        state.check_ports(&assigned.service.ports, &BTreeSet::new())?;
        let container = state.containers.entry(name.clone()).or_default();
        container.begin(invocation, assigned, files);
        container.seen.can_switch = behaviour.switches;
        state.invocations += 1;
        let broken = state.broken_gates_of(assigned);
        state.broken_gates.extend(broken);
        let activating = |container: &&Simulated| container.active() == ActiveState::Activating;
        state.most_activating = state.most_activating.max(state.containers.values().filter(activating).count());
        drop(state);
        self.note_change();
        tokio::spawn(self.clone().live(name, assigned.service.kind, invocation, behaviour));
        Ok(())
    }

    /// The life of one instance after its start.
    async fn live(self, name: ContainerName, kind: Kind, invocation: InvocationId, behaviour: Behaviour) {
        tokio::time::sleep(behaviour.start_time).await;
        if behaviour.failing_starts > 0 {
            if let Some(left) = self.state().behaviours.get_mut(&name) {
                left.failing_starts = left.failing_starts.saturating_sub(1);
            }
            self.change(&name, invocation, |container| container.end(1, false));
            return;
        }
        self.change(&name, invocation, Simulated::become_active);
        if let Some(End { after, status }) = behaviour.ends {
            tokio::time::sleep(after).await;
            let mut ended = false;
            self.change(&name, invocation, |container| {
                container.end(status, false);
                ended = true;
            });
            if ended && status == 0 && kind == Kind::Job {
                self.state().succeeded.insert(name);
            }
        }
    }

    /// Changes an instance, unless it is over.
    fn change(&self, name: &ContainerName, invocation: InvocationId, change: impl FnOnce(&mut Simulated)) {
        let mut state = self.state();
        let Some(container) = state.containers.get_mut(name) else { return };
        let runs = container.seen.invocation == Some(invocation)
            && matches!(container.active(), ActiveState::Active | ActiveState::Activating);
        if runs {
            change(container);
        }
        drop(state);
        self.note_change();
    }

    async fn stop_unit(&self, name: &ContainerName) -> Result<(), StepError> {
        let behaviour = {
            let mut state = self.state();
            let behaviour = state.behaviours.get(name).cloned().unwrap_or_default();
            match state.containers.get_mut(name) {
                Some(container) if container.active().has_processes() => container.begin_stop(),
                Some(_) | None => return Ok(()),
            }
            behaviour
        };
        self.note_change();
        let (host, owner) = (self.clone(), name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(behaviour.stop_time).await;
            if let Some(container) = host.state().containers.get_mut(&owner)
                && container.active() == ActiveState::Deactivating
            {
                container.end(0, true);
            }
            host.note_change();
        });
        self.settled(name, &[ActiveState::Inactive, ActiveState::Failed]).await;
        Ok(())
    }
}

impl State {
    /// Returns the gates of a start that are not open now.
    fn broken_gates_of(&self, assigned: &Assigned) -> Vec<BrokenGate> {
        let holds = |name: &ContainerName, condition| {
            if self.succeeded.contains(name) {
                return true;
            }
            let Some(container) = self.containers.get(name) else { return false };
            let health = self.behaviours.get(name).map_or(HealthBehaviour::default(), |behaviour| behaviour.health);
            match condition {
                Condition::Started => container.active() == ActiveState::Active,
                Condition::Healthy => container.is_healthy(health),
                Condition::Completed => false,
            }
        };
        let broken = |(name, condition): (&ContainerName, &Condition)| {
            let gate = BrokenGate {
                started: assigned.service.name.clone(),
                dependency: name.clone(),
                condition: *condition,
            };
            (!holds(name, *condition)).then_some(gate)
        };
        assigned.service.depends_on.iter().filter_map(broken).collect()
    }
}

impl Host for Fake {
    async fn gpus(&self) -> Inventory {
        let hang = {
            let mut state = self.state();
            state.gpu_looks += 1;
            state.gpus_hang
        };
        tokio::time::sleep(hang).await;
        self.gpus_now()
    }

    async fn look_into(&self, name: &ContainerName, grant: &Grant) -> GuestView {
        self.view_of(name, grant)
    }

    async fn look_at_engine(&self, name: &ContainerName, offload: &Offload) -> EngineSeen {
        self.look_at_engine_of(name, offload).await
    }

    async fn show_model(&self, name: &ContainerName, offload: &Offload, model: &str) -> Result<Header, StepError> {
        self.show_model_of(name, offload, model).await
    }

    async fn change_model(&self, name: &ContainerName, offload: &Offload, step: &Step) -> Result<(), StepError> {
        self.change_model_of(name, offload, step).await
    }

    async fn observe(&self, declared: &BTreeSet<ContainerName>) -> Result<Observed, StepError> {
        tokio::task::yield_now().await;
        let mut state = self.state();
        state.looks += 1;
        assert!(state.most_looks.is_none_or(|most| state.looks <= most), "spins: {} looks", state.looks);
        if state.blind {
            let (call, subject) = ("ListUnitsByPatterns", "org.freedesktop.systemd1".to_owned());
            return Err(StepError::Bus { call, subject, source: "connection refused".into() });
        }
        let mut containers: BTreeMap<_, _> =
            state.containers.iter().map(|(name, container)| (name.clone(), container.seen.clone())).collect();
        containers.retain(|name, seen| declared.contains(name) || *seen != Container::default());
        Ok(Observed {
            system: state.system,
            containers,
            firewall: state.firewall.clone(),
            obstacles: Vec::new(),
            hosts: state.hosts.clone(),
            servers: state.servers.clone(),
            slices: slice::done(&state.slices),
            protection_of_host: Protection::default(),
        })
    }

    fn layout(&self) -> Layout {
        Layout { agent: "/usr/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: true }
    }

    async fn foreign_containers(&self) -> BTreeMap<ContainerName, Vec<Ipv4Addr>> {
        self.state().foreign_containers.clone()
    }

    async fn check_ports(&self, ports: &[Port], ending: &BTreeSet<ContainerName>) -> Result<(), StepError> {
        self.state().check_ports(ports, ending)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn start(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        let operation = Operation::Start(assigned.service.name.clone());
        self.run(operation, self.start_unit(assigned, files)).await
    }

    async fn check_needs(&self, service: &Service) -> Result<(), StepError> {
        self.prepare(&service.name)
    }

    async fn stop(&self, name: &ContainerName) -> Result<(), StepError> {
        self.run(Operation::Stop(name.clone()), self.stop_unit(name)).await
    }

    async fn update(&self, assigned: &Assigned, files: &Files) -> Result<(), StepError> {
        let name = &assigned.service.name;
        let update = async {
            let is_switch = |container: &Simulated| {
                container.seen.can_switch && container.seen.started_with.as_ref() != Some(&files.spec)
            };
            let switch_time = {
                let state = self.state();
                let switches = state.containers.get(name).is_some_and(is_switch);
                state.behaviours.get(name).filter(|_| switches).map(|behaviour| behaviour.start_time)
            };
            tokio::time::sleep(switch_time.unwrap_or_default()).await;
            let mut state = self.state();
            state.lost_nodes.remove(name);
            state.containers.entry(name.clone()).or_default().write(assigned, files);
            drop(state);
            self.note_change();
            Ok(())
        };
        self.run(Operation::Update(name.clone()), update).await
    }

    async fn invalid(&self, systems: &BTreeSet<StorePath>) -> BTreeSet<StorePath> {
        let state = self.state();
        systems.intersection(&state.invalid).cloned().collect()
    }

    fn is_switchable(&self, _system: &StorePath) -> bool {
        true
    }

    async fn remove(&self, name: &ContainerName) -> Result<(), StepError> {
        let remove = async {
            let mut state = self.state();
            let runs = state.containers.get(name).is_some_and(|container| container.active().has_processes());
            if runs {
                return Err(StepError::StillRunning { name: name.clone() });
            }
            if let Some(container) = state.containers.get_mut(name)
                && !container.remove()
            {
                state.containers.remove(name);
            }
            drop(state);
            self.note_change();
            Ok(())
        };
        self.run(Operation::Remove(name.clone()), remove).await
    }

    async fn publish_ports(&self, table: &FirewallTable) -> Result<(), StepError> {
        let publish = async {
            self.state().firewall = Some(table.clone());
            self.note_change();
            Ok(())
        };
        self.run(Operation::PublishPorts, publish).await
    }

    async fn publish_names(&self, hosts: &str, resolv_conf: Option<&str>) -> Result<(), StepError> {
        let publish = async {
            let mut state = self.state();
            state.hosts = Some(hosts.to_owned());
            state.servers.guests = resolv_conf.map(str::to_owned).or(state.servers.guests.take());
            drop(state);
            self.note_change();
            Ok(())
        };
        self.run(Operation::PublishNames, publish).await
    }

    async fn set_slices(&self, slices: &Slices) -> Result<(), StepError> {
        let set = async {
            tokio::time::sleep(SLICES_TIME).await;
            self.state().slices.clone_from(slices);
            self.note_change();
            Ok(())
        };
        self.run(Operation::SetSlices, set).await
    }

    async fn facts(&self, _paths: &[PathBuf]) -> Facts {
        self.state().facts.clone()
    }

    async fn root(&self, kept: &BTreeSet<StorePath>, others: OtherRoots) -> Result<(), StepError> {
        let root = async {
            let roots = &mut self.state().roots;
            if others == OtherRoots::Remove {
                roots.clear();
            }
            roots.extend(kept.iter().cloned());
            Ok(())
        };
        self.run(Operation::Root, root).await
    }

    async fn probe(&self, name: &ContainerName, _probe: Option<&Probe>, _timeout: Duration) -> ProbeResult {
        let probe_time = self.state().behaviours.get(name).map_or(Duration::ZERO, |behaviour| behaviour.probe_time);
        tokio::time::sleep(probe_time).await;
        tokio::task::yield_now().await;
        let state = self.state();
        let behaviour = state.behaviours.get(name).cloned().unwrap_or_default();
        let healthy = state.containers.get(name).is_some_and(|container| container.is_healthy(behaviour.health));
        let output = format!("simulated -> {}", if healthy { 200 } else { 503 });
        ProbeResult { healthy, output }
    }

    async fn usage(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, Usage> {
        let state = self.state();
        let running = state
            .containers
            .iter()
            .filter(|(name, container)| names.contains(*name) && container.active() == ActiveState::Active);
        running.map(|(name, container)| (name.clone(), container.usage())).collect()
    }

    async fn figures(&self, names: &BTreeSet<ContainerName>) -> BTreeMap<ContainerName, (Usage, Figures)> {
        let usage = self.usage(names).await;
        let state = self.state();
        let figures = |name: &ContainerName| {
            let figures = state.containers.get(name).map(Simulated::figures).unwrap_or_default();
            let pressed = |some_avg10: &f64| Pressure { some_avg10: *some_avg10, ..Pressure::default() };
            let memory_pressure = match &state.pressures {
                Some(pressures) => pressures.get(name).map(pressed).or(figures.memory_pressure),
                None => None,
            };
            Figures { memory_pressure, ..figures }
        };
        usage.into_iter().map(|(name, usage)| (name.clone(), (usage, figures(&name)))).collect()
    }

    fn counts_pressure(&self) -> bool {
        self.state().pressures.is_some()
    }

    async fn log_tail(&self, name: &ContainerName, count: usize) -> Vec<String> {
        let lines = [format!("{name}: starting"), format!("{name}: simulated")];
        lines.into_iter().rev().take(count).rev().collect()
    }

    async fn oom_kills(&self, name: &ContainerName, since_usec: u64) -> Vec<OomKill> {
        tokio::task::yield_now().await;
        let state = self.state();
        let kills = state.oom_kills.get(name).into_iter().flatten();
        kills.filter(|kill| kill.at_usec > since_usec).cloned().collect()
    }

    async fn read_logs(&self, _query: &LogQuery) -> std::io::Result<Readers> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }

    fn read_events(&self, _query: &EventQuery) -> std::io::Result<Readers> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }

    async fn remove_data(&self, name: &ContainerName) -> Result<(), StepError> {
        let remove = async {
            let state = self.state();
            let Some(container) = state.containers.get(name) else { return Ok(()) };
            if container.active().has_processes() {
                return Err(StepError::StillRunning { name: name.clone() });
            }
            match container.seen.conf {
                ConfFile::Absent | ConfFile::Ours(_) => Ok(()),
                ConfFile::Foreign | ConfFile::Link => {
                    Err(StepError::ForeignData { name: name.clone(), path: format!("{name}.conf").into() })
                }
            }
        };
        self.run(Operation::RemoveData(name.clone()), remove).await
    }

    /// A simulated guest has no programs: it hands over pipes at their ends, and says that there is none.
    async fn exec(&self, name: &ContainerName, request: ExecRequest) -> Result<Session<ExecReply>, SessionError> {
        let runs =
            self.state().containers.get(name).is_some_and(|container| container.active() == ActiveState::Active);
        if !runs {
            return Err(SessionError::NotRunning(name.clone()));
        }
        let (Ok((input, _)), Ok((output, _)), Ok((errors, _))) =
            (std::io::pipe(), std::io::pipe(), std::io::pipe())
        else {
            return Err(SessionError::TooMany);
        };
        let program = request.command.first().cloned().unwrap_or_default();
        let (told, end) = oneshot::channel();
        // The receiver is right here.
        let _ = told.send(ExecReply::failed("not_found", format!("there is no program `{program}`"), ""));
        Ok(Session { descriptors: vec![input.into(), output.into(), errors.into()], end })
    }

    /// A simulated guest has no files.
    async fn copy(&self, _name: &ContainerName, request: CopyRequest) -> Result<Session<CopyReply>, SessionError> {
        Err(SessionError::Guest { reason: format!("{}: simulated", request.path), hint: String::new() })
    }
}

#[cfg(test)]
mod tests;
