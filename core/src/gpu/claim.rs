//! What a service asks of the GPUs, with what the agent knows of it: the input of the ledger and of admission.

use crate::model::{Bytes, ContainerName, GpuShare, Grant};

/// A declared service that asks for GPUs.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Its name.
    pub name: &'a ContainerName,
    /// What it asks for.
    pub share: &'a GpuShare,
    /// What it runs with or, while it is down, had last; `None`: nothing, or nobody knows.
    pub holds: Option<&'a Grant>,
    /// Where its unit is.
    pub phase: Phase,
    /// Whether it is to run: declared, not held, and not given up.
    pub wants: bool,
    /// Whether it was granted what it asks for in the last round. A restart, or a crash with its back-off, loses no place to one of
    /// the same priority by that.
    pub granted: bool,
    /// The most video memory that it was seen to use, over all of its GPUs; `None`: none was seen.
    pub remembered: Option<Bytes>,
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

    /// Returns what it was seen to use, where that is more than it may: what it declares says nothing of it then. Without `vram`
    /// that is all that is known of it.
    pub(super) fn excess(&self) -> u64 {
        let declared = self.share.vram.map_or(0, |vram| vram.0);
        self.remembered.map_or(0, |seen| if seen.0 > declared { seen.0 } else { 0 })
    }
}
