//! GPUs on the wire: what is there, who has what of it, what would fit, and what is wrong.
//!
//! A figure that a driver does not tell is absent, never 0. Sizes are in bytes.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// What a service asks of the GPUs; exactly one of `all`, `count` and `ids` says which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct GpuShare {
    /// `nvidia`, `amd` or `intel`; absent: the only vendor that is there.
    pub vendor: Option<String>,
    /// Whether it asks for all of them.
    pub all: bool,
    /// How many it asks for, at least 1.
    pub count: Option<u32>,
    /// Which it asks for, by UUID or PCI address.
    pub ids: Vec<String>,
    /// Video memory that it wants and may use at most, over all of them; absent: no claim.
    pub vram: Option<u64>,
    /// Video memory below which it waits; absent: as `vram`.
    pub vram_min: Option<u64>,
    /// 0 to 100; higher goes first.
    pub priority: u8,
}

/// What one look at the GPUs found: the answer of the child that looks, and a part of `GpusReply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuInventory {
    /// Every GPU, and after each that is cut into instances those; by vendor, then as the vendor's tools number them.
    pub gpus: Vec<Gpu>,
    /// A driver per vendor of which something is there.
    pub drivers: Vec<GpuDriver>,
    /// Why something is not known; empty: all is.
    pub faults: Vec<GpuFault>,
}

/// One GPU, or an instance of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct Gpu {
    /// Its name for good: a UUID, or the PCI address.
    pub id: String,
    /// `nvidia`, `amd` or `intel`.
    pub vendor: String,
    /// Its number in the vendor's tools; of an instance, that of its GPU.
    pub index: u32,
    /// What it is called.
    pub name: String,
    /// Whether it is cut into instances (MIG), and only those can be used.
    pub partitioned: bool,
    /// The GPU that it is an instance of; absent: it is none.
    pub parent: Option<String>,
    /// Its GPU instance; absent: it is none.
    pub gpu_instance: Option<u32>,
    /// Its compute instance; absent: it is none.
    pub compute_instance: Option<u32>,
    /// Its PCI address.
    pub pci: Option<String>,
    /// Whether its memory is the machine's.
    pub shares_memory: bool,
    /// All of its memory.
    pub memory_total: Option<u64>,
    /// What driver and firmware keep.
    pub memory_reserved: Option<u64>,
    /// What is in use, without that.
    pub memory_used: Option<u64>,
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
    /// Why its clock is held down, in NVML's words.
    pub throttle: Vec<String>,
    /// The device nodes that are its own.
    pub nodes: Vec<GpuNode>,
    /// Who has memory of it, by process id.
    pub processes: Vec<GpuProcess>,
}

/// A device node that a GPU or a driver needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuNode {
    /// Where it belongs.
    pub path: String,
    /// The major number that the kernel has for it; absent, with `minor`: it knows no such device now.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
    /// `right`, `missing`, `stale` (of another number) or `not_a_device`.
    pub state: String,
    /// The major number that is there, of a stale one.
    pub found_major: Option<u32>,
    /// The minor number that is there, of a stale one.
    pub found_minor: Option<u32>,
    /// Whether computing goes without it.
    pub optional: bool,
}

/// A process that has memory of a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuProcess {
    /// Its id, as the host counts.
    pub pid: u32,
    /// `compute` or `graphics`.
    pub kind: String,
    /// Its memory there; absent: the driver does not tell.
    pub memory: Option<u64>,
    /// What it calls itself; empty: it is gone.
    pub name: String,
    /// The container that it is in; absent: none.
    pub container: Option<String>,
    /// The unit of the host that it is in; absent: a container's, or nobody knows.
    pub unit: Option<String>,
}

/// What is known of a vendor's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuDriver {
    /// `nvidia`, `amd` or `intel`.
    pub vendor: String,
    /// The version of the loaded module.
    pub module: Option<String>,
    /// The version of the user space that containers are given.
    pub library: Option<String>,
    /// The version of that of the booted system, where `library` does not fit the module.
    pub booted: Option<String>,
    /// The version of CUDA that it can.
    pub cuda: Option<String>,
    /// The nodes that all of its GPUs share.
    pub nodes: Vec<GpuNode>,
    /// `none`, `opengl_driver` or `libraries`.
    pub user_space: String,
    /// The folders of `libraries`.
    pub libraries: Vec<String>,
    /// What a CDI specification wants bound beside that, of what is there.
    pub cdi_mounts: Vec<GpuMount>,
    /// What of a CDI specification does not agree with the machine.
    pub cdi_complaints: Vec<String>,
}

/// A host path that is bound read-only for a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuMount {
    /// The path on the host.
    pub source: String,
    /// The path in the container.
    pub target: String,
}

