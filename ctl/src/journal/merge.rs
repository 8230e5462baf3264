//! One order out of several: by time, and within a source as the source has it.
//!
//! A source that has nothing to say may still say something earlier than what others said already. Where lines end, it
//! is waited for; where they are followed, for a moment only, after which a late one comes late. None is dropped.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What a source may have waiting here; then it is not read for a while.
const WAITING_MAX: usize = 1 << 14;
/// The same in bytes, which one more look at the source may exceed.
const BYTES_MAX: usize = 8 << 20;

/// Brings what several sources say into one order.
#[derive(Debug)]
pub(super) struct Merge<T> {
    queues: Vec<Queue<T>>,
    /// How long what a silent source may still say is waited for; `None`: for as long as it takes.
    patience: Option<Duration>,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// How long all that waits is.
    bytes: usize,
    /// The latest moment so far: a clock that is set back must not turn a source's own order around.
    latest: u64,
    ended: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    at_usec: u64,
    arrived: Instant,
    bytes: usize,
    item: T,
}

impl<T> Merge<T> {
    /// Returns one of so many sources.
    pub(super) fn new(sources: usize, patience: Option<Duration>) -> Self {
        let queue = || Queue { waiting: VecDeque::new(), bytes: 0, latest: 0, ended: false };
        Self { queues: (0..sources).map(|_| queue()).collect(), patience }
    }

    /// Takes in what a source says next, which is so long.
    pub(super) fn push(&mut self, source: usize, at_usec: u64, arrived: Instant, bytes: usize, item: T) {
        if let Some(queue) = self.queues.get_mut(source) {
            queue.latest = queue.latest.max(at_usec);
            queue.bytes = queue.bytes.saturating_add(bytes);
            queue.waiting.push_back(Waiting { at_usec: queue.latest, arrived, bytes, item });
        }
    }

    /// Takes note that a source says nothing more.
    pub(super) fn end(&mut self, source: usize) {
        if let Some(queue) = self.queues.get_mut(source) {
            queue.ended = true;
        }
    }

    /// Returns whether a source should be read.
    pub(super) fn has_room(&self, source: usize) -> bool {
        let has_room = |queue: &Queue<T>| queue.waiting.len() < WAITING_MAX && queue.bytes < BYTES_MAX;
        self.queues.get(source).is_some_and(|queue| !queue.ended && has_room(queue))
    }

    /// Returns what comes next; `None`: that is not known yet, or nothing is left.
    pub(super) fn pop(&mut self, now: Instant) -> Option<T> {
        let all_known = self.queues.iter().all(|queue| queue.ended || !queue.waiting.is_empty());
        let (source, arrived) = self.first()?;
        let waited = self.patience.is_some_and(|patience| arrived + patience <= now);
        if !all_known && !waited {
            return None;
        }
        let queue = self.queues.get_mut(source)?;
        let Waiting { bytes, item, .. } = queue.waiting.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(bytes);
        Some(item)
    }

    /// Returns when what waits is not to wait any longer; `None`: nothing waits, or for as long as it takes.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, arrived) = self.first()?;
        Some(arrived + self.patience?)
    }

    /// Returns the source of what is first of all that waits, and when that arrived.
    fn first(&self) -> Option<(usize, Instant)> {
        let heads = self.queues.iter().enumerate();
        let heads = heads.filter_map(|(source, queue)| Some((source, queue.waiting.front()?)));
        // The first of those of one moment.
        heads.min_by_key(|(_, head)| head.at_usec).map(|(source, head)| (source, head.arrived))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn all(merge: &mut Merge<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| merge.pop(now)).collect()
    }

    #[test]
    fn lines_come_in_the_order_of_time_once_every_source_has_spoken() {
        let (mut merge, now) = (Merge::new(2, None), Instant::now());
        merge.push(0, 10, now, 1, "a10");
        merge.push(0, 30, now, 1, "a30");
        assert_eq!(all(&mut merge, now + PATIENCE * 100), [""; 0], "the other may be earlier");
        merge.push(1, 20, now, 1, "b20");
        assert_eq!(all(&mut merge, now), ["a10", "b20"]);
        merge.end(1);
        assert_eq!(all(&mut merge, now), ["a30"]);
    }

    #[test]
    fn a_source_keeps_its_order_when_its_clock_is_set_back() {
        let (mut merge, now) = (Merge::new(2, None), Instant::now());
        for (at, item) in [(50, "a1"), (20, "a2"), (60, "a3")] {
            merge.push(0, at, now, 1, item);
        }
        merge.push(1, 55, now, 1, "b1");
        merge.end(0);
        merge.end(1);
        assert_eq!(all(&mut merge, now), ["a1", "a2", "b1", "a3"]);
    }

    #[test]
    fn a_silent_source_is_waited_for_a_moment_and_a_late_line_is_not_lost() {
        let (mut merge, now) = (Merge::new(2, Some(PATIENCE)), Instant::now());
        merge.push(0, 30, now, 1, "a30");
        assert_eq!(all(&mut merge, now), [""; 0]);
        assert_eq!(merge.due(), Some(now + PATIENCE));
        merge.push(1, 20, now + PATIENCE / 2, 1, "b20");
        assert_eq!(all(&mut merge, now + PATIENCE / 2), ["b20"], "both have spoken");
        assert_eq!(all(&mut merge, now + PATIENCE), ["a30"]);
        merge.push(1, 25, now + PATIENCE, 1, "b25");
        assert_eq!(all(&mut merge, now + PATIENCE * 2), ["b25"]);
        assert_eq!(merge.due(), None);
    }

    #[test]
    fn a_source_that_is_far_ahead_is_not_read() {
        let mut merge = Merge::new(2, None);
        for at in 0..WAITING_MAX {
            assert!(merge.has_room(0));
            merge.push(0, at as u64, Instant::now(), 1, "");
        }
        assert!(!merge.has_room(0) && merge.has_room(1));
        merge.end(1);
        assert!(!merge.has_room(1));
    }

    #[test]
    fn a_few_long_ones_are_as_much_as_many() {
        let (mut merge, now) = (Merge::new(1, None), Instant::now());
        merge.push(0, 1, now, BYTES_MAX, "long");
        merge.push(0, 2, now, 1, "short");
        assert!(!merge.has_room(0));
        assert_eq!(merge.pop(now), Some("long"));
        assert!(merge.has_room(0));
    }
}
