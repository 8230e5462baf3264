//! What goes wrong with NVML and its driver: everything is a fault, and nothing takes the agent with it.

use std::time::Duration;

use nixmox_agent::host::Gpus;
use nixmox_core::gpu::{FaultKind, Inventory};
use nixmox_core::model::Vendor;

use super::machine::{Machine, TWO, block_on};

/// Returns the one fault of a look: its kind and what it says.
pub(crate) fn fault(found: &Inventory) -> (FaultKind, String) {
    let [fault] = found.faults.as_slice() else { panic!("{:?}", found.faults) };
    assert_eq!(fault.vendor, Some(Vendor::Nvidia));
    (fault.kind, fault.message.clone())
}

#[test]
fn hardware_without_a_library_and_a_library_without_a_driver_are_told_apart() {
    let machine = Machine::new();
    machine.plug_in();
    assert_eq!(fault(&machine.look()).0, FaultKind::NoLibrary);
    machine.install_nvml();
    let (kind, message) = fault(&machine.look());
    assert_eq!(kind, FaultKind::NoDriver);
    assert!(message.contains("nvmlInit_v2"), "{message}");
    machine.state(TWO);
    assert_eq!(machine.gpus_of_look().len(), 2, "NVML decides");
}

#[test]
fn a_library_that_was_left_where_nothing_else_is_hinders_nobody() {
    let machine = Machine::new();
    machine.install_nvml();
    assert_eq!(machine.look().faults, [], "NVML says that no driver is loaded");
    machine.write("sys/module/nvidia/version", "570.124.06\n");
    machine.write("proc/devices", "Character devices:\n  1 nvidia\n");
    assert_eq!(fault(&machine.look()).0, FaultKind::NoDriver);
}

#[test]
fn a_library_that_something_else_brought_along_is_no_fault() {
    let machine = Machine::new();
    machine.install_nvml();
    machine.write("usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06", "");
    machine.link("libcuda.so.570.124.06", "usr/lib/x86_64-linux-gnu/libcuda.so.1");
    assert_eq!(machine.look(), Inventory::default());
}

#[test]
fn a_library_that_does_not_fit_its_module_is_told_with_both_versions() {
    let found = Machine::with_nvidia(&format!("{TWO}error nvmlInit_v2 18\n")).look();
    let (kind, message) = fault(&found);
    assert_eq!(kind, FaultKind::Mismatch);
    assert!(message.contains("module 570.124.06, library 570.124.06"), "{message}");
    assert_eq!(found.gpus, []);
    assert!(found.drivers.contains_key(&Vendor::Nvidia), "what files say is known all the same");
}

#[test]
fn a_library_that_cannot_be_loaded_is_told() {
    let machine = Machine::new();
    machine.plug_in();
    machine.write("usr/lib64/libnvidia-ml.so.1", "no library\n");
    let (kind, message) = fault(&machine.look());
    assert_eq!(kind, FaultKind::Failed);
    assert!(message.contains("libnvidia-ml.so.1"), "{message}");
}

#[test]
fn the_user_space_of_the_booted_system_answers_where_the_new_one_cannot() {
    let machine = Machine::new();
    machine.write("proc/devices", "Character devices:\n  1 nvidia\n");
    machine.write("sys/module/nvidia/version", "550.54.14\n");
    machine.write("run/opengl-driver/lib/libcuda.so.570.124.06", "");
    // This one would be refused.
    machine.write("run/opengl-driver/lib/libnvidia-ml.so.1", "no library\n");
    machine.write("run/booted-system/etc/tmpfiles.d/x.conf", "L+ /run/opengl-driver - - - - /nix/store/old\n");
    machine.write("nix/store/old/lib/libcuda.so.550.54.14", "");
    machine.link(nixmox_testbed::fake_nvml().unwrap().to_str().unwrap(), "nix/store/old/lib/libnvidia-ml.so.1");
    machine.state(TWO);
    let found = machine.look();
    assert_eq!((found.faults.as_slice(), found.gpus.len()), ([].as_slice(), 2));
    let driver = &found.drivers[&Vendor::Nvidia];
    assert_eq!((driver.library.as_deref(), driver.booted.as_deref()), (Some("570.124.06"), Some("550.54.14")));
}

#[test]
fn one_call_that_fails_costs_one_figure() {
    let found = Machine::with_nvidia(&format!("{TWO}error nvmlDeviceGetPowerUsage 999\n")).look();
    let told: Vec<_> =
        found.faults.iter().map(|fault| (fault.kind, fault.message.split(':').next().unwrap())).collect();
    let of = |gpu: usize| (FaultKind::Failed, format!("nvmlDeviceGetPowerUsage of {}", found.gpus[gpu].id));
    assert_eq!(told.iter().map(|(kind, call)| (*kind, (*call).to_owned())).collect::<Vec<_>>(), [of(0), of(1)]);
    assert_eq!((found.gpus[0].sensors.power, found.gpus[0].sensors.temperature), (None, Some(45)));
}

#[test]
fn a_gpu_that_fell_off_the_bus_is_told_of_once() {
    let calls =
        ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetName"];
    let lost: Vec<String> = calls.iter().map(|call| format!("error {call} 15")).collect();
    let lost = lost.join("\n");
    let (kind, message) = fault(&Machine::with_nvidia(&format!("gpu\nuuid GPU-1\ntotal 8G\n{lost}")).look());
    assert_eq!(kind, FaultKind::Failed);
    assert!(message.contains("fell off the bus"), "{message}");
}

