//! The client's side of the interface.

use std::os::fd::OwnedFd;

use futures_util::Stream;
use zlink::proxy;

use crate::{
    AgentError, Applied, CopyReply, CopyRequest, DiffReply, Done, EventsRequest, ExecReply, ExecRequest,
    GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest, GpusReply, LogSources, LogsRequest, Nothing,
    OffloadModelReply, OffloadsReply, PathsReply, PlanReply, Request, StacksReply, Status, Update, UsageReply,
};

/// Calls of `io.nixmox.Agent` on a connection.
#[proxy(interface = "io.nixmox.Agent")]
pub trait AgentProxy {
    /// Returns the snapshot. Role: observer.
    async fn status(&mut self) -> zlink::Result<Result<Status, AgentError>>;

    /// Returns what the services use now. Role: observer.
    async fn usage(&mut self) -> zlink::Result<Result<UsageReply, AgentError>>;

    /// Follows the snapshot: first as it is, then every event. Role: observer.
    #[zlink(more)]
    async fn watch(&mut self) -> zlink::Result<impl Stream<Item = zlink::Result<Result<Update, AgentError>>>>;

    /// Hands over pipes on which lines of services' journals come. Role: observer.
    #[zlink(more, return_fds)]
    async fn logs(
        &mut self,
        request: &LogsRequest,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<(Result<LogSources, AgentError>, Vec<OwnedFd>)>>>;

    /// Hands over a pipe on which events come, as the journal has them. Role: observer.
    #[zlink(more, return_fds)]
    async fn events(
        &mut self,
        request: &EventsRequest,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<(Result<LogSources, AgentError>, Vec<OwnedFd>)>>>;

    /// Returns the stacks. Role: observer.
    async fn stacks(&mut self) -> zlink::Result<Result<StacksReply, AgentError>>;

    /// Returns where everything of a service lies. Role: observer.
    async fn paths(&mut self, name: &str) -> zlink::Result<Result<PathsReply, AgentError>>;

    /// Returns what `Apply` would do. Role: observer.
    async fn plan(&mut self, request: &Request) -> zlink::Result<Result<PlanReply, AgentError>>;

    /// Returns the generations that are kept. Role: observer.
    async fn generations(&mut self) -> zlink::Result<Result<GenerationsReply, AgentError>>;

    /// Returns what differs between two generations. Role: observer.
    async fn diff(&mut self, from: u64, to: u64) -> zlink::Result<Result<DiffReply, AgentError>>;

    /// Returns what is known of the GPUs, and how services stand with them. Role: observer.
    async fn gpus(&mut self) -> zlink::Result<Result<GpusReply, AgentError>>;

    /// Returns what would come of a share of the GPUs; nothing is changed. Role: observer.
    async fn gpu_fit(&mut self, request: &GpuFitRequest) -> zlink::Result<Result<GpuFitReply, AgentError>>;

    /// Looks at every layer between the GPUs and a service; without a name, and all services that have some. Role: observer.
    async fn gpu_doctor(&mut self, name: Option<&str>) -> zlink::Result<Result<GpuDoctorReply, AgentError>>;

    /// Returns what runs models in services, and what is decided about it. Role: observer.
    async fn offloads(&mut self) -> zlink::Result<Result<OffloadsReply, AgentError>>;

    /// Returns what a model of a service is made of, as its engine says. Role: observer.
    async fn offload_model(
        &mut self,
        name: &str,
        model: &str,
    ) -> zlink::Result<Result<OffloadModelReply, AgentError>>;

    /// Makes a stack as declared: a new generation. Returns once it is written and `Status`
    /// shows it, not once it is done. Role: operator.
    async fn apply(&mut self, request: &Request) -> zlink::Result<Result<Applied, AgentError>>;

    /// Stops services of a stack and no longer desires them: a new generation. No names: the whole stack.
    /// Role: operator.
    async fn down(&mut self, stack: &str, names: &[String]) -> zlink::Result<Result<Applied, AgentError>>;

    /// Makes a stack, or services of it, as an earlier generation has them: a new generation. Without a number: the last
    /// one before that differs and is not bad. Role: operator.
    async fn rollback(
        &mut self,
        stack: &str,
        to: Option<u64>,
        names: &[String],
    ) -> zlink::Result<Result<Applied, AgentError>>;

    /// Releases services that `stop` holds. Role: operator.
    async fn start(&mut self, names: &[String]) -> zlink::Result<Result<Done, AgentError>>;

    /// Holds services stopped, until `start` or the next `Apply` of them. Role: operator.
    async fn stop(&mut self, names: &[String], with_dependents: bool) -> zlink::Result<Result<Done, AgentError>>;

    /// Restarts services. Role: operator.
    async fn restart(&mut self, names: &[String]) -> zlink::Result<Result<Done, AgentError>>;

    /// Deletes the state of a service that is stopped and not declared. Role: operator.
    async fn remove_data(&mut self, name: &str) -> zlink::Result<Result<Nothing, AgentError>>;

    /// Runs a command in a container. The first reply hands its terminal over, or its standard input, output and error;
    /// the last one says how it ended. It is ended when the connection closes. Role: operator.
    #[zlink(more, return_fds)]
    async fn exec(
        &mut self,
        request: &ExecRequest,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<(Result<ExecReply, AgentError>, Vec<OwnedFd>)>>>;

    /// Copies files out of a container or into it. The first reply hands over a pipe with a tar, to be read or written;
    /// the last one says what became of it. Role: operator.
    #[zlink(more, return_fds)]
    async fn copy(
        &mut self,
        request: &CopyRequest,
    ) -> zlink::Result<impl Stream<Item = zlink::Result<(Result<CopyReply, AgentError>, Vec<OwnedFd>)>>>;
}
