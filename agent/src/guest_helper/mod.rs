//! `nixmox-agent guest-helper`: the short-lived child that enters a guest, asks one question and ends.
//!
//! Owns everything that touches what a guest controls: its network namespace, its root, its bus. The agent itself
//! never does; it writes one request to this child's stdin, reads one answer from its stdout, and kills it when its
//! time is over. The child is a fresh execution of the agent's program, so it has one thread (setns(2) of a user
//! namespace asks for that) and none of the agent's memory.
//!
//! ```text
//! agent ── Request (JSON) ──▶ guest-helper ── enters ──▶ guest's network, or its systemd's bus
//!       ◀── Answer (JSON) ──
//! ```
//!
//! What a guest can do to it: hang it (the agent kills it), answer nonsense (every reply is bounded and becomes one
//! clean line), plant links (paths are resolved inside the guest's root), take the place of its bus (whoever answers
//! must be a process of the guest).

mod bus;
pub(crate) mod channel;
pub mod devices;
pub mod engine;
mod enter;
mod exec;
mod http;
pub mod journal;
pub mod session;
mod switch;
mod tcp;
pub mod view;

use std::fmt;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use serde::{Deserialize, Serialize};

use crate::host::line;

/// Longest request that is read.
const REQUEST_BYTES_MAX: u64 = 256 * 1024;
/// Address space of the helper: a reply of a guest may claim to be 128 MiB long.
const ADDRESS_SPACE_MAX: u64 = 1 << 30;
/// What the kernel ends first when memory runs out (`proc_pid_oom_score_adj(5)`); the agent's own score is far below, and a
/// child has that from it.
const OOM_SCORE: &str = "800";

/// One question about one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The guest's PID 1, as the host counts.
    pub leader: u32,
    /// The unit that the leader must be in: a process id may belong to another process by now.
    pub unit: String,
    /// Time for the answer, in milliseconds.
    pub timeout_ms: u64,
    /// What is asked.
    pub question: Question,
}

/// What is asked of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Whether its systemd says `running`; a guest without one is.
    Ready,
    /// Whether a GET of this URL is answered with a status below 400.
    Http(String),
    /// Whether this TCP port accepts a connection.
    Tcp(u16),
    /// Whether this unit is active.
    Unit(String),
    /// Whether this command exits with 0.
    Exec(Vec<String>),
    /// Whether the guest, which is one of NixOS, was switched to this system: it is, unless it is already on the way.
    Switch(String),
    /// What it has of these device nodes, and of the user space of their driver.
    Devices(Vec<devices::Asked>),
    /// What runs models in it: how it stands, what a model is made of, or a change.
    Engine(engine::Asked),
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether the guest answered well.
    pub healthy: bool,
    /// What was asked and answered, in one line.
    pub output: String,
    /// What was found of device nodes, where that was asked and could be found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<devices::Seen>,
    /// What came of asking an engine, where that was asked and the guest could be entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<engine::Answered>,
}

/// Why there is no answer of the guest.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the container ended")]
    Gone,
    #[error("cannot enter the container: {0}")]
    Enter(#[source] std::io::Error),
    #[error("{0}")]
    Io(#[source] std::io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the guest's systemd: {0}")]
    Bus(#[source] zbus::Error),
    #[error("{0} is not a process of the guest")]
    Stranger(&'static str),
    #[error("the guest has no systemd that could be asked")]
    NoSystemd,
    #[error("`{0}` is not an http:// URL")]
    Url(String),
    #[error("answered, but not in HTTP")]
    NotHttp,
    #[error("the answer was cut off")]
    CutOff,
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("{0}")]
    Engine(String),
    #[error("{0}: {1}")]
    Path(String, #[source] std::io::Error),
    #[error("`{0}` is not the name of a variable, or its value has control characters")]
    Variable(String),
    #[error("the guest has no terminals: {0}")]
    NoTerminal(#[source] std::io::Error),
}

/// The end of the time for an answer.
#[derive(Clone, Copy, Debug)]
struct Deadline(Instant);

impl Deadline {
    /// Returns the time that is left.
    fn left(self) -> Result<Duration, Trouble> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Trouble::TimedOut) } else { Ok(left) }
    }
}

/// Reads a request from stdin, answers it on stdout.
///
/// # Errors
/// When the request cannot be read or the answer not be written; what a guest does is part of the answer.
pub fn run() -> std::io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    be_the_first_to_go();
    let mut text = Vec::new();
    std::io::stdin().take(REQUEST_BYTES_MAX).read_to_end(&mut text)?;
    let request: Request = serde_json::from_slice(&text)?;
    let answer = answer(&request);
    let mut out = std::io::stdout();
    out.write_all(&serde_json::to_vec(&answer)?)?;
    out.flush()
}

/// Lets the kernel end this child before the agent and what the host is for. A courtesy: without it, all goes on.
fn be_the_first_to_go() {
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
}

fn answer(request: &Request) -> Answer {
    let deadline = Deadline(Instant::now() + Duration::from_millis(request.timeout_ms));
    let (mut seen, mut engine) = (None, None);
    let asked = enter::Guest::open(request.leader, &request.unit).and_then(|guest| match &request.question {
        Question::Ready => bus::ready(&guest, deadline),
        Question::Http(url) => http::get(&guest, url, deadline),
        Question::Tcp(port) => tcp::connect(&guest, *port, deadline),
        Question::Unit(unit) => bus::unit(&guest, unit, deadline),
        Question::Exec(command) => exec::run(&guest, command, deadline),
        Question::Switch(system) => switch::run(&guest, system, deadline),
        Question::Devices(nodes) => {
            seen = Some(devices::look(&guest, &request.unit, nodes)?);
            Ok(Found { healthy: true, text: "looked at".to_owned() })
        }
        Question::Engine(asked) => {
            engine = Some(engine::ask(&guest, asked, deadline));
            Ok(Found { healthy: true, text: "asked".to_owned() })
        }
    });
    let (healthy, found) = match asked {
        Ok(Found { healthy, text }) => (healthy, text),
        Err(trouble) => (false, trouble.to_string()),
    };
    Answer { healthy, output: line::clean(&format!("{} -> {found}", request.question)), devices: seen, engine }
}

/// What the guest answered.
struct Found {
    healthy: bool,
    text: String,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("systemd"),
            Self::Http(url) => f.write_str(url),
            Self::Tcp(port) => write!(f, "tcp {port}"),
            Self::Unit(unit) => f.write_str(unit),
            Self::Exec(command) => f.write_str(&command.join(" ")),
            Self::Switch(system) => write!(f, "{system}/bin/switch-to-configuration test"),
            Self::Devices(_) => f.write_str("device nodes"),
            Self::Engine(asked) => f.write_str(&asked.url),
        }
    }
}
