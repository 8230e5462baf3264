//! Why a step failed, and the way out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nixmox_core::manifest::v1::Time;
use nixmox_core::model::{ContainerName, Protocol, StorePath};

use super::firewall;

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
    /// What runs models in a container did not do as asked.
    #[error("the {engine} of `{name}` did not {asked}: {cause}")]
    Engine {
        /// Which engine, in its word.
        engine: &'static str,
        /// The container.
        name: ContainerName,
        /// What it was asked, such as `load llama3:8b`.
        asked: String,
        /// Why, in one clean line.
        cause: String,
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
            Self::GpuNoDriver { path } => format!("load its module ({}); `dmesg` says why it does not work", modprobe(path)),
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
            Self::Engine { name, .. } => format!("its log may say more: `nixmoxctl logs {name}`"),
            Self::Bus { .. } | Self::GpuUnseen { .. } => return None,
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
            | Self::Engine { .. }
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

/// Returns the command that loads the module of a GPU's node.
fn modprobe(node: &Path) -> &'static str {
    match node.to_str() {
        Some("/dev/nvidia-uvm" | "/dev/nvidia-uvm-tools") => "`modprobe nvidia-uvm`",
        Some("/dev/nvidia-modeset") => "`modprobe nvidia-modeset`",
        Some(path) if path.starts_with("/dev/nvidia") => "`modprobe nvidia`",
        Some("/dev/kfd") => "`modprobe amdgpu`",
        _ => "`modprobe amdgpu`, `i915` or `xe`",
    }
}

/// Returns the command that shows what a container logged.
fn logs_of(unit: &str) -> String {
    match ContainerName::from_unit(unit) {
        Some(name) => format!("nixmoxctl logs {name} -n 50"),
        None => format!("journalctl -u {unit}"),
    }
}
