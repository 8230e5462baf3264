//! What the machine is and has, as far as limits depend on it.

use std::path::PathBuf;

use super::Bytes;

/// Facts of the machine. What could not be read is `None`, and nothing is warned about for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `MemTotal` of `/proc/meminfo`, in bytes.
    pub memory_total: Option<Bytes>,
    /// `SwapTotal` of `/proc/meminfo`, in bytes.
    pub swap_total: Option<Bytes>,
    /// Whether pages on their way to swap are compressed in memory (kernel, admin-guide/mm/zswap).
    pub zswap: Option<bool>,
    /// `cgroup.controllers` of the topmost cgroup: names such as `memory`, between blanks.
    pub controllers: Option<String>,
    /// CPUs that are online, each once.
    pub cpus: Option<Vec<u16>>,
    /// Whether a disk shares its time by weights: its scheduler is BFQ, or the kernel's `iocost` is on for it.
    pub io_weights: Option<bool>,
    /// Whether protection of memory goes down into the cgroups of a guest: the mount option `memory_recursiveprot`.
    pub recursive_protection: Option<bool>,
    /// Of the paths that were asked about, those under which no block device lies.
    pub without_device: Vec<PathBuf>,
}
