//! From what a look at the GPUs found to the wire. Loses nothing; the way back, with its checks, is `gpu_into_model`.

use std::path::Path;

use nixmox_core::gpu::{self, FaultKind, NodeState, Part, ProcessKind, ProcessOwner, UserSpace};
use nixmox_core::model::{self, Vendor, Word};

use crate::{Gpu, GpuDriver, GpuFault, GpuInventory, GpuMount, GpuNode, GpuProcess};

impl From<&gpu::Inventory> for GpuInventory {
    fn from(inventory: &gpu::Inventory) -> Self {
        Self {
            gpus: inventory.gpus.iter().map(Gpu::from).collect(),
            drivers: inventory.drivers.iter().map(|(vendor, driver)| GpuDriver::of(*vendor, driver)).collect(),
            faults: inventory.faults.iter().map(GpuFault::from).collect(),
        }
    }
}

impl From<&gpu::Gpu> for Gpu {
    fn from(gpu: &gpu::Gpu) -> Self {
        let (parent, gpu_instance, compute_instance) = match &gpu.part {
            Part::Whole | Part::Partitioned => (None, None, None),
            Part::Instance { parent, gpu_instance, compute_instance } => {
                (Some(parent.to_string()), Some(*gpu_instance), Some(*compute_instance))
            }
        };
        Self {
            id: gpu.id.to_string(),
            vendor: gpu.vendor.as_word().to_owned(),
            index: gpu.index,
            name: gpu.name.clone(),
            partitioned: gpu.part == Part::Partitioned,
            parent,
            gpu_instance,
            compute_instance,
            pci: gpu.pci.clone(),
            shares_memory: gpu.shares_memory,
            memory_total: gpu.memory.map(|memory| memory.total.0),
            memory_reserved: gpu.memory.map(|memory| memory.reserved.0),
            memory_used: gpu.memory.map(|memory| memory.used.0),
            temperature: gpu.sensors.temperature,
            temperature_slowdown: gpu.sensors.temperature_slowdown,
            power: gpu.sensors.power,
            power_limit: gpu.sensors.power_limit,
            utilization: gpu.sensors.utilization,
            memory_utilization: gpu.sensors.memory_utilization,
            throttle: gpu.sensors.throttle.clone(),
            nodes: gpu.nodes.iter().map(GpuNode::from).collect(),
            processes: gpu.processes.iter().map(GpuProcess::from).collect(),
        }
    }
}

impl From<&gpu::Node> for GpuNode {
    fn from(node: &gpu::Node) -> Self {
        let (state, found) = match node.state {
            NodeState::Right => ("right", None),
            NodeState::Missing => ("missing", None),
            NodeState::Stale { found } => ("stale", Some(found)),
            NodeState::NotADevice => ("not_a_device", None),
        };
        Self {
            path: text(&node.path),
            major: node.number.map(|(major, _)| major),
            minor: node.number.map(|(_, minor)| minor),
            state: state.to_owned(),
            found_major: found.map(|(major, _)| major),
            found_minor: found.map(|(_, minor)| minor),
            optional: node.optional,
        }
    }
}

impl From<&gpu::Process> for GpuProcess {
    fn from(process: &gpu::Process) -> Self {
        let (container, unit) = match &process.owner {
            ProcessOwner::Container(name) => (Some(name.to_string()), None),
            ProcessOwner::Unit(unit) => (None, Some(unit.clone())),
            ProcessOwner::Unknown => (None, None),
        };
        let kind = match process.kind {
            ProcessKind::Compute => "compute",
            ProcessKind::Graphics => "graphics",
        };
        Self {
            pid: process.pid,
            kind: kind.to_owned(),
            memory: process.memory.map(|memory| memory.0),
            name: process.name.clone(),
            container,
            unit,
        }
    }
}

impl GpuDriver {
    fn of(vendor: Vendor, driver: &gpu::Driver) -> Self {
        let (user_space, libraries) = match &driver.user_space {
            UserSpace::None => ("none", Vec::new()),
            UserSpace::OpenglDriver => ("opengl_driver", Vec::new()),
            UserSpace::Libraries(folders) => ("libraries", folders.iter().map(|folder| text(folder)).collect()),
        };
        Self {
            vendor: vendor.as_word().to_owned(),
            module: driver.module.clone(),
            library: driver.library.clone(),
            booted: driver.booted.clone(),
            cuda: driver.cuda.clone(),
            nodes: driver.nodes.iter().map(GpuNode::from).collect(),
            user_space: user_space.to_owned(),
            libraries,
            cdi_mounts: driver.cdi_mounts.iter().map(GpuMount::from).collect(),
            cdi_complaints: driver.cdi_complaints.clone(),
        }
    }
}

impl From<&model::GpuMount> for GpuMount {
    fn from(mount: &model::GpuMount) -> Self {
        Self { source: text(&mount.source), target: text(&mount.target) }
    }
}

impl From<&gpu::Fault> for GpuFault {
    fn from(fault: &gpu::Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::NoLibrary => "no_library",
            FaultKind::NoDriver => "no_driver",
            FaultKind::Mismatch => "mismatch",
            FaultKind::Hangs => "hangs",
            FaultKind::Crashed => "crashed",
            FaultKind::Rubbish => "rubbish",
            FaultKind::Failed => "failed",
        };
        Self {
            vendor: fault.vendor.map(|vendor| vendor.as_word().to_owned()),
            kind: kind.to_owned(),
            message: fault.message.clone(),
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
