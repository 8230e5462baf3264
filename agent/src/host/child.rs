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
    /// Returns how it ended; `None`: it has not.
    fn ended(&mut self) -> Option<String>;
}

impl Ends for Child {
    fn kill(&mut self) {
        // Fails where it is gone already.
        let _ = self.start_kill();
    }

    fn ended(&mut self) -> Option<String> {
        match self.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            // It is nobody's any more.
            Err(error) => Some(error.to_string()),
        }
    }
}

/// Waits a moment for an end, and returns it; `None`: it did not come.
pub(super) async fn end_of(child: &mut dyn Ends) -> Option<String> {
    let until = Instant::now() + END_LIMIT;
    loop {
        match child.ended() {
            None if Instant::now() < until => sleep(END_PAUSE).await,
            ended => return ended,
        }
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
        self.child.ended().is_some()
    }

    /// Asks it to end.
    pub(super) fn kill(&mut self) {
        self.child.kill();
    }

    /// Asks it to end and waits a moment for that; returns for how long it has been there when it does not.
    pub(super) async fn end(&mut self) -> Result<(), Duration> {
        self.kill();
        match end_of(self.child.as_mut()).await {
            Some(_ended) => Ok(()),
            None => Err(self.at.elapsed()),
        }
    }
}

/// Stands for a child that waits in the kernel until it is let go.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Stuck(pub(super) std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(test)]
impl Ends for Stuck {
    fn kill(&mut self) {}

    fn ended(&mut self) -> Option<String> {
        self.0.load(std::sync::atomic::Ordering::Relaxed).then(|| "signal: 9 (SIGKILL)".to_owned())
    }
}
