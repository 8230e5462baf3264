//! What a service asks of the host's GPUs, and what it is given of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Bytes, ContainerName};

/// Longest name of a GPU.
const ID_LENGTH_MAX: usize = 80;

/// Who makes a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

/// Names a GPU for as long as it is in the machine: NVML's UUID, as in `GPU-5a6c0a2e-…` or, of an instance, `MIG-…`; of
/// others the PCI address, as in `0000:03:00.0`.
///
/// 1 to 80 characters from `[A-Za-z0-9:._/-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuId(String);

/// A text that names no GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a GPU is named by the UUID that `nvidia-smi -L` shows, or by its PCI address such as `0000:03:00.0`")]
pub struct InvalidGpuId;

impl GpuId {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GpuId {
    type Err = InvalidGpuId;

    fn from_str(text: &str) -> Result<Self, InvalidGpuId> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '/' | '-');
        if text.is_empty() || text.len() > ID_LENGTH_MAX || !text.chars().all(known) {
            return Err(InvalidGpuId);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for GpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a service asks of the GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuShare {
    /// Whose; `None`: the only vendor that is there.
    pub vendor: Option<Vendor>,
    /// Which.
    pub devices: GpuDevices,
    /// Video memory that it wants and may use at most, over all of its GPUs; `None`: no claim.
    pub vram: Option<Bytes>,
    /// Video memory below which it waits; not more than `vram`, and `None` where that is: as `vram`.
    pub vram_min: Option<Bytes>,
    /// Who goes first when there is not enough, 0 to 100; higher wins. Default 50.
    pub priority: u8,
}

/// Nodes that are granted where they are there, and that computing goes without: they come and go with modules of their own.
pub const OPTIONAL_NODES: [&str; 2] = ["/dev/nvidia-modeset", "/dev/nvidia-uvm-tools"];

impl GpuShare {
    /// The priority of a service that says nothing of it.
    pub const PRIORITY: u8 = 50;
}

/// Which GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GpuDevices {
    /// All of them.
    All,
    /// This many, at least 1, whichever have room.
    Count(u32),
    /// These, in manifest order without duplicates; not empty.
    Ids(Vec<GpuId>),
}

/// As the manifest writes it, with blanks between several.
impl fmt::Display for GpuDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
            Self::Ids(ids) => {
                let ids: Vec<&str> = ids.iter().map(GpuId::as_str).collect();
                f.write_str(&ids.join(" "))
            }
        }
    }
}

/// What a service is given of the GPUs: all that its container needs of the host for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose they are.
    pub vendor: Vendor,
    /// Which, in the order of the inventory, each once; not empty.
    pub gpus: Vec<GpuId>,
    /// Video memory that it may use, over all of them; `None`: it made no claim.
    pub budget: Option<Bytes>,
    /// Device nodes that it may read and write, by path, sorted, each once. The driver's shared ones are among them.
    pub nodes: Vec<PathBuf>,
    /// What is bound read-only beside them: the driver's user space. Targets are unique.
    pub mounts: Vec<GpuMount>,
    /// Environment of the guest's services; what the service declares itself goes first.
    pub environment: BTreeMap<String, String>,
}

/// A host path that is bound read-only for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GpuMount {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// The absolute path in the container.
    pub target: PathBuf,
}

/// How a service stands with the GPUs that it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuStanding {
    /// It asks for none.
    #[default]
    None,
    /// It has what it needs.
    Granted(Grant),
    /// It runs with what it has, and nobody can say whether it could be started anew: that is not tried.
    Kept {
        /// What it has.
        grant: Grant,
        /// Why nobody can, in one line.
        why: String,
    },
    /// It is not to be started now.
    Waiting {
        /// What it was given last, which what runs goes on with; `None`: nothing.
        keeps: Option<Grant>,
        /// Why, in one line with the numbers.
        why: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// It runs and goes on with less: what runs models in it is to give memory back.
    Shrinking {
        /// What it has, with the smaller budget.
        grant: Grant,
        /// For whom; `None`: for what is no service.
        to: Option<ContainerName>,
        /// Why, in one line with the numbers.
        why: String,
    },
    /// It runs and is to be stopped for one that goes first.
    Yielding {
        /// What it has; `None`: nobody knows.
        keeps: Option<Grant>,
        /// For whom.
        to: ContainerName,
        /// Why, in one line with the numbers.
        why: String,
    },
}

impl GpuStanding {
    /// Returns what it is given, or was last.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match self {
            Self::None => None,
            Self::Granted(grant) | Self::Kept { grant, .. } | Self::Shrinking { grant, .. } => Some(grant),
            Self::Waiting { keeps, .. } | Self::Yielding { keeps, .. } => keeps.as_ref(),
        }
    }
}
