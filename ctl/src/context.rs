//! What surrounds a command: the working folder, the clock, the options that every command has.
//!
//! Read once at the start, so that a test can set all of it.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;

use crate::cli::Options;
use crate::error::CtlError;
use crate::machine::Machine;
use crate::output::Output;

/// What surrounds a command.
pub(crate) struct Context {
    /// Where texts go.
    pub(crate) output: Output,
    /// The options that every command has.
    pub(crate) options: Options,
    /// The working folder; an absolute path.
    pub(crate) folder: PathBuf,
    /// The machine that this runs on.
    pub(crate) machine: Machine,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Which zone times are shown in.
    pub(crate) zone: TimeZone,
    /// The answers of the person at the terminal; `None` when nobody is there to answer.
    pub(crate) answers: Option<Box<dyn std::io::BufRead>>,
}

/// A moment, and the zone it is shown in.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Microseconds since 1970.
    pub(crate) at_usec: u64,
    /// The zone.
    pub(crate) zone: TimeZone,
}

impl Moment {
    /// Returns seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.at_usec / 1_000_000
    }
}

impl Context {
    /// Returns the moment as it is.
    pub(crate) fn moment(&self) -> Moment {
        Moment { at_usec: self.clock.now_usec(), zone: self.zone.clone() }
    }
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// As the system says.
    System,
    /// Always the same, in microseconds since 1970.
    #[cfg(test)]
    Fixed(u64),
}

impl Clock {
    /// Returns microseconds since 1970.
    pub(crate) fn now_usec(self) -> u64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            }
            #[cfg(test)]
            Self::Fixed(usec) => usec,
        }
    }
}

/// Waits for the agent, unless somebody types Ctrl-C: once a build was followed, that does not end the process by itself.
pub(crate) async fn unless_stopped<T>(work: impl Future<Output = Result<T, CtlError>>) -> Result<T, CtlError> {
    // Both arms are used once; what is left of the other is of no use to anybody.
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(CtlError::Stopped),
    }
}

/// Runs what waits for the agent, on this thread alone; commands that do not ask the agent never get here.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, CtlError>>) -> Result<T, CtlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CtlError::Runtime)?;
    runtime.block_on(work)
}
