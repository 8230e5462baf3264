//! A driver that hangs, crashes or answers rubbish is a reason that is told, and holds nobody up.

use std::time::{Duration, Instant};

use crate::machine::{LIMIT, Machine, Told, granted};

/// Succeeds while nothing is to be warned of.
const WELL: &str = "nixmoxctl -s gpus status --json | jq -e '.host.warnings == []'";

/// Far above what a status takes, and far below what a look at a driver that hangs does.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_driver_in_trouble_is_told_and_holds_nobody_up() {
    let machine = Machine::boot("gpu-trouble");
    assert!(machine.up(&[("model", "devices = [\"GPU-1\"]\nvram = \"4G\""), ("plain", "")]).success());
    machine.is("model", "healthy");
    machine.is("plain", "healthy");
    let invocation = machine.invocation("model");
    let right = granted(&[1], 0, 19);
    machine.opens("model", &right, "before");

    for (fault, word) in [
        ("hang nvmlInit_v2\nhang nvmlInitWithFlags\n", "nvmlInit"),
        ("crash nvmlDeviceGetCount_v2\n", "nvmlDeviceGetCount"),
        ("abort nvmlDeviceGetHandleByIndex_v2\n", "nvmlDeviceGetHandleByIndex"),
        ("error nvmlInit_v2 9\nerror nvmlInitWithFlags 9\n", "no driver|not loaded"),
    ] {
        machine.tell(&[], fault);
        let told =
            format!("nixmoxctl -s gpus status --json | jq -e '.host.warnings[] | select(test(\"{word}\"; \"i\"))'");
        let waited = machine.bed.wait_until(&told, LIMIT);
        assert!(waited.is_ok(), "{fault}: {}\n{}", machine.says("status --json"), machine.journal());
        let begin = Instant::now();
        machine.says("status");
        assert!(begin.elapsed() < AT_ONCE, "{fault}: {:?}", begin.elapsed());
        let before = machine.invocation("plain");
        machine.bed.succeed("systemctl kill -s KILL --kill-whom=all container@plain.service").expect("killed");
        machine
            .bed
            .wait_until(&format!("test $(systemctl show -P InvocationID container@plain) != {before}"), LIMIT)
            .expect("started again meanwhile");
        machine.is("plain", "healthy");
        let doctor = machine.ctl("gpu doctor");
        assert!(!doctor.success(), "{fault}: {doctor}");
        assert_eq!(machine.invocation("model"), invocation, "{fault}: what runs is not touched");
        assert_eq!(machine.tries("model"), right, "{fault}");
        machine.tell(&[], "");
        machine.bed.wait_until(WELL, LIMIT).expect("all is well again");
    }

    // What cannot be true is dropped and named.
    machine.tell(&[(0, Told { used: 4000, processes: Vec::new() })], "");
    let gpu = machine.overview();
    assert!(!gpu.contains("4000") && gpu.contains("GPU 0") && gpu.contains("memory"), "{gpu}");
    let faults = machine.says("gpu --json");
    assert!(faults.contains("rubbish"), "{faults}");
    machine.tell(&[], "");
    machine.bed.wait_until(WELL, LIMIT).expect("all is well again");
    assert!(machine.ctl("gpu doctor").success(), "{}", machine.ctl("gpu doctor"));
}
