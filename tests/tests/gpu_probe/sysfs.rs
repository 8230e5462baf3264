//! GPUs of AMD and Intel, as the kernel tells of them in files.

use nixmox_core::gpu::{Gpu, NodeState, ProcessKind, ProcessOwner, UserSpace};
use nixmox_core::model::{Bytes, Vendor};

use super::machine::Machine;

/// Adds a card of a vendor to a machine; its render node is made like this one of the machine that the test runs on.
fn add_card(machine: &Machine, number: u32, vendor: &str, pci: &str, number_of_node: &str) {
    let card = format!("sys/class/drm/card{number}");
    let render = format!("renderD{}", 128 + number);
    machine.write(&format!("{card}/device/vendor"), format!("{vendor}\n"));
    machine.write(&format!("{card}/device/device"), "0x73bf\n");
    machine.write(&format!("{card}/device/uevent"), format!("DRIVER=x\nPCI_SLOT_NAME={pci}\n"));
    machine.write(&format!("{card}/device/drm/{render}/uevent"), "");
    machine.write(&format!("sys/class/drm/card{number}-HDMI-A-1/status"), "connected\n");
    machine.write(&format!("sys/class/drm/{render}/dev"), format!("{number_of_node}\n"));
}

/// Adds a GPU of AMD with 16 GiB.
pub(crate) fn add_amd(machine: &Machine) {
    add_card(machine, 1, "0x1002", "0000:03:00.0", "1:3");
    let device = "sys/class/drm/card1/device";
    machine.link("/dev/null", "dev/dri/renderD129");
    machine.write(&format!("{device}/mem_info_vram_total"), "17163091968\n");
    machine.write(&format!("{device}/mem_info_vram_used"), "1073741824\n");
    machine.write(&format!("{device}/gpu_busy_percent"), "37\n");
    machine.write(&format!("{device}/hwmon/hwmon4/temp1_input"), "51000\n");
    machine.write(&format!("{device}/hwmon/hwmon4/temp1_crit"), "100000\n");
    machine.write(&format!("{device}/hwmon/hwmon4/power1_average"), "43000000\n");
    machine.write(&format!("{device}/hwmon/hwmon4/power1_cap"), "272000000\n");
    machine.write("sys/class/kfd/kfd/dev", "237:0\n");
}

/// Adds a process that has a card open.
fn add_client(machine: &Machine, pid: u32, descriptor: u32, node: &str, fdinfo: &str) {
    machine.link(node, &format!("proc/{pid}/fd/{descriptor}"));
    machine.write(&format!("proc/{pid}/fdinfo/{descriptor}"), format!("pos:\t0\ndrm-driver:\tx\n{fdinfo}"));
}

#[test]
fn a_gpu_of_amd_tells_of_itself_in_files() {
    let machine = Machine::new();
    add_amd(&machine);
    let found = machine.look();
    assert_eq!(found.faults, []);
    let [Gpu { id, vendor, name, memory, shares_memory, nodes, sensors, .. }] = found.gpus.as_slice() else {
        panic!("{:?}", found.gpus)
    };
    assert_eq!((id.as_str(), *vendor, name.as_str()), ("0000:03:00.0", Vendor::Amd, "AMD GPU 0x73bf"));
    assert_eq!((memory.unwrap().total, memory.unwrap().used), (Bytes(17_163_091_968), Bytes(1 << 30)));
    assert!(!shares_memory);
    assert_eq!(nodes[0].path.to_str(), Some("/dev/dri/renderD129"));
    assert_eq!((nodes[0].number, nodes[0].state), (Some((1, 3)), NodeState::Right));
    assert_eq!((sensors.temperature, sensors.temperature_slowdown), (Some(51), Some(100)));
    assert_eq!((sensors.power, sensors.power_limit), (Some(43_000), Some(272_000)));
    assert_eq!((sensors.utilization, sensors.memory_utilization), (Some(37), None));
    let driver = &found.drivers[&Vendor::Amd];
    let shared: Vec<_> = driver.nodes.iter().map(|node| (node.path.to_str().unwrap(), node.number)).collect();
    assert_eq!(shared, [("/dev/kfd", Some((237, 0)))]);
    assert_eq!(driver.user_space, UserSpace::None);
    assert!(!found.drivers.contains_key(&Vendor::Nvidia));
}

