//! A made-up agent: answers every call, counts them, and sends events when a test says so.

use std::io::Write;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nixmox_agent::server::{Attended, Control};
use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, DiffReply, Done, EventsRequest, ExecReply, ExecRequest,
    GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpusReply, HostStatus, LogKind, LogSource,
    LogSources, LogsRequest, OffloadModelReply, OffloadsReply, PathsReply, PlanReply, Request, StacksReply, Status,
    Update, UpdateKind, UsageReply,
};
use tokio::sync::{Semaphore, broadcast};

/// Shared by the server's thread and the test.
#[derive(Clone)]
pub(crate) struct Fake {
    calls: Arc<Mutex<Vec<String>>>,
    events: broadcast::Sender<Arc<Update>>,
    number: Arc<Mutex<u64>>,
    /// `restart` takes a permit of it, so that a test can hold a call back.
    pub(crate) gate: Arc<Semaphore>,
    restarts_begun: Arc<AtomicUsize>,
    /// `ready` takes a permit of it, so that a test can let the agent be one that has just started.
    pub(crate) started: Arc<Semaphore>,
    /// How many calls are attended by their clients.
    attended: Arc<AtomicUsize>,
    /// Whether an event happens between the subscription of a watch and its snapshot.
    pub(crate) event_while_watch_begins: Arc<AtomicBool>,
}

impl Fake {
    /// An agent whose channel of events holds so many.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            calls: Arc::default(),
            events: broadcast::channel(capacity).0,
            number: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            restarts_begun: Arc::default(),
            started: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            attended: Arc::default(),
            event_while_watch_begins: Arc::default(),
        }
    }

    /// Returns the changes that were asked for, each with who asked.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Returns how many watches are in progress.
    pub(crate) fn watches(&self) -> usize {
        self.events.receiver_count()
    }

    /// Returns how many calls are attended by their clients.
    pub(crate) fn attended(&self) -> usize {
        self.attended.load(Ordering::SeqCst)
    }

    /// Returns how many calls of `restart` have begun.
    pub(crate) fn restarts_begun(&self) -> usize {
        self.restarts_begun.load(Ordering::SeqCst)
    }

    /// Sends the next event, with a message of this length; returns its number.
    pub(crate) fn send_event(&self, length: usize) -> u64 {
        let mut number = self.number.lock().unwrap();
        *number += 1;
        let update = Update {
            kind: UpdateKind::Event,
            event: "changed".into(),
            message: "x".repeat(length),
            status: None,
            ..Self::snapshot(*number)
        };
        // Without a watch nobody receives it.
        let _ = self.events.send(Arc::new(update));
        *number
    }

    fn snapshot(number: u64) -> Update {
        Update {
            kind: UpdateKind::Snapshot,
            number,
            at_usec: 0,
            resynchronize: false,
            service: String::new(),
            event: String::new(),
            message: String::new(),
            status: Some(Self::made_up_status()),
            current: None,
            host: None,
            stacks: None,
        }
    }

    fn made_up_status() -> Status {
        Status {
            sequence: 1,
            host: HostStatus { version: "test".into(), ..HostStatus::default() },
            ..Status::default()
        }
    }

    fn plan_reply() -> PlanReply {
        PlanReply {
            base: "base".into(),
            generation: 1,
            services: Vec::new(),
            orphans: Vec::new(),
            warnings: Vec::new(),
            limits: None,
        }
    }

    fn note(&self, call: &str, caller: &Caller) {
        self.calls.lock().unwrap().push(format!("{call} by {}", caller.uid));
    }

    fn done(&self, call: &str, names: Vec<String>, caller: &Caller) -> Done {
        self.note(call, caller);
        Done { number: 1, services: names }
    }
}

