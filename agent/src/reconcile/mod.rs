//! The one task that changes the host.
//!
//! ```text
//!   request ─┐                                              ┌─▶ status, events
//!   signal  ─┤         ┌───────── one round ──────────┐     │
//!   answer  ─┼──wake──▶│ observe → plan → begin steps │─────┘
//!   step end─┤         └──────────────────────────────┘
//!   timer   ─┘
//! ```
//!
//! Level-triggered: a round reads everything anew and plans from it, so a lost or doubled wake-up does not
//! matter, and a restarted agent is nothing but an agent before its first round. Steps run beside the rounds; a
//! round begins those of its plan that are ready and whose container has nothing under way.
//!
//! `change` and `rollback` say what a request makes of what is desired, `requests` answers it, `trials` judges what
//! is new, `supervise` remembers health, back-off and drift, `ends` how instances ended, `oom` what the kernel killed, `execute` takes steps,
//! `gpus` decides with the last look who is given what of them, `gpu_views` sees to what guests lose of it, and `gpu_answers` what is asked about
//! them. `offloads` has what runs models in services keep to that, and `offload_answers` tells of it. `report` tells, in `words`, `history` of earlier generations and `usage` what is used. This file wires them: what is written to disk is
//! written before anything is done about it.

mod cause;
mod change;
mod ends;
mod execute;
mod gpu_answers;
mod gpu_views;
mod gpus;
mod handle;
mod history;
mod inside;
mod logs;
mod offload_answers;
mod offloads;
mod oom;
mod report;
mod requests;
mod rollback;
mod session;
mod supervise;
mod tables;
mod trials;
mod usage;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::container::{self, Layout};
use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::model::{
    Action, Container, ContainerName, Desired, InvocationId, Kind, Observed, Plan, Spec, StackName, Subject, System,
};
use nixmox_core::oom::OomKill;
use nixmox_core::plan::{self, AllFiles};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::chain::chain;
use crate::host::{Host, OtherRoots, ProbeResult, StepError};
use crate::metrics::Recorder;
use crate::notify;
use crate::settings::Settings;
use crate::state::{EventNumbers, Generation, Generations, Notes, NotesFile, StateError};
use change::Ledger;
use execute::{Begun, Executor, Outcome};
use gpu_answers::GpuScene;
use gpus::Gpus;
use handle::{Answering, Ask, Published};
use offload_answers::OffloadScene;
use offloads::Offloads;
use oom::Look;
use report::{Reporter, Scene};
use supervise::{Correction, Failure, Question, Supervisor};

pub use handle::Handle;

/// Requests that may wait for the task.
const ASKS: usize = 64;
/// Events that a watcher may fall behind.
const EVENTS: usize = 4096;
/// How soon it is tried again after systemd could not be asked.
const BLIND_RETRY: Duration = Duration::from_secs(2);
/// Longest time between two looks: a signal that was lost, or cannot be had, is a delay and not a lie for ever.
const PERIODIC_LOOK: Duration = Duration::from_mins(10);
/// Logs that are read at a time: each is a `journalctl`, and all containers may have died at once.
const LOG_READERS_MAX: usize = 8;
/// Signals that arrive this soon after each other are answered by one round.
const SETTLE: Duration = Duration::from_millis(2);
/// Attempts to switch a guest to another system while it runs; then it is restarted.
const SWITCHES_MAX: u32 = 2;
/// Lines of log that go with a service that is not well.
const LOG_LINES: usize = 10;

/// What the task begins with, read from disk.
#[derive(Debug, Default)]
pub struct Standing {
    /// What is desired.
    pub generation: Generation,
    /// Holds and finished jobs.
    pub notes: Notes,
    /// The notes as they lie on disk, where those may say more.
    pub on_disk: Notes,
    /// What was wrong on disk, one sentence each.
    pub warnings: Vec<String>,
    /// Why nothing may be touched; `None`: everything is in order.
    pub hands_off: Option<String>,
}

