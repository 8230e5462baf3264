//! Calls that never return or end the process that makes them: they cost what they are about, and nothing else.

use std::time::{Duration, Instant};

use nixmox_agent::host::Gpus;
use nixmox_core::gpu::{FaultKind, Inventory};
use nixmox_core::model::Vendor;

use super::faults::fault;
use super::machine::{Machine, TWO, block_on};

/// Returns four GPUs, and what goes wrong.
fn four(line: &str) -> String {
    let gpu = |number| format!("gpu\nuuid GPU-{number}\ntotal 8G\nminor {number}\n");
    format!("cuda 12080\n{}{line}\n", (0..4).map(gpu).collect::<String>())
}

fn ids(found: &Inventory) -> Vec<&str> {
    found.gpus.iter().map(|gpu| gpu.id.as_str()).collect()
}

#[test]
fn a_call_that_hangs_is_named_and_costs_nobody_elses_gpus() {
    for call in ["nvmlInit_v2", "nvmlDeviceGetCount_v2"] {
        let machine = Machine::with_nvidia(&format!("{TWO}hang {call}\n"));
        super::sysfs::add_amd(&machine);
        let begin = Instant::now();
        let found = machine.look_for(Duration::from_secs(3));
        assert!(begin.elapsed() < Duration::from_secs(30), "it is not waited for");
        assert!(!machine.is_looked_at(), "it was ended");
        let (kind, message) = fault(&found);
        assert_eq!(kind, FaultKind::Hangs);
        assert!(message.contains(call) && message.contains("3 s"), "{message}");
        let vendors: Vec<_> = found.gpus.iter().map(|gpu| gpu.vendor).collect();
        assert_eq!(vendors, [Vendor::Amd]);
        assert!(found.blind(Some(Vendor::Nvidia)).is_some());
    }
}

#[test]
fn a_gpu_that_hangs_or_ends_the_process_costs_that_gpu_alone() {
    for (line, kind, how) in [
        ("of 2 hang nvmlDeviceGetHandleByIndex_v2", FaultKind::Hangs, "within 1 s"),
        ("of 2 hang nvmlDeviceGetName", FaultKind::Hangs, "nvmlDeviceGetName of GPU-2"),
        ("of 2 crash nvmlDeviceGetName", FaultKind::Crashed, "signal: 11 (SIGSEGV)"),
        ("of 2 abort nvmlDeviceGetName", FaultKind::Crashed, "signal: 6 (SIGABRT)"),
        ("of 2 exit nvmlDeviceGetName", FaultKind::Crashed, "exit status: 0"),
    ] {
        let machine = Machine::with_nvidia(&four(line));
        super::sysfs::add_amd(&machine);
        let gpus = machine.gpus(Duration::from_secs(1));
        let (found, begin) = (block_on(gpus.look()), Instant::now());
        assert_eq!(ids(&found)[..3], ["GPU-0", "GPU-1", "GPU-3"], "{line}");
        assert_eq!(found.gpus.last().map(|gpu| gpu.vendor), Some(Vendor::Amd), "{line}");
        assert_eq!(found.gpus[2].index, 3, "numbers stay what they are");
        let told = fault(&found);
        assert_eq!(told.0, kind, "{line}");
        assert!(told.1.starts_with("GPU 2: ") && told.1.contains(how), "{line}: {}", told.1);
        assert_eq!(found.drivers[&Vendor::Nvidia].cuda.as_deref(), Some("12.8"), "the look was done");
        // It is left out of the next one, which says the same, and hangs nowhere.
        assert_eq!(block_on(gpus.look()), found, "{line}");
        assert!(begin.elapsed() < Duration::from_secs(1), "{line}: {:?}", begin.elapsed());
        machine.state(four(""));
    }
}

