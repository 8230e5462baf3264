//! What services use now: figures of one moment, of which a client makes rates with those of another.
//!
//! A figure that the kernel does not have is absent, never 0.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// The answer to `Usage`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct UsageReply {
    /// When the figures were read, in microseconds since 1970.
    pub at_usec: u64,
    /// The same on a clock that is never set, in microseconds: the time between two answers of one boot.
    pub clock_usec: u64,
    /// Every service that the status has, in its order; one that does not run has no figures of a run.
    pub services: Vec<ServiceUsage>,
}

/// What one service uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomType)]
pub struct ServiceUsage {
    /// Its name.
    pub name: String,
    /// Its stack.
    pub stack: String,
    /// Which run the figures are of: counters begin anew with another one. Absent when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Since when it runs, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_since_usec: Option<u64>,
    /// CPU time used since its start, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_usec: Option<u64>,
    /// How much of the time somebody waited for a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_pressure: Option<Pressure>,
    /// Memory in use, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_current: Option<u64>,
    /// Swap in use, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap_current: Option<u64>,
    /// `memory.max` in force, in bytes; absent: no limit, or no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// `memory.high` in force, in bytes; absent: no limit, or no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// Declared `memory_max`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max_declared: Option<u64>,
    /// Declared `memory_high`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high_declared: Option<u64>,
    /// How much of the time somebody waited for memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_pressure: Option<Pressure>,
    /// Processes that the kernel killed for want of memory since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices since its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_write_bytes: Option<u64>,
    /// How much of the time somebody waited for IO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_pressure: Option<Pressure>,
    /// Tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_current: Option<u64>,
    /// `pids.max` in force; absent: no limit, or no figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks_max: Option<u64>,
    /// Video memory in use at the last look, in bytes, over all of its GPUs; absent: it has none, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_current: Option<u64>,
    /// Video memory that it was granted, in bytes; absent: it made no claim, or was granted none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_budget: Option<u64>,
    /// Bytes that it received through the interface that the host gave it; absent on the host's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_receive_bytes: Option<u64>,
    /// Bytes that it sent through that interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_transmit_bytes: Option<u64>,
    /// Starts by the agent since it was last well, without the first.
    pub restarts: u32,
}

/// How much of the last ten seconds tasks waited for something, in percent (kernel, accounting/psi).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, CustomType)]
pub struct Pressure {
    /// At least one of them waited.
    pub some_avg10: f64,
    /// All of them waited at once; absent where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_avg10: Option<f64>,
}
