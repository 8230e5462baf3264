//! Blocking work that may never end: a look at a path whose file system does not answer, such as that of a server that is gone.
//!
//! Owns how long it is waited for and how many threads may be stuck in it. The kernel alone can end such a thread, so it is left behind,
//! and keeps its turn: whoever asks again and again waits for a turn and not for one more thread of the pool that everything else needs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Runs such work beside the one runtime thread. Clones share their turns.
#[derive(Clone, Debug)]
pub(crate) struct Unhurried {
    turns: Arc<Semaphore>,
    limit: Duration,
}

impl Unhurried {
    /// Returns what waits this long for each piece of work, its turn included, and runs at most `turns` of them at a time.
    pub(crate) fn new(turns: usize, limit: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), limit }
    }

    /// Runs one piece of work; `None` when it did not end in time. It then goes on, or never begins.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let turns = Arc::clone(&self.turns);
        let attempt = async move {
            // Fails only when the semaphore is closed, which it never is.
            let turn = turns.acquire_owned().await.ok()?;
            let worked = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(turn);
                done
            });
            // Fails only when the runtime shuts down.
            worked.await.ok()
        };
        tokio::time::timeout(self.limit, attempt).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_never_ends_keeps_its_turn_and_no_more() {
        let unhurried = Unhurried::new(2, Duration::from_millis(50));
        let (release, stuck) = mpsc::channel::<()>();
        assert_eq!(unhurried.run(move || stuck.recv().is_err()).await, None);
        for number in 0..20 {
            assert_eq!(unhurried.run(move || number).await, Some(number), "the other turn");
        }
        let (second, also_stuck) = mpsc::channel::<()>();
        assert_eq!(unhurried.clone().run(move || also_stuck.recv().is_err()).await, None);
        let (ran, runs) = mpsc::channel();
        for _ in 0..5 {
            let ran = ran.clone();
            assert_eq!(unhurried.run(move || ran.send(()).is_err()).await, None, "no turn is left");
        }
        assert!(runs.try_recv().is_err(), "no further thread was taken");
        drop((release, second));
        assert_eq!(unhurried.run(|| 7).await, Some(7), "the file system answers again");
    }
}
