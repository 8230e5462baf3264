//! GPUs as tests see them: a whole one with all figures, one that is cut into instances, one that tells little.

use nixmox_api::{Gpu, GpuDriver, GpuInventory, GpuNode, GpuProcess, GpuRoom, GpuService, GpuShare, GpusReply};

use super::sample::NOW;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// A GPU that tells nothing.
pub(crate) fn gpu(index: u32, id: &str) -> Gpu {
    Gpu { id: id.to_owned(), vendor: "nvidia".to_owned(), index, ..Gpu::default() }
}

pub(crate) fn node(path: &str, state: &str) -> GpuNode {
    GpuNode {
        path: path.to_owned(),
        major: Some(510),
        minor: Some(0),
        state: state.to_owned(),
        found_major: (state == "stale").then_some(511),
        found_minor: (state == "stale").then_some(0),
        optional: false,
    }
}

/// A process of a container, or of a unit of the host.
pub(crate) fn process(container: Option<&str>, unit: Option<&str>, memory: Option<u64>) -> GpuProcess {
    GpuProcess {
        pid: 4711,
        kind: "compute".to_owned(),
        memory,
        name: "python3".to_owned(),
        container: container.map(str::to_owned),
        unit: unit.map(str::to_owned),
    }
}

pub(crate) fn service(name: &str, state: &str, gpus: &[&str], budget: Option<u64>) -> GpuService {
    GpuService {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        state: state.to_owned(),
        share: GpuShare { all: true, vram: budget, priority: 50, ..GpuShare::default() },
        gpus: gpus.iter().map(|&id| id.to_owned()).collect(),
        budget,
        ..GpuService::default()
    }
}

/// Everything at once: services, a desktop, unknown users, instances, nodes that are wrong, services that wait.
pub(crate) fn reply() -> GpusReply {
    let (whole, cut) = ("GPU-5a6c0a2e-93be-4b4e-a3a5-9a4c27d3c7a1", "GPU-0d9f0f4c-93be-4b4e-a3a5-9a4c27d3c7a1");
    let instance = "MIG-77aa1b2c-93be-4b4e-a3a5-9a4c27d3c7a1";
    let first = Gpu {
        name: "NVIDIA GeForce RTX 3060".to_owned(),
        memory_total: Some(12 * GIB),
        memory_reserved: Some(300 * MIB),
        memory_used: Some(7 * GIB),
        temperature: Some(91),
        temperature_slowdown: Some(93),
        power: Some(168_900),
        power_limit: Some(170_000),
        utilization: Some(87),
        memory_utilization: Some(40),
        throttle: ["gpu_idle", "sw_power_cap", "hw_thermal_slowdown"].map(str::to_owned).to_vec(),
        nodes: vec![node("/dev/nvidia0", "right"), node("/dev/nvidia-caps/nvidia-cap1", "stale")],
        processes: vec![
            process(Some("ollama"), None, Some(5 * GIB)),
            process(Some("jellyfin"), None, Some(512 * MIB)),
            process(Some("by-hand"), None, Some(256 * MIB)),
            process(None, Some("session-2.scope"), Some(300 * MIB)),
            process(None, Some("display-manager.service"), Some(100 * MIB)),
            process(None, Some("folding.service"), Some(200 * MIB)),
            process(None, None, None),
        ],
        ..gpu(0, whole)
    };
    let second = Gpu { name: "NVIDIA A30".to_owned(), partitioned: true, temperature: Some(40), ..gpu(1, cut) };
    let third = Gpu {
        name: "NVIDIA A30 MIG 1g.6gb".to_owned(),
        parent: Some(cut.to_owned()),
        gpu_instance: Some(3),
        compute_instance: Some(0),
        memory_total: Some(6 * GIB),
        memory_reserved: Some(0),
        memory_used: Some(0),
        ..gpu(1, instance)
    };
    let fourth = Gpu {
        vendor: "amd".to_owned(),
        name: "AMD Radeon 780M".to_owned(),
        shares_memory: true,
        ..gpu(0, "0000:c5:00.0")
    };
    let room = |id: &str, total, reserved, headroom, promised, others| GpuRoom {
        id: id.to_owned(),
        total,
        reserved,
        headroom,
        promised,
        others,
        free: total - reserved - headroom - promised - others,
    };
    let driver = GpuDriver {
        vendor: "nvidia".to_owned(),
        module: Some("570.86.16".to_owned()),
        library: Some("570.144".to_owned()),
        cuda: Some("12.8".to_owned()),
        nodes: vec![node("/dev/nvidiactl", "right"), node("/dev/nvidia-uvm", "missing")],
        ..GpuDriver::default()
    };
    let waiting = GpuService {
        reason: "it needs 8G of GPU 0, and 1.8G are free: 7.5G promised, 1.5G in use by others".to_owned(),
        hint: "give it a priority above 50, or stop jellyfin".to_owned(),
        ..service("whisper", "waiting", &[], None)
    };
    let yielding = GpuService {
        reason: "it makes room for whisper, which goes first".to_owned(),
        ..service("stable-diffusion", "yielding", &[instance], Some(4 * GIB))
    };
    let shrinking = GpuService {
        reason: "whisper, which goes first, needs 4G of GPU 0".to_owned(),
        ..service("llama", "shrinking", &[whole], Some(3 * GIB))
    };
    GpusReply {
        at_usec: NOW * 1_000_000,
        inventory: GpuInventory {
            gpus: vec![first, second, third, fourth],
            drivers: vec![driver],
            faults: Vec::new(),
        },
        rooms: vec![
            room(whole, 12 * GIB, 300 * MIB, 256 * MIB, 7 * GIB + 512 * MIB, 1536 * MIB),
            room(instance, 6 * GIB, 0, 128 * MIB, 4 * GIB, 0),
        ],
        services: vec![
            service("ollama", "granted", &[whole], Some(7 * GIB)),
            service("jellyfin", "granted", &[whole], None),
            waiting,
            yielding,
            shrinking,
            service("paperless", "held", &[], None),
        ],
    }
}
