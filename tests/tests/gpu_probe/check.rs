//! `gpu-check` beside a made-up `nvidia-smi`: what agrees is said to, and each field that does not is found.

use std::process::{Command, Output};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::machine::{Machine, TWO};

/// Answers from files beside it.
const SMI: &str = "#!/bin/sh
cd \"$(dirname \"$0\")\"
case $1 in
  --query-gpu=*) exec cat gpus ;;
  --query-compute-apps=*) exec cat processes ;;
  -q) exec cat long ;;
  -L) exec cat list ;;
esac
exit 3
";
const GPUS: &str = "\
0, GPU-11111111-2222-3333-4444-555555555555, NVIDIA GeForce RTX 3060, 00000000:0A:00.0, 570.124.06, 12288, 300, 1024, 47, 36.20, 170.00, 9, 3, [N/A]
1, GPU-99999999-2222-3333-4444-555555555555, NVIDIA GeForce RTX 4090, 00000000:01:00.0, 570.124.06, 24576, 0, 0, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]
";
const PROCESSES: &str = "GPU-11111111-2222-3333-4444-555555555555, 4711, 710\n";
const LONG: &str = "
==============NVSMI LOG==============

Driver Version                            : 570.124.06
CUDA Version                              : 12.8

Attached GPUs                             : 2
GPU 00000000:0A:00.0
    Product Name                          : NVIDIA GeForce RTX 3060
    GPU UUID                              : GPU-11111111-2222-3333-4444-555555555555
    Minor Number                          : 7
    Temperature
        GPU Current Temp                  : 47 C
        GPU Slowdown Temp                 : 95 C

GPU 00000000:01:00.0
    GPU UUID                              : GPU-99999999-2222-3333-4444-555555555555
    Minor Number                          : 3
        GPU Slowdown Temp                 : N/A
";

/// Returns a machine with two GPUs, their nodes, and an `nvidia-smi` that agrees, and whether all nodes could be made.
fn machine() -> (Machine, bool) {
    let machine = Machine::with_nvidia(TWO);
    // 1:7, 1:3 and 5:0. Nothing that every machine has stands for the node of control, which is 1:255.
    for (node, name) in [("full", "nvidia7"), ("null", "nvidia3"), ("tty", "nvidia-uvm")] {
        machine.link(&format!("/dev/{node}"), &format!("dev/{name}"));
    }
    let control = machine.root().join("dev/nvidiactl");
    let is_made = mknod(&control, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 255)).is_ok();
    for (file, text) in [("gpus", GPUS), ("processes", PROCESSES), ("long", LONG), ("list", "")] {
        machine.write(&format!("smi/{file}"), text);
    }
    machine.script("smi/nvidia-smi", SMI);
    (machine, is_made)
}

fn check(machine: &Machine) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gpu-check"))
        .arg(machine.root().join("smi/nvidia-smi"))
        .env("PROBE_ROOT", machine.root())
        .env("FAKE_NVML_STATE", machine.root().join("state"))
        .output()
        .unwrap()
}