/// The task.
#[derive(Debug)]
pub struct Reconciler<H> {
    host: Arc<H>,
    layout: Layout,
    settings: Settings,
    generations: Generations,
    notes_file: NotesFile,
    ledger: Ledger,
    /// The notes as they lie on disk. A write that failed leaves others there than the ledger has.
    on_disk: Notes,
    /// What the next agent would do wrong for that.
    outdated: Option<String>,
    warnings: Vec<String>,
    hands_off: Option<String>,
    /// Why systems that are declared may be collected by Nix.
    unrooted: Option<String>,
    asks: mpsc::Receiver<Ask>,
    supervisor: Supervisor,
    executor: Executor,
    probes: JoinSet<(Question, ProbeResult)>,
    logs: JoinSet<(ContainerName, Logged)>,
    /// What is known of the GPUs.
    gpus: Gpus,
    gpu_looks: JoinSet<GpuLook>,
    /// What is known of engines that run models.
    offloads: Offloads,
    /// Turns to read a log.
    log_turns: Arc<Semaphore>,
    /// Whose log is being read.
    reading: BTreeSet<ContainerName>,
    /// Rollbacks that could not be made, by stack.
    stuck: BTreeMap<StackName, trials::Stuck>,
    removals: JoinSet<ContainerName>,
    /// The containers whose data is being removed.
    removing: BTreeSet<ContainerName>,
    reporter: Reporter,
    recorder: Recorder,
    began: Instant,
    /// The last round's values; `None` while systemd cannot be asked.
    round: Option<Round>,
}

/// What one round saw and decided.
#[derive(Debug)]
struct Round {
    desired: Desired,
    observed: Observed,
    files: AllFiles,
    plan: Plan,
}

/// What was read in a log.
#[derive(Debug)]
enum Logged {
    /// The last lines of a container.
    Tail(Vec<String>),
    /// What the kernel says of its processes that it killed.
    Kills(Look, Vec<OomKill>),
}

/// What was seen of GPUs.
#[derive(Debug)]
enum GpuLook {
    /// On the machine.
    Machine(Inventory),
    /// In a guest.
    Guest(gpu_views::Look, GuestView),
}

/// Why the task woke up.
#[derive(Debug)]
enum Wake {
    Stop,
    Asked(Box<Ask>),
    Ended(Outcome),
    Answered(Question, ProbeResult),
    Logged(ContainerName, Logged),
    SeenGpus(GpuLook),
    /// What an engine was asked is answered, or done.
    Engine(offloads::Ended),
    /// The data of a container is gone, or what there was to do about it was done.
    Removed(ContainerName),
    /// A signal, or a time that has come: the next round sees for itself.
    Look,
    Watchdog,
}

impl<H: Host> Reconciler<H> {
    /// Returns the task, to be run, and a handle on it.
    #[must_use]
    pub fn new(
        host: Arc<H>,
        standing: Standing,
        generations: Generations,
        notes_file: NotesFile,
        settings: Settings,
    ) -> (Self, Handle<H>) {
        let (asks, inbox) = mpsc::channel(ASKS);
        let (published, newest) = watch::channel(Published::default());
        let (events, _) = broadcast::channel(EVENTS);
        let on_disk = (generations.clone(), notes_file.clone());
        let recorder = Recorder::default();
        let (gpus, offloads) = (Gpus::new(&standing.notes), Offloads::new(&standing.notes));
        let reconciler = Self {
            layout: host.layout(),
            reporter: Reporter::new(published, events.clone(), EventNumbers::open(generations.state())),
            generations,
            notes_file,
            ledger: Ledger { generation: standing.generation, notes: standing.notes },
            on_disk: standing.on_disk,
            outdated: None,
            warnings: standing.warnings,
            hands_off: standing.hands_off,
            unrooted: None,
            asks: inbox,
            supervisor: Supervisor::default(),
            executor: Executor::new(settings.parallel_starts),
            probes: JoinSet::new(),
            logs: JoinSet::new(),
            gpus,
            gpu_looks: JoinSet::new(),
            offloads,
            log_turns: Arc::new(Semaphore::new(LOG_READERS_MAX)),
            reading: BTreeSet::new(),
            stuck: BTreeMap::new(),
            removals: JoinSet::new(),
            removing: BTreeSet::new(),
            recorder: recorder.clone(),
            began: Instant::now(),
            round: None,
            settings,
            host: Arc::clone(&host),
        };
        (reconciler, Handle::new(host, asks, newest, events, on_disk, recorder))
    }

