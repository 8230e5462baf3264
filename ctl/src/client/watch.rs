//! Following the agent through its restarts: a stream of updates that connects anew when it breaks off.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{AgentError, Update};
use serde::Serialize;
use tokio::task::JoinSet;
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
    /// The attempt to connect anew, if one is under way. It takes longer than callers wait for a message at a time, so
    /// it goes on when a wait is given up.
    attempt: JoinSet<Result<Client, ClientError>>,
}

impl Watch {
    /// Begins to watch.
    pub(crate) async fn begin(socket: PathBuf) -> Result<Self, ClientError> {
        let client = begin(&socket).await?;
        Ok(Self { socket, client: Some(client), away_since: None, attempt: JoinSet::new() })
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
        if self.attempt.is_empty() {
            let socket = self.socket.clone();
            self.attempt.spawn(async move {
                tokio::time::sleep(RETRY).await;
                begin(&socket).await
            });
        }
        match self.attempt.join_next().await {
            Some(Ok(Ok(client))) => self.client = Some(client),
            Some(Ok(Err(error))) if error.may_pass() && since.elapsed() < PATIENCE => {}
            Some(Ok(Err(error))) => return Err(error),
            // It does not panic, and nobody cancels it; if so, there is another.
            Some(Err(_)) | None => {}
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

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// A watch whose agent hung up, and the socket on which it may come back.
    async fn lost(socket: &Path) -> (Watch, UnixListener) {
        let listener = UnixListener::bind(socket).unwrap();
        let mut watch = Watch::begin(socket.to_owned()).await.unwrap();
        drop(listener.accept().await.unwrap());
        assert!(matches!(watch.next().await, Ok(Message::Lost)));
        (watch, listener)
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stays_away_is_given_up_however_short_the_waits_are() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let (mut watch, listener) = lost(&socket).await;
        std::fs::remove_file(&socket).unwrap();
        drop(listener);
        let since = Instant::now();
        let given_up = loop {
            assert!(since.elapsed() < 2 * PATIENCE, "it waits for ever");
            // As long as a display waits until it draws times anew.
            match tokio::time::timeout(Duration::from_millis(250), watch.next()).await {
                Err(_elapsed) => {}
                Ok(message) => break message,
            }
        };
        assert!(matches!(given_up, Err(ClientError::Missing { .. })), "{given_up:?}");
        assert!(since.elapsed() + RETRY >= PATIENCE, "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_comes_back_is_found_however_short_the_waits_are() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let (mut watch, listener) = lost(&socket).await;
        let waits = async {
            let since = Instant::now();
            while since.elapsed() < PATIENCE {
                let _ = tokio::time::timeout(Duration::from_millis(10), watch.next()).await;
            }
        };
        tokio::select! {
            back = listener.accept() => drop(back.unwrap()),
            () = waits => panic!("it does not come to connect"),
        }
    }
}
