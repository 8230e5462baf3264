//! The real host's adapters on a real systemd.
//!
//! The tests of `inside` talk to the systemd that they run under, so they are ignored where cargo runs them. Each
//! test here boots a testbed, puts this program into it, and runs one of them there.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod inside;
mod service;

use std::time::Duration;

use nixmox_testbed::{Behaviour, Build, Options, Testbed};

/// Longest time that one test may take inside.
const INSIDE_LIMIT: Duration = Duration::from_mins(2);
const PROGRAM: &str = "/root/host-live";

/// Boots a host whose store has these static guests, and runs `inside::<test>` on it.
fn on_a_real_systemd(test: &str, guests: &[(&str, Behaviour)]) {
    let bed = Testbed::boot(&Options::new(test).build(Build::None).without_homelab()).expect("the host boots");
    let systems: Vec<_> = guests.iter().map(|(name, behaviour)| (*name, behaviour)).collect();
    let paths = bed.static_guests(&systems).expect("the systems are added");
    let systems: Vec<_> = guests.iter().zip(paths).map(|((name, _), path)| format!("{name}={path}")).collect();
    bed.copy_in(std::env::current_exe().expect("this program"), PROGRAM).expect("the program is copied");
    let argv = [
        "env",
        &format!("{}={}", service::SYSTEMS, systems.join(",")),
        PROGRAM,
        "--exact",
        &format!("inside::{test}"),
        "--ignored",
        "--nocapture",
    ];
    let output = bed.exec_within(INSIDE_LIMIT, &argv).expect("the program starts");
    let ran = output.stdout.contains("1 passed");
    assert!(output.success() && ran, "{output}\n{}", bed.journal(&["-n", "60"]).unwrap_or_default());
}

#[test]
fn starts_observes_changes_and_stops_a_container() {
    on_a_real_systemd("starts_observes_changes_and_stops_a_container", &[("web", Behaviour::new().http(80))]);
}

#[test]
fn a_failed_start_says_how_and_the_next_one_is_not_held_back() {
    let guests = [("bad", Behaviour::new().exit_at_once(3)), ("good", Behaviour::new())];
    on_a_real_systemd("a_failed_start_says_how_and_the_next_one_is_not_held_back", &guests);
}

#[test]
fn a_container_whose_nspawn_was_killed_starts_again() {
    on_a_real_systemd("a_container_whose_nspawn_was_killed_starts_again", &[("web", Behaviour::new())]);
}

#[test]
fn jobs_of_others_are_told_from_ours() {
    let slow = Behaviour::new().ready_after(Duration::from_secs(2));
    on_a_real_systemd("jobs_of_others_are_told_from_ours", &[("slow", slow)]);
}

#[test]
fn a_hundred_containers_are_observed_at_once() {
    on_a_real_systemd("a_hundred_containers_are_observed_at_once", &[("many", Behaviour::new())]);
}

#[test]
fn the_agent_survives_a_restart_of_the_bus() {
    on_a_real_systemd("the_agent_survives_a_restart_of_the_bus", &[("web", Behaviour::new())]);
}
