//! The outside, as the reconcile task sees it: one trait at the level of a plan's steps.
//!
//! Owns the seam and its errors. `live` composes the adapters below it into the real host, one folder or file
//! per outside thing; `fake` (feature `testing`) is a simulator with scripted faults. Nothing here decides:
//! which step is taken, and when, is `nixmox_core::plan`'s.

mod bus;
pub(crate) mod cgroup;
mod changes;
mod child;
pub(crate) mod devices;
mod engine;
mod error;
mod facts;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub(crate) mod files;
mod firewall;
mod gpu;
mod guest;
mod journal;
pub(crate) mod line;
pub mod live;
mod logs;
mod looks;
mod machined;
mod netlink;
mod nix;
mod nspawn;
mod oom;
pub(crate) mod paths;
mod readable;
mod servers;
mod session;
mod systemd;

pub use error::StepError;
pub use gpu::Gpus;
pub use logs::{EventQuery, LogQuery, LogStart, Readers};

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use nixmox_api::{CopyReply, CopyRequest, ExecReply, ExecRequest};
use nixmox_core::container::{Files, Layout};
use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::model::{
    Assigned, ContainerName, Facts, Grant, InvocationId, Observed, Offload, Port, Probe, Service, StorePath,
};
use nixmox_core::network::FirewallTable;
use nixmox_core::offload;
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::EngineSeen;
use nixmox_core::oom::OomKill;
use nixmox_core::slice::Slices;
use tokio::sync::watch;

pub use session::{Session, SessionError};

