//! `nixmox-agent guest-session`: the child that stays with something that lasts in a guest.
//!
//! Enters the guest as the short-lived helper does, opens what the client is to be handed, has the guest's systemd do
//! the work, and says how it ended.
//!
//! ```text
//!  agent ── Order (JSON) ─────────────▶ guest-session ── enters ──▶ guest's terminals, its systemd's bus
//!        ◀── Opened, with descriptors ──      │
//!        ◀── Ended ─────────────────────      │ the command ended
//!        ── Leave ────────────────────▶       │ the client left: the command is stopped
//!        ── end of the channel ───────▶       │ the agent is gone: nothing is stopped, as with all that runs
//! ```

mod command;
mod copy;
mod environment;
mod streams;
mod terminal;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::resource::{Resource, setrlimit};
use nixmox_api::{CopyReply, CopyRequest, ExecReply, ExecRequest};
use serde::{Deserialize, Serialize};

use super::bus::{self, SOCKETS};
use super::channel::Channel;
use super::enter::Guest;
use super::{ADDRESS_SPACE_MAX, Trouble, be_the_first_to_go};
use command::Command;
use copy::Copy;
use streams::Streams;

/// What the agent asks for, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The guest's PID 1, as the host counts.
    pub leader: u32,
    /// The unit that the leader must be in: a process id may belong to another process by now.
    pub unit: String,
    /// What is to be done there; checked already.
    pub work: Work,
}

/// What is to be done in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Run a command.
    Exec(ExecRequest),
    /// Copy files.
    Copy(CopyRequest),
}

/// What the agent says after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The client left.
    Leave,
}

/// What is said to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<T> {
    /// It began; the descriptors of the client come with this.
    Opened,
    /// It cannot begin.
    Refused {
        /// Why, in one sentence.
        reason: String,
        /// The way out; may be empty.
        hint: String,
    },
    /// It ended.
    Ended(T),
}

/// Carries out the one order that comes on stdin.
///
/// # Errors
/// When the agent is gone; what a guest does is told to the agent.
pub fn run() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    be_the_first_to_go();
    // One thread, as entering a user namespace asks for (setns(2)).
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let Some((order, _)) = channel.receive::<Order>().await? else { return Ok(()) };
        match serve(&order, &channel).await {
            Ok(()) => Ok(()),
            Err(Stopped::Channel(error)) => Err(error),
            Err(Stopped::Trouble(trouble)) => {
                let message = Message::<ExecReply>::Refused { reason: trouble.to_string(), hint: hint(&trouble) };
                channel.send(&message, &[]).await
            }
        }
    })
}

/// Why a session ended before its work did.
enum Stopped {
    /// The agent cannot be talked to.
    Channel(io::Error),
    /// The guest cannot be worked with.
    Trouble(Trouble),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Channel(error)
    }
}

impl From<Trouble> for Stopped {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<zbus::Error> for Stopped {
    fn from(error: zbus::Error) -> Self {
        Self::Trouble(Trouble::Bus(error))
    }
}

async fn serve(order: &Order, channel: &Channel) -> Result<(), Stopped> {
    let guest = Guest::open(order.leader, &order.unit)?;
    let root = guest.root()?;
    match &order.work {
        Work::Exec(request) => exec(&guest, &root, request, channel).await,
        Work::Copy(request) => {
            guest.become_its_root()?;
            let (copy, handed) = Copy::open(&root, request)?;
            channel.send(&Message::<CopyReply>::Opened, &[handed]).await?;
            // Ends with the pipe at the latest, whose other end is the client's: nothing else is to be heard meanwhile.
            let copied = copy.run();
            Ok(channel.send(&Message::Ended(copied), &[]).await?)
        }
    }
}

/// Runs a command, and stays with it.
async fn exec(guest: &Guest, root: &OwnedFd, request: &ExecRequest, channel: &Channel) -> Result<(), Stopped> {
    // From here on as the guest's root.
    let stream = guest.connect(&SOCKETS)?.ok_or(Trouble::NoSystemd)?;
    let connection = bus::open(stream).await?;
    let Streams { handed, guests } = Streams::open(root, request.terminal.as_ref())?;
    channel.send(&Message::<ExecReply>::Opened, &handed).await?;
    // A copy here would keep the terminal from hanging up, and the command's input from ending.
    drop(handed);
    let mut command = match Command::start(&connection, root, request, guests).await {
        Ok(command) => command,
        Err(refused) => return Ok(channel.send(&Message::Ended(refused), &[]).await?),
    };
    // Both arms are cancel-safe, and only the chosen one's value is used.
    let told = tokio::select! {
        ended = command.ended() => return Ok(channel.send(&Message::Ended(ended), &[]).await?),
        told = channel.receive::<Told>() => told,
    };
    if let Ok(Some((Told::Leave, _))) = told {
        command.stop().await?;
        command.ended().await;
    }
    Ok(())
}

/// Returns the way out of a trouble.
fn hint(trouble: &Trouble) -> String {
    let hint = match trouble {
        Trouble::NoSystemd => {
            "commands are started by the guest's systemd; one without it can be looked at with nsenter(1) alone"
        }
        Trouble::Gone => "nixmoxctl status says whether it comes back",
        Trouble::NoTerminal(_) => "nixmoxctl exec -T runs the command without a terminal",
        Trouble::Enter(_)
        | Trouble::Io(_)
        | Trouble::TimedOut
        | Trouble::Bus(_)
        | Trouble::Stranger(_)
        | Trouble::Url(_)
        | Trouble::Path(..)
        | Trouble::Variable(_)
        | Trouble::NotHttp
        | Trouble::CutOff
        | Trouble::TooLong(_)
        | Trouble::Engine(_) => "",
    };
    hint.to_owned()
}
