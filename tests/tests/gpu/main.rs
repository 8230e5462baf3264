//! GPUs given to containers on a real systemd, with stand-ins: nodes that device rules refuse as they refuse those of a GPU, and open
//! where they are allowed.
//!
//! What is tested runs inside the testbed, as in `host_live`: each test here boots one, puts this program into it, and runs one of those
//! that are ignored elsewhere.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod driver;
mod grants;
#[path = "../host_live/inside.rs"]
#[allow(dead_code, reason = "shared with the other tests that run inside")]
mod inside;
mod lost;
mod nodes;
#[path = "../host_live/service.rs"]
mod service;
mod stand_in;

use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Output, Testbed};

/// Longest time that one test may take inside: what hangs ends.
const INSIDE_LIMIT: Duration = Duration::from_mins(10);
const PROGRAM: &str = "/root/gpu";
/// The service of the agent with this program in its place.
const SANDBOXED: &str = "/run/systemd/system/sandboxed.service";

/// A booted host with this program in it, and systems for it to start.
struct Host {
    bed: Testbed,
    systems: String,
}

impl Host {
    fn boot(name: &str, options: &Options) -> Self {
        let bed = Testbed::boot(options).expect("the host boots");
        // The installed agent is there for its helpers alone.
        bed.succeed("systemctl disable --now nixmox-agent.socket nixmox-agent.service").expect("the agent stops");
        let paths = stand_in::tried().iter().fold(Behaviour::new(), |behaviour, path| behaviour.opens(path));
        let web = bed.static_guest("web", &paths).expect("the system is added");
        let mut systems = vec![format!("web={web}")];
        if let Ok(homelab) = bed.homelab_systems() {
            systems.extend(homelab.get("caddy").map(|path| format!("debian={path}")));
        }
        bed.copy_in(std::env::current_exe().expect("this program"), PROGRAM).expect("the program is copied");
        bed.succeed(&stand_in::load(stand_in::MAJOR)).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        Self { bed, systems: format!("{}={}", service::SYSTEMS, systems.join(",")) }
    }

    /// Runs a test of this program inside.
    fn run(&self, test: &str) {
        let argv = ["env", &self.systems, PROGRAM, "--exact", test, "--ignored", "--nocapture"];
        let output = self.bed.exec_within(INSIDE_LIMIT, &argv).expect("the program starts");
        self.check(&output);
    }

    fn check(&self, output: &Output) {
        let passed = output.success() && output.stdout.contains("1 passed");
        assert!(passed, "{output}\n{}", self.bed.journal(&["-n", "60"]).unwrap_or_default());
    }
}

/// Boots a host with stand-ins for GPUs, and runs a test of this program on it.
fn with_gpus(test: &str) {
    Host::boot(test, &Options::new(test).without_homelab()).run(test);
}

#[test]
fn a_guest_opens_exactly_the_nodes_that_it_was_granted() {
    with_gpus("grants::a_guest_opens_exactly_the_nodes_that_it_was_granted");
}

#[test]
fn a_gpu_comes_and_goes_while_a_guest_runs() {
    with_gpus("grants::a_gpu_comes_and_goes_while_a_guest_runs");
}

#[test]
fn a_guest_with_users_of_its_own_is_given_nodes_at_its_start() {
    with_gpus("grants::a_guest_with_users_of_its_own_is_given_nodes_at_its_start");
}

#[test]
fn an_adopted_container_is_given_nodes_once_it_runs() {
    with_gpus("grants::an_adopted_container_is_given_nodes_once_it_runs");
}

#[test]
fn what_a_guest_lost_is_seen_and_given_back() {
    with_gpus("lost::what_a_guest_lost_is_seen_and_given_back");
}

#[test]
fn what_a_guest_plants_is_not_opened() {
    with_gpus("lost::what_a_guest_plants_is_not_opened");
}

