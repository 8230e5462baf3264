//! What a service asks of the GPUs, with what the agent knows of it: the input of the ledger and of admission.

use std::collections::BTreeSet;

use crate::model::{Bytes, ContainerName, GpuShare, Grant};

/// A declared service that asks for GPUs.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are read one by one, each independent of the others")]
pub struct Claim<'a> {
    /// Its name.
    pub name: &'a ContainerName,
    /// What it asks for.
    pub share: &'a GpuShare,
    /// What it was granted last: what it runs with, has still to be started with, or had when it ran; `None`: nothing, or nobody knows.
    pub holds: Option<&'a Grant>,
    /// Where its unit is.
    pub phase: Phase,
    /// Whether it is to run: declared, not held, and not given up.
    pub wants: bool,
    /// Whether GPUs are all that keeps it from starting: what it depends on has come so far, and nothing else is in its way. One
    /// that is not ready asks nobody to yield and keeps no room; of one that runs it says nothing.
    pub ready: bool,
    /// What it depends on, and what that depends on: none of it yields to it, since it could not start without.
    pub needs: &'a BTreeSet<ContainerName>,
    /// Whether it was granted what it asks for in the last round: then it takes no more than it had from one that waits, when it is started anew.
    pub granted: bool,
    /// Since when it is to run, in any measure; of the same priority, the lower goes first. It stays the same while the service waits,
    /// runs, restarts or yields, so that nobody loses a place by a restart, and begins anew when it was held or not declared.
    pub since: u64,
    /// The most video memory that it was seen to use, over all of its GPUs; `None`: none was seen.
    pub remembered: Option<Bytes>,
    /// Whether what runs models in it gives memory back while it runs: then it is asked for that before anybody is stopped.
    pub elastic: bool,
}

/// Where the unit of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not run.
    Down,
    /// It starts or runs.
    Up,
    /// It is being stopped: what it has comes back without anybody being asked.
    Ending,
}

impl Claim<'_> {
    /// Returns whether it has memory that will not come back by itself: it runs, and goes on.
    pub(super) fn stays(&self) -> bool {
        self.phase == Phase::Up && self.wants
    }

    /// Returns whether something beside GPUs keeps it from starting.
    pub(super) fn is_hindered(&self) -> bool {
        self.wants && !self.ready && !self.stays()
    }

    /// Returns what it was seen to use, where that is more than it may: what it declares says nothing of it then. Without `vram`
    /// that is all that is known of it.
    pub(super) fn excess(&self) -> u64 {
        let declared = self.share.vram.map_or(0, |vram| vram.0);
        self.remembered.map_or(0, |seen| if seen.0 > declared { seen.0 } else { 0 })
    }
}
