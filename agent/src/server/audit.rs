//! The record of who asked for what, and how it ended. Parameters are not in it: they may hold secrets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::Peer;

/// The shortest time between two records of refusals of one user; a user who may nothing could fill the journal.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(10);
/// How many users are remembered at once.
const USERS_MAX: usize = 1024;

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
        if self.calls.allows(peer.uid) {
            change(peer, method, "NotPermitted");
        }
    }

    /// Records that somebody was turned away for want of a place; not each time.
    pub(super) fn turned_away(&self, peer: &Peer) {
        if self.connections.allows(peer.uid) {
            info!(uid = peer.uid, pid = peer.pid, "too many connections; closed a new one");
        }
    }
}

/// When each user was last written about.
#[derive(Debug, Default)]
struct Pace(RefCell<BTreeMap<u32, Instant>>);

impl Pace {
    /// Returns whether it is time for another record about a user, which then counts as written.
    fn allows(&self, uid: u32) -> bool {
        let now = Instant::now();
        let mut last = self.0.borrow_mut();
        if last.get(&uid).is_some_and(|at| now.duration_since(*at) < REFUSAL_INTERVAL) {
            return false;
        }
        if last.len() >= USERS_MAX {
            last.clear();
        }
        last.insert(uid, now);
        true
    }
}
