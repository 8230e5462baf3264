//! Who waits for video memory, who gives way, and what is told of it.

use crate::machine::{Machine, Told};

#[test]
fn memory_is_given_by_priority_and_comes_back() {
    let machine = Machine::boot("gpu-memory");
    let on = |share: &str| format!("devices = [\"GPU-0\"]\n{share}");
    let (low, high) = (on("vram = \"8G\"\npriority = 20"), on("vram = \"9G\"\nvram_min = \"6G\"\npriority = 80"));
    assert!(machine.up(&[("low", &low)]).success());
    machine.is("low", "healthy");
    let pid = machine.pid("low");
    machine.tell(&[(0, Told { used: 7, processes: vec![(pid, 7)] })], "");

    let gpu = machine.overview();
    for part in ["NVIDIA Stand-in 0", " low 7.0G", "12G", "50°C"] {
        assert!(gpu.contains(part), "{part}: {gpu}");
    }
    let fit = machine.ctl("gpu fit --vram 6G --devices GPU-0 --priority 80");
    assert!(fit.success() && fit.stdout.contains("yields  low, of priority 20"), "who would yield is told: {fit}");
    let fit = machine.ctl("gpu fit --vram 6G --devices GPU-0 --priority 10");
    assert!(!fit.success() && fit.stdout.contains("6G"), "the numbers are told: {fit}");
    assert!(machine.ctl("gpu fit --vram 6G --devices 1").success(), "another GPU has room");

    let up = machine.up(&[("low", &low), ("high", &high)]);
    assert!(up.success(), "{up}");
    // Its memory is there as long as the driver says so, whoever is gone.
    machine.is("low", "waiting");
    machine.is("high", "waiting");
    machine.tell(&[], "");
    machine.is("high", "healthy");
    let status = machine.says("status");
    assert!(status.contains("waiting") && status.contains("8G"), "{status}");
    let why = machine.says("why low");
    assert!(why.contains("8G"), "{why}");

    // Who follows is not kept waiting for what may never come.
    let up = machine.bed.shell("timeout 60 nixmoxctl -f /srv/gpus/nixmox.toml up").expect("it runs");
    assert_ne!(up.code, 124, "it ends: {up}");
    let told = format!("{}{}", up.stdout, up.stderr);
    assert!(told.contains("low") && told.contains("needs 8G"), "{told}");

    // The desktop takes what it likes: nobody is stopped for it, and it is told.
    machine.tell(&[(0, Told { used: 6, processes: vec![(1, 6)] })], "");
    let gpu = machine.overview();
    assert!(gpu.contains("init.scope"), "{gpu}");
    machine.is("high", "healthy");
    machine.tell(&[], "");

    assert!(machine.ctl("stop high").success());
    machine.is("low", "healthy");
    let events = machine.bed.journal(&["-u", "nixmox-agent", "-o", "cat"]).expect("read");
    assert!(events.contains("gives way to high"), "{events}");

    // More than it may have.
    let pid = machine.pid("low");
    machine.tell(&[(0, Told { used: 10, processes: vec![(pid, 10)] })], "");
    machine
        .bed
        .wait_until("journalctl -u nixmox-agent -o cat | grep -q 'low: uses 10G'", crate::machine::LIMIT)
        .expect("told");

    // What can never be.
    let never = machine.up(&[("low", &low), ("high", &on("vram = \"40G\""))]);
    assert!(!never.success() && never.stderr.contains("40G"), "{never}");
}
