//! A machine for tests on which nothing is wrong: two NVIDIA GPUs of 12 GiB, with a driver of the version `570.1`.

use std::path::PathBuf;

use super::{Driver, Gpu, Inventory, Memory, Node, NodeState, Part, Sensors, UserSpace};
use crate::model::{Bytes, GpuId, Vendor};

pub(super) fn id(text: &str) -> GpuId {
    text.parse().unwrap()
}

pub(super) fn node(path: &str, number: (u32, u32)) -> Node {
    Node { path: path.into(), number: Some(number), state: NodeState::Right, optional: false }
}

pub(super) fn nvidia(index: u32) -> Gpu {
    Gpu {
        id: id(&format!("GPU-{index}")),
        vendor: Vendor::Nvidia,
        index,
        name: "NVIDIA GeForce RTX 3060".to_owned(),
        part: Part::Whole,
        pci: Some(format!("0000:0{index}:00.0")),
        memory: Some(Memory { total: Bytes(12 << 30), reserved: Bytes(0), used: Bytes(0) }),
        shares_memory: false,
        // The numbers of nodes are not those of the tools.
        nodes: vec![node(&format!("/dev/nvidia{}", 1 - index), (195, 1 - index))],
        sensors: Sensors::default(),
        processes: Vec::new(),
    }
}

pub(super) fn amd() -> Gpu {
    Gpu {
        id: id("0000:03:00.0"),
        vendor: Vendor::Amd,
        index: 0,
        name: "AMD Radeon RX 7900".to_owned(),
        pci: Some("0000:03:00.0".to_owned()),
        nodes: vec![node("/dev/dri/renderD128", (226, 128))],
        ..nvidia(0)
    }
}

pub(super) fn healthy() -> Inventory {
    let optional = |path, number| Node { optional: true, ..node(path, number) };
    let driver = Driver {
        module: Some("570.1".to_owned()),
        library: Some("570.1".to_owned()),
        nodes: vec![
            node("/dev/nvidiactl", (195, 255)),
            node("/dev/nvidia-uvm", (510, 0)),
            optional("/dev/nvidia-uvm-tools", (510, 1)),
            optional("/dev/nvidia-modeset", (195, 254)),
        ],
        user_space: UserSpace::OpenglDriver,
        ..Driver::default()
    };
    Inventory { gpus: vec![nvidia(0), nvidia(1)], drivers: [(Vendor::Nvidia, driver)].into(), faults: Vec::new() }
}

pub(super) fn paths(all: &[&str]) -> Vec<PathBuf> {
    all.iter().map(PathBuf::from).collect()
}
