//! A simulated machine: host, state on disk, and an agent's reconcile task that can be killed and started.
//!
//! Time is tokio's and paused: it passes when everybody waits, so an hour takes nothing and no test sleeps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nixmox_agent::app;
use nixmox_agent::host::Host;
use nixmox_agent::host::fake::{Fake, Operation};
use nixmox_agent::reconcile::{Handle, Reconciler};
use nixmox_agent::server::Control;
use nixmox_agent::settings::Settings;
use nixmox_agent::state::{Generations, NotesFile};
use nixmox_api::{AgentError, Applied, Caller, Done, Request, ServiceState, ServiceStatus, Status};
use nixmox_core::container;
use nixmox_core::model::{
    ActiveState, ConfFile, Container, ContainerName, Desired, DropIn, InvocationId, Kind, Protection, Service,
};
use nixmox_core::network::{FirewallTable, hosts_file};
use nixmox_core::plan::AllFiles;
use nixmox_core::slice;
use tempfile::TempDir;
use tokio::task::{AbortHandle, JoinHandle, LocalSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The longest that anything may take, in the machine's own time.
const LIMIT: Duration = Duration::from_hours(2);
/// Looks at the host after which an agent is taken to spin.
const MOST_LOOKS: u64 = 50_000;

/// A simulated machine.
pub(crate) struct Machine {
    pub(crate) host: Fake,
    pub(crate) settings: Settings,
    state: TempDir,
    agent: Option<(Handle<Fake>, JoinHandle<()>)>,
}

/// Runs a test on a machine with an agent that has nothing to do.
pub(crate) fn on_a_machine(test: impl AsyncFnOnce(&mut Machine)) {
    on_a_machine_with(Settings::default(), test);
}

/// The same with other settings.
pub(crate) fn on_a_machine_with(settings: Settings, test: impl AsyncFnOnce(&mut Machine)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut machine = Machine::new(settings);
        machine.boot_agent();
        machine.catch_up().await;
        test(&mut machine).await;
        machine.kill_agent().await;
    });
}

impl Machine {
    fn new(settings: Settings) -> Self {
        let host = Fake::new();
        host.limit_looks(MOST_LOOKS);
        // State is synced to disk at each change, which a memory file system does at once.
        let memory = Path::new("/dev/shm");
        let state = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { host, settings, state: state.unwrap(), agent: None }
    }

    /// Returns where the agent keeps its state.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    /// Starts an agent on what is on disk.
    pub(crate) fn boot_agent(&mut self) {
        let (generations, notes) = (Generations::new(self.state()), NotesFile::new(self.state()));
        let standing = app::standing(&generations, &notes).unwrap();
        let host = Arc::new(self.host.clone());
        let (reconciler, handle) = Reconciler::new(host, standing, generations, notes, self.settings.clone());
        let task = tokio::task::spawn_local(reconciler.run(CancellationToken::new()));
        self.agent = Some((handle, task));
    }

