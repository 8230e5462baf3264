//! What a look at the GPUs found survives the wire, and words that nobody said are refused.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixmox_api::GpuInventory;
use nixmox_core::gpu::{
    Driver, Fault, FaultKind, Gpu, Inventory, Memory, Node, NodeState, Part, Process, ProcessKind, ProcessOwner,
    Sensors, UserSpace,
};
use nixmox_core::model::{Bytes, GpuId, GpuMount, Vendor, Word as _};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn id() -> impl Strategy<Value = GpuId> {
    "[A-Za-z0-9:._/-]{1,80}".prop_map(|text| text.parse().expect("a name"))
}

fn path() -> impl Strategy<Value = PathBuf> {
    "(/[a-zA-Z0-9._ -]{1,8}){1,4}".prop_map(PathBuf::from)
}

fn vendor() -> impl Strategy<Value = Vendor> {
    prop::sample::select(Vendor::ALL)
}

fn number() -> impl Strategy<Value = (u32, u32)> {
    any::<(u32, u32)>()
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    let state = prop_oneof![
        Just(NodeState::Right),
        Just(NodeState::Missing),
        number().prop_map(|found| NodeState::Stale { found }),
        Just(NodeState::NotADevice),
    ];
    let node = (path(), option::of(number()), state, any::<bool>());
    vec(node.prop_map(|(path, number, state, optional)| Node { path, number, state, optional }), 0..4)
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Whole),
        Just(Part::Partitioned),
        (id(), any::<u32>(), any::<u32>()).prop_map(|(parent, gpu_instance, compute_instance)| Part::Instance {
            parent,
            gpu_instance,
            compute_instance
        }),
    ]
}

fn memory() -> impl Strategy<Value = Memory> {
    (0_u64..1 << 40, 0_u64..1 << 40, 0_u64..1 << 40).prop_map(|(reserved, used, free)| Memory {
        total: Bytes(reserved + used + free),
        reserved: Bytes(reserved),
        used: Bytes(used),
    })
}

fn sensors() -> impl Strategy<Value = Sensors> {
    let figures = prop::array::uniform6(option::of(any::<u32>()));
    (figures, vec("[a-z_]{1,20}", 0..3)).prop_map(|(figures, throttle)| {
        let [temperature, temperature_slowdown, power, power_limit, utilization, memory_utilization] = figures;
        Sensors { temperature, temperature_slowdown, power, power_limit, utilization, memory_utilization, throttle }
    })
}

fn process() -> impl Strategy<Value = Process> {
    let kind = prop_oneof![Just(ProcessKind::Compute), Just(ProcessKind::Graphics)];
    let owner = prop_oneof![
        Just(ProcessOwner::Unknown),
        "[a-z@]{1,8}\\.service".prop_map(ProcessOwner::Unit),
        "[a-z][a-z0-9]{0,8}".prop_map(|name| ProcessOwner::Container(name.parse().expect("a name"))),
    ];
    (any::<u32>(), kind, option::of(any::<u64>()), "[ -~ä]{0,16}", owner)
        .prop_map(|(pid, kind, memory, name, owner)| Process { pid, kind, memory: memory.map(Bytes), name, owner })
}

prop_compose! {
    fn gpu()(
        id in id(),
        vendor in vendor(),
        (index, shares_memory) in any::<(u32, bool)>(),
        name in "[ -~ä]{0,16}",
        part in part(),
        pci in option::of("[0-9a-f:.]{1,12}"),
        memory in option::of(memory()),
        nodes in nodes(),
        sensors in sensors(),
        processes in vec(process(), 0..4),
    ) -> Gpu {
        Gpu { id, vendor, index, name, part, pci, memory, shares_memory, nodes, sensors, processes }
    }
}

