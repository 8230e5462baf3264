//! What one service declares, after the manifest was read and before addresses are assigned.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::{Bytes, ContainerName, CpuQuota, GpuShare, Offload, PressureMax, StackName, StorePath, Weight};

/// A declared service, realised as one nixos-container of the same name.
///
/// `S` is what its root runs: a store path once it is built; the manifest's resolver has what is still to be
/// built in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service<S = System> {
    /// The container's name, unique on the host.
    pub name: ContainerName,
    /// The stack it belongs to.
    pub stack: StackName,
    /// Where it is declared; for messages only, never part of a comparison that leads to a change.
    pub origin: Origin,
    /// Whether it runs on or runs to its end.
    pub kind: Kind,
    /// What its root runs.
    pub system: S,
    /// What must hold before it is started. Keys may name services of other stacks.
    pub depends_on: BTreeMap<ContainerName, Condition>,
    /// The stacks of those dependencies that are declared as services of another one; keys are keys of `depends_on`.
    pub dependency_stacks: BTreeMap<ContainerName, StackName>,
    /// How its health is found out; `None`: a booted guest is healthy when its systemd says `running`, a
    /// static one when its unit is active.
    pub health: Option<HealthCheck>,
    /// Resource limits, changed live.
    pub limits: Limits,
    /// How it is reached.
    pub network: Network,
    /// Published ports, in manifest order without duplicates; empty unless the network is private.
    pub ports: Vec<Port>,
    /// Host paths bound into the container, in manifest order; targets are unique.
    pub mounts: Vec<Mount>,
    /// Memory file systems, in manifest order; targets are unique and not targets of `mounts`.
    pub tmpfs: Vec<Tmpfs>,
    /// Secrets by credential name: the host path that nspawn reads at the start (`--load-credential=`).
    pub credentials: BTreeMap<String, PathBuf>,
    /// Environment of every service in the guest.
    pub environment: BTreeMap<String, String>,
    /// Host device nodes it may use, in manifest order without duplicates.
    pub devices: Vec<Device>,
    /// Its share of the GPUs; `None`: none.
    pub gpu: Option<GpuShare>,
    /// What runs models in it; `None`: nothing that is known of. Only with `gpu`.
    pub offload: Option<Offload>,
    /// Extra capabilities, such as `CAP_NET_ADMIN`, sorted without duplicates.
    pub capabilities: Vec<String>,
    /// Whether the root file system is thrown away at each stop.
    pub ephemeral: bool,
    /// Whether the container has a user namespace of its own.
    pub private_users: PrivateUsers,
    /// Extra flags for systemd-nspawn(1), in order, without blanks, quotes or globs.
    pub nspawn_flags: Vec<String>,
    /// What happens after it ended.
    pub restart: Restart,
}

impl<S> Service<S> {
    /// Returns this service with another system.
    #[must_use]
    pub fn with_system<T>(self, system: T) -> Service<T> {
        Service {
            system,
            name: self.name,
            stack: self.stack,
            origin: self.origin,
            kind: self.kind,
            depends_on: self.depends_on,
            dependency_stacks: self.dependency_stacks,
            health: self.health,
            limits: self.limits,
            network: self.network,
            ports: self.ports,
            mounts: self.mounts,
            tmpfs: self.tmpfs,
            credentials: self.credentials,
            environment: self.environment,
            devices: self.devices,
            gpu: self.gpu,
            offload: self.offload,
            capabilities: self.capabilities,
            ephemeral: self.ephemeral,
            private_users: self.private_users,
            nspawn_flags: self.nspawn_flags,
            restart: self.restart,
        }
    }
}

impl<S> Service<S> {
    /// Returns a service that declares nothing but its name and its system: everything else at its default.
    #[must_use]
    pub fn new(name: ContainerName, stack: StackName, system: S) -> Self {
        Self {
            name,
            stack,
            origin: Origin::default(),
            kind: Kind::default(),
            system,
            depends_on: BTreeMap::new(),
            dependency_stacks: BTreeMap::new(),
            health: None,
            limits: Limits::default(),
            network: Network::Private { address: None },
            ports: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            credentials: BTreeMap::new(),
            environment: BTreeMap::new(),
            devices: Vec::new(),
            gpu: None,
            offload: None,
            capabilities: Vec::new(),
            ephemeral: false,
            private_users: PrivateUsers::default(),
            nspawn_flags: Vec::new(),
            restart: Restart::default(),
        }
    }
}

/// Where a service is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The manifest file, as the user would name it.
    pub file: String,
    /// The line of its heading, counted from 1; 0 when unknown.
    pub line: u32,
    /// The line of its health section, counted from 1; 0 when it has none.
    pub health_line: u32,
}

/// Whether a service runs on or runs to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Is to run until it is stopped.
    #[default]
    Service,
    /// Runs once per specification until it exits with 0.
    Job,
}

/// What the container's root runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// `<path>/init` is PID 1.
    Store(StorePath),
    /// The container was made by `nixos-container` or by the host's configuration, which own its files.
    Adopted,
}

/// What a dependency must have reached before a dependent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Its unit is active.
    Started,
    /// Its health check succeeds.
    Healthy,
    /// It is a job and this specification of it succeeded.
    Completed,
}