#[test]
fn the_only_gpu_is_asked_again_at_once() {
    for line in ["hang nvmlDeviceGetName", "crash nvmlDeviceGetName"] {
        let machine = Machine::with_nvidia(&format!("{TWO}{line}\n"));
        let gpus = machine.gpus(Duration::from_secs(1));
        let found = block_on(gpus.look());
        assert_eq!((found.gpus.len(), found.faults.len()), (0, 2), "{line}");
        assert!(
            found
                .blind(Some(Vendor::Nvidia))
                .is_some_and(|fault| fault.message.contains("nvmlDeviceGetName of GPU-1"))
        );
        machine.state(TWO);
        let found = block_on(gpus.look());
        assert_eq!((found.gpus.len(), found.faults.len()), (2, 0), "{line}");
    }
}

#[test]
fn several_gpus_that_hang_cost_no_more_than_themselves() {
    let machine = Machine::with_nvidia(&four("of 0 crash nvmlDeviceGetUUID\nof 3 hang nvmlDeviceGetPowerUsage"));
    let found = machine.look_for(Duration::from_secs(1));
    assert_eq!(ids(&found), ["GPU-1", "GPU-2"]);
    let told: Vec<_> = found.faults.iter().map(|fault| (fault.kind, &fault.message[..5])).collect();
    assert_eq!(told, [(FaultKind::Crashed, "GPU 0"), (FaultKind::Hangs, "GPU 3")]);
}

#[test]
fn who_wakes_up_one_gpu_after_the_other_is_not_given_up() {
    let empty = r#"echo '{"gpus": [], "drivers": [], "faults": []}'"#;
    let look = |script: &str, look| {
        let machine = Machine::new();
        let program = machine.script("program", &format!("#!/bin/sh\n{empty}\n{script}\n"));
        block_on(Gpus::new(program).within(Duration::from_secs(1), look).look())
    };
    let slow = "for gpu in 0 1 2 3 4 5; do echo \"? nvmlDeviceGetHandleByIndex_v2 of GPU $gpu\"; sleep 0.3; done; echo done";
    assert_eq!(look(slow, Duration::from_secs(30)), Inventory::default());
    let begin = Instant::now();
    let endless = "while :; do echo '@ 1'; echo '? nvmlDeviceGetName of GPU 1'; sleep 0.1; done";
    let (kind, message) = fault(&look(endless, Duration::from_secs(2)));
    assert!(begin.elapsed() < Duration::from_secs(20), "not without end");
    assert_eq!((kind, message.as_str()), (FaultKind::Hangs, "not all GPUs have answered within 2 s"));
}

#[test]
fn who_asks_while_a_look_is_under_way_is_given_what_it_finds() {
    let machine = Machine::with_nvidia(&format!("{TWO}hang nvmlDeviceGetCount_v2\n"));
    let gpus = machine.gpus(Duration::from_secs(3));
    block_on(async {
        let begin = Instant::now();
        let (one, other, third) = tokio::join!(gpus.look(), gpus.look(), gpus.look());
        assert!(begin.elapsed() < Duration::from_secs(6), "one look, and not three: {:?}", begin.elapsed());
        assert_eq!(fault(&one).0, FaultKind::Hangs);
        assert_eq!((&one, &one), (&other, &third));
        // The child was ended: the next look is a new one.
        machine.state(TWO);
        assert_eq!(gpus.look().await.gpus.len(), 2);
        assert!(!machine.is_looked_at());
    });
}

#[test]
fn a_look_that_is_given_up_by_who_asked_does_not_stop_the_next_one() {
    let machine = Machine::with_nvidia(&format!("{TWO}hang nvmlDeviceGetCount_v2\n"));
    let gpus = machine.gpus(Duration::from_mins(1));
    block_on(async {
        let given_up = tokio::time::timeout(Duration::from_millis(500), gpus.look()).await;
        assert!(given_up.is_err());
        assert!(machine.is_looked_at());
        machine.state(TWO);
        assert_eq!(gpus.look().await.gpus.len(), 2);
        assert!(!machine.is_looked_at());
    });
}
