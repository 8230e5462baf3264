//! Following the agent through its restarts: a stream of updates that connects anew when it breaks off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{AgentError, Update};
use serde::Serialize;
use tokio::time::Instant;
use zlink::Call;

use super::{Client, ClientError};

/// How long a lost agent is waited for: systemd restarts it within a second; an upgrade takes a few.
const PATIENCE: Duration = Duration::from_secs(30);

/// The wait between attempts to connect anew.
const RETRY: Duration = Duration::from_millis(200);

/// `Watch` as it goes over the wire. The proxy's stream borrows its connection, which a watch that replaces the
/// connection cannot keep beside it.
#[derive(Debug, Serialize)]
#[serde(tag = "method")]
enum Method {
    #[serde(rename = "io.nixmox.Agent.Watch")]
    Watch,
}

/// What a watch brings.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The agent said something.
    Update(Box<Update>),
    /// The connection broke off; the watch goes on with a snapshot.
    Lost,
}

/// A watch.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: PathBuf,
    /// `None` while the agent is away.
    client: Option<Client>,
    /// Since when the agent is away; `None` while it is there.
    away_since: Option<Instant>,
}

impl Watch {
    /// Begins to watch.
    pub(crate) async fn begin(socket: PathBuf) -> Result<Self, ClientError> {
        let client = begin(&socket).await?;
        Ok(Self { socket, client: Some(client), away_since: None })
    }

    /// Returns the agent's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for the next message. Cancel-safe: a message is either returned or still to come.
    ///
    /// Returns an error when the agent stays away, refuses, or says what cannot be understood.
    pub(crate) async fn next(&mut self) -> Result<Message, ClientError> {
        loop {
            if let Some(client) = &mut self.client {
                match receive(client).await {
                    Ok(update) => {
                        self.away_since = None;
                        return Ok(Message::Update(Box::new(update)));
                    }
                    Err(error) if error.may_pass() => {
                        self.client = None;
                        // An agent that accepts and hangs up at once does not get its time anew.
                        if self.away_since.is_none() {
                            self.away_since = Some(Instant::now());
                            return Ok(Message::Lost);
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            self.reconnect().await?;
        }
    }

    async fn reconnect(&mut self) -> Result<(), ClientError> {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        tokio::time::sleep(RETRY).await;
        match begin(&self.socket).await {
            Ok(client) => self.client = Some(client),
            Err(error) if error.may_pass() && since.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn begin(socket: &Path) -> Result<Client, ClientError> {
    let mut client = Client::connect(socket).await?;
    let call = Call::new(Method::Watch).set_more(true);
    client.connection.send_call(&call, Vec::new()).await.map_err(ClientError::from_wire)?;
    Ok(client)
}

async fn receive(client: &mut Client) -> Result<Update, ClientError> {
    let reply = client.connection.receive_reply::<Update, AgentError>().await;
    let (reply, _descriptors) = reply.map_err(ClientError::from_wire)?;
    let reply = reply.map_err(ClientError::Agent)?;
    let missing = || ClientError::Foreign { source: zlink::Error::MissingParameters };
    reply.into_parameters().ok_or_else(missing)
}