    /// Kills the agent; what it began goes on as systemd's.
    pub(crate) async fn kill_agent(&mut self) {
        let (_, task) = self.agent.take().expect("an agent runs");
        task.abort();
        match task.await {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Returns what kills the agent from anywhere.
    pub(crate) fn trigger(&self) -> AbortHandle {
        self.agent.as_ref().expect("an agent runs").1.abort_handle()
    }

    /// Waits for the agent's death by a trigger; returns whether it came to that before the agent had nothing to do.
    pub(crate) async fn is_dead(&self) -> bool {
        let (_, task) = self.agent.as_ref().expect("an agent runs");
        let mut changes = self.host.changes();
        let mut idle_since = Instant::now();
        while !task.is_finished() && idle_since.elapsed() < Duration::from_secs(90) {
            tokio::select! {
                Ok(()) = changes.changed() => idle_since = Instant::now(),
                () = tokio::time::sleep(Duration::from_secs(30)) => {}
            }
        }
        task.is_finished()
    }

    /// Returns whether the agent is dead.
    pub(crate) fn is_finished(&self) -> bool {
        self.agent.as_ref().is_some_and(|(_, task)| task.is_finished())
    }

    /// Kills the agent and starts another one.
    pub(crate) async fn restart_agent(&mut self) {
        self.kill_agent().await;
        self.boot_agent();
    }

    /// Reboots the host: the agent starts with it.
    pub(crate) async fn reboot(&mut self) {
        self.kill_agent().await;
        self.host.reboot();
        self.boot_agent();
    }

    /// Returns a handle on the agent.
    pub(crate) fn agent(&self) -> Handle<Fake> {
        self.agent.as_ref().expect("an agent runs").0.clone()
    }

    pub(crate) async fn up(&self, services: &[Service]) -> Applied {
        self.apply(request(services)).await.unwrap()
    }

    /// Declares all of these and does something about one.
    pub(crate) async fn up_only(&self, services: &[Service], name: &str) -> Applied {
        self.apply(Request { only: vec![name.to_owned()], ..request(services) }).await.unwrap()
    }

    pub(crate) async fn apply(&self, request: Request) -> Result<Applied, AgentError> {
        self.agent().apply(request, anna()).await
    }

    /// Waits for a round: a question is answered when what it leads to was begun and the status shows it.
    pub(crate) async fn catch_up(&self) {
        let _ = self.agent().start(Vec::new(), anna()).await;
    }

    pub(crate) async fn down(&self) -> Applied {
        self.down_of("cloud").await.unwrap()
    }

    pub(crate) async fn down_of(&self, stack: &str) -> Result<Applied, AgentError> {
        self.agent().down(stack.to_owned(), Vec::new(), anna()).await
    }

    pub(crate) async fn stop(&self, names: &[&str]) -> Result<Done, AgentError> {
        self.agent().stop(owned(names), false, anna()).await
    }

    pub(crate) async fn start(&self, names: &[&str]) -> Result<Done, AgentError> {
        self.agent().start(owned(names), anna()).await
    }

    pub(crate) async fn restart(&self, names: &[&str]) -> Result<Done, AgentError> {
        self.agent().restart(owned(names), anna()).await
    }

    pub(crate) async fn status(&self) -> Status {
        self.agent().status().await
    }

    pub(crate) async fn service(&self, name: &str) -> ServiceStatus {
        of(&self.status().await, name).clone()
    }

    /// Waits until the status is as expected, and returns it.
    pub(crate) async fn until(&self, what: &str, mut expected: impl FnMut(&Status) -> bool) -> Status {
        let agent = self.agent();
        let (_, mut events) = agent.watch();
        let mut changes = self.host.changes();
        let limit = tokio::time::sleep(LIMIT);
        tokio::pin!(limit);
        loop {
            let status = agent.status().await;
            if expected(&status) {
                return status;
            }
            tokio::select! {
                event = events.recv() => {
                    let gone = matches!(event, Err(tokio::sync::broadcast::error::RecvError::Closed));
                    assert!(!gone, "the agent is gone, waiting for: {what}");
                }
                Ok(()) = changes.changed() => {}
                () = &mut limit => panic!("never came: {what}\n{}", shown(&status)),
            }
        }
    }

    /// Waits until a service is in a state.
    pub(crate) async fn until_state(&self, name: &str, state: ServiceState) -> ServiceStatus {
        let there = |status: &Status| status.services.iter().any(|s| s.name == name && s.state == state);
        let status = self.until(&format!("{name} is {state:?}"), there).await;
        of(&status, name).clone()
    }

    /// Waits until every service is healthy or completed and nothing is done any more.
    pub(crate) async fn until_well(&self) -> Status {
        self.until("all is well", is_well).await
    }

    /// Lets time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Returns what ran since the trace was last cleared, starts and stops alone, such as `start db`.
    pub(crate) fn trace(&self) -> Vec<String> {
        let word = |operation: &Operation| match operation {
            Operation::Start(name) => Some(format!("start {name}")),
            Operation::Stop(name) => Some(format!("stop {name}")),
            Operation::Update(name) => Some(format!("update {name}")),
            Operation::Remove(name) => Some(format!("remove {name}")),
            Operation::PublishPorts
            | Operation::PublishNames
            | Operation::SetSlices
            | Operation::Root
            | Operation::RemoveData(_) => None,
        };
        self.host.trace().iter().filter_map(word).collect()
    }

    /// Returns how often an operation was begun since the trace was last cleared.
    pub(crate) fn count(&self, operation: &Operation) -> usize {
        self.host.trace().iter().filter(|done| *done == operation).count()
    }

    /// Waits for this many further starts of a container; returns the whole seconds until each, from now on.
    pub(crate) async fn start_times(&self, container: &str, count: usize) -> Vec<u64> {
        let start = Operation::Start(name(container));
        let (begin, before) = (Instant::now(), self.count(&start));
        let mut times = Vec::new();
        while times.len() < count {
            assert!(begin.elapsed() < LIMIT, "{container} was started {} times", times.len());
            let further = self.count(&start) - before;
            times.resize(further.min(count), begin.elapsed().as_secs());
            // A start that fails before it does anything changes nothing that could be waited for.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        times
    }

    /// Returns the invocation of every container that runs.
    pub(crate) async fn invocations(&self) -> BTreeMap<String, u128> {
        let observed = self.host.observe(&std::collections::BTreeSet::new()).await.unwrap();
        let running = observed.containers.into_iter().filter(|(_, seen)| seen.active.has_processes());
        running.filter_map(|(name, seen)| Some((name.to_string(), seen.invocation?.0))).collect()
    }

    /// Reads what is declared from disk, with its texts.
    fn declared(&self) -> (Desired, AllFiles) {
        let generation = Generations::new(self.state()).load().unwrap().generation;
        let holds = NotesFile::new(self.state()).load().unwrap().holds;
        let budgets = generation.budgets();
        let (generation, services) = (generation.number, generation.services);
        let desired = Desired { generation, services, budgets, holds, ..Desired::default() };
        let files = container::all_files(&desired, &self.host.layout());
        (desired, files)
    }

    /// Returns the containers that run as declared and are not to be stopped, each with its invocation.
    pub(crate) fn right(&self) -> BTreeMap<ContainerName, InvocationId> {
        let (desired, files) = self.declared();
        let right = |name: &ContainerName| {
            let seen = self.host.container(name)?;
            let files = files.get(name)?.as_ref().ok()?;
            let right = seen.active == ActiveState::Active && seen.started_with.as_ref() == Some(&files.spec);
            let service = desired.services.get(name)?.service.kind == Kind::Service;
            let stays = right && service && !desired.holds.contains_key(name);
            Some((name.clone(), seen.invocation.filter(|_| stays)?))
        };
        desired.services.keys().filter_map(right).collect()
    }

    /// Returns the services that run now, each with its invocation, whatever they were given of the GPUs.
    pub(crate) fn right_with_gpus(&self) -> BTreeMap<ContainerName, InvocationId> {
        let running = |name: ContainerName| {
            let seen = self.host.container(&name)?;
            Some((name, seen.invocation.filter(|_| seen.active == ActiveState::Active)?))
        };
        self.host.names().into_iter().filter_map(running).collect()
    }

    /// Fails unless each of these containers is the same instance still.
    pub(crate) fn assert_kept(&self, right: &BTreeMap<ContainerName, InvocationId>, context: &str) {
        for (name, invocation) in right {
            let now = self.host.container(name).and_then(|seen| seen.invocation);
            assert_eq!(now, Some(*invocation), "{context}: {name} was right and was touched");
        }
    }

    /// Fails unless the host is what the generation on disk declares: compared with its texts, not with a plan.
    pub(crate) fn assert_as_declared(&self, context: &str) {
        let (desired, files) = self.declared();
        assert_eq!(self.host.firewall().unwrap_or_default(), FirewallTable::of(&desired), "{context}");
        assert_eq!(self.host.hosts().as_deref(), Some(hosts_file(&desired).as_str()), "{context}");
        assert_eq!(self.host.slices(), slice::slices(&desired, Protection::default()), "{context}");
        for (name, assigned) in &desired.services {
            let seen = self.host.container(name).unwrap_or_default();
            let files = files[name].as_ref().unwrap();
            if desired.holds.contains_key(name) {
                assert!(!seen.active.has_processes(), "{context}: {name} is held");
                continue;
            }
            if assigned.service.kind == Kind::Job {
                assert!(!seen.active.has_processes(), "{context}: {name} is completed");
                continue;
            }
            assert_eq!(seen.active, ActiveState::Active, "{context}: {name}");
            assert_eq!(seen.started_with.as_ref(), Some(&files.spec), "{context}: {name}");
            assert_eq!(seen.drop_in, DropIn::Ours(files.drop_in.clone()), "{context}: {name}");
            assert_eq!(seen.conf, ConfFile::Ours(files.conf.clone().unwrap()), "{context}: {name}");
            assert_eq!(seen.limits, assigned.service.limits, "{context}: {name}");
        }
        for name in self.host.names().difference(&desired.services.keys().cloned().collect()) {
            // How it ended is forgotten at the next boot.
            let left =
                Container { exit: None, stopped_by_agent: false, ..self.host.container(name).unwrap_or_default() };
            assert_eq!(left, Container::default(), "{context}: {name} is left over");
        }
    }

    /// Returns the state of a container's unit.
    pub(crate) fn active(&self, container: &str) -> ActiveState {
        self.host.container(&name(container)).map_or(ActiveState::Inactive, |container| container.active)
    }
}

/// Returns whether everything is as it should be.
pub(crate) fn is_well(status: &Status) -> bool {
    let well = |service: &ServiceStatus| {
        matches!(service.state, ServiceState::Healthy | ServiceState::Completed) && service.drift.is_empty()
    };
    !status.host.busy && !status.services.is_empty() && status.services.iter().all(well)
}

/// Returns a service of a status.
pub(crate) fn of<'a>(status: &'a Status, name: &str) -> &'a ServiceStatus {
    status.services.iter().find(|service| service.name == name).unwrap_or_else(|| panic!("no {name} in the status"))
}

pub(crate) fn shown(status: &Status) -> String {
    let line = |s: &ServiceStatus| format!("{}: {:?} {:?} {:?}\n", s.name, s.state, s.reason, s.drift);
    let services: String = status.services.iter().map(line).collect();
    format!("{:?}\n{services}", status.host)
}

pub(crate) fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(crate) fn anna() -> Caller {
    Caller { uid: 1000, name: "anna".to_owned() }
}

/// Returns the request of the stack `cloud` with these services.
pub(crate) fn request(services: &[Service]) -> Request {
    request_of("cloud", services)
}

pub(crate) fn request_of(stack: &str, services: &[Service]) -> Request {
    Request {
        stack: stack.to_owned(),
        file: format!("/srv/{stack}/nixmox.toml"),
        address_pool: "10.233.0.0/16".to_owned(),
        services: services.iter().map(nixmox_api::Service::from).collect(),
        only: Vec::new(),
        prune: false,
        base: None,
        no_rollback: None,
        limits: None,
        owner: None,
        look_inside: None,
    }
}
