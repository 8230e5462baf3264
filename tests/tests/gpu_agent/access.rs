//! A guest opens the nodes of what it was granted, and no others, whatever happens around it.

use crate::machine::{Machine, granted};
use crate::stand_in::{self, MAJOR, OTHER_MAJOR};

/// `ENODEV` and `ENXIO`: the rules let it through, and there is nothing behind the number.
const NOTHING_BEHIND: i32 = 19;
const NO_SUCH_CPU: i32 = 6;

#[test]
fn a_guest_with_gpu_1_of_4_opens_its_nodes_and_no_others_through_all_that_happens() {
    let machine = Machine::boot("gpu-access");
    let share = "devices = [\"GPU-1\"]\nvram = \"8G\"";
    let up = machine.up(&[("model", share), ("other", "devices = [\"GPU-3\"]"), ("plain", "")]);
    assert!(up.success(), "{up}");
    for name in ["model", "other", "plain"] {
        machine.is(name, "healthy");
    }
    let right = granted(&[1], 0, NOTHING_BEHIND);
    machine.opens("model", &right, "after the start");
    machine.opens("other", &granted(&[3], 0, NOTHING_BEHIND), "of the other one");
    let plain = machine.tries("plain");
    assert!(plain.values().all(|errno| *errno == 2), "one without a share: {plain:?}");
    let invocation = machine.invocation("model");

    machine.bed.succeed("systemctl daemon-reload").expect("reloaded");
    assert_eq!(machine.tries("model"), right, "after daemon-reload");
    machine
        .bed
        .succeed("systemctl kill -s KILL nixmox-agent.service; sleep 1; systemctl daemon-reload")
        .expect("killed");
    machine.bed.succeed("systemctl restart nixmox-agent.service").expect("restarted");
    machine.is("model", "healthy");
    assert_eq!(machine.tries("model"), right, "after the agent's death");
    assert_eq!(machine.invocation("model"), invocation, "it was not touched");

    // A second GPU comes and goes while it runs.
    let up = machine.up(&[
        ("model", "devices = [\"GPU-1\", \"GPU-2\"]\nvram = \"8G\""),
        ("other", "devices = [\"GPU-3\"]"),
        ("plain", ""),
    ]);
    assert!(up.success(), "{up}");
    machine.opens("model", &granted(&[1, 2], 0, NOTHING_BEHIND), "with a second GPU");
    assert!(machine.up(&[("model", share), ("other", "devices = [\"GPU-3\"]"), ("plain", "")]).success());
    let mut refused = right.clone();
    refused.insert(stand_in::node(stand_in::GPUS[2]), 1);
    machine.opens("model", &refused, "without it again: bound still, and refused");
    assert_eq!(machine.invocation("model"), invocation, "it was not touched");

    // The modules are loaded anew, and what was right is of another number.
    machine.bed.succeed(&stand_in::load(OTHER_MAJOR)).expect("loaded");
    let mut moved = granted(&[1], NO_SUCH_CPU, NO_SUCH_CPU);
    moved.insert(stand_in::node(stand_in::GPUS[2]), 1);
    machine.opens("model", &moved, "after the modules were loaded anew");
    assert_eq!(machine.invocation("model"), invocation, "it was not touched");
    let told = machine
        .bed
        .journal(&["-u", "nixmox-agent", "-o", "cat", "--grep", "cannot use /dev/nvidia"])
        .expect("read");
    assert!(told.contains("model: cannot use"), "it is an event: {told}\n{}", machine.journal());
    machine.bed.succeed(&stand_in::load(MAJOR)).expect("loaded");
    machine.opens("model", &refused, "after they were once more");

    machine.bed.reboot().expect("it reboots");
    for name in ["model", "other", "plain"] {
        machine.is(name, "healthy");
    }
    machine.opens("model", &right, "after a reboot");
    machine.opens("other", &granted(&[3], 0, NOTHING_BEHIND), "of the other one, after a reboot");
}
