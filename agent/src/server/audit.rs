//! The record of who asked for what, and how it ended. Parameters are not in it: they may hold secrets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Peer;

/// The shortest time between two records of refusals of one user; a user who may nothing could fill the journal.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// Records within that time of all users together: somebody with subordinate ids (subuid(5)) is many users.
const REFUSALS_MAX: usize = 20;

/// Records a change that was asked for by somebody who may.
pub(super) fn change(peer: &Peer, method: &str, outcome: &str) {
    info!(uid = peer.uid, pid = peer.pid, method, outcome, "change");
}

/// Records refusals, and keeps the record short.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    calls: Pace,
    connections: Pace,
}

impl Refusals {
    /// Records that somebody asked for something and may not; not each time.
    pub(super) fn record(&self, peer: &Peer, method: &str) {
        if self.calls.allows(peer.uid, "calls that were refused") {
            change(peer, method, "NotPermitted");
        }
    }

    /// Records that somebody was turned away for want of a place; not each time.
    pub(super) fn turned_away(&self, peer: &Peer) {
        if self.connections.allows(peer.uid, "connections that were closed") {
            info!(uid = peer.uid, pid = peer.pid, "too many connections; closed a new one");
        }
    }
}

/// What was written lately, and what was not.
#[derive(Debug, Default)]
struct Pace(RefCell<Lately>);

/// Written about within the interval: of each user once, and never more than there may be of all.
#[derive(Debug, Default)]
struct Lately {
    users: BTreeMap<u32, Instant>,
    /// Left out since the last record, as there were too many.
    left_out: u64,
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    Nothing,
    /// A record, after one of how many were left out.
    After(u64),
}

impl Pace {
    /// Returns whether it is time for another record about a user, which then counts as written.
    fn allows(&self, uid: u32, what: &str) -> bool {
        match self.0.borrow_mut().next(uid, Instant::now()) {
            Record::Nothing => false,
            Record::After(0) => true,
            Record::After(left_out) => {
                info!(left_out, "there were more {what} than are recorded");
                true
            }
        }
    }
}

impl Lately {
    fn next(&mut self, uid: u32, now: Instant) -> Record {
        self.users.retain(|_, at| now.duration_since(*at) < REFUSAL_INTERVAL);
        if self.users.contains_key(&uid) {
            return Record::Nothing;
        }
        if self.users.len() >= REFUSALS_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return Record::Nothing;
        }
        self.users.insert(uid, now);
        Record::After(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_users_write_no_more_than_a_few_and_what_is_left_out_is_counted() {
        let (mut lately, now) = (Lately::default(), Instant::now());
        let written = (0..65_536).filter(|uid| lately.next(*uid, now) == Record::After(0)).count();
        assert_eq!(written, REFUSALS_MAX);
        let later = now + REFUSAL_INTERVAL;
        assert_eq!(lately.next(7, later), Record::After(65_536 - 20));
        assert_eq!(lately.next(7, later), Record::Nothing, "once for each");
        assert_eq!(lately.next(8, later), Record::After(0));
    }
}
