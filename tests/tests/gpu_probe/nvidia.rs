//! What NVML tells of GPUs that are well.

use std::path::Path;

use nixmox_core::gpu::{Gpu, NodeState, Part, ProcessKind, ProcessOwner, UserSpace};
use nixmox_core::model::{Bytes, Vendor};

use super::machine::{Machine, TWO};

const MIB: u64 = 1 << 20;

#[test]
fn a_machine_without_a_gpu_has_none_and_nothing_is_wrong_with_it() {
    let found = Machine::new().look();
    assert_eq!(found, nixmox_core::gpu::Inventory::default());
}

#[test]
fn figures_of_every_gpu_are_told() {
    let machine = Machine::with_nvidia(TWO);
    machine.write("proc/4711/comm", "ollama\u{1b}[31m\n");
    machine.write("proc/4711/cgroup", "0::/machine.slice/container@ollama.service/payload\n");
    machine.write("proc/12/comm", "Xorg\n");
    machine.write("proc/12/cgroup", "0::/system.slice/display-manager.service\n");
    let found = machine.look();
    assert_eq!(found.faults, []);
    let [first, second] = found.gpus.as_slice() else { panic!("{:?}", found.gpus) };
    assert_eq!(first.id.as_str(), "GPU-11111111-2222-3333-4444-555555555555");
    assert_eq!((first.index, second.index), (0, 1));
    assert_eq!((first.vendor, first.part.clone()), (Vendor::Nvidia, Part::Whole));
    assert_eq!(first.name, "NVIDIA GeForce RTX 3060");
    assert_eq!(first.pci.as_deref(), Some("0000:0a:00.0"));
    let memory = first.memory.unwrap();
    assert_eq!(
        (memory.total, memory.reserved, memory.used),
        (Bytes(12288 * MIB), Bytes(300 * MIB), Bytes(1024 * MIB))
    );
    let sensors = &first.sensors;
    assert_eq!((sensors.temperature, sensors.temperature_slowdown), (Some(45), Some(95)));
    assert_eq!((sensors.power, sensors.power_limit), (Some(35_000), Some(170_000)));
    assert_eq!((sensors.utilization, sensors.memory_utilization), (Some(12), Some(3)));
    assert_eq!(sensors.throttle, ["sw_power_cap", "hw_thermal_slowdown"]);
    let [drawing, computing] = first.processes.as_slice() else { panic!("{:?}", first.processes) };
    assert_eq!((drawing.pid, drawing.kind, drawing.memory), (12, ProcessKind::Graphics, Some(Bytes(300 * MIB))));
    assert_eq!(drawing.owner, ProcessOwner::Unit("display-manager.service".to_owned()));
    assert_eq!((computing.pid, computing.kind), (4711, ProcessKind::Compute));
    assert_eq!(computing.name, "ollama [31m", "a terminal would act on it");
    assert_eq!(computing.owner, ProcessOwner::Container("ollama".parse().unwrap()));

    let driver = &found.drivers[&Vendor::Nvidia];
    assert_eq!(driver.module.as_deref(), Some("570.124.06"));
    assert_eq!(driver.library.as_deref(), Some("570.124.06"));
    assert_eq!((driver.cuda.as_deref(), driver.booted.as_deref()), (Some("12.8"), None));
    assert_eq!(driver.user_space, UserSpace::Libraries(vec!["/usr/lib".into()]));
}

#[test]
fn what_a_gpu_does_not_tell_is_left_out_and_no_fault() {
    let gpus = Machine::with_nvidia(TWO).gpus_of_look();
    let Gpu { sensors, processes, memory, .. } = &gpus[1];
    assert_eq!(sensors, &nixmox_core::gpu::Sensors::default());
    assert!(processes.is_empty());
    assert_eq!(memory.unwrap().used, Bytes(0));
}

#[test]
fn a_node_goes_by_the_minor_number_and_not_by_the_index() {
    let machine = Machine::with_nvidia(TWO);
    // Nodes that are on every machine stand for those of GPUs: 1:7 and 1:3, and 1:5 in the place of another.
    machine.link("/dev/full", "dev/nvidia7");
    machine.link("/dev/zero", "dev/nvidia3");
    machine.link("/dev/null", "dev/nvidiactl");
    machine.write("dev/nvidia-uvm", "");
    let found = machine.look();
    let node = |gpu: &Gpu| (gpu.nodes[0].path.clone(), gpu.nodes[0].number, gpu.nodes[0].state);
    assert_eq!(node(&found.gpus[0]), ("/dev/nvidia7".into(), Some((1, 7)), NodeState::Right));
    assert_eq!(node(&found.gpus[1]), ("/dev/nvidia3".into(), Some((1, 3)), NodeState::Stale { found: (1, 5) }));
    let shared = &found.drivers[&Vendor::Nvidia].nodes;
    let state = |path: &str| shared.iter().find(|node| node.path == Path::new(path)).map(|node| node.state);
    assert_eq!(state("/dev/nvidiactl"), Some(NodeState::Stale { found: (1, 3) }));
    assert_eq!(state("/dev/nvidia-uvm"), Some(NodeState::NotADevice));
    assert_eq!(state("/dev/nvidia-modeset"), Some(NodeState::Missing));
}

