//! Calls to the agent: one connection, a time limit per call, and errors that say what to do.
//!
//! Owns how the agent is reached; knows nothing of commands or texts on the screen.

mod error;
mod mirror;
mod watch;

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{AgentError, AgentProxy, Applied, Done, PathsReply, PlanReply, Request, StacksReply, Status};
use zlink::tokio::unix::{self, Connection};

pub(crate) use error::ClientError;
pub(crate) use mirror::Mirror;
pub(crate) use watch::{Message, Watch};

/// How long one call may take. A plan of a large stack takes milliseconds; the rest is a host under load.
const CALL: Duration = Duration::from_secs(30);

/// The waits between attempts to connect, while systemd sets up the socket or the agent is being replaced.
const ATTEMPTS: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(160), Duration::from_millis(320)];

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
}

impl Client {
    /// Connects, and tries again for half a second where the agent may just be starting.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let mut waits = ATTEMPTS.into_iter();
        loop {
            let refused = match connect(socket).await {
                Ok(connection) => return Ok(Self { connection }),
                Err(refused) => refused,
            };
            match waits.next() {
                Some(wait) if refused.may_pass() => tokio::time::sleep(wait).await,
                Some(_) | None => return Err(refused),
            }
        }
    }

    /// Returns the snapshot.
    pub(crate) async fn status(&mut self) -> Result<Status, ClientError> {
        answer(self.connection.status()).await
    }

    /// Returns the stacks.
    pub(crate) async fn stacks(&mut self) -> Result<StacksReply, ClientError> {
        answer(self.connection.stacks()).await
    }

    /// Returns where everything of a service lies.
    pub(crate) async fn paths(&mut self, name: &str) -> Result<PathsReply, ClientError> {
        answer(self.connection.paths(name)).await
    }

    /// Returns what `apply` would do.
    pub(crate) async fn plan(&mut self, request: &Request) -> Result<PlanReply, ClientError> {
        answer(self.connection.plan(request)).await
    }

    /// Makes a stack as declared; returns when that is written down, not when it is done.
    pub(crate) async fn apply(&mut self, request: &Request) -> Result<Applied, ClientError> {
        answer(self.connection.apply(request)).await
    }

    /// Stops services of a stack and no longer desires them; no names: all.
    pub(crate) async fn down(&mut self, stack: &str, names: &[String]) -> Result<Applied, ClientError> {
        answer(self.connection.down(stack, names)).await
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

    /// Deletes the state of a service.
    pub(crate) async fn remove_data(&mut self, name: &str) -> Result<(), ClientError> {
        let nixmox_api::Nothing {} = answer(self.connection.remove_data(name)).await?;
        Ok(())
    }
}

async fn connect(socket: &Path) -> Result<Connection, ClientError> {
    unix::connect(socket).await.map_err(|error| {
        let socket = PathBuf::from(socket);
        match error {
            zlink::Error::Io(source) => match source.kind() {
                ErrorKind::NotFound => ClientError::Missing { socket },
                ErrorKind::PermissionDenied => ClientError::Denied { socket },
                ErrorKind::ConnectionRefused => ClientError::Refused { socket },
                _ => ClientError::Unreachable { socket, source },
            },
            other => ClientError::Lost { source: other },
        }
    })
}

async fn answer<T>(call: impl Future<Output = zlink::Result<Result<T, AgentError>>>) -> Result<T, ClientError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(Ok(Ok(reply))) => Ok(reply),
        Ok(Ok(Err(refused))) => Err(ClientError::Agent(refused)),
        Ok(Err(error)) => Err(ClientError::from_wire(error)),
        Err(_elapsed) => Err(ClientError::Silent { seconds: CALL.as_secs() }),
    }
}
