//! Every layer between a GPU and a process, broken once: the doctor names it.

use std::time::{Duration, Instant};

use crate::machine::{LIMIT, Machine, Told, granted};
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

    // A specification that was made for another boot.
    let stale = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia-uvm\n      major: 77\n      minor: 0\n";
    machine.bed.write_file("/etc/cdi/nvidia.yaml", stale, 0o644).expect("written");
    let doctor = machine.ctl("gpu doctor");
    assert!(doctor.success() && doctor.stdout.contains("77"), "it is no reason to fail, and told: {doctor}");
    machine.bed.succeed("rm /etc/cdi/nvidia.yaml").expect("removed");

    // What a guest has is put right by the agent, a moment later.
    let take_out = format!("{}; {}", inside(&format!("umount {node}")), inside(&format!("rm {node}")));
    let allow = |path: &str| format!("'DeviceAllow={path} rw'");
    let rules = format!(
        "systemctl set-property --runtime container@model.service DeviceAllow= {} {} {}",
        allow("/dev/nvidia-uvm"),
        allow("/dev/nvidiactl"),
        allow(&node)
    );
    let guest = [
        // Every rule is listed, and one lets nothing through: there was no node when systemd read it.
        broken("open model", format!("mv {node} /dev/away; {rules}; mv /dev/away {node}"), ""),
        broken("device_rule model", "systemctl set-property --runtime container@model.service DeviceAllow=", ""),
        broken("bound model", take_out.as_str(), ""),
        broken("number model", format!("{take_out}; mknod -m 666 /proc/{leader}/root{node} c 1 5"), ""),
    ];
    for Break { layer, by, .. } in guest {
        // The agent looks into guests as well, and may be quicker.
        let named = (0..5).any(|_| {
            machine.bed.succeed(&by).expect("broken");
            let first = first_failed(&machine);
            assert!(first == "null" || first.starts_with(&format!("{layer} ")), "{layer}: {first}");
            first != "null"
        });
        assert!(named, "{layer}: {}\n{}", machine.ctl("gpu doctor"), machine.journal());
        let begin = Instant::now();
        while first_failed(&machine) != "null" {
            assert!(
                begin.elapsed() < LIMIT,
                "{layer} is not mended: {}\n{}",
                machine.ctl("gpu doctor"),
                machine.journal()
            );
            std::thread::sleep(Duration::from_secs(2));
        }
        machine.opens("model", &granted(&[1], 0, 19), layer);
        // It sees that it helped, and counts its repairs anew.
        std::thread::sleep(Duration::from_secs(5));
    }

    // What only a restart brings back.
    machine.bed.succeed(&inside("umount -l /run/opengl-driver")).expect("unmounted");
    let first = first_failed(&machine);
    assert!(first.starts_with("user_space model ") && first.contains("restart"), "{first}");
    assert!(machine.ctl("restart model").success());
    machine.is("model", "healthy");
    assert_eq!(first_failed(&machine), "null", "{}", machine.ctl("gpu doctor"));

    // What this machine does not have is refused, and one that waits says so.
    let amd = machine.up(&[("model", "vram = \"4G\"\nvendor = \"amd\"")]);
    assert!(!amd.success() && amd.stderr.contains("AMD"), "{amd}");
    machine.tell(&[(1, Told { used: 11, processes: Vec::new() })], "");
    machine.bed.succeed("systemctl kill -s KILL --kill-whom=all container@model.service").expect("killed");
    machine.is("model", "waiting");
    let begin = Instant::now();
    while !first_failed(&machine).starts_with("grant model ") {
        assert!(begin.elapsed() < LIMIT, "{}\n{}", machine.ctl("gpu doctor"), machine.journal());
        std::thread::sleep(Duration::from_secs(1));
    }
}