    /// Runs until `stop` is cancelled. Steps under way are left to systemd, which finishes them.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.host.changes();
        let mut watchdog = notify::watchdog_interval().map(time::interval);
        changes.mark_unchanged();
        self.turn().await;
        // What is kept was rooted by the agent before; reading all of it must not hold up the first look.
        self.keep_roots().await;
        loop {
            let due = self.due();
            // Every arm is cancel-safe: channels, join sets, timers. Arms return values; work happens after.
            let wake = tokio::select! {
                biased;
                () = stop.cancelled() => Wake::Stop,
                // Before what can come in a storm.
                () = tick(&mut watchdog) => Wake::Watchdog,
                outcome = self.executor.ended() => Wake::Ended(outcome),
                Some(ask) = self.asks.recv() => Wake::Asked(Box::new(ask)),
                Some(Ok((question, result))) = self.probes.join_next() => Wake::Answered(question, result),
                Some(Ok((name, logged))) = self.logs.join_next() => Wake::Logged(name, logged),
                Some(Ok(look)) = self.gpu_looks.join_next() => Wake::SeenGpus(look),
                ended = self.offloads.ended() => Wake::Engine(ended),
                Some(Ok(name)) = self.removals.join_next() => Wake::Removed(name),
                _ = changes.changed() => Wake::Look,
                () = time::sleep_until(due) => Wake::Look,
            };
            let mut answer: Option<Answering> = None;
            match wake {
                Wake::Stop => break,
                // A burst of signals becomes one round.
                Wake::Look => time::sleep(SETTLE).await,
                Wake::Watchdog => notify::watchdog(),
                Wake::Ended(outcome) => self.ended(outcome),
                Wake::Asked(ask) => answer = self.asked(*ask).await,
                Wake::Answered(question, result) => self.answered(&question, result),
                Wake::Logged(name, Logged::Tail(lines)) => {
                    self.reading.remove(&name);
                    self.supervisor.logged(&name, lines);
                }
                Wake::Logged(name, Logged::Kills(look, kills)) => self.killed(&name, look, kills),
                Wake::SeenGpus(look) => {
                    self.gpus.end_look(&look);
                    self.seen_gpus(look);
                }
                Wake::Engine(ended) => self.engine_ended(ended),
                Wake::Removed(name) => drop(self.removing.remove(&name)),
            }
            while let Some(outcome) = self.executor.ended_already() {
                self.ended(outcome);
            }
            while let Some(Ok((question, result))) = self.probes.try_join_next() {
                self.answered(&question, result);
            }
            changes.mark_unchanged();
            self.turn().await;
            // Who asks for the status after an answer finds in it what was asked for.
            if let Some(answer) = answer {
                answer();
            }
        }
        self.reporter.end();
        info!(event = "stop", "stopping; containers go on");
    }

    /// Takes a round, and another at once where the first one's verdict made a new generation.
    async fn turn(&mut self) {
        self.round().await;
        if self.judge().await {
            self.round().await;
        }
    }

    /// Observes, plans, begins what is ready, asks what is due, and publishes.
    async fn round(&mut self) {
        if let Err(error) = self.look(BTreeSet::new()).await {
            warn!(event = "blind", "{}", chain(&error));
            self.round = None;
            let mut warnings = self.warnings();
            warnings.push(format!("nothing is known of the containers just now: {}", chain(&error)));
            self.reporter.publish_blind(&self.ledger.generation, self.executor.is_busy(), warnings);
            return;
        }
        let now = self.now();
        let Some(round) = &self.round else { return };
        if self.hands_off.is_none() {
            let policy = self.settings.drift;
            let supervisor = &self.supervisor;
            let allowed = |subject: &Subject, action| supervisor.may_begin(now, subject, action, policy);
            for step in self.executor.begin(&self.host, round, allowed) {
                self.supervisor.begun(now, &step.subject, step.action, &step.reasons);
                if let (Subject::Service(name), Action::Start) = (&step.subject, step.action)
                    && round.observed.containers.get(name).is_some_and(|container| container.exit.is_some())
                {
                    self.recorder.restarted(name);
                }
                if let (Subject::Service(name), Action::Start | Action::Stop | Action::Update | Action::Remove) =
                    (&step.subject, step.action)
                {
                    let (verb, because) = (execute::verb(step.action), because(&step));
                    info!(service = %name, event = "step-begins", step = verb, "{name}: {verb} begins: {because}");
                }
            }
        }
        for message in self.supervisor.tables.news() {
            self.reporter.tell(self.ledger.generation.number, "", "drift", message.to_owned());
        }
        for question in self.supervisor.due(now, &round.desired) {
            let host = Arc::clone(&self.host);
            self.probes.spawn(async move {
                let result = host.probe(&question.name, question.probe.as_ref(), question.timeout).await;
                if !result.healthy {
                    return (question, result);
                }
                let pressed = usage::pressed(&*host, &question.name, question.pressure).await;
                let result = pressed.map_or(result, |output| ProbeResult { healthy: false, output });
                (question, result)
            });
        }
        self.drive_engines();
        self.look_at_gpus();
        for (name, look) in self.supervisor.kills_due(now) {
            self.read_log(name, Some(look));
        }
        self.publish();
    }

    /// Reads the host and plans; the result is `self.round`.
    ///
    /// `besides` are names that no generation declares and whose containers are looked at too.
    async fn look(&mut self, besides: BTreeSet<ContainerName>) -> Result<(), StepError> {
        let mut names = besides;
        names.extend(self.ledger.generation.services.keys().cloned());
        let begun = Instant::now();
        let mut observed = self.host.observe(&names).await?;
        self.recorder.observed(begun.elapsed());
        let mut desired = self.desired(&self.ledger.generation);
        let now = self.now();
        let gave_up = |name: &ContainerName| self.supervisor.gave_up(now, name);
        let gates = gpus::all_gates(&desired, self.round.as_ref().map(|round| &round.observed));
        self.gpus.set_elastic(self.offloads.follow(now, &desired, &observed));
        self.gpus.stand(now, &mut desired, &observed, &gates, gave_up);
        self.gpus.views().mark_lost(now, &mut observed);
        self.take_notes(&desired, &mut observed);
        let acting_on = self.executor.acting_on();
        let dead = self.supervisor.take_in(now, &desired, &mut observed, &acting_on, self.settings.drift);
        for name in dead {
            self.fetch_log(name);
        }
        let files = container::all_files(&desired, &self.layout);
        // Before the first generation nothing is known of what is desired, least of all that it is nothing.
        let unknown = self.hands_off.is_some() || desired.generation == 0;
        let begun = Instant::now();
        self.allow_switches(&desired, &mut observed, &files);
        let plan = if unknown { Plan::default() } else { plan::plan(&desired, &observed, &files) };
        self.recorder.planned(begun.elapsed());
        self.supervisor.take_in_plan(now, &plan);
        self.round = Some(Round { desired, observed, files, plan });
        Ok(())
    }

    /// Leaves the word that a guest can be switched to those whose declared system is one that it can be switched to, and that did
    /// not refuse it: those are restarted.
    fn allow_switches(&self, desired: &Desired, observed: &mut Observed, files: &AllFiles) {
        for (name, container) in observed.containers.iter_mut().filter(|(_, container)| container.can_switch) {
            let spec = files.get(name).and_then(|files| Some(&files.as_ref().ok()?.spec));
            let other = |spec: &&Spec| container.started_with.as_ref().is_some_and(|runs| runs != *spec);
            let service = desired.services.get(name).map(|assigned| &assigned.service);
            let (Some(_), Some(service)) = (spec.filter(other), service) else { continue };
            let system = match &service.system {
                System::Store(system) if service.kind == Kind::Service => Some(system),
                System::Store(_) | System::Adopted => None,
            };
            let refusals = self.supervisor.of(name).map_or(0, |watched| watched.unswitched);
            container.can_switch =
                refusals < SWITCHES_MAX && system.is_some_and(|system| self.host.is_switchable(system));
        }
    }

    /// Makes the success of a job durable, and tells the plan of one that systemd has forgotten. A restart is done as
    /// soon as there is another instance.
    fn take_notes(&mut self, desired: &Desired, observed: &mut Observed) {
        let mut notes = self.ledger.notes.clone();
        for (name, assigned) in &desired.services {
            if assigned.service.kind != Kind::Job {
                continue;
            }
            let container = observed.containers.entry(name.clone()).or_default();
            match &container.exit {
                Some(exit) if exit.succeeded() && exit.spec.is_some() => notes.complete(name, exit),
                Some(_) => {}
                None => container.exit = notes.completed.get(name).cloned(),
            }
            // What was declared between was another job. A rollback must not run this one on what that one made.
            let declared = container::spec(assigned);
            if !container.active.has_processes()
                && container.exit.as_ref().is_none_or(|exit| exit.spec.as_ref() != Some(&declared))
                && let Some(before) = notes.completed_before(name, &declared)
            {
                container.exit = Some(before.clone());
            }
        }
        self.gpus.write_down(&mut notes);
        self.offloads.write_down(&mut notes);
        let now = &observed.containers;
        notes.restarts.retain(|name, replaced| now.get(name).and_then(instance) == Some(*replaced));
        self.note(notes);
    }

    /// Writes notes down, where the disk does not have them.
    fn note(&mut self, notes: Notes) {
        if let Err(error) = self.keep(notes) {
            // What they were made of lasts until the next boot; the next round tries again.
            warn!(event = "notes", "{}", chain(&error));
        }
    }

    /// Works from notes as soon as the disk has them.
    fn keep(&mut self, notes: Notes) -> Result<(), StateError> {
        if notes != self.on_disk {
            self.notes_file.write(&notes)?;
            self.on_disk.clone_from(&notes);
        }
        self.outdated = None;
        self.ledger.notes = notes;
        Ok(())
    }

    fn desired(&self, generation: &Generation) -> Desired {
        Desired {
            generation: generation.number,
            services: generation.services.clone(),
            budgets: generation.budgets(),
            holds: self.ledger.notes.holds.clone(),
            restarts: self.ledger.notes.restarts.clone(),
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        let Outcome { step, took, result } = outcome;
        // One that was called off is no failure, and its time is the caller's.
        if !step.called_off {
            self.recorder.ended(execute::verb(step.action), took, result.is_err());
        }
        match result {
            Ok(()) => self.succeeded(&step, took),
            Err(error) => self.failed(&step, &error),
        }
    }

    fn succeeded(&mut self, step: &Begun, took: Duration) {
        let now = self.now();
        self.supervisor.succeeded(now, &step.subject, step.action);
        if step.action == Action::SetSlices {
            self.supervisor.changed(now, &self.ledger.all_on_trial());
        }
        let Subject::Service(name) = &step.subject else { return };
        if step.action == Action::Update {
            self.gpus.views().updated(now, name);
        }
        let verb = execute::verb(step.action);
        info!(service = %name, event = "step-done", step = verb, "{name}: {verb} took {} ms", took.as_millis());
        let generation = self.ledger.generation.number;
        if step.action == Action::Remove {
            self.recorder.forget(name);
        }
        match step.action {
            // No status shows these: limits are told as declared, and what is not healthy yet is still starting.
            Action::Update => self.reporter.tell(generation, name.as_str(), "live", because(step)),
            Action::Start => self.reporter.tell(generation, name.as_str(), "started", "started".to_owned()),
            Action::PublishPorts
            | Action::PublishNames
            | Action::SetSlices
            | Action::Stop
            | Action::Remove
            | Action::Await(_) => {}
        }
    }

    fn failed(&mut self, step: &Begun, error: &StepError) {
        let failure = Failure { message: chain(error), hint: error.hint().unwrap_or_default() };
        let verb = execute::verb(step.action);
        let Subject::Service(name) = &step.subject else {
            error!(step = verb, event = "step-failed", "{}", failure.message);
            self.supervisor.failed(self.now(), (&step.subject, step.action), None, failure);
            return;
        };
        if step.action == Action::Start {
            // Asked once, done once: after a failure, the back-off decides.
            let mut notes = self.ledger.notes.clone();
            notes.restarts.remove(name);
            self.note(notes);
        }
        if step.called_off {
            info!(service = %name, event = "step-done", step = verb, "{name}: {verb} was called off");
            return;
        }
        if matches!(error, StepError::SwitchFailed { .. }) {
            self.supervisor.refused_switch(name);
        }
        error!(service = %name, step = verb, event = "step-failed", "{name}: {verb} failed: {}", failure.message);
        // With what it was given, as it was started.
        let declared = self.round.as_ref().and_then(|round| round.desired.services.get(name));
        let start_of = match step.action {
            // What was declared before says nothing about what is declared now.
            Action::Start => match declared.filter(|assigned| step.spec == Some(container::spec(assigned))) {
                Some(assigned) => Some(&assigned.service),
                None => return,
            },
            Action::Stop
            | Action::Update
            | Action::Remove
            | Action::PublishPorts
            | Action::PublishNames
            | Action::SetSlices
            | Action::Await(_) => None,
        };
        self.supervisor.failed(self.now(), (&step.subject, step.action), start_of, failure);
        if error.is_of_a_run(name) {
            self.fetch_log(name.clone());
        }
    }

    /// Looks at the GPUs, and into guests that have some, where that is due.
    fn look_at_gpus(&mut self) {
        let now = self.now();
        let Some(round) = &self.round else { return };
        if self.gpus.begin_look(now, &round.desired) {
            let host = Arc::clone(&self.host);
            self.gpu_looks.spawn(async move { GpuLook::Machine(host.gpus().await) });
        }
        for look in self.gpus.views().begin(now, &round.desired, &round.observed) {
            let host = Arc::clone(&self.host);
            self.gpu_looks.spawn(async move {
                let seen = host.look_into(&look.name, &look.grant).await;
                GpuLook::Guest(look, seen)
            });
        }
    }

    fn seen_gpus(&mut self, look: GpuLook) {
        let now = self.now();
        let observed = self.round.as_ref().map(|round| &round.observed);
        let news = match look {
            GpuLook::Machine(inventory) => self.gpus.looked(now, inventory, observed),
            GpuLook::Guest(look, seen) => self.gpus.looked_into(now, &look, &seen).into_iter().collect(),
        };
        for gpus::News { service, text } in news {
            let name = service.as_ref().map_or("", ContainerName::as_str);
            self.reporter.tell(self.ledger.generation.number, name, "gpu", text);
        }
    }

    /// Has engines keep to what their services were given, and looks at those where that is due.
    fn drive_engines(&mut self) {
        let (now, acting_on, may_act) = (self.now(), self.executor.acting_on(), self.hands_off.is_none());
        let Some(round) = &self.round else { return };
        let news = self.offloads.drive(now, &self.host, (&round.desired, &self.gpus), &acting_on, may_act);
        self.gpus.set_pressed(self.offloads.is_pressed(now));
        self.tell_of_engines(news);
    }

    fn engine_ended(&mut self, ended: offloads::Ended) {
        let (news, took) = self.offloads.take_in(self.now(), ended);
        if let Some(offloads::Took { word, time, failed }) = took {
            self.recorder.ended(word, time, failed);
        }
        self.tell_of_engines(news);
    }

    fn tell_of_engines(&mut self, news: impl IntoIterator<Item = gpus::News>) {
        for gpus::News { service, text } in news {
            let name = service.as_ref().map_or("", ContainerName::as_str);
            self.reporter.tell(self.ledger.generation.number, name, "offload", text);
        }
    }

    fn answered(&mut self, question: &Question, mut result: ProbeResult) {
        let now = self.now();
        let service = self.ledger.generation.services.get(&question.name).map(|assigned| &assigned.service);
        let offload = service.and_then(|service| service.offload.as_ref());
        let engine = self.offloads.of(&question.name).zip(offload).filter(|_| result.healthy);
        if let Some(refusal) = engine.and_then(|(engine, offload)| engine.refusal(offload)) {
            result = ProbeResult { healthy: false, output: refusal };
        }
        let is_proof = engine.is_none_or(|(engine, offload)| engine.is_proven(now, offload));
        let healthy = result.healthy;
        self.reporter.probed(&question.name);
        if self.supervisor.answered(now, question, result, (service, is_proof)) && !healthy {
            self.fetch_log(question.name.clone());
        }
    }

    fn killed(&mut self, name: &ContainerName, look: Look, kills: Vec<OomKill>) {
        let service = self.ledger.generation.services.get(name).map(|assigned| &assigned.service);
        if let Some(text) = self.supervisor.killed(self.now(), (name, look), kills, service) {
            self.reporter.tell(self.ledger.generation.number, name.as_str(), "oom", text);
        }
    }

    fn fetch_log(&mut self, name: ContainerName) {
        self.reading.insert(name.clone());
        self.read_log(name, None);
    }

    /// Reads, beside the rounds, what the kernel says of a container that it killed, or the last lines of the container.
    fn read_log(&mut self, name: ContainerName, look: Option<Look>) {
        let (host, turns) = (Arc::clone(&self.host), Arc::clone(&self.log_turns));
        self.logs.spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            let logged = match look {
                Some(look) => Logged::Kills(look, host.oom_kills(&name, look.since_usec).await),
                None => Logged::Tail(host.log_tail(&name, LOG_LINES).await),
            };
            (name, logged)
        });
    }

    fn publish(&mut self) {
        let Some(round) = &self.round else { return };
        // What waits for its next attempt is work; what is only reported, or given time, is none.
        let (now, policy) = (self.now(), self.settings.drift);
        let due = |subject: &Subject| self.supervisor.correction(now, subject, policy) == Correction::Now;
        let acts =
            plan::ready(&round.plan).filter_map(|id| round.plan.steps.get(id)).any(|step| due(&step.subject));
        let scene = Scene {
            now: self.began.elapsed(),
            ledger: &self.ledger,
            desired: &round.desired,
            observed: &round.observed,
            plan: &round.plan,
            supervisor: &self.supervisor,
            offloads: &self.offloads,
            busy: self.executor.is_busy() || acts,
            acting_on: self.executor.acting_on(),
            policy: self.settings.drift,
            warnings: self.warnings(),
        };
        self.reporter.gpus(Arc::new(GpuScene::of(&self.gpus, &round.desired, &round.observed)));
        self.reporter.offloads(OffloadScene::of(&self.offloads, &round.desired, &round.observed));
        self.reporter.publish(&scene);
    }

    /// Returns what hinders the host as a whole, as far as the agent's own state goes.
    fn warnings(&self) -> Vec<String> {
        let stuck = self.stuck.values().map(|stuck| &stuck.why);
        let gpus = self.round.as_ref().map(|round| self.gpus.warnings(&round.desired)).unwrap_or_default();
        let others = self.outdated.iter().chain(&self.hands_off).chain(&self.unrooted).chain(stuck);
        self.warnings.iter().chain(others).cloned().chain(gpus).collect()
    }

    /// Returns when to look again though nothing happens.
    fn due(&self) -> Instant {
        let now = self.now();
        let due = if self.round.is_none() {
            now.saturating_add(BLIND_RETRY)
        } else {
            let look = now.saturating_add(PERIODIC_LOOK);
            let gpus = self.round.as_ref().and_then(|round| self.gpus.next_due(&round.desired));
            let engines = self.round.as_ref().and_then(|_| self.offloads.next_due(now));
            let due =
                self.supervisor.next_due(now, self.settings.drift).into_iter().chain(gpus).chain(engines).min();
            due.map_or(look, |due| due.min(look))
        };
        let due = self.stuck.values().filter_map(|stuck| stuck.retry.due(now)).fold(due, Duration::min);
        let due = self.began + due;
        self.executor.next_room().map_or(due, |room| due.min(room))
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn keep_roots(&mut self) {
        if self.hands_off.is_some() {
            return;
        }
        let (generations, count) = (self.generations.clone(), self.settings.keep_generations);
        let mut needed = BTreeSet::from([self.ledger.generation.number]);
        needed.extend(self.ledger.generation.stacks.values().filter_map(|record| record.trial.good_before));
        // Reads every generation that is kept, which can be many and large.
        let pruned = tokio::task::spawn_blocking(move || generations.prune(count, &needed)).await;
        let rooted = match pruned {
            Ok(Ok(mut kept)) => {
                // Whatever became of its file.
                kept.systems.extend(self.ledger.generation.systems().cloned());
                let others = if kept.unread.is_empty() { OtherRoots::Remove } else { OtherRoots::Keep };
                self.host.root(&kept.systems, others).await.map_err(|error| chain(&error))
            }
            Ok(Err(error)) => Err(chain(&error)),
            // Fails only when the runtime shuts down.
            Err(_) => return,
        };
        self.unrooted = rooted.err().map(|cause| {
            format!("{cause}: Nix may collect systems that are declared; `nixmoxctl up` tries again with the next change")
        });
        if let Some(warning) = &self.unrooted {
            warn!(event = "roots", "{warning}");
        }
    }
}

/// Returns the instance that runs, or the last one that did.
fn instance(container: &Container) -> Option<InvocationId> {
    container.invocation.or(container.exit.as_ref().map(|exit| exit.invocation))
}

/// Returns why a step is taken, in one line.
fn because(step: &Begun) -> String {
    step.reasons.iter().map(words::reason_text).collect::<Vec<_>>().join("; ")
}

/// Waits for the next time the watchdog wants to hear; forever without one. Cancel-safe.
async fn tick(interval: &mut Option<time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