/// How health is found out, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Pressures above which an answer counts as failed, whatever it is.
    pub pressure: PressureMax,
    /// Time from one answer to the next question; at least 100 ms. Default 10 s.
    pub interval: Duration,
    /// Time after which a question counts as failed. Default 5 s.
    pub timeout: Duration,
    /// Failures in a row after which a service that was healthy is unhealthy; at least 1. Default 3.
    pub retries: u32,
    /// Time after the start in which failures do not count. Default 1 min.
    pub start_period: Duration,
    /// What to do with an unhealthy service.
    pub on_unhealthy: OnUnhealthy,
}

/// What a health check asks, as seen from inside the container's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A GET of this `http://` URL answers with a status below 400.
    Http(String),
    /// This TCP port of the container's loopback or own address accepts a connection.
    Tcp(u16),
    /// This unit of the guest's systemd is active.
    Unit(String),
    /// This command, run by the guest's systemd, exits with 0. Not empty.
    Exec(Vec<String>),
    /// The guest's systemd says `running`, as of a service without a health check; a guest without one counts as well.
    Ready,
}

/// What is done with an unhealthy service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnUnhealthy {
    /// It is reported.
    #[default]
    Report,
    /// It is restarted, with the back-off of its restart policy.
    Restart,
}

/// Resource limits under systemd.resource-control(5)'s names; `None` means no limit, or systemd's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory protected from reclaim always (`MemoryMin=`).
    pub memory_min: Option<Bytes>,
    /// Memory protected from reclaim while others have unprotected memory (`MemoryLow=`).
    pub memory_low: Option<Bytes>,
    /// Memory above which it is throttled and reclaimed (`MemoryHigh=`).
    pub memory_high: Option<Bytes>,
    /// Memory above which its processes are killed (`MemoryMax=`).
    pub memory_max: Option<Bytes>,
    /// Swap space (`MemorySwapMax=`).
    pub memory_swap_max: Option<Bytes>,
    /// Compressed memory in zswap (`MemoryZSwapMax=`).
    pub memory_zswap_max: Option<Bytes>,
    /// CPU time (`CPUQuota=`).
    pub cpu_quota: Option<CpuQuota>,
    /// Share of CPU time under contention (`CPUWeight=`).
    pub cpu_weight: Option<Weight>,
    /// CPUs it may run on (`AllowedCPUs=`), sorted without duplicates; empty: all.
    pub allowed_cpus: Vec<u16>,
    /// Number of tasks (`TasksMax=`).
    pub tasks_max: Option<u64>,
    /// Share of IO under contention (`IOWeight=`).
    pub io_weight: Option<Weight>,
    /// Bytes per second read from a device (`IOReadBandwidthMax=`), sorted by path.
    pub io_read_bandwidth_max: Vec<IoLimit>,
    /// Bytes per second written to a device (`IOWriteBandwidthMax=`), sorted by path.
    pub io_write_bandwidth_max: Vec<IoLimit>,
}

/// A rate for one block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IoLimit {
    /// A block device, or a file on it.
    pub path: PathBuf,
    /// Bytes per second.
    pub bytes_per_second: Bytes,
}

/// How a container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network namespace of its own behind a veth pair, with addresses from the stack's pool.
    Private {
        /// The container's address, when the manifest fixes it.
        address: Option<Ipv4Addr>,
    },
    /// A veth pair whose host side is a port of this bridge.
    Bridge(String),
    /// The host's own network.
    Host,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The address of the host it is published on; `None`: all, localhost included.
    pub host_address: Option<IpAddr>,
    /// The port on the host, 1 to 65535.
    pub host_port: u16,
    /// The port in the container, 1 to 65535.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// As the manifest writes it with both ports: `[ADDRESS:]HOST:CONTAINER[/udp]`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            None => {}
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
        }
        write!(f, "{}:{}", self.host_port, self.container_port)?;
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// The transport of a published port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A host path bound into the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: PathBuf,
    /// Whether the container may not write to it.
    pub read_only: bool,
    /// Whether a missing source is made, as an empty directory owned by root.
    pub create: bool,
    /// Whether the start is refused when nothing is mounted at the source (a disk that is missing).
    pub must_be_mountpoint: bool,
}

/// A memory file system inside the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// The absolute path in the container.
    pub target: PathBuf,
    /// Its size; `None`: half of the memory, as the kernel has it.
    pub size: Option<Bytes>,
}

/// A host device node that a container may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// The node, below `/dev`.
    pub path: PathBuf,
    /// What is allowed: a non-empty subset of `rwm`, in that order. Default `rw`.
    pub access: String,
}

/// Whether the container has a user namespace of its own (`--private-users=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrivateUsers {
    /// The guest's root is the host's root.
    #[default]
    No,
    /// nspawn picks a free range of 65536 users.
    Pick,
}

/// What happens after a container ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When it is started again.
    pub policy: RestartPolicy,
    /// Wait before the first new start; doubles with each further one. Default 1 s.
    pub delay: Duration,
    /// Longest wait. Default 5 min.
    pub delay_max: Duration,
    /// New starts in a row after which the agent gives up; `None`: never. A run of 10 min, or a health check
    /// that succeeds, starts the count anew.
    pub attempts_max: Option<u32>,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            delay: Duration::from_secs(1),
            delay_max: Duration::from_mins(5),
            attempts_max: None,
        }
    }
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it ended with an error.
    OnFailure,
    /// Always; the default of services. A job restarts only on failure whatever is said here.
    Always,
}
