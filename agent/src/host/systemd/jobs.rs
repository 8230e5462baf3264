//! Jobs: whose they are and how they end.
//!
//! Owns the ids of the jobs that this agent queued and the fan-out of `JobRemoved` signals to those who wait.
//! Holds no job across a restart of the agent: a job of an earlier agent counts as somebody else's until it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use zbus::ObjectPath;

/// Ends kept for those who wait; one who falls behind asks systemd instead.
const ENDS_KEPT: usize = 1024;

/// How a job ended (`JobRemoved`, org.freedesktop.systemd1(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum JobEnd {
    /// It did what it was to do.
    Done,
    /// Another result: `canceled`, `timeout`, `failed`, `dependency`, `skipped`, ...
    Other(String),
    /// It is gone, and its signal was not seen.
    Unseen,
}

impl fmt::Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Other(result) => f.write_str(result),
            Self::Unseen => f.write_str("its job vanished"),
        }
    }
}

/// What is known of jobs from signals.
#[derive(Clone, Debug)]
pub(in crate::host) enum JobSignal {
    /// A job ended.
    Ended(u32, JobEnd),
    /// Signals may have been lost.
    Lost,
}

/// The jobs of this agent, and the ends of all.
#[derive(Debug)]
pub(in crate::host) struct Jobs {
    ended: broadcast::Sender<JobSignal>,
    ours: Mutex<Ours>,
}

/// What this agent has queued.
#[derive(Debug, Default)]
struct Ours {
    /// Calls per unit whose reply, with the id, may not have been read yet.
    calls: BTreeMap<String, usize>,
    /// Ids of queued jobs.
    ids: BTreeSet<u32>,
}

impl Jobs {
    pub(in crate::host) fn new() -> Arc<Self> {
        Arc::new(Self { ended: broadcast::Sender::new(ENDS_KEPT), ours: Mutex::default() })
    }

    /// Hands a signal to all who wait.
    pub(in crate::host) fn publish(&self, signal: JobSignal) {
        // An error only says that nobody waits.
        let _ = self.ended.send(signal);
    }

    /// Returns whether a job on a unit was queued by this agent.
    pub(super) fn is_ours(&self, unit: &str, id: u32) -> bool {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.ids.contains(&id) || ours.calls.contains_key(unit)
    }

    /// Starts listening to ends; those published from here on are seen.
    pub(super) fn subscribe(&self) -> Ends {
        Ends(self.ended.subscribe())
    }

    /// Marks jobs on a unit as ours until the guard is dropped.
    pub(super) fn ours(self: &Arc<Self>, unit: &str) -> OurJob {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        *ours.calls.entry(unit.to_owned()).or_default() += 1;
        OurJob { jobs: Arc::clone(self), unit: Some(unit.to_owned()), id: None }
    }
}

/// A job that this agent queued, while somebody waits for it.
pub(super) struct OurJob {
    jobs: Arc<Jobs>,
    unit: Option<String>,
    id: Option<u32>,
}

impl OurJob {
    /// Notes the id, by which alone the job is known from here on.
    pub(super) fn is_job(&mut self, id: u32) {
        let mut ours = self.jobs.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.ids.insert(id);
        self.id = Some(id);
        ours.end_call(self.unit.take());
    }
}

impl Drop for OurJob {
    fn drop(&mut self) {
        let mut ours = self.jobs.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.end_call(self.unit.take());
        if let Some(id) = self.id {
            ours.ids.remove(&id);
        }
    }
}

impl Ours {
    fn end_call(&mut self, unit: Option<String>) {
        let Some(unit) = unit else { return };
        if let Some(calls) = self.calls.get_mut(&unit) {
            *calls = calls.saturating_sub(1);
            if *calls == 0 {
                self.calls.remove(&unit);
            }
        }
    }
}

/// The ends of jobs, as one waiter sees them.
pub(super) struct Ends(broadcast::Receiver<JobSignal>);

impl Ends {
    /// Waits for the end of this job; `None` when signals may have been lost.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self, id: u32) -> Option<JobEnd> {
        loop {
            match self.0.recv().await {
                Ok(JobSignal::Ended(ended, end)) if ended == id => return Some(end),
                Ok(JobSignal::Ended(..)) => {}
                Ok(JobSignal::Lost) | Err(broadcast::error::RecvError::Lagged(_)) => return None,
                // The sender lives in `Jobs`, which whoever waits holds.
                Err(broadcast::error::RecvError::Closed) => return Some(JobEnd::Unseen),
            }
        }
    }
}

/// Returns the id in a job's object path.
pub(super) fn id_of(path: &ObjectPath<'_>) -> Option<u32> {
    path.as_str().strip_prefix("/org/freedesktop/systemd1/job/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_ours_from_before_its_call_until_nobody_waits() {
        let jobs = Jobs::new();
        let (web, db) = ("container@web.service", "container@db.service");
        let mut ours = jobs.ours(web);
        assert!(jobs.is_ours(web, 7), "the reply with the id may still be on its way");
        assert!(!jobs.is_ours(db, 7));
        ours.is_job(7);
        assert!(jobs.is_ours(web, 7));
        assert!(!jobs.is_ours(web, 8), "a second job on the unit is somebody else's");
        drop(ours);
        assert!(!jobs.is_ours(web, 7));
    }

    #[tokio::test]
    async fn an_end_that_comes_before_the_wait_is_not_missed() {
        let jobs = Jobs::new();
        let mut ends = jobs.subscribe();
        jobs.publish(JobSignal::Ended(6, JobEnd::Done));
        jobs.publish(JobSignal::Ended(7, JobEnd::Other("timeout".to_owned())));
        assert_eq!(ends.next(7).await, Some(JobEnd::Other("timeout".to_owned())));
    }

    #[tokio::test]
    async fn one_who_may_have_missed_an_end_is_told_so() {
        let jobs = Jobs::new();
        let mut ends = jobs.subscribe();
        for id in 0..2 * u32::try_from(ENDS_KEPT).unwrap() {
            jobs.publish(JobSignal::Ended(id, JobEnd::Done));
        }
        assert_eq!(ends.next(3).await, None);
    }
}
