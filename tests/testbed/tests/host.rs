//! The testbed itself: a host boots, keeps its files over reboots and power cuts, and leaves nothing behind.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nixmox_testbed::{Behaviour, Build, LAN_HOST_ADDRESS, Options, Testbed};

fn plain(name: &str) -> Testbed {
    Testbed::boot(&Options::new(name).build(Build::None).without_homelab()).expect("a plain host boots")
}

#[test]
fn boots_without_a_failed_unit_and_leaves_nothing() {
    let bed = plain("boots");
    let failed = bed.succeed("systemctl --failed --plain --no-legend").expect("systemctl answers");
    assert_eq!(failed, "", "no unit may have failed");
    assert_eq!(bed.exec(&["sh", "-c", "exit 7"]).expect("sh runs").code, 7);
    assert_eq!(bed.succeed("cat /proc/sys/net/ipv4/ip_forward").expect("readable"), "1");
    let leader = bed.leader();
    drop(bed);
    assert!(!Path::new(&format!("/proc/{leader}")).exists(), "the host's PID 1 is gone");
}

#[test]
fn files_survive_a_reboot_and_a_power_cut_and_the_runtime_folder_does_not() {
    let bed = plain("power");
    let begin = bed.leader();
    bed.succeed("echo kept > /root/kept; echo lost > /run/lost").expect("files can be written");
    bed.reboot().expect("the host reboots");
    assert_ne!(bed.leader(), begin);
    assert_eq!(bed.read_file("/root/kept").expect("the file is there"), "kept\n");
    bed.fail("test -e /run/lost").expect("the runtime folder is new");
    bed.power_cut().expect("the host dies");
    assert_eq!(bed.read_file("/root/kept").expect("readable while the host is off"), "kept\n");
    bed.start().expect("the host boots again");
    bed.poweroff().expect("the host powers off");
    bed.start().expect("the host boots again");
    let boots = bed.succeed("journalctl --list-boots --quiet | wc -l").expect("the journal is kept");
    assert_eq!(boots, "4");
}

#[test]
fn a_command_is_waited_for_though_the_host_stops_every_process() {
    let bed = plain("stopped");
    // What a systemd that goes down does before it ends them.
    let script = "kill -s STOP -- -1; sleep 0.2; kill -s CONT -- -1; echo on";
    assert_eq!(bed.succeed(script).expect("the command ends"), "on");
    let late = bed.exec_within(Duration::from_millis(300), &["sleep", "60"]).expect("sleep runs");
    assert_eq!(late.code, 124, "a command that takes too long is ended: {late}");
}

#[test]
fn reaches_the_host_from_the_local_network() {
    let bed = plain("lan");
    bed.add_lan().expect("the network is made");
    bed.add_lan().expect("making it again does nothing");
    let ping = bed.exec_from_lan(&["ping", "-c1", "-W2", LAN_HOST_ADDRESS]).expect("ping runs");
    assert!(ping.success(), "{ping}");
}

#[test]
fn systems_in_the_store_are_valid() {
    let bed = plain("store");
    let first = bed.static_guest("a", &Behaviour::new().http(80)).expect("the system is added");
    let same = bed.static_guest("a", &Behaviour::new().http(80)).expect("the system is added");
    let other = bed.static_guest("a", &Behaviour::new().http(81)).expect("the system is added");
    assert_eq!(first, same);
    assert_ne!(first, other);
    assert!(first.starts_with("/nix/store/") && first.ends_with("-nixos-system-a"), "{first}");
    bed.succeed(&format!("nix-store --verify-path {first} {other} && test -x {first}/init"))
        .expect("valid for Nix");
}

#[test]
fn a_command_that_hangs_is_ended() {
    let bed = plain("hang");
    let output = bed.exec_within(Duration::from_millis(300), &["sleep", "60"]).expect("the command starts");
    assert_eq!(output.code, 124);
}

#[test]
fn two_hosts_do_not_see_each_other() {
    let (one, two) = (plain("one"), plain("two"));
    one.write_file("/root/mine", "one", 0o600).expect("writable");
    assert!(!two.path("/root/mine").exists());
    assert_ne!(one.machine_name(), two.machine_name());
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", one.leader())).expect("the host runs");
    assert!(cgroups.contains(one.machine_name()), "{cgroups}");
}

/// Not a test: what the next one kills.
#[test]
#[ignore = "runs until it is killed"]
fn holds_a_host_until_it_is_killed() {
    let bed = plain("held");
    println!("held {} {}", bed.leader(), bed.machine_name());
    std::thread::sleep(Duration::from_mins(5));
}

#[test]
fn a_killed_run_leaves_nothing() {
    let mut run = Command::new(std::env::current_exe().expect("a test is a program"))
        .args(["--ignored", "--exact", "--nocapture", "holds_a_host_until_it_is_killed"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(run.stdout.take().expect("piped"));
    let line = output.lines().map_while(Result::ok).find_map(|line| {
        let at = line.find("held ")?;
        Some(line[at..].to_owned())
    });
    let line = line.expect("it says what it holds");
    let words: Vec<&str> = line.split(' ').collect();
    let leader = format!("/proc/{}", words[1]);
    assert!(Path::new(&leader).exists());
    run.kill().expect("it runs");
    run.wait().expect("it is ours");
    let end = Instant::now() + Duration::from_mins(1);
    while Path::new(&leader).exists() {
        assert!(Instant::now() < end, "the host outlives its owner");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The next boot sweeps.
    drop(plain("next"));
    let run_dir = nixmox_testbed::Cache::open().expect("the cache opens").run_dir().expect("it has a folder");
    assert!(!run_dir.join(words[2]).exists(), "the folder of the killed run is gone");
}

#[test]
fn a_user_builds_a_flake_without_the_network() {
    let bed = plain("flake");
    bed.add_user("anna", &["nixmox", "nix-users"]).expect("the user is made");
    let flake = "/home/anna/stack";
    bed.static_guest_flake(flake, &[("hello", &Behaviour::new().http(80))]).expect("the flake is written");
    bed.succeed(&format!("chown -R anna {flake}")).expect("given away");
    let built = bed
        .shell_as("anna", &format!("nix build --no-link --print-out-paths path:{flake}#hello"))
        .expect("nix runs");
    assert!(built.success(), "{built}");
    let path = built.stdout.trim();
    assert!(path.ends_with("-nixos-system-hello"), "{path}");
    let text = bed.succeed(&format!("cat {path}/behaviour && test -x {path}/init")).expect("a system");
    assert_eq!(text, "http=80");
    let broken = bed.shell_as("anna", &format!("nix build --no-link path:{flake}#nothing")).expect("nix runs");
    assert!(!broken.success());
}
