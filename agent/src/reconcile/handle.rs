//! The reconcile task as others see it: requests go in by a channel, the newest status comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, DiffReply, Done, EventsRequest, ExecReply, ExecRequest,
    GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpusReply, LogSources, LogsRequest,
    OffloadModelReply, OffloadsReply, PathInfo, PathsReply, PlanReply, Request, StackInfo, StacksReply, Status,
    Update, UpdateKind, UsageReply,
};
use nixmox_core::gpu::Inventory;
use nixmox_core::model::ContainerName;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::change::unknown_service;
use super::gpu_answers::{self, GpuScene};
use super::gpus::Seen;
use super::offload_answers::{self, OffloadScene};
use super::{history, inside, session};
use crate::host::Host;
use crate::metrics::{Page, Recorder, Source};
use crate::server::{Attended, Control};
use crate::state::{Generations, NotesFile};
use crate::unhurried::Unhurried;

/// How long somebody who asks waits for the first round after the agent's start; it takes well under a second.
const FIRST_ROUND_LIMIT: Duration = Duration::from_secs(10);

/// How long it takes at most to see whether a path is there.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Such looks at a time, those included that never end: one per path at most.
const LOOKS_MAX: usize = 16;

/// A reply channel.
pub(super) type Answer<T> = oneshot::Sender<Result<T, AgentError>>;
/// Gives an answer that is ready.
pub(super) type Answering = Box<dyn FnOnce() + Send>;

/// What others ask of the reconcile task.
#[derive(Debug)]
pub(super) enum Ask {
    Plan(Request, Answer<PlanReply>),
    Apply(Request, Caller, Answer<Applied>),
    Down(String, Vec<String>, Caller, Answer<Applied>),
    Rollback(String, Option<u64>, Vec<String>, Caller, Answer<Applied>),
    Start(Vec<String>, Caller, Answer<Done>),
    Stop(Vec<String>, bool, Caller, Answer<Done>),
    Restart(Vec<String>, Caller, Answer<Done>),
    RemoveData(String, Caller, Answer<()>),
    /// That the host is looked at.
    Look(Answer<()>),
    /// Nothing: somebody looked at the GPUs.
    SeenGpus(Inventory),
}

/// Where things lie, each with a word for what it is, by service.
pub(super) type Places = Arc<BTreeMap<ContainerName, Vec<(String, String)>>>;

/// What the reconcile task publishes, beside the status, for calls that do not change anything.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub(super) status: Arc<Status>,
    /// The number of the last event that the status includes.
    pub(super) number: u64,
    pub(super) stacks: Vec<StackInfo>,
    /// Whether the host could be looked at at least once.
    pub(super) looked: bool,
    /// When it was published; `None` before that. Countdowns in the status are as of then.
    pub(super) at: Option<tokio::time::Instant>,
    /// Where things lie, by service.
    pub(super) places: Places,
    /// Declared `memory_high` in bytes, of the services that have one.
    pub(super) memory_high: Arc<BTreeMap<ContainerName, u64>>,
    /// When the last probe of each was answered, in seconds since 1970. Nobody is woken for it.
    pub(super) probed: BTreeMap<ContainerName, u64>,
    /// What answers about GPUs are made of.
    pub(super) gpus: Arc<GpuScene>,
    /// What answers about models are made of.
    pub(super) offloads: Arc<OffloadScene>,
}

impl Published {
    /// Returns the status as of now, and when each service was last asked how it is. A watch is not told that, since it
    /// would be woken each time.
    fn status_with_probes(&self) -> Status {
        let mut status = self.status_now();
        for service in status.services.iter_mut().filter(|service| !service.probe.is_empty()) {
            service.probe_at = self.probed.get(service.name.as_str()).copied();
        }
        status
    }

    /// Returns the status as of now: time passes between two looks, too.
    fn status_now(&self) -> Status {
        let mut status = Status::clone(&self.status);
        let passed = self.at.map_or(0, |at| at.elapsed().as_secs());
        for drift in status.services.iter_mut().flat_map(|service| &mut service.drift) {
            drift.corrected_in = drift.corrected_in.map(|left| left.saturating_sub(passed));
        }
        status
    }
}

/// A handle on the reconcile task. Cheap to clone.
#[derive(Debug)]
pub struct Handle<H> {
    host: Arc<H>,
    asks: mpsc::Sender<Ask>,
    published: watch::Receiver<Published>,
    events: broadcast::Sender<Arc<Update>>,
    samples: Arc<Mutex<Samples>>,
    readers: super::logs::Places,
    unhurried: Unhurried,
    generations: Generations,
    notes: NotesFile,
    recorder: Recorder,
}

