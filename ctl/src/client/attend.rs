//! Calls that last and hand descriptors over: they end with the agent's last reply, or when this client leaves.

use std::os::fd::OwnedFd;
use std::path::Path;

use nixmox_api::{AgentError, EventsRequest, LogSources, LogsRequest};
use serde::Serialize;
use zlink::Call;

use super::{Client, ClientError};

/// A call for lines. The proxy's stream borrows its connection, which a reader that replaces the connection cannot keep
/// beside it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "method", content = "parameters")]
pub(crate) enum LinesOf {
    /// Lines of services.
    #[serde(rename = "io.nixmox.Agent.Logs")]
    Services {
        /// Which.
        request: LogsRequest,
    },
    /// Events.
    #[serde(rename = "io.nixmox.Agent.Events")]
    Events {
        /// Which.
        request: EventsRequest,
    },
}

/// A call for lines under way; dropped, it ends, and its readers with it.
#[derive(Debug)]
pub(crate) struct Attending {
    client: Client,
}

impl Attending {
    /// Begins a call; returns the sources, a pipe for each, and last the one for complaints.
    pub(crate) async fn begin(
        socket: &Path,
        lines: LinesOf,
    ) -> Result<(Self, LogSources, Vec<OwnedFd>), ClientError> {
        let mut client = Client::connect(socket).await?;
        let call = Call::new(lines).set_more(true);
        client.connection.send_call(&call, Vec::new()).await.map_err(ClientError::from_wire)?;
        let (sources, descriptors) = receive(&mut client).await?;
        Ok((Self { client }, sources, descriptors))
    }

    /// Waits for the end of the call: when all readers have ended, how many failed. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Result<u64, ClientError> {
        receive(&mut self.client).await.map(|(last, _none)| last.failed)
    }
}

async fn receive(client: &mut Client) -> Result<(LogSources, Vec<OwnedFd>), ClientError> {
    let reply = client.connection.receive_reply::<LogSources, AgentError>().await;
    let (reply, descriptors) = reply.map_err(ClientError::from_wire)?;
    let reply = reply.map_err(ClientError::Agent)?;
    let missing = || ClientError::Foreign { source: zlink::Error::MissingParameters };
    Ok((reply.into_parameters().ok_or_else(missing)?, descriptors))
}