/// Why something of a vendor's GPUs is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuFault {
    /// `nvidia`, `amd` or `intel`; absent: of all.
    pub vendor: Option<String>,
    /// `no_library`, `no_driver`, `mismatch`, `hangs`, `crashed`, `rubbish` or `failed`.
    pub kind: String,
    /// The same in one line for people.
    pub message: String,
}

/// The answer to `Gpus`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpusReply {
    /// When the GPUs were looked at, in microseconds since 1970.
    pub at_usec: u64,
    /// What was found.
    pub inventory: GpuInventory,
    /// How the memory of each GPU is given out, in the order of the inventory.
    pub rooms: Vec<GpuRoom>,
    /// The declared services that ask for GPUs, those that go first first.
    pub services: Vec<GpuService>,
}

/// How the memory of one GPU is given out. `total` = `reserved` + `headroom` + `promised` + `others` + `free`, unless more is
/// given out than is there: then `free` is 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuRoom {
    /// The GPU.
    pub id: String,
    /// All of it.
    pub total: u64,
    /// What driver and firmware keep.
    pub reserved: u64,
    /// What is left free on purpose.
    pub headroom: u64,
    /// What services were promised, or use where that is more.
    pub promised: u64,
    /// What everybody else uses, unknown ones among them.
    pub others: u64,
    /// What can be given out.
    pub free: u64,
}

/// How a service stands with the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuService {
    /// Its name.
    pub name: String,
    /// Its stack.
    pub stack: String,
    /// `granted`; `shrinking`: it runs, and what runs models in it is to give memory back; `waiting`; `yielding`: it is to be
    /// stopped; `held` while it is not to run.
    pub state: String,
    /// Why it is not granted, or with less, in one line; empty when it is.
    pub reason: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// What it asks for.
    pub share: GpuShare,
    /// The GPUs that it has; empty: none.
    pub gpus: Vec<String>,
    /// Video memory that it may use now, fewer than it asks for while others need some of it; absent: it made no claim, or has none.
    pub budget: Option<u64>,
    /// Video memory that it uses now, over all of them; absent: it does not run, or nobody knows.
    pub used: Option<u64>,
    /// The most that was seen of it; absent: nothing was.
    pub remembered: Option<u64>,
}

/// A question to `GpuFit`: of a declared service, or of one that is made up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct GpuFitRequest {
    /// The declared service; absent: `share` is asked about.
    pub name: Option<String>,
    /// What is asked for; absent: what `name` declares.
    pub share: Option<GpuShare>,
}

/// The answer to `GpuFit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuFitReply {
    /// `fits`, `yields` (others would be stopped for it, or give memory back), `waits` or `never`.
    pub outcome: String,
    /// Why not, in one line with the numbers; empty when it fits.
    pub reason: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The GPUs that it would have; empty: none.
    pub gpus: Vec<String>,
    /// Video memory that it would be promised; absent: it makes no claim, or has none.
    pub budget: Option<u64>,
    /// Who would be stopped for it, in the order of names.
    pub yields: Vec<GpuYield>,
    /// Who would give memory back for it and run on, in the order of names.
    pub gives: Vec<GpuYield>,
    /// How the memory of each GPU is given out now.
    pub rooms: Vec<GpuRoom>,
}

/// A service that would be stopped for another one, or give memory back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuYield {
    /// Its name.
    pub name: String,
    /// Its priority.
    pub priority: u8,
    /// Video memory that comes free.
    pub memory: u64,
}

/// The answer to `GpuDoctor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuDoctorReply {
    /// Every layer that was looked at, from the machine to the process and its models, host before guest.
    pub layers: Vec<GpuLayer>,
}

/// One layer between a GPU and a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuLayer {
    /// The service whose guest it is of; absent: the host's.
    pub service: Option<String>,
    /// `module`, `node`, `number`, `user_space`, `version`, `nvml`, `cdi`, `grant`, `device_rule`, `bound`, `open`, `process` or `models`.
    pub layer: String,
    /// `ok`, `failed`, `warning` (something works less well for it) or `skipped` (an earlier one failed, or it does not apply).
    pub outcome: String,
    /// What was found, in one line.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub remedy: String,
}

/// What a status tells of a service with a share of the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct GpuStatus {
    /// `granted`, `shrinking`, `waiting` or `yielding`, as in `GpuService`; `held` while it is not to run.
    pub state: String,
    /// The GPUs that it has; empty: none.
    pub gpus: Vec<String>,
    /// Video memory that it may use; absent: it made no claim, or has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// Video memory that it used at the last look; absent: it does not run, or nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}