/// CPU time as it was at the last look, for percentages.
type Samples = BTreeMap<String, (Instant, u64)>;

impl<H> Clone for Handle<H> {
    fn clone(&self) -> Self {
        Self {
            host: Arc::clone(&self.host),
            asks: self.asks.clone(),
            published: self.published.clone(),
            events: self.events.clone(),
            samples: Arc::clone(&self.samples),
            readers: self.readers.clone(),
            unhurried: self.unhurried.clone(),
            generations: self.generations.clone(),
            notes: self.notes.clone(),
            recorder: self.recorder.clone(),
        }
    }
}

impl<H: Host> Handle<H> {
    pub(super) fn new(
        host: Arc<H>,
        asks: mpsc::Sender<Ask>,
        published: watch::Receiver<Published>,
        events: broadcast::Sender<Arc<Update>>,
        (generations, notes): (Generations, NotesFile),
        recorder: Recorder,
    ) -> Self {
        Self {
            host,
            asks,
            published,
            events,
            samples: Arc::default(),
            readers: super::logs::Places::default(),
            unhurried: Unhurried::new(LOOKS_MAX, LOOK_LIMIT),
            generations,
            notes,
            recorder,
        }
    }

    /// Reads what lies on disk, on the blocking pool.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Generations, &NotesFile) -> Result<T, AgentError> + Send + 'static,
    ) -> Result<T, AgentError> {
        let (generations, notes) = (self.generations.clone(), self.notes.clone());
        let done = tokio::task::spawn_blocking(move || work(&generations, &notes)).await;
        // Fails only when the runtime shuts down.
        done.unwrap_or_else(|_| Err(stopping()))
    }

    /// Waits until the reconcile task has looked at the host once, or until `limit` is over.
    pub async fn looked(&self, limit: Duration) {
        let mut published = self.published.clone();
        let _late = tokio::time::timeout(limit, published.wait_for(|published| published.looked)).await;
    }

    async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Ask) -> Result<T, AgentError> {
        let (answer, reply) = oneshot::channel();
        self.asks.send(make(answer)).await.map_err(|_| stopping())?;
        reply.await.map_err(|_| stopping())?
    }

    /// Returns the declared container of this name.
    fn known(&self, name: &str) -> Result<ContainerName, AgentError> {
        let places = &self.published.borrow().places;
        let known = places.keys().find(|known| known.as_str() == name).cloned();
        known.ok_or_else(|| unknown_service(name, places.keys()))
    }

    /// Looks at the GPUs, unless somebody did a moment ago.
    async fn look_at_gpus(&self) -> Arc<Seen> {
        let recent = self.published.borrow().gpus.seen.clone().filter(|seen| seen.is_recent());
        match recent {
            Some(seen) => seen,
            None => Arc::new(Seen::now(self.host.gpus().await, Duration::ZERO)),
        }
    }

    /// Has the task know of the GPUs, where a request asks for some: what it then says of them is not a guess.
    async fn look_for(&self, request: &Request) -> Result<(), AgentError> {
        if request.services.iter().any(|service| service.gpu.is_some()) {
            let inventory = self.host.gpus().await;
            self.asks.send(Ask::SeenGpus(inventory)).await.map_err(|_| stopping())?;
        }
        Ok(())
    }

    /// Adds what the containers use now. Percentages are of the time since the last look, or since the start.
    async fn with_usage(&self, mut status: Status) -> Status {
        let usage = self.host.usage(&super::usage::running(&status)).await;
        let now = Instant::now();
        let wall_usec = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.retain(|name, _| usage.contains_key(name.as_str()));
        let vram = self.published.borrow().gpus.used();
        for service in &mut status.services {
            if let Some(gpu) = &mut service.gpu {
                gpu.used = vram.get(service.name.as_str()).map(|bytes| bytes.0);
            }
            let Some(used) = usage.get(service.name.as_str()) else { continue };
            service.memory_current = used.memory_current;
            service.tasks_current = used.tasks_current;
            service.cpu_usec = used.cpu_usec;
            let Some(cpu) = used.cpu_usec else { continue };
            let since_start = used
                .began_usec
                .and_then(|start| u64::try_from(wall_usec).ok()?.checked_sub(start))
                .map(|wall| (wall, cpu));
            let since_sample = samples.get(&service.name).and_then(|(then, before)| {
                let wall = u64::try_from(now.duration_since(*then).as_micros()).ok()?;
                Some((wall, cpu.checked_sub(*before)?))
            });
            // A sample younger than 200 ms says more about the clock tick than about the container.
            let period = since_sample.filter(|(wall, _)| *wall >= 200_000);
            service.cpu_percent = period.or(since_start).filter(|(wall, _)| *wall > 0).map(percent);
            if period.is_some() || since_sample.is_none() {
                samples.insert(service.name.clone(), (now, cpu));
            }
        }
        status
    }
}

