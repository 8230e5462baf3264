//! Calls to the agent: one connection, a time limit per call, and errors that say what to do.
//!
//! Owns how the agent is reached; knows nothing of commands or texts on the screen.

mod attend;
mod error;
mod mirror;
mod session;
mod watch;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{
    AgentError, AgentProxy, Applied, DiffReply, Done, GenerationsReply, GpuDoctorReply, GpuFitReply, GpuFitRequest,
    GpusReply, OffloadModelReply, OffloadsReply, PathsReply, PlanReply, Request, StacksReply, Status, UsageReply,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use zlink::Call;
use zlink::tokio::unix::{Connection, Stream};

pub(crate) use attend::{Attending, LinesOf};
pub(crate) use error::ClientError;
pub(crate) use mirror::Mirror;
pub(crate) use watch::{Message, Watch};

/// How long one call may take. A plan of a large stack takes milliseconds; the rest is a host under load.
const CALL: Duration = Duration::from_secs(30);

/// How long data may take to be deleted: a large root on a slow disk takes many minutes, and Ctrl-C ends the wait.
const REMOVAL: Duration = Duration::from_hours(24);

/// How long the agent may take to tell its version.
const VERSION: Duration = Duration::from_secs(1);

/// The waits between attempts to connect, while systemd sets up the socket or the agent is being replaced.
const ATTEMPTS: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(160), Duration::from_millis(320)];

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    /// The same socket, for requests that hold a whole stack.
    ///
    /// zlink writes a call into a buffer that grows by 256 bytes and begins anew each time: 0.75 s for the 340 kB of 300
    /// services, which `serde_json` writes in a millisecond.
    writer: UnixStream,
}

/// A call as it goes over the wire.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    method: &'a str,
    parameters: Parameters<'a>,
}

/// What every Varlink service can be asked; zlink's own proxy for it comes with a parser of interfaces.
#[derive(Debug, Serialize)]
#[serde(tag = "method")]
enum Service {
    #[serde(rename = "org.varlink.service.GetInfo")]
    GetInfo,
}

/// What a service says of itself, as far as it is asked for.
#[derive(Debug, Deserialize)]
struct Info {
    version: String,
}

/// The parameters of `Plan` and `Apply`.
#[derive(Debug, Serialize)]
struct Parameters<'a> {
    request: &'a Request,
}

