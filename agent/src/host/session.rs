//! The agent's side of what lasts in a guest: one child each, which hands descriptors over and tells the end.
//!
//! Owns starting, feeding and ending the child; what it does inside is `guest_helper::session`'s. A task of its own
//! stays with each child, so that one whose client has left is told and reaped. With the agent the children end, and what
//! runs in the guests does not: it has its descriptors, and its client too.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::model::ContainerName;
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{StepError, line};
use crate::guest_helper::channel::Channel;
use crate::guest_helper::session::{Message, Order, Told};

/// Sessions at a time: each is a process and some descriptors of the agent.
const SESSIONS_MAX: usize = 32;
/// How long a guest may take until a session begins: its systemd is asked on the way.
const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long a session may take to end when its client left: five seconds are the command's.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);

/// Something that lasts in a guest, and ends when this is dropped.
#[derive(Debug)]
pub struct Session<T> {
    /// What the client is to be handed.
    pub descriptors: Vec<OwnedFd>,
    /// How it ended; closed without a value when the guest was lost.
    pub end: oneshot::Receiver<T>,
}

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The container does not run.
    #[error("`{0}` does not run")]
    NotRunning(ContainerName),
    /// There are as many as there may be.
    #[error("{SESSIONS_MAX} commands and copies are under way already")]
    TooMany,
    /// What goes on in the guest does not allow it.
    #[error("{reason}")]
    Guest {
        /// Why, in one line; chosen by the guest.
        reason: String,
        /// The way out; may be empty.
        hint: String,
    },
    /// The guest did not answer.
    #[error("`{0}` did not answer within {OPEN_LIMIT:?}")]
    NoAnswer(ContainerName),
    /// The child could not be started or talked to.
    #[error("cannot enter the container")]
    Child(#[source] std::io::Error),
    /// systemd or machined could not be asked.
    #[error("cannot look for the container")]
    Host(#[source] StepError),
}

impl SessionError {
    /// Returns what to do about it; empty when the cause says all there is.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotRunning(name) => format!("nixmoxctl why {name}"),
            Self::TooMany => "end one of them, or try again in a moment".to_owned(),
            Self::Guest { hint, .. } => hint.clone(),
            Self::NoAnswer(name) => format!("is it busy? nixmoxctl status {name}"),
            Self::Child(_) | Self::Host(_) => "journalctl -u nixmox-agent".to_owned(),
        }
    }
}

/// Begins sessions, and stays with them.
#[derive(Debug)]
pub(super) struct Sessions {
    program: PathBuf,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sessions {
    /// Returns what begins sessions through this agent's program. Its tasks run on `tasks` until `stop` is cancelled.
    pub(super) fn new(program: PathBuf, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { program, places: Arc::new(Semaphore::new(SESSIONS_MAX)), tasks, stop }
    }

    /// Enters guests through another program.
    pub(super) fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Begins a session, whose end is a `T`.
    pub(super) async fn begin<T: DeserializeOwned + Send + 'static>(
        &self,
        name: &ContainerName,
        order: &Order,
    ) -> Result<Session<T>, SessionError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_full| SessionError::TooMany)?;
        let (channel, theirs) = Channel::pair().map_err(SessionError::Child)?;
        let child = {
            // Gone after this, and with it the child's end here: one that dies while it opens is noticed at once.
            let mut command = Command::new(&self.program);
            command.arg("guest-session").env_clear().stdout(Stdio::null()).stderr(Stdio::null());
            // Killed with its handle, should this end early.
            command.stdin(Stdio::from(theirs)).kill_on_drop(true).spawn().map_err(SessionError::Child)?
        };
        let opening = async {
            channel.send(order, &[]).await?;
            channel.receive::<Message<T>>().await
        };
        let opened = timeout(OPEN_LIMIT, opening).await.map_err(|_elapsed| SessionError::NoAnswer(name.clone()))?;
        let descriptors = match opened.map_err(SessionError::Child)? {
            Some((Message::Opened, descriptors)) => descriptors,
            Some((Message::Refused { reason, hint }, _)) => {
                return Err(SessionError::Guest { reason: line::clean(&reason), hint: line::clean(&hint) });
            }
            Some((Message::Ended(_), _)) | None => {
                return Err(SessionError::Child(std::io::ErrorKind::UnexpectedEof.into()));
            }
        };
        let (told, end) = oneshot::channel();
        let attending = Attending { child, channel, told, stop: self.stop.clone(), _place: place };
        self.tasks.spawn(attending.run());
        Ok(Session { descriptors, end })
    }
}

/// A session that began.
struct Attending<T> {
    child: Child,
    channel: Channel,
    told: oneshot::Sender<T>,
    stop: CancellationToken,
    /// Given back when the child is reaped.
    _place: OwnedSemaphorePermit,
}

impl<T: DeserializeOwned> Attending<T> {
    /// Waits for the end, or for the client to leave, and reaps the child.
    async fn run(mut self) {
        // Every arm is cancel-safe, and only the chosen one's value is used. The order matters: an agent that stops
        // leaves its clients too.
        let message = tokio::select! {
            biased;
            // Its children are killed with their handles, before they could take the end of the channel for anything.
            () = self.stop.cancelled() => return,
            message = self.channel.receive::<Message<T>>() => Some(message),
            () = self.told.closed() => None,
        };
        match message {
            Some(Ok(Some((Message::Ended(end), _)))) => drop(self.told.send(end)),
            // The guest was lost: the client is told so by the closed channel.
            Some(_) => drop(self.told),
            // Fails when it has ended by itself in between.
            None => drop(self.channel.send(&Told::Leave, &[]).await),
        }
        if timeout(LEAVE_LIMIT, self.child.wait()).await.is_err() {
            tracing::warn!("a guest does not let go of a command whose client has left; it is not waited for");
        }
    }
}
