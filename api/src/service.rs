//! A declared service on the wire and on disk.
//!
//! A field that this version does not know is refused, not ignored: an agent that drops what a newer client declares
//! would carry out another plan than the one that was shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::{GpuShare, Offload};

/// A declared service with its system resolved; `nixmox_core::model::Service` documents each field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it is declared.
    pub origin: Origin,
    /// `service` or `job`.
    pub kind: String,
    /// The system's store path; absent for an adopted container.
    pub system: Option<String>,
    /// What must hold before it is started.
    pub depends_on: Vec<Dependency>,
    /// Its health check.
    pub health: Option<HealthCheck>,
    /// Resource limits.
    pub limits: Limits,
    /// How it is reached.
    pub network: Network,
    /// Published ports.
    pub ports: Vec<Port>,
    /// Host paths bound into it.
    pub mounts: Vec<Mount>,
    /// Memory file systems.
    pub tmpfs: Vec<Tmpfs>,
    /// Secrets: credential name to host path.
    pub credentials: BTreeMap<String, String>,
    /// Environment of the guest's services.
    pub environment: BTreeMap<String, String>,
    /// Host device nodes.
    pub devices: Vec<Device>,
    /// Its share of the GPUs; absent: none.
    // Left out where there is none, for agents that do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuShare>,
    /// What runs models in it; absent: nothing that is known of. Only with `gpu.vram`.
    // Likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<Offload>,
    /// Extra capabilities.
    pub capabilities: Vec<String>,
    /// Whether its root is thrown away at each stop.
    pub ephemeral: bool,
    /// `no` or `pick`.
    pub private_users: String,
    /// Extra flags for systemd-nspawn(1).
    pub nspawn_flags: Vec<String>,
    /// What happens after it ended.
    pub restart: Restart,
}

/// Where a service is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The manifest file.
    pub file: String,
    /// The line of its heading, from 1; 0: unknown.
    pub line: u32,
    /// The line of its health section, from 1; 0: none.
    pub health_line: u32,
}

/// What must hold of another service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The other service.
    pub name: String,
    /// The stack that it is a service of; absent: this one, or any.
    // Left out where there is none, for agents that do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// `started`, `healthy` or `completed`.
    pub condition: String,
}

/// A health check; exactly one of `http`, `tcp`, `unit`, `exec` is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// An `http://` URL.
    pub http: Option<String>,
    /// A TCP port.
    pub tcp: Option<u16>,
    /// A unit of the guest.
    pub unit: Option<String>,
    /// A command run in the guest.
    pub exec: Option<Vec<String>>,
    /// Pressures above which an answer counts as failed, in percent; absent: none. With it, nothing else needs to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<PressureMax>,
    /// Milliseconds from one answer to the next question.
    pub interval_ms: u64,
    /// Milliseconds after which a question counts as failed.
    pub timeout_ms: u64,
    /// Failures in a row that count.
    pub retries: u32,
    /// Milliseconds after the start in which failures do not count.
    pub start_period_ms: u64,
    /// `report` or `restart`.
    pub on_unhealthy: String,
}

/// Shares of the last ten seconds, 1 to 99 percent, in which at least one task of a service may wait; absent: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct PressureMax {
    /// For a CPU.
    pub cpu: Option<u8>,
    /// For memory.
    pub memory: Option<u8>,
    /// For IO.
    pub io: Option<u8>,
}

/// Resource limits; absent means none. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// `MemoryMin=`.
    pub memory_min: Option<u64>,
    /// `MemoryLow=`.
    pub memory_low: Option<u64>,
    /// `MemoryHigh=`.
    pub memory_high: Option<u64>,
    /// `MemoryMax=`.
    pub memory_max: Option<u64>,
    /// `MemorySwapMax=`.
    pub memory_swap_max: Option<u64>,
    /// `MemoryZSwapMax=`.
    pub memory_zswap_max: Option<u64>,
    /// `CPUQuota=` in microseconds per second.
    pub cpu_quota: Option<u64>,
    /// `CPUWeight=`, 1 to 10000.
    pub cpu_weight: Option<u16>,
    /// `AllowedCPUs=`; empty: all.
    pub allowed_cpus: Vec<u16>,
    /// `TasksMax=`.
    pub tasks_max: Option<u64>,
    /// `IOWeight=`, 1 to 10000.
    pub io_weight: Option<u16>,
    /// `IOReadBandwidthMax=`.
    pub io_read_bandwidth_max: Vec<IoLimit>,
    /// `IOWriteBandwidthMax=`.
    pub io_write_bandwidth_max: Vec<IoLimit>,
}

/// A rate for one block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// A block device, or a file on it.
    pub path: String,
    /// Bytes per second.
    pub bytes_per_second: u64,
}

/// How a container is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `private`, `bridge` or `host`.
    pub mode: String,
    /// The fixed address in a private network.
    pub address: Option<String>,
    /// The bridge.
    pub bridge: Option<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The address of the host; absent: all.
    pub host_address: Option<String>,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A host path bound into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether a missing source is made.
    pub create: bool,
    /// Whether something must be mounted at the source.
    pub must_be_mountpoint: bool,
}

/// A memory file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// The path in the container.
    pub target: String,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// A host device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The node.
    pub path: String,
    /// A subset of `rwm`.
    pub access: String,
}

/// What happens after a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
#[zlink(rename = "RestartPolicy")]
pub struct Restart {
    /// `no`, `on-failure` or `always`.
    pub policy: String,
    /// Milliseconds before the first new start.
    pub delay_ms: u64,
    /// The longest wait in milliseconds.
    pub delay_max_ms: u64,
    /// New starts in a row; absent: no limit.
    pub attempts_max: Option<u32>,
}
