//! A command in the guest, run by the guest's own systemd as a transient unit.
//!
//! Nothing of the host runs inside: the helper passes the write end of a pipe and reads what comes out. A unit of type
//! `oneshot` is started for as long as its command runs, so the end of the start job is the end of the command.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use nix::fcntl::{FcntlArg, OFlag};
use tokio::net::unix::pipe;
use zbus::message::Type;
use zbus::{Connection, Fd, MatchRule, MessageStream, OwnedObjectPath, Variant};

use super::bus::{self, SOCKETS};
use super::enter::Guest;
use super::{Deadline, Found, Trouble};

/// What of the output is kept.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Time by which the guest's systemd ends the command before the helper gives up on it.
const KILL_MARGIN: Duration = Duration::from_millis(200);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PATH: &str = "/org/freedesktop/systemd1";

/// Runs a command; healthy when it exits with 0.
pub(super) fn run(guest: &Guest, command: &[String], deadline: Deadline) -> Result<Found, Trouble> {
    let stream = guest.connect(&SOCKETS)?.ok_or(Trouble::NoSystemd)?;
    let left = deadline.left()?;
    let (end, output) = bus::blocking(deadline, async {
        let connection = bus::open(stream).await?;
        let mut started = Started::new(&connection, command, left).await?;
        let result = started.ended().await?;
        let end = if result == "done" { End::Exited(0) } else { end_of(&connection, &started.unit).await };
        Ok((end, started.output.text()))
    })?;
    let said = if output.is_empty() { output } else { format!(": {output}") };
    let (healthy, text) = match end {
        End::TimedOut => return Err(Trouble::TimedOut),
        End::Exited(status) => (status == 0, format!("exit {status}{said}")),
        End::Other(result) => (false, format!("{result}{said}")),
    };
    Ok(Found { healthy, text })
}

/// How a command ended.
enum End {
    Exited(i32),
    TimedOut,
    /// `Result` of its unit: `signal`, `oom-kill`, ... or `failed` when systemd has forgotten it already.
    Other(String),
}

/// A command that was started.
struct Started {
    unit: String,
    job: OwnedObjectPath,
    ends: MessageStream,
    output: Output,
}

impl Started {
    async fn new(connection: &Connection, command: &[String], limit: Duration) -> zbus::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        // On the reading end alone: the command would be told to come back later.
        nix::fcntl::fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
        // Before the call: the signal may be read before the reply is.
        let removed =
            MatchRule::builder().msg_type(Type::Signal).interface(MANAGER).member("JobRemoved").build()?;
        let ends = MessageStream::for_match_rule(removed.into_owned(), connection, None).await?;
        connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "Subscribe", &()).await?;
        let unit = unit_name();
        let mut properties = properties(command, &write, limit);
        if connection.is_bus() {
            // Keeps the unit until this connection ends, so that it can be asked how it ended.
            properties.push(("AddRef", Variant::from(true)));
        }
        let aux: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (&unit, "fail", properties, aux);
        let call = connection.call_method(Some(SYSTEMD), PATH, Some(MANAGER), "StartTransientUnit", &body);
        let job = call.await?.body().deserialize()?;
        Ok(Self { unit, job, ends, output: Output::new(read)? })
    }

    /// Waits for the end of the job, and takes what the command writes meanwhile.
    async fn ended(&mut self) -> zbus::Result<String> {
        loop {
            // Both arms are cancel-safe: bytes and messages that are not taken stay where they are.
            let message = tokio::select! {
                message = self.ends.next() => message,
                () = self.output.take() => continue,
            };
            let body = message.ok_or(zbus::Error::InvalidReply)??.body();
            let (_, job, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
            if job == self.job {
                self.output.take_rest();
                return Ok(result);
            }
        }
    }
}

/// Asks how a command that failed ended.
async fn end_of(connection: &Connection, unit: &str) -> End {
    let path = format!("/org/freedesktop/systemd1/unit/{}", zbus_systemd::bus_label_escape(unit));
    let asked = async { bus::end_at(connection, OwnedObjectPath::try_from(path)?).await };
    match asked.await {
        Ok((_, Some(status))) => End::Exited(status),
        Ok((result, None)) if result == "timeout" => End::TimedOut,
        Ok((result, None)) => End::Other(result),
        Err(_forgotten) => End::Other("failed".to_owned()),
    }
}

/// What a command writes: the beginning is kept, the rest is read away so that the command can go on.
struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
    over: bool,
}

impl Output {
    fn new(read: OwnedFd) -> io::Result<Self> {
        Ok(Self { pipe: pipe::Receiver::from_owned_fd(read)?, kept: Vec::new(), over: false })
    }

    /// Waits for bytes and takes them; never returns when there can be no more. Cancel-safe.
    async fn take(&mut self) {
        if self.over || self.pipe.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.take_rest();
    }

    /// Takes what is there. What the command left running is not waited for.
    fn take_rest(&mut self) {
        let mut buffer = [0; OUTPUT_BYTES_MAX];
        loop {
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => {
                    self.over = true;
                    return;
                }
                Ok(read) => {
                    let room = OUTPUT_BYTES_MAX.saturating_sub(self.kept.len()).min(read);
                    self.kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
                }
                Err(_nothing) => return,
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim().to_owned()
    }
}

/// A name that no other probe has; two agents never run.
fn unit_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("nixmox-probe-{}-{}.service", std::process::id(), now.as_nanos())
}

fn properties<'a>(command: &'a [String], output: &'a OwnedFd, limit: Duration) -> Vec<(&'a str, Variant<'a>)> {
    let program = command.first().map_or("", String::as_str);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let limit = limit.saturating_sub(KILL_MARGIN).max(KILL_MARGIN);
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    vec![
        ("Description", Variant::from("Health probe of NixMox")),
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::from(vec![(program, words, false)])),
        // Nobody may be there to end it.
        ("TimeoutStartUSec", Variant::from(limit)),
        ("TimeoutStopUSec", Variant::from(1_000_000_u64)),
        ("StandardOutputFileDescriptor", Variant::from(Fd::from(output))),
        ("StandardErrorFileDescriptor", Variant::from(Fd::from(output))),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // A command that fails often is no reason for the guest to be `degraded`, nor to be throttled.
        ("StartLimitIntervalUSec", Variant::from(0_u64)),
    ]
}
