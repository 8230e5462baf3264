//! A host that reboots, on a real systemd: what ran before runs again, in the same order and behind the same gates, though
//! nobody asks for it; and at its shutdown containers stop in reverse order, each to the end of its own shutdown.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it expected and what it saw")]

mod house;
mod shutdown;

use std::time::Duration;

use house::{GATE, HELD, House, JOB};

/// Longest time from a boot until all is healthy, on a busy machine.
const UP_LIMIT: Duration = Duration::from_mins(3);

#[test]
fn services_return_in_order_and_stop_in_reverse() {
    let house = House::build("boot").expect("the stack is up");
    let before = house.run().expect("it runs");
    // The gate stays shut over the reboot, until it is opened below.
    house.answer(GATE, 503).expect("written");
    house.forget_shutdowns().expect("the markers are removed");
    house.bed.reboot().expect("the host reboots");
    shutdown::check(&house, &before.running).expect("a shutdown in reverse order, of each to its end");

    house.wait_for_a_shut_gate(UP_LIMIT).expect("what is behind the gate is not started");
    house.answer(GATE, 200).expect("written");
    house.wait_until_healthy(UP_LIMIT).expect("all is healthy again");
    let after = house.run().expect("it runs");
    assert_eq!(after.order, before.order, "the order of starts");
    assert_eq!(after.generation, before.generation, "nobody called `up`");
    assert_eq!(house.runs_of(JOB).expect("readable"), 1, "a completed job does not run again");
    assert!(!after.running.contains_key(HELD), "what `stop` holds stays stopped");
    assert_eq!(house.changes_asked_for().expect("readable"), "", "nobody asked for anything since the boot");
}

#[test]
fn systemd_alone_keeps_the_order_when_the_agent_is_dead() {
    let house = House::build("dead").expect("the stack is up");
    let before = house.run().expect("it runs");
    house.forget_shutdowns().expect("the markers are removed");
    house
        .bed
        .succeed(
            "systemctl mask --quiet --runtime nixmox-agent.service nixmox-agent.socket
             systemctl kill --signal=KILL nixmox-agent.service
             while systemctl --quiet is-active nixmox-agent.service; do sleep 0.02; done
             ! pgrep -x nixmox-agent",
        )
        .expect("the agent is dead and stays dead");
    house.bed.reboot().expect("the host reboots");
    shutdown::check(&house, &before.running).expect("a shutdown in reverse order, of each to its end");
    house.wait_until_healthy(UP_LIMIT).expect("all is healthy again");
    assert_eq!(house.run().expect("it runs").order, before.order, "the order of starts");
}

#[test]
fn services_return_in_order_after_a_power_cut() {
    let house = House::build("cut").expect("the stack is up");
    let before = house.run().expect("it runs");
    house.bed.power_cut().expect("the host dies");
    house.bed.start().expect("the host boots");
    house.wait_until_healthy(UP_LIMIT).expect("all is healthy again");
    let after = house.run().expect("it runs");
    assert_eq!(after.order, before.order, "the order of starts");
    assert_eq!(house.runs_of(JOB).expect("readable"), 1, "a completed job does not run again");
    assert!(!after.running.contains_key(HELD), "what `stop` holds stays stopped");
}
