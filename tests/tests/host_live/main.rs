//! The real host's adapters on a real systemd.
//!
//! The tests of `lifecycle`, `guests`, `ports`, `gpu` and `engines` talk to the systemd that they run under, so they are ignored where
//! cargo runs them. Each test here boots a testbed, puts this program into it, and runs one of them there.
#![allow(clippy::expect_used, reason = "a test says what it expected")]
#![allow(clippy::print_stdout, reason = "figures are for whoever runs a test with --nocapture")]

mod engines;
mod gpu;
mod guests;
mod inside;
mod lifecycle;
mod ports;
mod service;

use std::time::Duration;

use nixmox_testbed::{Behaviour, Build, Options, Testbed};

/// Longest time that one test may take inside: what hangs ends.
const INSIDE_LIMIT: Duration = Duration::from_mins(10);
const PROGRAM: &str = "/root/host-live";
/// What stands for NVIDIA's library, for a test that puts it in its place.
const NVML: &str = "/root/nvml.so";

/// Boots a host whose store has these static guests, and runs a test of this program on it.
fn on_a_real_systemd(test: &str, guests: &[(&str, Behaviour)]) {
    run(test, guests, &Options::new(test).without_homelab());
}

/// The same with a booted Debian guest named `debian`.
fn with_a_booted_guest(test: &str, guests: &[(&str, Behaviour)]) {
    run(test, guests, &Options::new(test));
}

fn run(test: &str, guests: &[(&str, Behaviour)], options: &Options) {
    let bed = Testbed::boot(&options.clone().build(Build::Debug)).expect("the host boots");
    // The installed agent is there for its helpers alone.
    bed.succeed("systemctl disable --now nixmox-agent.socket nixmox-agent.service").expect("the agent stops");
    let systems: Vec<_> = guests.iter().map(|(name, behaviour)| (*name, behaviour)).collect();
    let paths = bed.static_guests(&systems).expect("the systems are added");
    let mut systems: Vec<_> = guests.iter().zip(paths).map(|((name, _), path)| format!("{name}={path}")).collect();
    if let Ok(homelab) = bed.homelab_systems() {
        systems.extend(homelab.get("caddy").map(|path| format!("debian={path}")));
    }
    bed.add_lan().expect("the local network is made");
    bed.copy_in(std::env::current_exe().expect("this program"), PROGRAM).expect("the program is copied");
    let library = nixmox_testbed::fake_nvml().expect("the stand-in for NVML is built");
    bed.copy_in(library, NVML).expect("it is copied");
    let systems = format!("{}={}", service::SYSTEMS, systems.join(","));
    let argv = ["env", &systems, PROGRAM, "--exact", test, "--ignored", "--nocapture"];
    let output = bed.exec_within(INSIDE_LIMIT, &argv).expect("the program starts");
    let ran = output.stdout.contains("1 passed");
    assert!(output.success() && ran, "{output}\n{}", bed.journal(&["-n", "60"]).unwrap_or_default());
}

#[test]
fn starts_observes_changes_and_stops_a_container() {
    on_a_real_systemd(
        "lifecycle::starts_observes_changes_and_stops_a_container",
        &[("web", Behaviour::new().http(80))],
    );
}

#[test]
fn a_failed_start_says_how_and_the_next_one_is_not_held_back() {
    let guests = [("bad", Behaviour::new().exit_at_once(3)), ("good", Behaviour::new())];
    on_a_real_systemd("lifecycle::a_failed_start_says_how_and_the_next_one_is_not_held_back", &guests);
}

#[test]
fn a_container_whose_nspawn_was_killed_starts_again() {
    on_a_real_systemd("lifecycle::a_container_whose_nspawn_was_killed_starts_again", &[("web", Behaviour::new())]);
}

#[test]
fn a_read_only_etc_is_no_obstacle() {
    on_a_real_systemd("lifecycle::a_read_only_etc_is_no_obstacle", &[("web", Behaviour::new())]);
}

#[test]
fn links_in_a_guests_root_lead_its_start_nowhere() {
    on_a_real_systemd("lifecycle::links_in_a_guests_root_lead_its_start_nowhere", &[("web", Behaviour::new())]);
}

#[test]
fn a_guest_is_given_the_hosts_servers_of_names() {
    on_a_real_systemd("lifecycle::a_guest_is_given_the_hosts_servers_of_names", &[("web", Behaviour::new())]);
}

#[test]
fn a_file_system_that_does_not_answer_is_named() {
    on_a_real_systemd("lifecycle::a_file_system_that_does_not_answer_is_named", &[("web", Behaviour::new())]);
}

#[test]
fn jobs_of_others_are_told_from_ours() {
    // Long enough to be seen starting by whoever does not run for a while.
    let slow = Behaviour::new().ready_after(Duration::from_secs(8));
    on_a_real_systemd("lifecycle::jobs_of_others_are_told_from_ours", &[("slow", slow)]);
}

#[test]
fn a_hundred_containers_are_observed_at_once() {
    on_a_real_systemd("lifecycle::a_hundred_containers_are_observed_at_once", &[("many", Behaviour::new())]);
}

#[test]
fn the_agent_survives_a_restart_of_the_bus() {
    on_a_real_systemd("lifecycle::the_agent_survives_a_restart_of_the_bus", &[("web", Behaviour::new())]);
}

#[test]
fn asks_a_static_guest_for_its_health() {
    let guests =
        [("web", Behaviour::new().http(80).tcp(5432)), ("sick", Behaviour::new().http(80).http_status(503))];
    on_a_real_systemd("guests::asks_a_static_guest_for_its_health", &guests);
}

#[test]
fn asks_a_booted_guest_and_its_systemd() {
    with_a_booted_guest("guests::asks_a_booted_guest_and_its_systemd", &[]);
}

#[test]
fn a_hostile_guest_leads_the_helper_nowhere() {
    on_a_real_systemd("guests::a_hostile_guest_leads_the_helper_nowhere", &[("web", Behaviour::new())]);
}

#[test]
fn tells_the_last_lines_and_deletes_what_is_left() {
    let guests = [("talker", Behaviour::new().log("first line").log("last line"))];
    with_a_booted_guest("guests::tells_the_last_lines_and_deletes_what_is_left", &guests);
}

#[test]
fn published_ports_answer_on_localhost_and_in_the_local_network() {
    let web = Behaviour::new().http(80);
    on_a_real_systemd("ports::published_ports_answer_on_localhost_and_in_the_local_network", &[("web", web)]);
}

#[test]
fn the_hosts_loopback_reaches_only_containers_that_ports_lead_to() {
    on_a_real_systemd(
        "ports::the_hosts_loopback_reaches_only_containers_that_ports_lead_to",
        &[("web", Behaviour::new().http(80))],
    );
}

#[test]
fn a_changed_table_is_seen_and_repaired() {
    on_a_real_systemd("ports::a_changed_table_is_seen_and_repaired", &[]);
}

#[test]
fn a_port_of_another_program_is_not_taken() {
    on_a_real_systemd("ports::a_port_of_another_program_is_not_taken", &[("web", Behaviour::new().http(80))]);
}

#[test]
fn gpus_are_looked_at_by_a_child_of_the_installed_agent() {
    on_a_real_systemd("gpu::gpus_are_looked_at_by_a_child_of_the_installed_agent", &[]);
}

#[test]
fn engines_are_asked_in_the_network_of_their_guest() {
    on_a_real_systemd("engines::engines_are_asked_in_the_network_of_their_guest", &[("web", Behaviour::new())]);
}