/// The host as the reconcile task sees it.
///
/// Every call has a time limit of its own and may be repeated after a failure or a crash: steps are
/// idempotent, and what an earlier attempt left behind is no error.
pub trait Host: Send + Sync + 'static {
    /// Reads everything a plan depends on, for the declared containers and all others that exist.
    ///
    /// `health` and `retry` are left at their defaults: the reconcile task keeps those. `exit` is what
    /// `ExecStopPost=` wrote since boot. Links of our containers are made fit for what the firewall table now says,
    /// since a guest that restarts has a new one.
    ///
    /// # Errors
    /// Only when systemd itself cannot be asked; a file that cannot be read counts as absent and is logged.
    fn observe(
        &self,
        declared: &BTreeSet<ContainerName>,
    ) -> impl Future<Output = Result<Observed, StepError>> + Send;

    /// Returns what the texts of containers depend on, as found when the agent started.
    fn layout(&self) -> Layout;

    /// Returns the containers that have a conf file which NixMox did not write, with the addresses in it.
    fn foreign_containers(&self) -> impl Future<Output = BTreeMap<ContainerName, Vec<Ipv4Addr>>> + Send;

    /// Takes nothing for granted at the next look that was known before it: somebody is about to be told a plan that
    /// is then carried out.
    fn distrust(&self) {}

    /// Checks that no other program listens on ports that are to be published. Programs of containers that are about to
    /// be stopped do not count.
    ///
    /// # Errors
    /// `PortTaken` for the first port that is taken.
    fn check_ports(
        &self,
        ports: &[Port],
        ending: &BTreeSet<ContainerName>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Returns a channel whose value grows whenever something outside may have changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Clears what an earlier instance left behind, writes the files, starts the unit and waits for the job.
    ///
    /// Joins a start job that is already running. Returns once the unit is active, or, for a job whose guest
    /// ended at once with 0, once it is inactive.
    fn start(&self, assigned: &Assigned, files: &Files) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Says what a start would lack of the host, as far as that is seen at once and without changing anything: the
    /// system, sources of mounts, credentials, devices.
    ///
    /// # Errors
    /// What `start` would fail with.
    fn check_needs(&self, service: &Service) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Returns which of these are there and Nix does not know, so that nothing keeps them. Where it cannot be asked, none.
    fn invalid(&self, systems: &BTreeSet<StorePath>) -> impl Future<Output = BTreeSet<StorePath>> + Send;

    /// Stops the unit and waits for the job; nothing to do when it does not run.
    fn stop(&self, name: &ContainerName) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Rewrites the files of a running container, reloads systemd when the drop-in changed, sets the
    /// live properties (limits, device rules), and switches its guest to its system where it runs another.
    fn update(&self, assigned: &Assigned, files: &Files) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Returns whether a running guest can be switched to this system, as far as that is known; it is, where its own can be left
    /// that way.
    fn is_switchable(&self, system: &StorePath) -> bool;

    /// Removes what was written for a stopped container: drop-in, conf file if ours, live properties,
    /// environment file, roots, exit record. Never its data.
    fn remove(&self, name: &ContainerName) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Replaces the table of published ports in one transaction.
    fn publish_ports(&self, table: &FirewallTable) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Replaces the hosts file that guests share, by rename, and their resolv.conf where there is another one.
    fn publish_names(
        &self,
        hosts: &str,
        resolv_conf: Option<&str>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Makes slices carry these limits, and those of ours that are not among them none: live, without a restart of what runs
    /// in them.
    ///
    /// # Errors
    /// The first failure, after all were tried. A file of the host's that systemd reads after ours is none: it is told by
    /// `Slice::overridden_by`.
    fn set_slices(&self, slices: &Slices) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Reads what limits depend on of the machine. `paths` are looked at for the disks below them; one that does not
    /// answer at once counts as having one.
    fn facts(&self, paths: &[PathBuf]) -> impl Future<Output = Facts> + Send;

    /// Makes the store paths of kept generations roots of Nix's garbage collector.
    fn root(
        &self,
        kept: &BTreeSet<StorePath>,
        others: OtherRoots,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Looks at the GPUs of the machine, in a child of its own: a driver that hangs or crashes is a fault in what is returned.
    /// One look at a time; who asks meanwhile is given what that one finds.
    fn gpus(&self) -> impl Future<Output = Inventory> + Send;

    /// Looks at what a running container sees of its GPUs, from where its processes are, in a child of its own.
    fn look_into(&self, name: &ContainerName, grant: &Grant) -> impl Future<Output = GuestView> + Send;

    /// Asks what runs models in a running container how it stands, from inside its network, in a child of its own. Never fails: an
    /// engine that does not answer, or not sensibly, is silent.
    fn look_at_engine(&self, name: &ContainerName, offload: &Offload) -> impl Future<Output = EngineSeen> + Send;

    /// Asks the same what a model is made of.
    ///
    /// # Errors
    /// `Engine`: it does not know the model, does not answer, or does not tell.
    fn show_model(
        &self,
        name: &ContainerName,
        offload: &Offload,
        model: &str,
    ) -> impl Future<Output = Result<Header, StepError>> + Send;

    /// Has the same load or unload a model. Returns when the engine has answered, which for a load is when it is done; memory can
    /// come back later than the answer says.
    ///
    /// # Errors
    /// `Engine`: it refuses, or does not answer in time.
    fn change_model(
        &self,
        name: &ContainerName,
        offload: &Offload,
        step: &offload::arbiter::Step,
    ) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Asks a container for its health; `None` asks the guest's systemd whether it is `running`, and a guest
    /// without one counts as well.
    ///
    /// Never fails: what goes wrong is the answer.
    fn probe(
        &self,
        name: &ContainerName,
        probe: Option<&Probe>,
        timeout: Duration,
    ) -> impl Future<Output = ProbeResult> + Send;

    /// Reads what containers use that ran at the last `observe`. A container that does not run any more is absent.
    fn usage(&self, names: &BTreeSet<ContainerName>)
    -> impl Future<Output = BTreeMap<ContainerName, Usage>> + Send;

    /// Reads all that is told of what containers use, for those that ran at the last `observe`, without a call to
    /// systemd or another program.
    fn figures(
        &self,
        names: &BTreeSet<ContainerName>,
    ) -> impl Future<Output = BTreeMap<ContainerName, (Usage, Figures)>> + Send;

    /// Returns whether the kernel counts the pressure that containers are under.
    fn counts_pressure(&self) -> bool;

    /// Returns the last lines that this container logged since its last start, oldest first, at most `count`: its unit's
    /// output on the host and, where its journal is linked, its own errors. Empty when nothing can be read.
    fn log_tail(&self, name: &ContainerName, count: usize) -> impl Future<Output = Vec<String>> + Send;

    /// Returns what the kernel's log says of processes of this container that were killed for want of memory after
    /// `since_usec`, in microseconds since 1970, oldest first: at least the last few, names cleaned. Waits a moment for the
    /// log. Empty when there is none, or it cannot be had.
    fn oom_kills(&self, name: &ContainerName, since_usec: u64) -> impl Future<Output = Vec<OomKill>> + Send;

    /// Starts readers of the journals of containers, whose lines go to whoever takes the descriptors.
    ///
    /// # Errors
    /// When a reader could not be started; none is left then.
    fn read_logs(&self, query: &LogQuery) -> impl Future<Output = std::io::Result<Readers>> + Send;

    /// Starts a reader of the events that agents told, this one and those before it.
    ///
    /// # Errors
    /// When the reader could not be started.
    fn read_events(&self, query: &EventQuery) -> std::io::Result<Readers>;

    /// Deletes the state of a container that does not run (`rm --data`): its root below
    /// `/var/lib/nixos-containers`, never what is mounted there or crosses a file system.
    ///
    /// # Errors
    /// `StillRunning`; `ForeignData` when its conf file is somebody else's, since its data is then too.
    fn remove_data(&self, name: &ContainerName) -> impl Future<Output = Result<(), StepError>> + Send;

    /// Has a command started by the systemd of a running guest; the request is checked already. The session hands over
    /// the terminal, or the ends of three pipes: for its input, of its output and of its errors. The command is stopped
    /// when the session is dropped.
    ///
    /// # Errors
    /// When it does not come so far that a program could be executed.
    fn exec(
        &self,
        name: &ContainerName,
        request: ExecRequest,
    ) -> impl Future<Output = Result<Session<ExecReply>, SessionError>> + Send;

    /// Copies files out of a running guest or into it; the request is checked already. The session hands over the end of
    /// a pipe, from which a tar is to be read, or into which one is to be written.
    ///
    /// # Errors
    /// When the path cannot be opened in the guest, or it does not run.
    fn copy(
        &self,
        name: &ContainerName,
        request: CopyRequest,
    ) -> impl Future<Output = Result<Session<CopyReply>, SessionError>> + Send;
}

/// What becomes of roots that were made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherRoots {
    /// They are removed.
    Remove,
    /// They stay: not all that they are needed for is known.
    Keep,
}

/// What a health probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Whether the container answered well.
    pub healthy: bool,
    /// What was asked and answered, in one line, such as `http://localhost/ -> 503`; bounded, without
    /// control characters, since guests can choose it.
    pub output: String,
}