/// Returns CPU time in percent of wall time.
#[allow(clippy::cast_precision_loss, reason = "a percentage for people; 2^53 microseconds are 285 years")]
fn percent((wall, cpu): (u64, u64)) -> f64 {
    cpu as f64 * 100.0 / wall as f64
}

impl<H: Host> Source for Handle<H> {
    async fn page(&self) -> Page {
        let (status, scene, offloads) = {
            let published = self.published.borrow();
            (Arc::clone(&published.status), Arc::clone(&published.gpus), Arc::clone(&published.offloads))
        };
        let usage = self.host.figures(&super::usage::running(&status)).await;
        let gpus = scene.seen.as_ref().map(|seen| Arc::new(gpu_answers::gpus(seen, &scene)));
        let offloads =
            (!offloads.is_empty()).then(|| Arc::new(offload_answers::offloads(scene.seen.as_deref(), &offloads)));
        Page { status, usage, records: self.recorder.read(), gpus, offloads }
    }
}

impl<H: Host> Control for Handle<H> {
    async fn ready(&self) {
        let mut published = self.published.clone();
        // An agent that cannot observe answers all the same, in the end.
        let _ = timeout(FIRST_ROUND_LIMIT, published.wait_for(|published| published.number > 0)).await;
    }

    async fn status(&self) -> Status {
        let status = self.published.borrow().status_with_probes();
        self.with_usage(status).await
    }

    async fn usage(&self) -> UsageReply {
        let published = self.published.borrow().clone();
        super::usage::reply(&*self.host, &published).await
    }

    fn watch(&self) -> (Update, broadcast::Receiver<Arc<Update>>) {
        // Subscribed before the snapshot is read: an event in between is then in both, never in neither.
        let events = self.events.subscribe();
        let published = self.published.borrow();
        let first = Update {
            kind: UpdateKind::Snapshot,
            number: published.number,
            at_usec: now_usec(),
            resynchronize: false,
            service: String::new(),
            event: String::new(),
            message: String::new(),
            status: Some(published.status_now()),
            current: None,
            host: None,
            stacks: None,
        };
        (first, events)
    }

    fn stacks(&self) -> StacksReply {
        StacksReply { stacks: self.published.borrow().stacks.clone() }
    }

    async fn paths(&self, name: &str) -> Result<PathsReply, AgentError> {
        let places = Arc::clone(&self.published.borrow().places);
        let Some(places) = places.get(name) else {
            return Err(unknown_service(name, places.keys()));
        };
        let paths = places.iter().map(async |(what, path)| {
            let looked = PathBuf::from(path);
            let exists = if path.starts_with('/') {
                // Mount sources are somebody else's: what they lie on may be gone.
                self.unhurried.run(Path::new(path), move || looked.symlink_metadata().is_ok()).await
            } else {
                Some(true)
            };
            PathInfo { what: what.clone(), path: path.clone(), exists }
        });
        Ok(PathsReply { paths: join_all(paths).await })
    }

    async fn generations(&self) -> Result<GenerationsReply, AgentError> {
        let current = self.published.borrow().status.host.generation;
        self.read(move |generations, notes| history::list(generations, notes, current)).await
    }

    async fn diff(&self, from: u64, to: u64) -> Result<DiffReply, AgentError> {
        self.read(move |generations, _| history::diff(generations, from, to)).await
    }

    async fn gpus(&self) -> Result<GpusReply, AgentError> {
        let seen = self.look_at_gpus().await;
        Ok(gpu_answers::gpus(&seen, &self.published.borrow().gpus))
    }

    async fn gpu_fit(&self, request: GpuFitRequest) -> Result<GpuFitReply, AgentError> {
        let seen = self.look_at_gpus().await;
        let published = self.published.borrow();
        gpu_answers::fit(&seen, (&published.gpus, &published.places), request)
    }

    async fn offloads(&self) -> Result<OffloadsReply, AgentError> {
        // Where no service runs models nobody needs to know, and a GPU may sleep.
        let seen = if self.published.borrow().offloads.is_empty() { None } else { Some(self.look_at_gpus().await) };
        Ok(offload_answers::offloads(seen.as_deref(), &self.published.borrow().offloads))
    }