prop_compose! {
    fn driver()(
        [module, library, booted, cuda] in prop::array::uniform4(option::of("[0-9.]{1,12}")),
        nodes in nodes(),
        user_space in prop_oneof![
            Just(UserSpace::None),
            Just(UserSpace::OpenglDriver),
            vec(path(), 0..3).prop_map(UserSpace::Libraries),
        ],
        cdi_mounts in vec((path(), path()).prop_map(|(source, target)| GpuMount { source, target }), 0..3),
        cdi_complaints in vec("[ -~]{0,20}", 0..3),
    ) -> Driver {
        Driver { module, library, booted, cuda, nodes, user_space, cdi_mounts, cdi_complaints }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    let kind = prop::sample::select(vec![
        FaultKind::NoLibrary,
        FaultKind::NoDriver,
        FaultKind::Mismatch,
        FaultKind::Hangs,
        FaultKind::Crashed,
        FaultKind::Rubbish,
        FaultKind::Failed,
    ]);
    (option::of(vendor()), kind, "[ -~]{0,40}").prop_map(|(vendor, kind, message)| Fault { vendor, kind, message })
}

proptest! {
    #[test]
    fn what_a_look_found_survives_the_wire(
        gpus in vec(gpu(), 0..4),
        drivers in btree_map(vendor(), driver(), 0..3),
        faults in vec(fault(), 0..3),
    ) {
        let inventory = Inventory { gpus, drivers, faults };
        let text = serde_json::to_string(&GpuInventory::from(&inventory)).expect("a message can be written");
        let wire: GpuInventory = serde_json::from_str(&text).expect("a message can be read");
        prop_assert_eq!(wire.into_model(), Ok(inventory));
    }
}

/// Returns a look at an instance with everything that can be told.
fn valid() -> GpuInventory {
    let node = |state| Node { path: "/dev/nvidia0".into(), number: Some((195, 0)), state, optional: false };
    let owner = ProcessOwner::Container("ollama".parse().expect("a name"));
    let process = Process { pid: 7, kind: ProcessKind::Compute, memory: None, name: String::new(), owner };
    let parent = "GPU-1".parse().expect("a name");
    let gpu = Gpu {
        id: "MIG-1".parse().expect("a name"),
        vendor: Vendor::Nvidia,
        index: 0,
        name: String::new(),
        part: Part::Instance { parent, gpu_instance: 1, compute_instance: 0 },
        pci: None,
        memory: Some(Memory { total: Bytes(12), reserved: Bytes(1), used: Bytes(11) }),
        shares_memory: false,
        nodes: vec![node(NodeState::Stale { found: (196, 0) })],
        sensors: Sensors::default(),
        processes: vec![process],
    };
    let driver = Driver {
        user_space: UserSpace::Libraries(vec!["/usr/lib".into()]),
        cdi_mounts: vec![GpuMount { source: "/a".into(), target: "/b".into() }],
        ..Driver::default()
    };
    let fault = Fault { vendor: Some(Vendor::Amd), kind: FaultKind::Hangs, message: String::new() };
    let drivers = BTreeMap::from([(Vendor::Nvidia, driver)]);
    (&Inventory { gpus: vec![gpu], drivers, faults: vec![fault] }).into()
}

#[test]
fn each_word_that_nobody_said_is_refused() {
    type Change = fn(&mut GpuInventory);
    assert!(valid().into_model().is_ok());
    let changes: [Change; 20] = [
        |look| look.gpus[0].id = "GPU 1".into(),
        |look| look.gpus[0].vendor = "voodoo".into(),
        |look| look.gpus[0].partitioned = true,
        |look| look.gpus[0].parent = None,
        |look| look.gpus[0].parent = Some(String::new()),
        |look| look.gpus[0].compute_instance = None,
        |look| look.gpus[0].memory_used = None,
        |look| look.gpus[0].memory_used = Some(12),
        |look| look.gpus[0].memory_used = Some(u64::MAX),
        |look| look.gpus[0].nodes[0].state = "gone".into(),
        |look| look.gpus[0].nodes[0].state = "right".into(),
        |look| look.gpus[0].nodes[0].found_major = None,
        |look| look.gpus[0].nodes[0].minor = None,
        |look| look.gpus[0].nodes[0].path = "dev/nvidia0".into(),
        |look| look.gpus[0].processes[0].kind = "idle".into(),
        |look| look.gpus[0].processes[0].unit = Some("x.service".into()),
        |look| look.gpus[0].processes[0].container = Some("../x".into()),
        |look| look.drivers[0].user_space = "none".into(),
        |look| look.drivers[0].cdi_mounts[0].target = "b".into(),
        |look| look.faults[0].kind = "bored".into(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut look = valid();
        change(&mut look);
        assert!(look.into_model().is_err(), "change {number}");
    }
    let mut twice = valid();
    twice.drivers.push(twice.drivers[0].clone());
    assert!(twice.into_model().is_err());
}