/// What a running container uses. `None`: the kernel has no such figure here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Which run the figures are of.
    pub invocation: Option<InvocationId>,
    /// When its start began, from where on CPU time counts, in microseconds since 1970.
    pub began_usec: Option<u64>,
    /// When it became active, in microseconds since 1970.
    pub active_since_usec: Option<u64>,
    /// `memory.current` in bytes.
    pub memory_current: Option<u64>,
    /// `usage_usec` of `cpu.stat`: CPU time in microseconds.
    pub cpu_usec: Option<u64>,
    /// `pids.current`.
    pub tasks_current: Option<u64>,
}

/// What else is told of a running container's use. `None`: the kernel has no such figure here; of a limit: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Waiting for a CPU.
    pub cpu_pressure: Option<Pressure>,
    /// `memory.swap.current` in bytes.
    pub memory_swap_current: Option<u64>,
    /// `memory.max` in bytes.
    pub memory_max: Option<u64>,
    /// `memory.high` in bytes.
    pub memory_high: Option<u64>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// `oom_kill` of `memory.events`.
    pub oom_kills: Option<u64>,
    /// `rbytes` of all devices.
    pub io_read_bytes: Option<u64>,
    /// `wbytes` of all devices.
    pub io_write_bytes: Option<u64>,
    /// Waiting for IO.
    pub io_pressure: Option<Pressure>,
    /// `pids.max`.
    pub tasks_max: Option<u64>,
    /// Bytes that the container received.
    pub network_receive_bytes: Option<u64>,
    /// Bytes that the container sent.
    pub network_transmit_bytes: Option<u64>,
}

/// How tasks waited for something (kernel, accounting/psi). Averages are shares of the last ten seconds, in percent;
/// totals are times in microseconds since the container's start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some_avg10: f64,
    /// All of them waited; `None`: the kernel does not say.
    pub full_avg10: Option<f64>,
    /// At least one task waited; `None`: the kernel does not say.
    pub some_total_usec: Option<u64>,
    /// All of them waited; `None`: the kernel does not say.
    pub full_total_usec: Option<u64>,
}
