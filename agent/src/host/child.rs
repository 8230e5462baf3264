//! Children that may never end: one that waits in a driver (state `D`) is not ended by SIGKILL before that answers.
//!
//! Who starts one keeps it, so that it starts no other in its place while the first is there.

use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// Time in which a child that was killed is gone, unless it waits in the kernel.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The wait between looks whether it is.
const END_PAUSE: Duration = Duration::from_millis(5);

/// What can be ended, and may take its time.
pub(super) trait Ends: std::fmt::Debug + Send {
    /// Asks it to end.
    fn kill(&mut self);
    /// Returns whether it has ended.
    fn is_gone(&mut self) -> bool;
}

impl Ends for Child {
    fn kill(&mut self) {
        // Fails where it is gone already.
        let _ = self.start_kill();
    }

    fn is_gone(&mut self) -> bool {
        // Where that cannot be known it is nobody's any more.
        !matches!(self.try_wait(), Ok(None))
    }
}

/// A child, and since when it is there.
#[derive(Debug)]
pub(super) struct Kept {
    child: Box<dyn Ends>,
    at: Instant,
}

impl Kept {
    /// Keeps a child that was started now.
    pub(super) fn new(child: Box<dyn Ends>) -> Self {
        Self { child, at: Instant::now() }
    }

    /// Returns whether it has ended.
    pub(super) fn is_gone(&mut self) -> bool {
        self.child.is_gone()
    }

    /// Asks it to end.
    pub(super) fn kill(&mut self) {
        self.child.kill();
    }

    /// Asks it to end and waits a moment for that; returns for how long it has been there when it does not.
    pub(super) async fn end(&mut self) -> Result<(), Duration> {
        self.kill();
        let until = Instant::now() + END_LIMIT;
        while !self.is_gone() {
            if Instant::now() >= until {
                return Err(self.at.elapsed());
            }
            sleep(END_PAUSE).await;
        }
        Ok(())
    }
}