#[test]
fn a_process_that_computes_and_draws_is_told_once() {
    let machine = Machine::with_nvidia(
        "gpu\nuuid GPU-1\ntotal 8G\nprocess compute 5 1G\nprocess graphics 5 1G\nprocess compute 6 -\n",
    );
    let gpus = machine.gpus_of_look();
    let told: Vec<_> =
        gpus[0].processes.iter().map(|process| (process.pid, process.kind, process.memory)).collect();
    assert_eq!(told, [(5, ProcessKind::Compute, Some(Bytes(1 << 30))), (6, ProcessKind::Compute, None)]);
    assert_eq!(gpus[0].processes[0].owner, ProcessOwner::Unknown, "it is gone");
}

#[test]
fn instances_follow_their_gpu_with_nodes_and_processes_of_their_own() {
    let machine = Machine::with_nvidia(
        "gpu\nuuid GPU-1\nminor 7\ntotal 40G\nused 5G\nmig on\nprocess compute 5 1G\n\
         mig\nuuid MIG-1\nname NVIDIA A100 MIG 1g.5gb\ninstance 9 0\ntotal 5G\nused 1G\nprocess compute 5 1G\n\
         mig\nuuid MIG-2\ninstance 2 1\ntotal 10G\n\
         gpu\nuuid GPU-2\nminor 3\nmig off\n",
    );
    machine.write(
        "proc/driver/nvidia-caps/mig-minors",
        "config 1\nmonitor 2\ngpu0/gi9/access 6\ngpu7/gi9/access 200\ngpu7/gi9/ci0/access 229\ngpu7/gi2/access 21\ngpu7/gi2/ci1/access 22\n",
    );
    let gpus = machine.gpus_of_look();
    let ids: Vec<&str> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    assert_eq!(ids, ["GPU-1", "MIG-1", "MIG-2", "GPU-2"]);
    assert_eq!((&gpus[0].part, &gpus[3].part), (&Part::Partitioned, &Part::Whole));
    assert!(gpus[0].processes.is_empty(), "they are told of the instances");
    let parent = "GPU-1".parse().unwrap();
    assert_eq!(gpus[1].part, Part::Instance { parent, gpu_instance: 9, compute_instance: 0 });
    assert_eq!((gpus[1].index, gpus[2].index), (0, 0));
    assert_eq!(gpus[1].memory.unwrap().total, Bytes(5 << 30));
    assert_eq!(gpus[1].processes.len(), 1);
    let nodes =
        |gpu: &Gpu| gpu.nodes.iter().map(|node| (node.path.display().to_string(), node.number)).collect::<Vec<_>>();
    let of = |minor: u32| (format!("/dev/nvidia-caps/nvidia-cap{minor}"), Some((10, minor)));
    assert_eq!(nodes(&gpus[1]), [("/dev/nvidia7".to_owned(), Some((1, 7))), of(200), of(229)]);
    assert_eq!(nodes(&gpus[2]), [("/dev/nvidia7".to_owned(), Some((1, 7))), of(21), of(22)]);
}

#[test]
fn older_drivers_are_asked_as_they_know_it() {
    for calls in [1, 2] {
        let machine = Machine::with_nvidia(&format!("{TWO}process compute 5 -\ncalls {calls}\n"));
        let [first, second] = machine.gpus_of_look().try_into().unwrap();
        let memory = first.memory.unwrap();
        assert_eq!(memory.total, Bytes(12288 * MIB));
        assert_eq!(
            (memory.reserved, memory.used),
            (Bytes(0), Bytes(1324 * MIB)),
            "what is reserved is not told apart"
        );
        let of = |gpu: &Gpu| {
            gpu.processes.iter().map(|process| (process.pid, process.kind, process.memory)).collect::<Vec<_>>()
        };
        let (compute, graphics) = (ProcessKind::Compute, ProcessKind::Graphics);
        let (large, small) = (Some(Bytes(700 * MIB)), Some(Bytes(300 * MIB)));
        assert_eq!(of(&first), [(12, graphics, small), (4711, compute, large)], "{calls}");
        assert_eq!(of(&second), [(5, compute, None)], "{calls}");
    }
}

#[test]
fn a_driver_that_tells_no_memory_at_all_is_told() {
    let machine = Machine::with_nvidia(&format!("{TWO}calls 1\nerror nvmlDeviceGetMemoryInfo 13\n"));
    let found = machine.look();
    assert_eq!(found.gpus.iter().filter(|gpu| gpu.memory.is_none()).count(), 2);
    let [fault] = found.faults.as_slice() else { panic!("{:?}", found.faults) };
    assert_eq!(fault.kind, nixmox_core::gpu::FaultKind::Failed);
    assert!(fault.message.contains("too old"), "{}", fault.message);
}

#[test]
fn each_look_tells_what_is_now() {
    let machine = Machine::with_nvidia(TWO);
    let gpus = machine.gpus(std::time::Duration::from_mins(1));
    super::machine::block_on(async {
        assert_eq!(gpus.look().await.gpus.len(), 2);
        machine.state("gpu\nuuid GPU-1\ntotal 8G\nused 3G\n");
        let found = gpus.look().await;
        assert_eq!(found.gpus.len(), 1);
        assert_eq!(found.gpus[0].memory.unwrap().used, Bytes(3 << 30));
    });
}