#[test]
fn a_gpu_in_the_processor_shares_the_machines_memory() {
    let machine = Machine::new();
    add_amd(&machine);
    machine.write("sys/class/drm/card1/device/hwmon/hwmon4/in1_label", "vddnb\n");
    add_card(&machine, 0, "0x8086", "0000:00:02.0", "226:128");
    machine.write("run/opengl-driver/lib/libGL.so", "");
    let found = machine.look();
    assert_eq!(found.faults, []);
    let shares: Vec<_> =
        found.gpus.iter().map(|gpu| (gpu.vendor, gpu.shares_memory, gpu.memory.is_some())).collect();
    assert_eq!(shares, [(Vendor::Amd, true, true), (Vendor::Intel, true, false)]);
    assert_eq!(found.drivers[&Vendor::Intel].user_space, UserSpace::OpenglDriver);
}

#[test]
fn figures_that_cannot_be_true_are_left_out() {
    let machine = Machine::new();
    add_amd(&machine);
    let device = "sys/class/drm/card1/device";
    machine.write(&format!("{device}/mem_info_vram_used"), "99999999999999\n");
    machine.write(&format!("{device}/gpu_busy_percent"), "-3\n");
    machine.write(&format!("{device}/hwmon/hwmon4/temp1_input"), "99999999999999999999999\n");
    let gpus = machine.gpus_of_look();
    assert_eq!(gpus[0].memory, None);
    assert_eq!((gpus[0].sensors.utilization, gpus[0].sensors.temperature), (None, None));
}

#[test]
fn a_client_counts_once_however_many_descriptors_lead_to_it() {
    let machine = Machine::new();
    add_amd(&machine);
    let info = |client: u32, mib: u32| {
        format!(
            "drm-pdev:\t0000:03:00.0\ndrm-client-id:\t{client}\ndrm-memory-vram:\t{mib} MiB\ndrm-resident-vram:\t{mib} MiB\n"
        )
    };
    let render = "/dev/dri/renderD129";
    add_client(&machine, 200, 5, render, &info(1, 100));
    // Another descriptor of the same client, one of another client, and one of the parent's in its child.
    add_client(&machine, 200, 6, render, &info(1, 100));
    add_client(&machine, 200, 7, render, &info(2, 28));
    add_client(&machine, 1000, 5, render, &info(1, 100));
    add_client(&machine, 30, 9, "/dev/dri/card1", &info(3, 64));
    // Of a card that is not there, and of no card at all.
    add_client(&machine, 40, 9, render, "drm-pdev:\t0000:09:00.0\ndrm-client-id:\t8\ndrm-resident-vram:\t1 MiB\n");
    add_client(&machine, 41, 9, "/dev/null", &info(9, 64));
    machine.write("proc/200/comm", "llama-server\n");
    machine.write("proc/200/cgroup", "0::/machine.slice/container@llama.service/payload\n");
    let gpus = machine.gpus_of_look();
    let told: Vec<_> =
        gpus[0].processes.iter().map(|process| (process.pid, process.kind, process.memory)).collect();
    assert_eq!(
        told,
        [(30, ProcessKind::Graphics, Some(Bytes(64 << 20))), (200, ProcessKind::Compute, Some(Bytes(128 << 20)))]
    );
    assert_eq!(gpus[0].processes[1].owner, ProcessOwner::Container("llama".parse().unwrap()));
    assert_eq!(gpus[0].processes[1].name, "llama-server");
}

#[test]
fn what_a_card_of_intel_uses_is_what_its_processes_have() {
    let machine = Machine::new();
    add_card(&machine, 0, "0x8086", "0000:05:00.0", "226:128");
    machine.write("sys/class/drm/card0/device/tile0/physical_vram_size_bytes", "8589934592\n");
    for (pid, mib) in [(7, 100), (8, 200)] {
        let info = format!(
            "drm-pdev:\t0000:05:00.0\ndrm-client-id:\t{pid}\ndrm-resident-vram0:\t{mib} MiB\ndrm-total-vram0:\t900 MiB\n"
        );
        add_client(&machine, pid, 3, "/dev/dri/renderD128", &info);
    }
    let gpus = machine.gpus_of_look();
    let memory = gpus[0].memory.unwrap();
    assert_eq!((memory.total, memory.used), (Bytes(8 << 30), Bytes(300 << 20)));
    assert!(!gpus[0].shares_memory);
}
