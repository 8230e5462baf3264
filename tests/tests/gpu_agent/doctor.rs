//! Every layer between a GPU and a process, broken once: the doctor names it.

use crate::machine::{Machine, granted};
use crate::stand_in::{self, GPUS, MAJOR, OTHER_MAJOR, VERSION};

/// A layer, what breaks it, and what mends it.
struct Break<'a> {
    layer: &'a str,
    by: String,
    undo: String,
    /// What NVML says meanwhile.
    faults: &'a str,
}

fn broken(layer: &str, by: impl Into<String>, undo: impl Into<String>) -> Break<'_> {
    Break { layer, by: by.into(), undo: undo.into(), faults: "" }
}

/// Returns the first layer that fails, with its service.
fn first_failed(machine: &Machine) -> String {
    let output = machine.ctl("gpu doctor --json model");
    let first = machine
        .bed
        .shell(&format!(
            "jq -r '[.layers[] | select(.outcome == \"failed\") | .layer + \" \" + (.service // \"host\") + \" \" + .remedy][0]' <<'END'\n{}\nEND",
            output.stdout
        ))
        .expect("jq runs");
    assert!(!output.success() || first.stdout.trim() == "null", "it fails where a layer does: {output}");
    first.stdout.trim().to_owned()
}

#[test]
fn each_layer_is_broken_once_and_named() {
    let machine = Machine::boot("gpu-doctor");
    assert!(machine.up(&[("model", "devices = [\"GPU-1\"]\nvram = \"4G\"")]).success());
    machine.is("model", "healthy");
    machine.opens("model", &granted(&[1], 0, 19), "before");
    assert_eq!(first_failed(&machine), "null", "{}", machine.ctl("gpu doctor"));
    let text = machine.says("gpu doctor");
    assert!(text.lines().count() > 8, "layer by layer: {text}");

    let node = stand_in::node(GPUS[1]);
    let leader = machine.pid("model");
    let inside = |command: &str| format!("nsenter -t {leader} -m /run/host/busybox {command}");
    let libraries = "/usr/lib/x86_64-linux-gnu";
    let host = [
        Break {
            faults: "error nvmlInit_v2 9\nerror nvmlInitWithFlags 9\n",
            ..broken(
                "module host",
                format!("{}; rm /proc/driver/nvidia/version", stand_in::unload()),
                format!("{}; {}", stand_in::load(MAJOR), stand_in::version(VERSION)),
            )
        },
        broken("node host", "mv /dev/nvidia-uvm /dev/away", "mv /dev/away /dev/nvidia-uvm"),
        broken("number host", stand_in::load(OTHER_MAJOR), stand_in::load(MAJOR)),
        broken(
            "user_space host",
            format!("mv {libraries}/libcuda.so.{VERSION} /root/; rm {libraries}/libcuda.so.1"),
            format!(
                "mv /root/libcuda.so.{VERSION} {libraries}/; ln -s libcuda.so.{VERSION} {libraries}/libcuda.so.1"
            ),
        ),
        broken("version host", stand_in::version("999.1"), stand_in::version(VERSION)),
        Break { faults: "crash nvmlDeviceGetCount_v2\n", ..broken("nvml host", "true", "true") },
    ];
    for Break { layer, by, undo, faults } in host {
        machine.bed.succeed(&by).expect("broken");
        machine.tell(&[], faults);
        let first = first_failed(&machine);
        assert!(first.starts_with(&format!("{layer} ")), "{layer}: {first}\n{}", machine.ctl("gpu doctor"));
        assert!(first.len() > layer.len() + 5, "with a remedy: {first}");
        machine.bed.succeed(&undo).expect("mended");
        machine.tell(&[], "");
        assert_eq!(first_failed(&machine), "null", "{layer} is mended: {}", machine.ctl("gpu doctor"));
    }

    // What a guest has is put right by the agent, which must not be quicker than the doctor.
    machine
        .bed
        .succeed("systemctl kill -s STOP nixmox-agent.service; systemctl kill -s CONT nixmox-agent.service")
        .expect("it runs");
    let guest = [
        broken("device_rule model", "systemctl set-property --runtime container@model.service DeviceAllow=", ""),
        broken(
            "bound model",
            inside(&format!("umount {node}; nsenter -t {leader} -m /run/host/busybox rm {node}")),
            "",
        ),
    ];
    for Break { layer, by, .. } in guest {
        machine.bed.succeed(&by).expect("broken");
        let first = first_failed(&machine);
        assert!(first.starts_with(&format!("{layer} ")), "{layer}: {first}\n{}", machine.ctl("gpu doctor"));
        machine.opens("model", &granted(&[1], 0, 19), layer);
        assert_eq!(first_failed(&machine), "null", "{layer} is mended: {}", machine.ctl("gpu doctor"));
    }
}
