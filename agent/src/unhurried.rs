//! Blocking work that may never end: a look at a path whose file system does not answer, such as that of a server that is gone.
//!
//! Owns how long it is waited for and how many threads may be stuck in it. The kernel alone can end such a thread, so it
//! is left behind, and keeps its turn. There is one look at a path at a time, so whoever asks about a dead one again and
//! again takes one turn and not all of them; while it is stuck, the answer is that there is none, at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Runs such work beside the one runtime thread. Clones share their turns.
#[derive(Clone, Debug)]
pub(crate) struct Unhurried {
    turns: Arc<Semaphore>,
    looks: Arc<Mutex<Looks>>,
    limit: Duration,
}

/// By path: when whoever asked gives up, and a channel that closes when the look has ended.
type Looks = BTreeMap<PathBuf, (Instant, watch::Receiver<()>)>;

/// The one look at a path; it is over when this is dropped.
struct Look {
    looks: Arc<Mutex<Looks>>,
    path: PathBuf,
    /// Closed after the entry is gone: fields are dropped after their owner.
    _ends: watch::Sender<()>,
}

impl Drop for Look {
    fn drop(&mut self) {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Unhurried {
    /// Returns what waits this long for each look, its turn included, and runs at most `turns` of them at a time.
    pub(crate) fn new(turns: usize, limit: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(turns)), looks: Arc::default(), limit }
    }

    /// Runs one look at a path; `None` when it did not end in time, or an earlier one still has not. It then goes on,
    /// or never begins.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let until = Instant::now() + self.limit;
        let attempt = async {
            let look = self.begin(path, until).await?;
            // Fails only when the semaphore is closed, which it never is.
            let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            let worked = tokio::task::spawn_blocking(move || {
                let done = work();
                drop((look, turn));
                done
            });
            // Fails only when the runtime shuts down.
            worked.await.ok()
        };
        tokio::time::timeout_at(until, attempt).await.ok().flatten()
    }

    /// Waits until nobody else looks there; `None` when somebody was given up who does.
    async fn begin(&self, path: &Path, until: Instant) -> Option<Look> {
        loop {
            let mut other = {
                let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
                match looks.get(path) {
                    None => {
                        let (ends, ended) = watch::channel(());
                        looks.insert(path.to_owned(), (until, ended));
                        return Some(Look { looks: Arc::clone(&self.looks), path: path.to_owned(), _ends: ends });
                    }
                    Some((given_up, _)) if *given_up <= Instant::now() => return None,
                    Some((_, ended)) => ended.clone(),
                }
            };
            // An error: the channel is closed, which is all that ever happens to it.
            let _closed = other.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// No look that ends takes this long, on a busy machine either.
    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn work_that_never_ends_keeps_its_turn_and_no_more() {
        let unhurried = Unhurried::new(2, LIMIT);
        let [a, b, c] = ["/a", "/b", "/c"].map(Path::new);
        let (release, stuck) = mpsc::channel::<()>();
        assert_eq!(unhurried.run(a, move || stuck.recv().is_err()).await, None);
        for number in 0..20 {
            assert_eq!(unhurried.run(c, move || number).await, Some(number), "the other turn");
        }
        let (second, also_stuck) = mpsc::channel::<()>();
        assert_eq!(unhurried.clone().run(b, move || also_stuck.recv().is_err()).await, None);
        let (ran, runs) = mpsc::channel();
        let others = ["/c", "/d", "/e", "/f", "/g"].map(|path| {
            let ran = ran.clone();
            unhurried.run(Path::new(path), move || ran.send(()).is_err())
        });
        assert_eq!(futures_util::future::join_all(others).await, [None; 5], "no turn is left");
        assert!(runs.try_recv().is_err(), "no further thread was taken");
        drop((release, second));
        assert_eq!(unhurried.run(c, || 7).await, Some(7), "the file systems answer again");
    }

    #[tokio::test]
    async fn a_stuck_path_takes_one_turn_however_often_it_is_asked_for() {
        let unhurried = Unhurried::new(2, LIMIT);
        let path = Path::new("/stuck");
        let (release, stuck) = mpsc::channel::<()>();
        let stuck = Arc::new(Mutex::new(stuck));
        let look = || {
            let stuck = Arc::clone(&stuck);
            unhurried.run(path, move || stuck.lock().unwrap().recv().is_err())
        };
        assert_eq!(tokio::join!(look(), look(), look()), (None, None, None));
        let asked = Instant::now();
        for _ in 0..20 {
            assert_eq!(look().await, None);
        }
        // One that had really waited would have taken a whole limit.
        assert!(asked.elapsed() < LIMIT, "answered at once: {:?}", asked.elapsed());
        assert_eq!(unhurried.run(Path::new("/well"), || 7).await, Some(7), "a turn is left");
        drop(release);
        let answers = async {
            while look().await.is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), answers).await.expect("it answers again");
    }

    #[tokio::test]
    async fn who_asks_for_a_path_that_is_looked_at_waits_for_the_other() {
        let unhurried = Unhurried::new(1, Duration::from_secs(10));
        let look = |number: u32| unhurried.run(Path::new("/a"), move || number);
        assert_eq!(tokio::join!(look(1), look(2), look(3)), (Some(1), Some(2), Some(3)));
    }
}