/// What is at work while a client attends it.
struct AtWork {
    count: Arc<AtomicUsize>,
    _writer: std::io::PipeWriter,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Control for Fake {
    async fn ready(&self) {
        let permit = tokio::time::timeout(Duration::from_mins(1), self.started.acquire()).await;
        drop(permit.expect("the test lets it start"));
    }

    async fn status(&self) -> Status {
        Self::made_up_status()
    }

    async fn usage(&self) -> UsageReply {
        UsageReply { clock_usec: 7, ..UsageReply::default() }
    }

    fn watch(&self) -> (Update, broadcast::Receiver<Arc<Update>>) {
        let begins = self.event_while_watch_begins.load(Ordering::SeqCst);
        let with_event = begins.then(|| {
            let events = self.events.subscribe();
            self.send_event(1);
            events
        });
        // The lock keeps others from coming in between.
        let number = self.number.lock().unwrap();
        (Self::snapshot(*number), with_event.unwrap_or_else(|| self.events.subscribe()))
    }

    fn stacks(&self) -> StacksReply {
        StacksReply { stacks: Vec::new() }
    }

    async fn paths(&self, name: &str) -> Result<PathsReply, AgentError> {
        if name == "absent" {
            return Err(AgentError::UnknownService { name: name.into(), hint: String::new() });
        }
        Ok(PathsReply { paths: Vec::new() })
    }

    async fn generations(&self) -> Result<GenerationsReply, AgentError> {
        Ok(GenerationsReply { generations: Vec::new() })
    }

    async fn gpus(&self) -> Result<GpusReply, AgentError> {
        Ok(GpusReply::default())
    }

    async fn gpu_fit(&self, _request: GpuFitRequest) -> Result<GpuFitReply, AgentError> {
        Ok(GpuFitReply::default())
    }

    async fn gpu_doctor(&self, _name: Option<String>) -> Result<GpuDoctorReply, AgentError> {
        Ok(GpuDoctorReply::default())
    }

    async fn offloads(&self) -> Result<OffloadsReply, AgentError> {
        Ok(OffloadsReply::default())
    }

    async fn offload_model(&self, _name: String, _model: String) -> Result<OffloadModelReply, AgentError> {
        Ok(OffloadModelReply::default())
    }

    async fn diff(&self, _from: u64, _to: u64) -> Result<DiffReply, AgentError> {
        Ok(DiffReply { services: Vec::new(), stacks: None })
    }

    async fn logs(&self, request: LogsRequest, _uid: u32) -> Result<Attended<LogSources>, AgentError> {
        let services: Vec<String> = request.services.into_iter().map(|of| of.name).collect();
        if services.iter().any(|name| name == "absent") {
            return Err(AgentError::UnknownService { name: "absent".into(), hint: String::new() });
        }
        let (lines, mut writer) = std::io::pipe().expect("a pipe");
        writer.write_all(b"a line\n").expect("it is written");
        // It is followed by the one who holds the other end.
        let end: Pin<Box<dyn Future<Output = _>>> = if request.follow {
            self.attended.fetch_add(1, Ordering::SeqCst);
            let attended = AtWork { count: Arc::clone(&self.attended), _writer: writer };
            Box::pin(async move {
                let _attended = attended;
                std::future::pending().await
            })
        } else {
            Box::pin(std::future::ready(Ok(LogSources::default())))
        };
        let first = LogSources { sources: vec![LogSource { kind: LogKind::Host, services }], failed: 0 };
        Ok(Attended { first, descriptors: vec![lines.into()], end })
    }

    async fn events(&self, request: EventsRequest, uid: u32) -> Result<Attended<LogSources>, AgentError> {
        self.logs(LogsRequest { follow: request.follow, ..LogsRequest::default() }, uid).await
    }

    async fn plan(&self, request: Request) -> Result<PlanReply, AgentError> {
        check(request)?;
        Ok(Self::plan_reply())
    }

    async fn apply(&self, request: Request, caller: Caller) -> Result<Applied, AgentError> {
        check(request)?;
        self.note("apply", &caller);
        Ok(Applied { generation: 42, number: 1, plan: Self::plan_reply() })
    }

    async fn down(&self, stack: String, _names: Vec<String>, caller: Caller) -> Result<Applied, AgentError> {
        self.note(&format!("down {stack}"), &caller);
        Ok(Applied { generation: 43, number: 1, plan: Self::plan_reply() })
    }

    async fn rollback(
        &self,
        stack: String,
        _to: Option<u64>,
        _names: Vec<String>,
        caller: Caller,
    ) -> Result<Applied, AgentError> {
        self.note(&format!("rollback {stack}"), &caller);
        Ok(Applied { generation: 44, number: 1, plan: Self::plan_reply() })
    }

    async fn start(&self, names: Vec<String>, caller: Caller) -> Result<Done, AgentError> {
        Ok(self.done("start", names, &caller))
    }

    async fn stop(&self, names: Vec<String>, with_dependents: bool, caller: Caller) -> Result<Done, AgentError> {
        if !with_dependents {
            return Err(AgentError::HasDependents { dependents: names, hint: String::new() });
        }
        Ok(self.done("stop", names, &caller))
    }

    async fn restart(&self, names: Vec<String>, caller: Caller) -> Result<Done, AgentError> {
        self.restarts_begun.fetch_add(1, Ordering::SeqCst);
        let permit = tokio::time::timeout(Duration::from_mins(1), self.gate.acquire()).await;
        drop(permit.expect("the test opens the gate"));
        Ok(self.done("restart", names, &caller))
    }

    async fn remove_data(&self, name: String, caller: Caller) -> Result<(), AgentError> {
        self.note(&format!("remove_data {name}"), &caller);
        Ok(())
    }

    /// Hands over a pipe at whose end the command waits in vain, and ends when the gate of `restart` lets it.
    async fn exec(&self, request: ExecRequest) -> Result<Attended<ExecReply>, AgentError> {
        let (read, write) = std::io::pipe().expect("a pipe");
        let (gate, attended) = (Arc::clone(&self.gate), Arc::clone(&self.attended));
        attended.fetch_add(1, Ordering::SeqCst);
        let left = Left(attended);
        let end = Box::pin(async move {
            let _left = (left, read);
            drop(gate.acquire().await);
            Ok(ExecReply {
                exit_status: Some(request.command.len().try_into().expect("few words")),
                ..ExecReply::default()
            })
        });
        Ok(Attended { first: ExecReply::default(), descriptors: vec![write.into()], end })
    }

    async fn copy(&self, request: CopyRequest) -> Result<Attended<CopyReply>, AgentError> {
        let (read, write) = std::io::pipe().expect("a pipe");
        let (handed, _kept) = if request.into { (write.into(), None) } else { (read.into(), Some(write)) };
        let end = Box::pin(std::future::ready(Ok(CopyReply { objects: 1, ..CopyReply::default() })));
        Ok(Attended { first: CopyReply::default(), descriptors: vec![handed], end })
    }
}

/// Counts down when what is attended is dropped.
struct Left(Arc<AtomicUsize>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn check(request: Request) -> Result<(), AgentError> {
    match request.into_model() {
        Ok(_) => Ok(()),
        Err(problems) => Err(AgentError::Invalid { problems, hint: String::new() }),
    }
}
