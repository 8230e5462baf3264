//! The signals that mean something to whoever attends a command.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal says.
pub(super) enum Heard {
    /// This process is to end; the signal's number.
    End(i32),
    /// The window has another size.
    Resized,
    /// This process was stopped, and goes on.
    Continued,
}

/// Listens for them.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    resized: Signal,
    continued: Signal,
}

/// `SIGCONT` of signal(7); the same on all machines that Nix knows.
const CONTINUED: i32 = 18;

/// `SIGHUP`: of a person who leaves a command, as if the window were closed.
pub(super) const HANG_UP: i32 = 1;

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            resized: signal(SignalKind::window_change())?,
            continued: signal(SignalKind::from_raw(CONTINUED))?,
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        // Every arm is cancel-safe, and only the chosen one's value is used.
        tokio::select! {
            _ = self.interrupt.recv() => Heard::End(SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => Heard::End(SignalKind::terminate().as_raw_value()),
            _ = self.hangup.recv() => Heard::End(SignalKind::hangup().as_raw_value()),
            _ = self.quit.recv() => Heard::End(SignalKind::quit().as_raw_value()),
            _ = self.resized.recv() => Heard::Resized,
            _ = self.continued.recv() => Heard::Continued,
        }
    }
}