#[test]
fn missing_nodes_are_made_stale_ones_replaced_and_late_ones_waited_for() {
    with_gpus("nodes::missing_nodes_are_made_stale_ones_replaced_and_late_ones_waited_for");
}

#[test]
fn what_stays_missing_is_named_and_nothing_is_started() {
    with_gpus("nodes::what_stays_missing_is_named_and_nothing_is_started");
}

#[test]
fn what_computing_goes_without_is_given_and_not_insisted_on() {
    with_gpus("nodes::what_computing_goes_without_is_given_and_not_insisted_on");
}

#[test]
fn the_drivers_own_program_is_asked_first_and_may_hang() {
    with_gpus("nodes::the_drivers_own_program_is_asked_first_and_may_hang");
}

#[test]
fn libraries_of_the_host_reach_a_guest_where_they_fit_the_module() {
    with_gpus("driver::libraries_of_the_host_reach_a_guest_where_they_fit_the_module");
}

#[test]
fn the_user_space_of_a_booted_nixos_is_taken_where_that_fits() {
    with_gpus("driver::the_user_space_of_a_booted_nixos_is_taken_where_that_fits");
}

#[test]
fn a_guest_that_would_link_drivers_of_its_own_keeps_those_of_the_host() {
    let test = "driver::a_guest_that_would_link_drivers_of_its_own_keeps_those_of_the_host";
    Host::boot(test, &Options::new("gpu-link")).run(test);
}

#[test]
fn the_environment_of_a_grant_reaches_services_of_a_booted_guest() {
    let test = "driver::the_environment_of_a_grant_reaches_services_of_a_booted_guest";
    Host::boot(test, &Options::new(test)).run(test);
}

#[test]
fn after_a_reboot_nodes_are_made_anew() {
    let host = Host::boot("reboot", &Options::new("gpu-reboot").without_homelab());
    host.run("nodes::a_guest_starts_on_a_host_without_nodes");
    host.bed.reboot().expect("the host reboots");
    // The modules have other majors after it.
    host.bed.succeed(&stand_in::load(stand_in::OTHER_MAJOR)).expect("loaded");
    host.run("nodes::a_guest_starts_on_a_host_without_nodes");
}

#[test]
fn the_agents_sandbox_lets_it_do_all_of_that() {
    let host = Host::boot("sandbox", &Options::new("gpu-sandbox").without_homelab());
    let test = "nodes::a_guest_starts_on_a_host_without_nodes";
    let unit = host.bed.read_file("/usr/lib/systemd/system/nixmox-agent.service").expect("installed");
    // The agent's own but for how it is started.
    let started =
        ["Requires=", "After=", "Wants=", "Type=", "ExecStart=", "Restart", "WatchdogSec=", "TimeoutStartSec="];
    let kept: String = unit
        .lines()
        .filter(|line| !started.iter().any(|key| line.starts_with(key)))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(kept.contains("ProtectSystem=strict") && kept.contains("SystemCallFilter="), "{kept}");
    let command =
        format!("ExecStart={PROGRAM} --exact {test} --ignored --nocapture\nEnvironment={}\n", host.systems);
    let unit = kept.replace("[Service]\n", &format!("[Service]\nType=oneshot\n{command}"));
    host.bed.write_file(SANDBOXED, unit, 0o644).expect("written");
    // A folder that the sandbox has read-only: the driver's program runs outside of it.
    let program = "#!/bin/bash\necho \"$@\" >> /root/asked\n";
    host.bed.write_file("/usr/bin/nvidia-modprobe", program, 0o755).expect("written");
    let run = "systemctl daemon-reload; systemctl start sandboxed; code=$?
        journalctl --sync; journalctl -u sandboxed -o cat; exit $code";
    let output = host.bed.exec_within(INSIDE_LIMIT, &["bash", "-c", run]).expect("bash runs");
    host.check(&output);
    assert!(host.bed.read_file("/root/asked").expect("it ran").contains("-u -c 0"));
}
