//! From the wire to what a look at the GPUs found: every word is checked, for it comes from a process that a driver may have damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nixmox_core::gpu::{self, FaultKind, Memory, NodeState, Part, ProcessKind, ProcessOwner, Sensors, UserSpace};
use nixmox_core::model::{self, Bytes, GpuId, Vendor, Word};

use crate::rule::shown;
use crate::{Gpu, GpuDriver, GpuFault, GpuInventory, GpuMount, GpuNode, GpuProcess};

impl GpuInventory {
    /// Checks what a look found and returns it as the model has it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with where it is.
    pub fn into_model(self) -> Result<gpu::Inventory, String> {
        let mut drivers = BTreeMap::new();
        for driver in self.drivers {
            let vendor = vendor(&driver.vendor)?;
            if drivers.insert(vendor, driver.into_model()?).is_some() {
                return Err(format!("drivers: {} is there twice", vendor.as_word()));
            }
        }
        Ok(gpu::Inventory {
            gpus: self.gpus.into_iter().map(Gpu::into_model).collect::<Result<_, _>>()?,
            drivers,
            faults: self.faults.into_iter().map(GpuFault::into_model).collect::<Result<_, _>>()?,
        })
    }
}

impl Gpu {
    fn into_model(self) -> Result<gpu::Gpu, String> {
        let id = id(&self.id)?;
        let wrong = |what: &str| format!("{id}: {what}");
        let part = match (self.partitioned, self.parent, self.gpu_instance, self.compute_instance) {
            (false, None, None, None) => Part::Whole,
            (true, None, None, None) => Part::Partitioned,
            (false, Some(parent), Some(gpu_instance), Some(compute_instance)) => {
                Part::Instance { parent: self::id(&parent)?, gpu_instance, compute_instance }
            }
            _ => return Err(wrong("it is neither whole, nor cut, nor an instance")),
        };
        let memory = match (self.memory_total, self.memory_reserved, self.memory_used) {
            (None, None, None) => None,
            (Some(total), Some(reserved), Some(used))
                if reserved.checked_add(used).is_some_and(|sum| sum <= total) =>
            {
                Some(Memory { total: Bytes(total), reserved: Bytes(reserved), used: Bytes(used) })
            }
            _ => return Err(wrong("its memory does not add up")),
        };
        Ok(gpu::Gpu {
            vendor: vendor(&self.vendor)?,
            index: self.index,
            name: self.name,
            part,
            pci: self.pci,
            memory,
            shares_memory: self.shares_memory,
            nodes: nodes(self.nodes)?,
            sensors: Sensors {
                temperature: self.temperature,
                temperature_slowdown: self.temperature_slowdown,
                power: self.power,
                power_limit: self.power_limit,
                utilization: self.utilization,
                memory_utilization: self.memory_utilization,
                throttle: self.throttle,
            },
            processes: self.processes.into_iter().map(GpuProcess::into_model).collect::<Result<_, _>>()?,
            id,
        })
    }
}

impl GpuNode {
    fn into_model(self) -> Result<gpu::Node, String> {
        let path = absolute(self.path)?;
        let wrong = |what: &str| format!("{}: {what}", path.display());
        let found = pair(self.found_major, self.found_minor).map_err(wrong)?;
        let state = match (self.state.as_str(), found) {
            ("right", None) => NodeState::Right,
            ("missing", None) => NodeState::Missing,
            ("stale", Some(found)) => NodeState::Stale { found },
            ("not_a_device", None) => NodeState::NotADevice,
            (state, _) => return Err(wrong(&format!("the state {}", shown(state)))),
        };
        let number = pair(self.major, self.minor).map_err(wrong)?;
        Ok(gpu::Node { number, state, optional: self.optional, path })
    }
}

impl GpuProcess {
    fn into_model(self) -> Result<gpu::Process, String> {
        let wrong = |what: &str| format!("process {}: {what}", self.pid);
        let kind = match self.kind.as_str() {
            "compute" => ProcessKind::Compute,
            "graphics" => ProcessKind::Graphics,
            kind => return Err(wrong(&format!("the kind {}", shown(kind)))),
        };
        let owner = match (self.container, self.unit) {
            (None, None) => ProcessOwner::Unknown,
            (None, Some(unit)) => ProcessOwner::Unit(unit),
            (Some(name), None) => ProcessOwner::Container(
                name.parse().map_err(|_| wrong(&format!("the container {}", shown(&name))))?,
            ),
            (Some(_), Some(_)) => return Err(wrong("it is in a container and in a unit")),
        };
        Ok(gpu::Process { pid: self.pid, kind, memory: self.memory.map(Bytes), name: self.name, owner })
    }
}

impl GpuDriver {
    fn into_model(self) -> Result<gpu::Driver, String> {
        let user_space = match (self.user_space.as_str(), self.libraries) {
            ("none", libraries) if libraries.is_empty() => UserSpace::None,
            ("opengl_driver", libraries) if libraries.is_empty() => UserSpace::OpenglDriver,
            ("libraries", libraries) => {
                UserSpace::Libraries(libraries.into_iter().map(absolute).collect::<Result<_, _>>()?)
            }
            (user_space, _) => return Err(format!("{}: the user space {}", self.vendor, shown(user_space))),
        };
        Ok(gpu::Driver {
            module: self.module,
            library: self.library,
            booted: self.booted,
            cuda: self.cuda,
            nodes: nodes(self.nodes)?,
            user_space,
            cdi_mounts: self.cdi_mounts.into_iter().map(GpuMount::into_model).collect::<Result<_, _>>()?,
            cdi_complaints: self.cdi_complaints,
        })
    }
}

impl GpuMount {
    fn into_model(self) -> Result<model::GpuMount, String> {
        Ok(model::GpuMount { source: absolute(self.source)?, target: absolute(self.target)? })
    }
}

impl GpuFault {
    fn into_model(self) -> Result<gpu::Fault, String> {
        let kind = match self.kind.as_str() {
            "no_library" => FaultKind::NoLibrary,
            "no_driver" => FaultKind::NoDriver,
            "mismatch" => FaultKind::Mismatch,
            "hangs" => FaultKind::Hangs,
            "crashed" => FaultKind::Crashed,
            "rubbish" => FaultKind::Rubbish,
            "failed" => FaultKind::Failed,
            kind => return Err(format!("the fault {}", shown(kind))),
        };
        let vendor = self.vendor.as_deref().map(vendor).transpose()?;
        Ok(gpu::Fault { vendor, kind, message: self.message })
    }
}

fn vendor(word: &str) -> Result<Vendor, String> {
    let known = Vendor::ALL.iter().copied().find(|vendor| vendor.as_word() == word);
    known.ok_or_else(|| format!("the vendor {}", shown(word)))
}

fn id(text: &str) -> Result<GpuId, String> {
    text.parse().map_err(|_| format!("the GPU {}", shown(text)))
}

fn nodes(nodes: Vec<GpuNode>) -> Result<Vec<gpu::Node>, String> {
    nodes.into_iter().map(GpuNode::into_model).collect()
}

fn absolute(text: String) -> Result<PathBuf, String> {
    if Path::new(&text).is_absolute() { Ok(text.into()) } else { Err(format!("the path {}", shown(&text))) }
}

/// Returns both numbers or none.
fn pair(one: Option<u32>, other: Option<u32>) -> Result<Option<(u32, u32)>, &'static str> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err("half a number"),
    }
}