impl Client {
    /// Connects, and tries again for half a second where the agent may just be starting.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let mut waits = ATTEMPTS.into_iter();
        loop {
            let refused = match connect(socket).await {
                Ok(client) => return Ok(client),
                Err(refused) => refused,
            };
            match waits.next() {
                Some(wait) if refused.may_pass() => tokio::time::sleep(wait).await,
                Some(_) | None => return Err(refused),
            }
        }
    }

    /// Returns the agent's version, if it is told in time: for a complaint, which does not wait for long.
    pub(crate) async fn version(socket: &Path) -> Option<String> {
        let asked = async {
            let mut client = connect(socket).await.ok()?;
            client.connection.send_call(&Call::new(Service::GetInfo), Vec::new()).await.ok()?;
            let (reply, _descriptors) = client.connection.receive_reply::<Info, AgentError>().await.ok()?;
            Some(reply.ok()?.into_parameters()?.version)
        };
        tokio::time::timeout(VERSION, asked).await.ok().flatten()
    }

    /// Connects, or says at once why not.
    pub(crate) async fn connect_once(socket: &Path) -> Result<Self, ClientError> {
        connect(socket).await
    }

    /// Returns the snapshot.
    pub(crate) async fn status(&mut self) -> Result<Status, ClientError> {
        answer(self.connection.status()).await
    }

    /// Returns what the services use now.
    pub(crate) async fn usage(&mut self) -> Result<UsageReply, ClientError> {
        answer(self.connection.usage()).await
    }

    /// Returns the stacks.
    pub(crate) async fn stacks(&mut self) -> Result<StacksReply, ClientError> {
        answer(self.connection.stacks()).await
    }

    /// Returns where everything of a service lies.
    pub(crate) async fn paths(&mut self, name: &str) -> Result<PathsReply, ClientError> {
        answer(self.connection.paths(name)).await
    }

    /// Returns the generations that are kept.
    pub(crate) async fn generations(&mut self) -> Result<GenerationsReply, ClientError> {
        answer(self.connection.generations()).await
    }

    /// Returns what differs between two generations.
    pub(crate) async fn diff(&mut self, from: u64, to: u64) -> Result<DiffReply, ClientError> {
        answer(self.connection.diff(from, to)).await
    }

    /// Returns what is known of the GPUs, and how services stand with them.
    pub(crate) async fn gpus(&mut self) -> Result<GpusReply, ClientError> {
        answer(self.connection.gpus()).await
    }

    /// Returns what would come of a share of the GPUs.
    pub(crate) async fn gpu_fit(&mut self, request: &GpuFitRequest) -> Result<GpuFitReply, ClientError> {
        answer(self.connection.gpu_fit(request)).await
    }

    /// Returns what runs models in services, and what is decided about it.
    pub(crate) async fn offloads(&mut self) -> Result<OffloadsReply, ClientError> {
        answer(self.connection.offloads()).await
    }

    /// Returns what a model of a service is made of.
    pub(crate) async fn offload_model(
        &mut self,
        name: &str,
        model: &str,
    ) -> Result<OffloadModelReply, ClientError> {
        answer(self.connection.offload_model(name, model)).await
    }

    /// Returns every layer between the GPUs and a service, or all that have some.
    pub(crate) async fn gpu_doctor(&mut self, name: Option<&str>) -> Result<GpuDoctorReply, ClientError> {
        answer(self.connection.gpu_doctor(name)).await
    }

    /// Returns what `apply` would do.
    pub(crate) async fn plan(&mut self, request: &Request) -> Result<PlanReply, ClientError> {
        answer(self.ask("io.nixmox.Agent.Plan", request)).await
    }

    /// Makes a stack as declared; returns when that is written down, not when it is done.
    pub(crate) async fn apply(&mut self, request: &Request) -> Result<Applied, ClientError> {
        answer(self.ask("io.nixmox.Agent.Apply", request)).await
    }

    /// Stops services of a stack and no longer desires them; no names: all.
    pub(crate) async fn down(&mut self, stack: &str, names: &[String]) -> Result<Applied, ClientError> {
        answer(self.connection.down(stack, names)).await
    }

    /// Makes a stack, or services of it, as an earlier generation has them.
    pub(crate) async fn rollback(
        &mut self,
        stack: &str,
        to: Option<u64>,
        names: &[String],
    ) -> Result<Applied, ClientError> {
        answer(self.connection.rollback(stack, to, names)).await
    }

    /// Releases services that are held.
    pub(crate) async fn start(&mut self, names: &[String]) -> Result<Done, ClientError> {
        answer(self.connection.start(names)).await
    }

    /// Holds services stopped.
    pub(crate) async fn stop(&mut self, names: &[String], with_dependents: bool) -> Result<Done, ClientError> {
        answer(self.connection.stop(names, with_dependents)).await
    }

    /// Restarts services.
    pub(crate) async fn restart(&mut self, names: &[String]) -> Result<Done, ClientError> {
        answer(self.connection.restart(names)).await
    }

    /// Sends a request with a whole stack, and waits for the reply.
    async fn ask<T: DeserializeOwned + std::fmt::Debug>(
        &mut self,
        method: &str,
        request: &Request,
    ) -> zlink::Result<Result<T, AgentError>> {
        let asked = Asked { method, parameters: Parameters { request } };
        let mut message = serde_json::to_vec(&asked).map_err(zlink::Error::Json)?;
        // Each message ends with a zero byte (varlink.org, "Protocol").
        message.push(0);
        self.writer.write_all(&message).await?;
        let (reply, _descriptors) = self.connection.receive_reply::<T, AgentError>().await?;
        match reply {
            Ok(reply) => reply.into_parameters().map(Ok).ok_or(zlink::Error::MissingParameters),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// Deletes the state of a service.
    pub(crate) async fn remove_data(&mut self, name: &str) -> Result<(), ClientError> {
        let nixmox_api::Nothing {} = answer_within(REMOVAL, self.connection.remove_data(name)).await?;
        Ok(())
    }
}

async fn connect(socket: &Path) -> Result<Client, ClientError> {
    let stream = async {
        let stream = UnixStream::connect(socket).await?.into_std()?;
        Ok((UnixStream::from_std(stream.try_clone()?)?, stream))
    };
    let (writer, stream) = stream.await.map_err(|source: io::Error| {
        let socket = PathBuf::from(socket);
        match source.kind() {
            ErrorKind::NotFound => ClientError::Missing { socket },
            ErrorKind::PermissionDenied => ClientError::Denied { socket },
            ErrorKind::ConnectionRefused => ClientError::Refused { socket },
            _ => ClientError::Unreachable { socket, source },
        }
    })?;
    let stream = Stream::try_from(stream).map_err(|source| ClientError::Lost { source })?;
    Ok(Client { connection: Connection::new(stream), writer })
}

async fn answer<T>(call: impl Future<Output = zlink::Result<Result<T, AgentError>>>) -> Result<T, ClientError> {
    answer_within(CALL, call).await
}

async fn answer_within<T>(
    limit: Duration,
    call: impl Future<Output = zlink::Result<Result<T, AgentError>>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(Ok(reply))) => Ok(reply),
        Ok(Ok(Err(refused))) => Err(ClientError::Agent(refused)),
        Ok(Err(error)) => Err(ClientError::from_wire(error)),
        Err(_elapsed) => Err(ClientError::Silent { seconds: limit.as_secs() }),
    }
}
