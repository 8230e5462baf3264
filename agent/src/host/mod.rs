//! The outside, as the reconcile task sees it: one trait at the level of a plan's steps.
//!
//! Owns the seam and its errors. `live` composes the adapters below it into the real host, one folder or file
//! per outside thing; `fake` (feature `testing`) is a simulator with scripted faults. Nothing here decides:
//! which step is taken, and when, is `nixmox_core::plan`'s.

mod bus;
pub(crate) mod cgroup;
mod changes;
pub(crate) mod devices;
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

pub use gpu::Gpus;
pub use logs::{EventQuery, LogQuery, LogStart, Readers};

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_api::{CopyReply, CopyRequest, ExecReply, ExecRequest};
use nixmox_core::container::{Files, Layout};
use nixmox_core::gpu::{GuestView, Inventory};
use nixmox_core::manifest::v1::Time;
use nixmox_core::model::{
    Assigned, ContainerName, Facts, Grant, InvocationId, Observed, Port, Probe, Protocol, Service, StorePath,
};
use nixmox_core::network::FirewallTable;
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

/// Why a step failed. The message says what was tried on what; `hint` says the way out.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A system that is not in the store, or has no `init`.
    #[error("`{path}` is not in the Nix store of this host")]
    StorePathMissing {
        /// The declared system.
        path: StorePath,
    },
    /// The source of a mount does not exist.
    #[error("the mount source `{path}` does not exist on this host")]
    SourceMissing {
        /// The host path.
        path: PathBuf,
    },
    /// The file of a credential does not exist.
    #[error("the file `{path}` of the credential `{name}` does not exist on this host")]
    CredentialMissing {
        /// The credential.
        name: String,
        /// The host path.
        path: PathBuf,
    },
    /// A device node does not exist.
    #[error("the device `{path}` does not exist on this host")]
    DeviceMissing {
        /// The host path.
        path: PathBuf,
    },
    /// A node of a GPU is not there, or of a module that is not loaded any more, though it was waited for.
    #[error("the GPU's device node `{path}` is not there")]
    GpuNodeMissing {
        /// The host path.
        path: PathBuf,
    },
    /// No driver in the kernel has a node of a GPU.
    #[error("the kernel has no driver for the GPU's device node `{path}`")]
    GpuNoDriver {
        /// The host path.
        path: PathBuf,
    },
    /// Something else is where a node of a GPU belongs.
    #[error("`{path}` is no device node, where the GPU's belongs")]
    GpuNotANode {
        /// The host path.
        path: PathBuf,
    },
    /// The user space of NVIDIA's driver is of another version than the module.
    #[error("the loaded NVIDIA module is {module}, and its user space {library}")]
    GpuDriverMismatch {
        /// The version of the module.
        module: String,
        /// The version of the libraries.
        library: String,
    },
    /// There is no user space of a GPU's driver.
    #[error("there is no user space of the GPU's driver in `{path}`")]
    GpuLibraryMissing {
        /// The host path.
        path: PathBuf,
    },
    /// What a GPU's mount is bound from was there at the last look at the GPUs, and is not any more.
    #[error("the GPU's mount source `{path}` does not exist on this host")]
    GpuMountMissing {
        /// The host path.
        path: PathBuf,
    },
    /// Nothing can be bound into a container with users of its own while it runs.
    #[error("`{path}` cannot be bound into `{name}` while it runs, since it has users of its own")]
    GpuNeedsRestart {
        /// The container.
        name: ContainerName,
        /// The node that it lacks.
        path: PathBuf,
    },
    /// A container cannot use a node that it was given.
    #[error("`{name}` cannot use the GPU's device node `{path}`: {found}")]
    GpuNotUsable {
        /// The container.
        name: ContainerName,
        /// The node.
        path: PathBuf,
        /// What was found in its place, or what came of opening it.
        found: &'static str,
    },
    /// What a container has of its GPUs could not be found out.
    #[error("cannot see what `{name}` has of its GPUs: {why}")]
    GpuUnseen {
        /// The container.
        name: ContainerName,
        /// Why, in one line.
        why: String,
    },
    /// A bridge does not exist, or is no bridge.
    #[error("there is no bridge `{name}` on this host")]
    BridgeMissing {
        /// The name of the link.
        name: String,
    },
    /// Nothing is mounted where the manifest says a mount point must be.
    #[error("nothing is mounted at `{path}`")]
    NotAMountpoint {
        /// The host path.
        path: PathBuf,
    },
    /// Another program listens on a port that is to be published.
    #[error("port {port}/{} is taken: {owner} listens on {}", firewall::protocol(*protocol), SocketAddr::new(*address, *port))]
    PortTaken {
        /// The address that it listens on.
        address: IpAddr,
        /// The port on the host.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
        /// The program and its process id, or `another program`.
        owner: String,
    },
    /// A machine of this name runs that `container@.service` did not start.
    #[error("a machine named `{name}` runs already (unit `{unit}`)")]
    ForeignMachine {
        /// The name.
        name: ContainerName,
        /// The unit that runs it; may be empty.
        unit: String,
    },
    /// A conf file of this name is there that NixMox did not write.
    #[error("`{path}` was not written by NixMox")]
    ForeignConf {
        /// The conf file.
        path: PathBuf,
    },
    /// Somebody else's container was given an address after it was ours.
    #[error("its address {address} is also that of the container `{other}`, which NixMox did not make")]
    AddressTaken {
        /// One of the two of the veth pair.
        address: Ipv4Addr,
        /// The other container.
        other: ContainerName,
    },
    /// A file in `/etc` sets what is to be changed live, and wins at every reload.
    #[error("`{path}` overrides what is declared for `{unit}`")]
    Overridden {
        /// The unit.
        unit: String,
        /// The file that `systemctl set-property` or a person wrote.
        path: PathBuf,
    },
    /// The unit's start job ended without the unit being active.
    #[error("`{unit}` did not start: {result}")]
    StartFailed {
        /// The unit.
        unit: String,
        /// The job's or the service's result, such as `timeout` or `exit-code 1`.
        result: String,
    },
    /// The guest did not say that it is up in the time that its unit gives a start.
    #[error("the guest was not ready within {}", Time(*limit))]
    NotReady {
        /// The unit.
        unit: String,
        /// `TimeoutStartUSec` of the unit.
        limit: Duration,
    },
    /// The guest could not be switched to another system while it runs.
    #[error("the new system was not switched to: {result}")]
    SwitchFailed {
        /// The unit of the container.
        unit: String,
        /// What was asked of the guest, and what came of it.
        result: String,
    },
    /// The unit's stop job failed.
    #[error("`{unit}` did not stop: {result}")]
    StopFailed {
        /// The unit.
        unit: String,
        /// The job's result.
        result: String,
    },
    /// A job did not end in the time its unit allows, with a margin.
    #[error("the {job} job of `{unit}` did not end within {limit:?}")]
    JobTimedOut {
        /// The unit.
        unit: String,
        /// `start` or `stop`.
        job: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// A path of the host that was to be looked at gives no answer.
    #[error("`{path}` does not answer: what it lies on is gone, or very slow")]
    NoAnswer {
        /// The host path.
        path: PathBuf,
    },
    /// A directory could not be made, since the agent sees its place read-only.
    #[error("cannot create `{path}`: its place is read-only for the agent")]
    NotForTheAgent {
        /// The host path.
        path: PathBuf,
        /// The folder above it that is there.
        parent: PathBuf,
    },
    /// A file of ours could not be written, read or removed.
    #[error("cannot {action} `{path}`")]
    File {
        /// `write`, `read`, `remove` or `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file system of the conf files became read-only since the agent started.
    #[error("cannot write `{path}`")]
    ConfReadOnly {
        /// The conf file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// No space is left for the root of a container.
    #[error("the file system of `{path}` is full, so its guest cannot start")]
    RootFull {
        /// The root of the container.
        path: PathBuf,
    },
    /// systemd or machined refused, or did not answer in time.
    #[error("{call} on {subject} failed")]
    Bus {
        /// The D-Bus method.
        call: &'static str,
        /// The unit or machine it was about.
        subject: String,
        /// The cause; boxed since bus errors are large.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The firewall table could not be replaced.
    #[error("cannot replace the nftables table `inet nixmox`: {detail}")]
    Firewall {
        /// What nft said, bounded.
        detail: String,
    },
    /// The container is somebody else's, and so is its data.
    #[error("`{path}` was not written by NixMox, so the data of `{name}` is somebody else's")]
    ForeignData {
        /// The container.
        name: ContainerName,
        /// The conf file.
        path: PathBuf,
    },
    /// The container still runs, so its data is left alone.
    #[error("`{name}` runs; its data is left alone")]
    StillRunning {
        /// The container.
        name: ContainerName,
    },
}

impl StepError {
    /// Returns what to do about it, as a sentence for a person; `None` when the cause says all there is.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::StorePathMissing { .. } => "build the system again and run `nixmoxctl up`".to_owned(),
            Self::SourceMissing { path } => {
                format!("create it (`mkdir -p {}`), or say `create = true` in the mount", path.display())
            }
            Self::CredentialMissing { name, path } => {
                format!("write the secret to {}, or change `credentials.{name}`", path.display())
            }
            // Its unit has `ProtectSystem=strict` (systemd.exec(5)).
            Self::NotForTheAgent { path, parent } => {
                let made = format!("make it (`mkdir -p {}`)", path.display());
                // All of the host is more than it needs.
                if parent.parent().is_none() {
                    return Some(made);
                }
                let allowed = format!("`ReadWritePaths=-{}`", parent.display());
                format!("{made}, or let the agent write there: `systemctl edit nixmox-agent` with `[Service]`, {allowed}, and restart it")
            }
            Self::DeviceMissing { path } => {
                format!("is its driver loaded? `ls -l {}`; or take it out of `devices`", path.display())
            }
            Self::GpuNodeMissing { path } => {
                format!("does the GPU work on the host? `nvidia-smi`, `ls -l {}`; `dmesg` has what its driver says", path.display())
            }
            Self::GpuNoDriver { path } => format!("load its module (`modprobe {}`); `dmesg` says why it does not work", module_of(path)),
            Self::GpuNotANode { path } => {
                format!("remove it (`rm -r {}`): the node is made at the next attempt. A bind mount of a missing node leaves such a thing", path.display())
            }
            Self::GpuDriverMismatch { .. } => {
                "reboot, so that the module is that of the libraries; what runs already is not affected".to_owned()
            }
            Self::GpuLibraryMissing { .. } => {
                "install the driver's libraries; on NixOS `hardware.graphics.enable` with the driver in `services.xserver.videoDrivers`".to_owned()
            }
            Self::GpuMountMissing { .. } => "the driver was changed meanwhile; the next attempt takes what is there then".to_owned(),
            Self::GpuNeedsRestart { name, .. } => format!("`nixmoxctl restart {name}` gives it what it lacks"),
            Self::GpuNotUsable { name, .. } => {
                format!("`nixmoxctl gpu doctor {name}` looks at every layer; `nixmoxctl restart {name}` binds all nodes anew")
            }
            Self::GpuUnseen { .. } => return None,
            Self::BridgeMissing { name } => {
                format!("the host's configuration makes it (`ip link add {name} type bridge` does until a reboot); or name another in `network.bridge`")
            }
            Self::NotAMountpoint { path } => {
                format!("mount it (`mount {}`), or drop `must_be_mountpoint`", path.display())
            }
            Self::PortTaken { port, owner, .. } => {
                format!("stop {owner}, or publish another port than {port} in `network.ports`")
            }
            Self::ForeignMachine { name, .. } => {
                format!("end it (`machinectl terminate {name}`), or give the service another name")
            }
            Self::ForeignConf { path } => format!(
                "give the service another name, declare `adopt = true`, or remove {} if nothing needs it",
                path.display()
            ),
            Self::AddressTaken { other, .. } => {
                format!("remove `{other}`, or give it or this service (`network.address`) another address")
            }
            Self::ForeignData { name, .. } => format!(
                "`nixos-container destroy {name}` removes one that it created; one of the host's configuration is taken out there"
            ),
            // Lazy alone, whoever waits in the kernel would go on, the look that is stuck among them (umount(8)).
            Self::NoAnswer { .. } => {
                "see what is mounted there (`findmnt`) and bring it back, or unmount it (`umount --force --lazy`)"
                    .to_owned()
            }
            Self::Overridden { unit, .. } => format!("`systemctl revert {unit}` removes it"),
            Self::NotReady { unit, .. } | Self::JobTimedOut { unit, job: "start", .. } => {
                format!("a long first boot needs a longer `health.start_period`; see `{}`", logs_of(unit))
            }
            Self::StartFailed { unit, .. } | Self::SwitchFailed { unit, .. } => format!("see `{}`", logs_of(unit)),
            Self::StopFailed { unit, .. } | Self::JobTimedOut { unit, .. } => {
                format!("look at `systemctl status {unit}`")
            }
            Self::File { source, path, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    format!("free space on its file system (`df -h {}`)", path.parent().unwrap_or(path).display())
                }
                std::io::ErrorKind::ReadOnlyFilesystem => {
                    format!("its file system is read-only (`findmnt --target {}`)", path.parent().unwrap_or(path).display())
                }
                std::io::ErrorKind::ResourceBusy => {
                    format!("something is mounted there (`findmnt {0}`): `umount {0}` leaves what is on it as it is", path.display())
                }
                _ => return None,
            },
            Self::ConfReadOnly { .. } => "make it writable again; where /etc is meant to be read-only, `systemctl restart nixmox-agent` puts these files into /run".to_owned(),
            Self::RootFull { path } => format!("free space (`df -h {0}; df -i {0}`)", path.display()),
            Self::Firewall { .. } => "is nftables in the kernel and `nft` installed?".to_owned(),
            // No stack declares it, or its data would not have been asked for.
            Self::StillRunning { name } => format!("end it first: systemctl stop {}", name.unit()),
            Self::Bus { .. } => return None,
        };
        Some(hint)
    }

    /// Returns whether a container ran into it, so that its log may say more.
    #[must_use]
    pub fn is_of_a_run(&self, container: &ContainerName) -> bool {
        match self {
            // A mount unit can fail too, before the container's.
            Self::StartFailed { unit, .. }
            | Self::NotReady { unit, .. }
            | Self::SwitchFailed { unit, .. }
            | Self::StopFailed { unit, .. }
            | Self::JobTimedOut { unit, .. } => *unit == container.unit(),
            Self::RootFull { .. } => true,
            Self::StorePathMissing { .. }
            | Self::SourceMissing { .. }
            | Self::CredentialMissing { .. }
            | Self::DeviceMissing { .. }
            | Self::GpuNodeMissing { .. }
            | Self::GpuNoDriver { .. }
            | Self::GpuNotANode { .. }
            | Self::GpuDriverMismatch { .. }
            | Self::GpuLibraryMissing { .. }
            | Self::GpuMountMissing { .. }
            | Self::GpuNeedsRestart { .. }
            | Self::GpuNotUsable { .. }
            | Self::GpuUnseen { .. }
            | Self::BridgeMissing { .. }
            | Self::NotAMountpoint { .. }
            | Self::PortTaken { .. }
            | Self::ForeignMachine { .. }
            | Self::ForeignConf { .. }
            | Self::AddressTaken { .. }
            | Self::Overridden { .. }
            | Self::NoAnswer { .. }
            | Self::NotForTheAgent { .. }
            | Self::File { .. }
            | Self::ConfReadOnly { .. }
            | Self::Bus { .. }
            | Self::Firewall { .. }
            | Self::ForeignData { .. }
            | Self::StillRunning { .. } => false,
        }
    }
}

/// Returns the module that has a node of a GPU.
fn module_of(node: &Path) -> &'static str {
    match node.to_str() {
        Some("/dev/nvidia-uvm" | "/dev/nvidia-uvm-tools") => "nvidia-uvm",
        Some("/dev/nvidia-modeset") => "nvidia-modeset",
        Some(path) if path.starts_with("/dev/nvidia") => "nvidia",
        Some("/dev/kfd") => "amdgpu",
        _ => "amdgpu` or `modprobe xe",
    }
}

/// Returns the command that shows what a container logged.
fn logs_of(unit: &str) -> String {
    match ContainerName::from_unit(unit) {
        Some(name) => format!("nixmoxctl logs {name} -n 50"),
        None => format!("journalctl -u {unit}"),
    }
}
