//! What one look at the GPUs found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Bytes, ContainerName, GpuId, GpuMount, Vendor};

/// What one look found, whoever made the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Every GPU, and after each that is cut into instances (MIG) those; by vendor, then in the order of the vendor's tools.
    pub gpus: Vec<Gpu>,
    /// A driver per vendor that has one, or of which something is there.
    pub drivers: BTreeMap<Vendor, Driver>,
    /// Why something is not known; empty: all is. A vendor of which nothing is in the machine is no fault.
    pub faults: Vec<Fault>,
}

/// One GPU, or an instance of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// Its name for good.
    pub id: GpuId,
    /// Who makes it.
    pub vendor: Vendor,
    /// Its number in the vendor's tools, which can be another one after a reboot. Of an instance, that of its GPU.
    pub index: u32,
    /// What it is called, such as `NVIDIA GeForce RTX 3060`; cleaned and bounded.
    pub name: String,
    /// Whether it is whole.
    pub part: Part,
    /// Its PCI address, such as `0000:01:00.0`; `None`: it is not told.
    pub pci: Option<String>,
    /// Its memory; `None`: it is not told.
    pub memory: Option<Memory>,
    /// Whether its memory is the machine's (an integrated one): no ledger can be kept of that.
    pub shares_memory: bool,
    /// The nodes that are its own, without those that a driver shares between all.
    pub nodes: Vec<Node>,
    /// What its sensors say.
    pub sensors: Sensors,
    /// Who has memory of it, by process id.
    pub processes: Vec<Process>,
}

/// Whether a GPU is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It is.
    Whole,
    /// It is cut into instances (MIG), and only those can be used.
    Partitioned,
    /// It is an instance.
    Instance {
        /// Of this GPU.
        parent: GpuId,
        /// Its GPU instance.
        gpu_instance: u32,
        /// Its compute instance.
        compute_instance: u32,
    },
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: Bytes,
    /// What the driver and the firmware keep.
    pub reserved: Bytes,
    /// What is in use, without `reserved`. `reserved` and `used` are together not more than `total`.
    pub used: Bytes,
}

/// What sensors say; `None`: this GPU does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sensors {
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Degrees Celsius at which it slows down.
    pub temperature_slowdown: Option<u32>,
    /// Milliwatts drawn.
    pub power: Option<u32>,
    /// Milliwatts that it may draw.
    pub power_limit: Option<u32>,
    /// Percent of time in which it computed.
    pub utilization: Option<u32>,
    /// Percent of time in which its memory was read or written.
    pub memory_utilization: Option<u32>,
    /// Why its clock is held down, in NVML's words such as `hw_thermal_slowdown`; empty: it is not, or it does not tell.
    pub throttle: Vec<String>,
}

/// A device node that a GPU or a driver needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Where it belongs.
    pub path: PathBuf,
    /// The major and minor number that the running kernel has for it; `None`: the kernel knows no such device now.
    pub number: Option<(u32, u32)>,
    /// What is there.
    pub state: NodeState,
    /// Whether computing goes without it.
    pub optional: bool,
}

/// What is where a device node belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// A character device of this number.
    Right,
    /// Nothing.
    Missing,
    /// A character device of another number: the module was loaded anew since it was made.
    Stale {
        /// Its number.
        found: (u32, u32),
    },
    /// Something else.
    NotADevice,
}

/// A process that has memory of a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id, as the host counts.
    pub pid: u32,
    /// What it does there.
    pub kind: ProcessKind,
    /// Its memory there; `None`: the driver does not tell.
    pub memory: Option<Bytes>,
    /// What it calls itself (`/proc/PID/comm`), cleaned; empty: it is gone.
    pub name: String,
    /// Whose it is.
    pub owner: ProcessOwner,
}

/// What a process does on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessKind {
    /// It computes.
    Compute,
    /// It draws.
    Graphics,
}

/// Whose a process is, from its cgroup.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessOwner {
    /// A container's.
    Container(ContainerName),
    /// Another unit's of the host, such as `display-manager.service` or `session-2.scope`.
    Unit(String),
    /// Nobody knows: it is gone, or of another PID namespace.
    Unknown,
}

/// What is known of a vendor's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// The version of the loaded module; `None`: none is loaded, or it has no version of its own.
    pub module: Option<String>,
    /// The version of the user space that containers are given (`libcuda.so.VERSION`); `None`: none was found.
    pub library: Option<String>,
    /// Another user space that fits the loaded module where `library` does not: that of the booted system.
    pub booted: Option<String>,
    /// The version of CUDA that it can, as `12.8`.
    pub cuda: Option<String>,
    /// The nodes that all GPUs of it share.
    pub nodes: Vec<Node>,
    /// Where its user space is.
    pub user_space: UserSpace,
    /// What a CDI specification (`/etc/cdi`, `/var/run/cdi`) wants bound beside all that, of what is there.
    pub cdi_mounts: Vec<GpuMount>,
    /// What of a CDI specification does not agree with the machine, a sentence each.
    pub cdi_complaints: Vec<String>,
}

/// Where a driver's user space is on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UserSpace {
    /// Nowhere: guests bring their own, or have none.
    #[default]
    None,
    /// Behind `/run/opengl-driver`, as on NixOS, in the store that guests share.
    OpenglDriver,
    /// Among the host's libraries, below these folders.
    Libraries(Vec<PathBuf>),
}

/// Why something of a vendor's GPUs is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose; `None`: of all.
    pub vendor: Option<Vendor>,
    /// What it is.
    pub kind: FaultKind,
    /// The same for people, in one line, with what was asked.
    pub message: String,
}

/// What a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The hardware is there and its library (NVML) is not.
    NoLibrary,
    /// The library is there, and no module is loaded.
    NoDriver,
    /// Library and module are of different versions.
    Mismatch,
    /// There is no answer in time.
    Hangs,
    /// Asking ended the process that asked.
    Crashed,
    /// The answers cannot be true.
    Rubbish,
    /// A call failed otherwise.
    Failed,
}

impl Inventory {
    /// Returns the number that the kernel has for a node; `None`: none, or nobody knows of the node.
    #[must_use]
    pub fn number_of(&self, path: &Path) -> Option<(u32, u32)> {
        let of_gpus = self.gpus.iter().flat_map(|gpu| &gpu.nodes);
        let nodes = of_gpus.chain(self.drivers.values().flat_map(|driver| &driver.nodes));
        nodes.filter(|node| node.path == path).find_map(|node| node.number)
    }

    /// Returns the fault because of which nothing is known of a vendor's GPUs; `None`: they are known, or there are none.
    #[must_use]
    pub fn blind(&self, vendor: Option<Vendor>) -> Option<&Fault> {
        let concerns = |fault: &&Fault| fault.vendor.is_none() || vendor.is_none() || fault.vendor == vendor;
        let is_known = |gpu: &Gpu| vendor.is_none_or(|vendor| gpu.vendor == vendor);
        if self.gpus.iter().any(is_known) { None } else { self.faults.iter().find(concerns) }
    }
}

impl Gpu {
    /// Returns what people are told of it, as in `GPU 1 (NVIDIA GeForce RTX 3060)`.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.part {
            Part::Whole | Part::Partitioned => format!("GPU {} ({})", self.index, self.name),
            Part::Instance { gpu_instance, compute_instance, .. } => {
                format!("GPU {} instance {gpu_instance}/{compute_instance} ({})", self.index, self.name)
            }
        }
    }
}