    async fn offload_model(&self, name: String, model: String) -> Result<OffloadModelReply, AgentError> {
        let (offloads, places) = {
            let published = self.published.borrow();
            (Arc::clone(&published.offloads), Arc::clone(&published.places))
        };
        let seen = if offloads.is_empty() { None } else { Some(self.look_at_gpus().await) };
        offload_answers::model(&*self.host, seen.as_deref(), (&offloads, &places), &name, model).await
    }

    async fn gpu_doctor(&self, name: Option<String>) -> Result<GpuDoctorReply, AgentError> {
        // What was a moment ago is no diagnosis: neither of the machine, nor of what systemd has.
        self.ask(Ask::Look).await?;
        let seen = Seen::now(self.host.gpus().await, Duration::ZERO);
        let (scene, offloads, places) = {
            let published = self.published.borrow();
            (Arc::clone(&published.gpus), Arc::clone(&published.offloads), Arc::clone(&published.places))
        };
        gpu_answers::doctor(&*self.host, &seen, (&scene, &offloads, &places), name.as_deref()).await
    }

    async fn logs(&self, request: LogsRequest, uid: u32) -> Result<Attended<LogSources>, AgentError> {
        let places = Arc::clone(&self.published.borrow().places);
        let leaving = self.published.borrow().status.clone();
        let leaving = leaving.services.iter().filter_map(|service| service.name.parse().ok());
        let mut known: BTreeSet<ContainerName> = places.keys().cloned().chain(leaving).collect();
        if request.services.iter().any(|of| !known.contains(of.name.as_str())) {
            // What a service said stays in the journal when it is taken away.
            known.extend(self.read(|generations, _| history::declared(generations)).await?);
        }
        super::logs::services(&*self.host, &self.readers, request, uid, &known).await
    }

    async fn events(&self, request: EventsRequest, uid: u32) -> Result<Attended<LogSources>, AgentError> {
        super::logs::events(&*self.host, &self.readers, request, uid)
    }

    async fn plan(&self, request: Request) -> Result<PlanReply, AgentError> {
        self.look_for(&request).await?;
        self.ask(|answer| Ask::Plan(request, answer)).await
    }

    async fn look_inside(&self, mut plan: PlanReply, systems: BTreeMap<String, String>) -> PlanReply {
        inside::look(&*self.host, &mut plan, &systems).await;
        plan
    }

    async fn apply(&self, request: Request, caller: Caller) -> Result<Applied, AgentError> {
        self.look_for(&request).await?;
        self.ask(|answer| Ask::Apply(request, caller, answer)).await
    }

    async fn down(&self, stack: String, names: Vec<String>, caller: Caller) -> Result<Applied, AgentError> {
        self.ask(|answer| Ask::Down(stack, names, caller, answer)).await
    }

    async fn rollback(
        &self,
        stack: String,
        to: Option<u64>,
        names: Vec<String>,
        caller: Caller,
    ) -> Result<Applied, AgentError> {
        self.ask(|answer| Ask::Rollback(stack, to, names, caller, answer)).await
    }

    async fn start(&self, names: Vec<String>, caller: Caller) -> Result<Done, AgentError> {
        self.ask(|answer| Ask::Start(names, caller, answer)).await
    }

    async fn stop(&self, names: Vec<String>, with_dependents: bool, caller: Caller) -> Result<Done, AgentError> {
        self.ask(|answer| Ask::Stop(names, with_dependents, caller, answer)).await
    }

    async fn restart(&self, names: Vec<String>, caller: Caller) -> Result<Done, AgentError> {
        self.ask(|answer| Ask::Restart(names, caller, answer)).await
    }

    async fn remove_data(&self, name: String, caller: Caller) -> Result<(), AgentError> {
        self.ask(|answer| Ask::RemoveData(name, caller, answer)).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<Attended<ExecReply>, AgentError> {
        session::exec(&*self.host, &self.known(&request.name)?, request).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<Attended<CopyReply>, AgentError> {
        session::copy(&*self.host, &self.known(&request.name)?, request).await
    }
}

pub(super) fn stopping() -> AgentError {
    AgentError::Refused { reason: "the agent is stopping".to_owned(), hint: "try again in a moment".to_owned() }
}

/// Returns the time of day in microseconds since 1970.
pub(super) fn now_usec() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    u64::try_from(since).unwrap_or(u64::MAX)
}
