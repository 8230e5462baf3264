//! What the server asks of the agent.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, DiffReply, Done, EventsRequest, ExecReply, ExecRequest,
    GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpusReply, LogSources, LogsRequest,
    OffloadModelReply, OffloadsReply, PathsReply, PlanReply, Request, StacksReply, Status, Update, UsageReply,
};
use tokio::sync::broadcast;

/// Something that lasts, and that its client attends: it is handed descriptors, and told how it ended.
///
/// Dropped as soon as the client leaves; whatever was begun for it must end with that.
pub struct Attended<T> {
    /// The first reply, which goes with the descriptors.
    pub first: T,
    /// What the client is handed, in the order that the method's documentation says.
    pub descriptors: Vec<OwnedFd>,
    /// Waits for the end; the last reply.
    pub end: Pin<Box<dyn Future<Output = Result<T, AgentError>>>>,
}

/// What the server asks of the agent; who may ask is decided before.
///
/// Names of services and stacks have the grammar of `ContainerName` and `StackName`; whether there is such a service
/// is not known yet. A call that was begun is always finished, also when its client has left.
pub trait Control: Clone + 'static {
    /// Waits until there is a first snapshot, in bounded time; the server then calls `status`, `usage`, `watch`, `stacks`
    /// and `paths`. Somebody who asks an agent that has just started must not be told that there is nothing.
    fn ready(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Returns the newest snapshot, with usage figures not older than a second.
    fn status(&self) -> impl Future<Output = Status>;

    /// Returns what the services use now.
    fn usage(&self) -> impl Future<Output = UsageReply>;

    /// Returns the newest snapshot as the first message of a watch, and a channel with every event after it.
    ///
    /// A receiver that lags gets `RecvError::Lagged`; the server then sends a fresh snapshot with
    /// `resynchronize` set.
    fn watch(&self) -> (Update, broadcast::Receiver<Arc<Update>>);

    /// Returns the stacks.
    fn stacks(&self) -> StacksReply;

    /// Returns where everything of a service lies.
    fn paths(&self, name: &str) -> impl Future<Output = Result<PathsReply, AgentError>>;

    /// Returns the generations that are kept.
    fn generations(&self) -> impl Future<Output = Result<GenerationsReply, AgentError>>;

    /// Returns what differs between two generations.
    fn diff(&self, from: u64, to: u64) -> impl Future<Output = Result<DiffReply, AgentError>>;

    /// Returns what is known of the GPUs, from a look that is not older than a second, and how services stand with them.
    fn gpus(&self) -> impl Future<Output = Result<GpusReply, AgentError>>;

    /// Returns what would come of a share of the GPUs; nothing is changed.
    fn gpu_fit(&self, request: GpuFitRequest) -> impl Future<Output = Result<GpuFitReply, AgentError>>;

    /// Looks at every layer between the GPUs and the services that have some, or this one.
    fn gpu_doctor(&self, name: Option<String>) -> impl Future<Output = Result<GpuDoctorReply, AgentError>>;

    /// Returns what runs models in services, and what is decided about it.
    fn offloads(&self) -> impl Future<Output = Result<OffloadsReply, AgentError>>;

    /// Asks the engine of a service what a model is made of; names of models are any text without control characters.
    fn offload_model(
        &self,
        name: String,
        model: String,
    ) -> impl Future<Output = Result<OffloadModelReply, AgentError>>;

    /// Starts to read lines of services, for this user; whoever attends the call gets the pipes.
    fn logs(
        &self,
        request: LogsRequest,
        uid: u32,
    ) -> impl Future<Output = Result<Attended<LogSources>, AgentError>>;

    /// Starts to read events, for this user; whoever attends the call gets the pipe.
    fn events(
        &self,
        request: EventsRequest,
        uid: u32,
    ) -> impl Future<Output = Result<Attended<LogSources>, AgentError>>;

    /// Plans a request without changing anything.
    fn plan(&self, request: Request) -> impl Future<Output = Result<PlanReply, AgentError>>;

    /// Adds to a plan what guests say of it, which are asked for that; `systems` are the declared ones by service.
    fn look_inside(&self, plan: PlanReply, systems: BTreeMap<String, String>) -> impl Future<Output = PlanReply> {
        drop(systems);
        std::future::ready(plan)
    }

    /// Writes a new generation; returns once it is on disk.
    fn apply(&self, request: Request, caller: Caller) -> impl Future<Output = Result<Applied, AgentError>>;

    /// Drops services of a stack from what is desired; returns once that is on disk.
    fn down(
        &self,
        stack: String,
        names: Vec<String>,
        caller: Caller,
    ) -> impl Future<Output = Result<Applied, AgentError>>;

    /// Brings back a stack, or services of it, as an earlier generation has them; returns once that is on disk.
    fn rollback(
        &self,
        stack: String,
        to: Option<u64>,
        names: Vec<String>,
        caller: Caller,
    ) -> impl Future<Output = Result<Applied, AgentError>>;

    /// Releases held services; returns once that is on disk.
    fn start(&self, names: Vec<String>, caller: Caller) -> impl Future<Output = Result<Done, AgentError>>;

    /// Holds services; returns once that is on disk.
    fn stop(
        &self,
        names: Vec<String>,
        with_dependents: bool,
        caller: Caller,
    ) -> impl Future<Output = Result<Done, AgentError>>;

    /// Asks for a restart; returns once the reconcile task knows.
    fn restart(&self, names: Vec<String>, caller: Caller) -> impl Future<Output = Result<Done, AgentError>>;

    /// Deletes the state of a stopped, undeclared service; returns once it is gone.
    fn remove_data(&self, name: String, caller: Caller) -> impl Future<Output = Result<(), AgentError>>;

    /// Begins a command in a container, which its client attends: the terminal, or the ends for standard input, output
    /// and error.
    fn exec(&self, request: ExecRequest) -> impl Future<Output = Result<Attended<ExecReply>, AgentError>>;

    /// Begins a copy out of a container or into it, which its client attends: the end of a pipe.
    fn copy(&self, request: CopyRequest) -> impl Future<Output = Result<Attended<CopyReply>, AgentError>>;
}