#[test]
fn a_gpu_without_a_name_for_good_is_not_told() {
    let machine = Machine::with_nvidia("gpu\nuuid GPU 1; rm\ngpu\nuuid GPU-2\ngpu\nuuid GPU-2\n");
    let found = machine.look();
    assert_eq!(found.gpus.len(), 1);
    let kinds: Vec<_> = found.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Rubbish, FaultKind::Rubbish]);
    assert!(found.faults[1].message.contains("GPU-2"), "{:?}", found.faults);
}

#[test]
fn figures_that_cannot_be_true_are_dropped_and_named() {
    for (line, call) in [
        ("used 30G", "nvmlDeviceGetMemoryInfo_v2"),
        ("reserved 18446744073709551615", "nvmlDeviceGetMemoryInfo_v2"),
        ("temperature -40", "nvmlDeviceGetTemperature"),
        ("slowdown 9000", "nvmlDeviceGetTemperatureThreshold"),
        ("power 4000000000", "nvmlDeviceGetPowerUsage"),
        ("utilization 101", "nvmlDeviceGetUtilizationRates"),
        ("minor 4294967295", "nvmlDeviceGetMinorNumber"),
        ("pci over there", "nvmlDeviceGetPciInfo_v3"),
        ("process compute 0 1G", "the list of processes"),
        ("process compute 7 900G", "the list of processes"),
        ("processes 1000000", "nvmlDeviceGetComputeRunningProcesses_v3"),
    ] {
        let found = Machine::with_nvidia(&format!("gpu\nuuid GPU-1\ntotal 24G\nminor 1\n{line}\n")).look();
        let (kind, message) = fault(&found);
        assert_eq!(kind, FaultKind::Rubbish, "{line}");
        assert!(message.starts_with(&format!("{call} of GPU-1: ")), "{line}: {message}");
        assert_eq!(found.gpus.len(), 1, "{line}");
        assert!(found.gpus[0].processes.len() <= 1, "{line}");
    }
}

#[test]
fn names_that_are_no_text_are_not_passed_on() {
    let machine = Machine::with_nvidia("");
    machine.state(b"gpu\nuuid GPU-1\nname \xff\xfe\n".as_slice());
    let found = machine.look();
    assert_eq!(fault(&found).0, FaultKind::Rubbish);
    assert_eq!(found.gpus[0].name, "");
    machine.state("gpu\nuuid GPU-1\nname a\u{1b}[2Jb\u{7}\n");
    assert_eq!(machine.gpus_of_look()[0].name, "a [2Jb");
}

#[test]
fn what_is_said_of_wrong_figures_stays_the_same_while_they_move() {
    let said = |figures: &str| {
        let state = format!("gpu\nuuid GPU-1\ntotal 24G\n{figures}");
        let faults = Machine::with_nvidia(&state).look().faults;
        assert!(faults.len() >= 7, "{faults:?}");
        faults
    };
    let one = "temperature 999\npower 4000000000\nutilization 101\nprocess graphics 0 1G\nprocess graphics 7 25G\nprocesses 1025\ngpu\nuuid GPU-2\ntotal 24G\nused 30G\n";
    let other = "temperature 888\npower 4000000001\nutilization 102\nprocess graphics 5000000 1G\nprocess graphics 8 26G\nprocess graphics 9 27G\nprocesses 2000\ngpu\nuuid GPU-2\ntotal 24G\nused 31G\n";
    assert_eq!(said(one), said(other));
}

#[test]
fn more_gpus_than_any_machine_has_are_not_all_told() {
    let many: Vec<String> = (0..200).map(|number| format!("gpu\nuuid GPU-{number}\ntotal 8G")).collect();
    let found = Machine::with_nvidia(&many.join("\n")).look();
    assert_eq!(fault(&found).0, FaultKind::Rubbish);
    assert_eq!(found.gpus.len(), 64);
}

#[test]
fn what_a_library_prints_is_nobodys() {
    let machine = Machine::with_nvidia(&format!("{TWO}noise nvmlInit_v2\nnoise nvmlDeviceGetName\n"));
    assert_eq!(machine.gpus_of_look().len(), 2);
}

/// Looks through a script in the place of the agent's program.
fn look_through(script: &str) -> Inventory {
    let machine = Machine::new();
    let program = machine.script("program", &format!("#!/bin/sh\n{script}\n"));
    block_on(Gpus::new(program).within(Duration::from_secs(30), Duration::from_secs(30)).look())
}

#[test]
fn an_answer_without_end_or_sense_is_a_fault() {
    let said = |script: &str| {
        let found = look_through(script);
        let [fault] = found.faults.as_slice() else { panic!("{:?}", found.faults) };
        (found.gpus.len(), fault.vendor, fault.kind)
    };
    assert_eq!(
        said("while :; do echo '{\"gpus\": [], \"drivers\": [], \"fault'; done"),
        (0, None, FaultKind::Rubbish)
    );
    assert_eq!(said("echo '{\"gpus\": 3}'"), (0, None, FaultKind::Crashed));
    assert_eq!(said("exit 7"), (0, None, FaultKind::Crashed));
    let empty = "echo '{\"gpus\": [], \"drivers\": [], \"faults\": []}'";
    assert_eq!(said(empty), (0, Some(Vendor::Nvidia), FaultKind::Crashed));
    let unknown = "echo '{\"gpus\": [], \"drivers\": [], \"faults\": [{\"kind\": \"bored\", \"message\": \"\"}]}'";
    assert_eq!(said(&format!("{unknown}; echo done")), (0, None, FaultKind::Rubbish));
    assert_eq!(look_through(&format!("{empty}; {empty}; echo done")), Inventory::default());
    let found = block_on(Gpus::new("/nonexistent/program".into()).look());
    assert_eq!(found.faults.first().map(|fault| fault.kind), Some(FaultKind::Failed));
}
