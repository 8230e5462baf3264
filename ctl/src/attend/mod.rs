//! Attending a command in a container: its input and output, the size of its terminal, its end.
//!
//! The agent hands the descriptors over and is out of the way: bytes go between this process and the command directly. So
//! an agent that is restarted meanwhile disturbs nothing; only how the command ended is then not known.
//!
//! ```text
//!  stdin  ──copy──▶ descriptor ──▶ command        a window that changed ──▶ the terminal's size
//!  stdout ◀──copy── descriptor ◀── command        a signal, a reader that left ──▶ the command is left
//!                                                 the last reply ──▶ what is still on its way, then the end
//! ```

mod copy;
mod raw;
mod signals;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use nixmox_api::{ExecReply, ExecTerminal};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::client::{Client, ClientError};
use crate::error::CtlError;
use copy::{Copied, Input};
use raw::Raw;
use signals::{Heard, Signals};

/// How long output may still be on its way when the command has ended: what it left running may hold it open.
const LAST_OUTPUT_LIMIT: Duration = Duration::from_secs(2);

/// How attending ended.
#[derive(Debug)]
pub(crate) enum Attended {
    /// The command ended so.
    Ended(ExecReply),
    /// This process was told to end by a signal of this number.
    Signal(i32),
    /// The agent went away meanwhile; the command ended, and nobody knows how.
    Unknown(ClientError),
}

/// Whether a person sits at both ends, so that a command gets a terminal.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns the terminal that a command is given: like the one of this process.
pub(crate) fn terminal() -> ExecTerminal {
    let size = size();
    // Without a terminal here nothing is known of the one who reads.
    let kind = std::env::var("TERM").ok().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "dumb".to_owned());
    ExecTerminal { kind, rows: size.ws_row, columns: size.ws_col }
}

/// The size of the terminal of this process, else the one that all programs expect.
fn size() -> Winsize {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let sizes = [tcgetwinsize(stdout.as_fd()), tcgetwinsize(stdin.as_fd())];
    let known = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    known.unwrap_or(Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })
}

/// Attends a command that was begun, until its end or until this process is told to end. The terminal of this process is
/// left as it was found.
pub(crate) async fn attend(client: &mut Client, handed: Vec<OwnedFd>) -> Result<Attended, CtlError> {
    let mut signals = Signals::listen().map_err(CtlError::Runtime)?;
    // Of one descriptor, that is a terminal.
    let raw = match handed.as_slice() {
        [_] => Raw::enter().map_err(CtlError::Terminal)?,
        _ => None,
    };
    let mut streams = Streams::of(handed, raw.is_some())?;
    let mut ended = pin!(client.exec_ended());
    let mut end: Option<Result<ExecReply, ClientError>> = None;
    let mut deadline: Option<Instant> = None;
    loop {
        // Every arm is cancel-safe, `ended` since it is waited for again where it was, and only the chosen one's value is
        // used.
        let happened = tokio::select! {
            reply = &mut ended, if end.is_none() => Happened::Ended(reply),
            heard = signals.next() => Happened::Heard(heard),
            Some(()) = streams.left.recv() => return Ok(Attended::Signal(signals::HANG_UP)),
            copied = streams.copied.recv(), if streams.open > 0 => Happened::Copied(copied),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Happened::Late,
        };
        match happened {
            Happened::Ended(reply) => {
                // An agent that left knows nothing of the command, which may go on for long.
                let lost = matches!(reply, Err(ClientError::Lost { .. }));
                deadline = (!lost).then(|| Instant::now() + LAST_OUTPUT_LIMIT);
                end = Some(reply);
            }
            Happened::Heard(Heard::End(signal)) => return Ok(Attended::Signal(signal)),
            Happened::Heard(Heard::Resized) => streams.resize(),
            Happened::Heard(Heard::Continued) => {
                // The shell had the terminal meanwhile.
                raw.as_ref().map_or(Ok(()), Raw::enter_again).map_err(CtlError::Terminal)?;
                streams.resize();
            }
            Happened::Copied(Some(Copied::ToTheEnd)) => streams.open -= 1,
            Happened::Copied(Some(Copied::ReaderLeft(error))) => return Err(CtlError::Output(error)),
            Happened::Copied(None) | Happened::Late => streams.open = 0,
        }
        if streams.open == 0
            && let Some(end) = end.take()
        {
            return match end {
                Ok(reply) => Ok(Attended::Ended(reply)),
                Err(error @ ClientError::Lost { .. }) => Ok(Attended::Unknown(error)),
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// What is waited for.
enum Happened {
    Ended(Result<ExecReply, ClientError>),
    Heard(Heard),
    Copied(Option<Copied>),
    /// What is still on its way has had its time.
    Late,
}

/// The command's side, being copied.
struct Streams {
    /// The terminal, if there is one.
    terminal: Option<File>,
    /// Outputs that are not at their end.
    open: usize,
    copied: mpsc::UnboundedReceiver<Copied>,
    /// A person who has enough of it.
    left: mpsc::UnboundedReceiver<()>,
}

impl Streams {
    /// Begins to copy between this process and what was handed over: a terminal, or input, output and errors.
    /// A person at a terminal in raw mode has no other way out than what is typed.
    fn of(handed: Vec<OwnedFd>, raw: bool) -> Result<Self, CtlError> {
        let (told, copied) = mpsc::unbounded_channel();
        let (leave, left) = mpsc::unbounded_channel();
        let mut handed: Vec<File> = handed.into_iter().map(File::from).collect();
        // Not through the buffers of this process, which belong to whoever asks questions.
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let mut outputs = Vec::new();
        let terminal = match handed.as_mut_slice() {
            [terminal] => {
                outputs.push((terminal.try_clone()?, stdout.as_fd().try_clone_to_owned()?));
                let typed = terminal.try_clone()?;
                if raw {
                    copy::typed(stdin, typed, leave);
                } else {
                    copy::input(stdin, Input::Terminal(typed));
                }
                Some(terminal.try_clone()?)
            }
            [input, output, errors] => {
                outputs.push((output.try_clone()?, stdout.as_fd().try_clone_to_owned()?));
                outputs.push((errors.try_clone()?, stderr.as_fd().try_clone_to_owned()?));
                copy::input(stdin, Input::Pipe(input.try_clone()?));
                None
            }
            _ => return Err(ClientError::Foreign { source: zlink::Error::MissingParameters }.into()),
        };
        let open = outputs.len();
        for (from, to) in outputs {
            copy::output(from, to.into(), told.clone());
        }
        Ok(Self { terminal, open, copied, left })
    }

    /// Makes the command's terminal as large as this one.
    fn resize(&self) {
        if let Some(terminal) = &self.terminal {
            // Fails when the terminal has hung up: then nobody needs its size.
            let _hung_up = tcsetwinsize(terminal, size());
        }
    }
}
