//! Messages over one socket: framing, and the limits that keep one client from hurting the agent or others.
//!
//! A message is JSON with a zero byte behind it (varlink.org, "Protocol"). Every method that waits has a time limit
//! and is cancel-safe: what was read stays in the buffer.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recvmsg, sendmsg, setsockopt, sockopt};
use serde::Serialize;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Limits;

/// How much is read at once: at least this, at most [`READ_MAX`].
const READ_MIN: usize = 4 << 10;
/// Also the largest buffer that is kept between messages.
const READ_MAX: usize = 64 << 10;

/// A connection with its limits.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// What was read and not yet handed out.
    buffer: Vec<u8>,
    limits: Limits,
}

/// Why a connection ended. None of the messages repeats what the client sent: it may hold secrets.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client left")]
    Left,
    #[error("the client sent no whole message in time")]
    Idle,
    #[error("the client sent a message that is too large")]
    TooLarge,
    #[error("the client sent file descriptors")]
    Descriptors,
    #[error("the client sent something that is not a call")]
    NotACall,
    #[error("the client sent a call while another was in progress")]
    CallDuringWatch,
    #[error("the client did not read in time")]
    NotReading,
    #[error("the server stops")]
    Stopping,
    #[error("a reply cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("the socket failed")]
    Socket(#[source] io::Error),
}

impl Connection {
    pub(super) fn new(stream: UnixStream, limits: Limits) -> Result<Self, Ended> {
        // A listener may hand this on; credentials of messages would look like descriptors in `receive_into`.
        setsockopt(&stream, sockopt::PassCred, &false).map_err(|errno| Ended::Socket(errno.into()))?;
        Ok(Self { stream, buffer: Vec::new(), limits })
    }

    /// Returns the next message, without its zero byte.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, Ended> {
        timeout(self.limits.idle, self.receive_message()).await.unwrap_or(Err(Ended::Idle))
    }

    /// Sends a message.
    pub(super) async fn send(&mut self, message: &impl Serialize) -> Result<(), Ended> {
        let mut bytes = serde_json::to_vec(message).map_err(Ended::Encode)?;
        bytes.push(0);
        match timeout(self.limits.write, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ended_by(error)),
            Err(_elapsed) => Err(Ended::NotReading),
        }
    }

    /// Sends a message that hands descriptors over. They arrive with its first byte, in this order, and are closed here.
    pub(super) async fn send_with(
        &mut self,
        message: &impl Serialize,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Ended> {
        let mut bytes = serde_json::to_vec(message).map_err(Ended::Encode)?;
        bytes.push(0);
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let stream = &mut self.stream;
        let sending = async {
            let sent = stream
                .async_io(Interest::WRITABLE, || {
                    let control: &[ControlMessage<'_>] =
                        if raw.is_empty() { &[] } else { &[ControlMessage::ScmRights(&raw)] };
                    let sent = sendmsg::<()>(
                        stream.as_raw_fd(),
                        &[IoSlice::new(&bytes)],
                        control,
                        MsgFlags::MSG_NOSIGNAL,
                        None,
                    );
                    sent.map_err(io::Error::from)
                })
                .await?;
            stream.write_all(bytes.get(sent..).unwrap_or_default()).await
        };
        match timeout(self.limits.write, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ended_by(error)),
            Err(_elapsed) => Err(Ended::NotReading),
        }
    }

    /// Waits until the client leaves, or says something where it has nothing to say.
    pub(super) async fn end(&mut self) -> Ended {
        if !self.buffer.is_empty() {
            return Ended::CallDuringWatch;
        }
        match self.read().await {
            Ok(()) => Ended::CallDuringWatch,
            Err(ended) => ended,
        }
    }

    async fn receive_message(&mut self) -> Result<Vec<u8>, Ended> {
        let mut searched = 0;
        loop {
            let unsearched = self.buffer.iter().skip(searched);
            if let Some(end) = unsearched.copied().position(|byte| byte == 0).map(|at| searched + at) {
                if end > self.limits.message_bytes {
                    return Err(Ended::TooLarge);
                }
                let rest = self.buffer.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.truncate(end);
                return Ok(message);
            }
            searched = self.buffer.len();
            if searched > self.limits.message_bytes {
                return Err(Ended::TooLarge);
            }
            self.read().await?;
        }
    }

    /// Reads something into the buffer.
    async fn read(&mut self) -> Result<(), Ended> {
        let Self { stream, buffer, limits: _ } = self;
        // The buffer is touched only when there is something to read, so that cancelling loses nothing.
        match stream.async_io(Interest::READABLE, || receive_into(stream, buffer)).await {
            Ok(Received { bytes: _, truncated: true }) => Err(Ended::Descriptors),
            Ok(Received { bytes: 0, truncated: false }) => Err(Ended::Left),
            Ok(Received { bytes: _, truncated: false }) => Ok(()),
            Err(error) => Err(ended_by(error)),
        }
    }
}

struct Received {
    bytes: usize,
    /// Whether the kernel dropped control data.
    truncated: bool,
}

/// Reads what is there, and gives descriptors no room: the kernel closes them and says so (`MSG_CTRUNC`, recvmsg(2)),
/// and they are never in the agent's table.
fn receive_into(stream: &UnixStream, buffer: &mut Vec<u8>) -> io::Result<Received> {
    let start = buffer.len();
    buffer.resize(start + start.clamp(READ_MIN, READ_MAX), 0);
    let room = buffer.get_mut(start..).unwrap_or_default();
    let received = loop {
        match recvmsg::<()>(stream.as_raw_fd(), &mut [IoSliceMut::new(room)], None, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            received => break received.map(|received| (received.bytes, received.flags)),
        }
    };
    let (bytes, flags) = received.unwrap_or((0, MsgFlags::empty()));
    buffer.truncate(start + bytes);
    received?;
    Ok(Received { bytes, truncated: flags.contains(MsgFlags::MSG_CTRUNC) })
}

fn ended_by(error: io::Error) -> Ended {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ended::Left,
        _ => Ended::Socket(error),
    }
}