/// Returns what differs: of what, and the field.
fn different(output: &Output) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let wrong = text.lines().filter_map(|line| line.strip_prefix("DIFFERS "));
    // To make that one needs privileges, and what is said of it is the doctor's word too.
    let wrong = wrong.filter(|line| !line.contains("/dev/nvidiactl"));
    wrong
        .map(|line| {
            line.split("  ").filter(|part| !part.is_empty()).take(2).map(str::trim).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn what_agrees_is_said_to() {
    let (machine, is_made) = machine();
    let output = check(&machine);
    assert_eq!(different(&output), Vec::<String>::new());
    assert_eq!(output.status.code(), Some(i32::from(!is_made)), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for field in [
        "memory.used",
        "minor number",
        "used_gpu_memory of 4711",
        "cuda_version",
        "GPU Slowdown Temp",
        "/dev/nvidia-uvm",
    ] {
        assert!(text.lines().any(|line| line.starts_with("ok ") && line.contains(field)), "{field} in {text}");
    }
}

#[test]
fn each_field_that_differs_is_found() {
    let first = "GPU-11111111-2222-3333-4444-555555555555";
    for (file, from, to, field) in [
        ("gpus", "0, GPU-1", "1, GPU-1", format!("{first} index")),
        ("gpus", "RTX 3060", "RTX 3070", format!("{first} name")),
        ("gpus", "0A:00.0", "0B:00.0", format!("{first} pci.bus_id")),
        ("gpus", "570.124.06, 12288", "560.1, 12288", "driver driver_version".to_owned()),
        ("gpus", "12288", "12290", format!("{first} memory.total")),
        ("gpus", ", 300,", ", 310,", format!("{first} memory.reserved")),
        ("gpus", ", 1024,", ", 4096,", format!("{first} memory.used")),
        ("gpus", ", 47,", ", 90,", format!("{first} temperature.gpu")),
        ("gpus", "36.20", "[N/A]", format!("{first} power.draw")),
        ("gpus", "170.00", "175.00", format!("{first} enforced.power.limit")),
        ("gpus", "170.00, 9, 3, [N/A]", "170.00, 9, 3, Enabled", format!("{first} mig.mode.current")),
        ("processes", ", 710", ", 7100", format!("{first} used_gpu_memory of 4711")),
        (
            "long",
            "Number                          : 7",
            "Number                          : 0",
            format!("{first} minor number"),
        ),
        ("long", ": 12.8", ": 12.9", "driver cuda_version".to_owned()),
        ("long", "95 C", "93 C", format!("{first} GPU Slowdown Temp")),
        ("list", "", "  MIG 1g.5gb      Device  0: (UUID: MIG-1)\n", "machine instances".to_owned()),
    ] {
        let (machine, _) = machine();
        let path = machine.root().join("smi").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let changed = if from.is_empty() { to.to_owned() } else { text.replacen(from, to, 1) };
        assert_ne!(changed, text, "{from}");
        std::fs::write(&path, changed).unwrap();
        let output = check(&machine);
        let found = different(&output);
        assert!(found.contains(&field), "{from} -> {to}: {found:?}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_process_or_a_gpu_that_one_side_alone_has_is_found() {
    let (machine, _) = machine();
    machine.write("smi/processes", "GPU-11111111-2222-3333-4444-555555555555, 9, [N/A]\n");
    let gpu = "GPU-11111111-2222-3333-4444-555555555555 used_gpu_memory of";
    assert_eq!(different(&check(&machine)), [format!("{gpu} 9"), format!("{gpu} 4711")]);
    machine.write("smi/processes", PROCESSES);
    machine.write("smi/gpus", GPUS.lines().next().unwrap());
    let found = different(&check(&machine));
    assert_eq!(found, ["machine count", "GPU-99999999-2222-3333-4444-555555555555 uuid"]);
}

#[test]
fn a_fault_and_a_wrong_node_are_told_and_an_nvidia_smi_that_fails_is_no_comparison() {
    let (machine, _) = machine();
    machine.state(format!("{TWO}error nvmlDeviceGetUtilizationRates 999\n"));
    std::fs::remove_file(machine.root().join("dev/nvidia7")).unwrap();
    let output = check(&machine);
    let found = different(&output);
    for field in ["fault Failed", "node /dev/nvidia7"] {
        assert!(found.iter().any(|found| found == field), "{found:?}");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let doctor = text.lines().find(|line| line.contains("node failed"));
    assert!(
        doctor.is_some_and(|line| line.starts_with("DIFFERS  doctor") && line.contains("/dev/nvidia7")),
        "{text}"
    );
    machine.script("smi/nvidia-smi", "#!/bin/sh\necho 'Field \"x\" is not a valid field to query.'\nexit 2\n");
    let output = check(&machine);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a valid field"));
    // What needs no nvidia-smi is judged all the same.
    let found = different(&output);
    for field in ["fault Failed", "node /dev/nvidia7", "doctor node failed"] {
        assert!(found.iter().any(|found| found == field), "{found:?}");
    }
}

#[test]
fn where_nothing_is_there_nothing_is_compared() {
    let machine = Machine::new();
    machine.script("smi/nvidia-smi", SMI);
    let output = check(&machine);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no GPU of NVIDIA's is in this machine"));
}
