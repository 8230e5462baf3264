//! Guests that end, hang or take their time.

use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use crate::fault::{Fault, host};

/// Longest time until the agent has put right what was broken behind its back.
const RECOVERY: Duration = Duration::from_mins(3);

#[test]
fn a_guest_whose_init_exits_at_once_is_told_with_its_last_words() {
    let host = host();
    let behaviour = Behaviour::new().log("cannot open database").exit_at_once(3);
    let system = host.guest("exits", &behaviour).expect("a system");
    let mended = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let keys = format!("system = \"{system}\"");
    let words = ["exits-bad", "exit-code 3", "cannot open database", "nixmoxctl logs exits-bad"];
    Fault { name: "exits", bad: &keys, words: &words }.story(&host, |_| format!("system = \"{mended}\""));
}

#[test]
fn a_guest_that_never_becomes_ready_is_given_up_in_time() {
    let host = host();
    // Three minutes are the shortest that a first boot is given; the host's own drop-in shortens the test, to what a guest needs
    // on a busy machine for its first words.
    let drop_in = "[Service]\nTimeoutStartSec=20s\n";
    host.write_file("/etc/systemd/system/container@never-bad.service.d/90-limit.conf", drop_in, 0o644)
        .expect("written");
    let system = host.guest("never", &Behaviour::new().log("migrating").never_ready()).expect("a system");
    let mended = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let keys = format!("system = \"{system}\"\nhealth = {{ http = \"http://localhost/\", start_period = \"5s\" }}");
    let words = ["never-bad", "the guest was not ready within 20s", "migrating", "health.start_period"];
    Fault { name: "never", bad: &keys, words: &words }.story(&host, |_| format!("system = \"{mended}\""));
}

#[test]
fn a_guest_that_never_answers_is_told_with_its_last_answer() {
    let host = host();
    let system = host.guest("ill", &Behaviour::new().http(80).http_status(503)).expect("a system");
    // Asked seldom, so that no answer from before it is mended comes once `up` has begun, which asks at once. It has the time that it
    // needs on a busy machine to give an answer at all.
    let health =
        "health = { http = \"http://localhost/\", interval = \"30s\", start_period = \"10s\", retries = 2 }";
    let keys = format!("system = \"{system}\"\n{health}");
    let words = [
        "ill-bad did not become healthy within 10s",
        "http://localhost/ -> 503",
        "nixmox.toml:",
        "[services.ill-bad",
    ];
    // The dependent asks for a start alone, which an unhealthy service has had: it is told apart below.
    let stack = Stack::new(&host, "ill");
    stack
        .declare(&[
            &format!("[services.ill-bad]\n{keys}"),
            &format!("[services.ill-next]\nsystem = \"{system}\"\ndepends_on = {{ ill-bad = \"healthy\" }}"),
        ])
        .expect("a manifest");
    stack.refuse("up", 1, &words).expect("up says which gate");
    host.fail("systemctl is-active container@ill-next").expect("not started");
    let before = host.succeed("systemctl show -P InvocationID container@ill-bad").expect("it runs");
    host.succeed("echo 200 > /var/lib/nixos-containers/ill-bad/var/lib/guest/status").expect("mended inside");
    stack.succeed("up").expect("up succeeds");
    assert_eq!(stack.healthy("ill-bad").expect("healthy"), before, "nothing had to be restarted");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_container_whose_nspawn_was_killed_recovers_by_itself() {
    let host = host();
    let stack = Stack::new(&host, "killed");
    let system = host.guest("well", &Behaviour::new().http(80)).expect("a system");
    let table = |name: &str| {
        format!(
            "[services.{name}]\nsystem = \"{system}\"\nhealth = {{ http = \"http://localhost/\", interval = \"1s\" }}"
        )
    };
    stack.declare(&[&table("killed-keep"), &table("killed-bad")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let keep = stack.healthy("killed-keep").expect("healthy");
    let mut before = stack.healthy("killed-bad").expect("healthy");
    for _ in 0..2 {
        host.succeed("kill -9 $(systemctl show -P MainPID container@killed-bad)").expect("nspawn is killed");
        let again = format!(
            "nixmoxctl --all status --json | jq -e '.services[] | select(.name == \"killed-bad\" and .state == \"healthy\" and .invocation != \"{before}\")'"
        );
        host.wait_until(&again, RECOVERY).expect("it recovers by itself");
        before = stack.healthy("killed-bad").expect("healthy");
        // One registration, one export and one link, and they are those of the new instance.
        let leader = host.succeed("machinectl show killed-bad -P Leader").expect("registered");
        host.succeed(&format!("grep -qx 0::.*container@killed-bad.service.* /proc/{leader}/cgroup"))
            .expect("its own");
        let exports =
            host.succeed("grep -c unix-export/killed-bad /proc/self/mountinfo || true").expect("readable");
        assert_eq!(exports, "1");
        let links = host.succeed("ip -o link show | grep -c ve-killed-bad").expect("a link");
        assert_eq!(links, "1");
    }
    assert_eq!(stack.healthy("killed-keep").expect("healthy"), keep);
    stack.succeed("down").expect("taken down");
    // The kernel and machined clear up in their own time.
    for left in [
        "grep unix-export/killed-bad /proc/self/mountinfo",
        "ip link show ve-killed-bad",
        "machinectl show killed-bad",
    ] {
        host.wait_until(&format!("! {left}"), RECOVERY).expect("nothing is left");
    }
}

#[test]
fn a_guest_that_reboots_in_a_loop_is_slowed_down_and_given_up() {
    let host = host();
    let stack = Stack::new(&host, "rebooting");
    let system = host.guest("reboots", &Behaviour::new().exit(133, Duration::from_secs(3))).expect("a system");
    stack
        .declare(&[&format!("[services.rebooting]\nsystem = \"{system}\"\nrestart = {{ attempts_max = 3 }}")])
        .expect("a manifest");
    stack.ctl("up --timeout 5s").expect("whatever it says");
    let state = "nixmoxctl --all status --json | jq -e '.services[] | select(.name == \"rebooting\" and .state == \"failed\" and .restarts == 3 and (.reason | contains(\"a reboot; its restart policy forbids\")))'";
    host.wait_until(state, RECOVERY).expect("it is given up, and that is said");
    host.sync_journal().expect("synchronised");
    let starts = "journalctl -q -u container@rebooting -o cat | grep -c '^Starting container@rebooting'";
    assert_eq!(host.succeed(starts).expect("started"), "4", "once, and three times again");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_guest_that_reboots_is_back_soon_whatever_its_policy() {
    let host = host();
    let stack = Stack::new(&host, "reboot");
    // nspawn ends with 133 when its guest asks for a reboot (systemd-nspawn(1)).
    let behaviour = Behaviour::new().http(80).exit(133, Duration::from_secs(20));
    let system = host.guest("reboot", &behaviour).expect("a system");
    let keys = "health = { http = \"http://localhost/\", interval = \"300ms\" }\nrestart = \"no\"";
    stack.declare(&[&format!("[services.reboot]\nsystem = \"{system}\"\n{keys}")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("reboot").expect("healthy");
    let again = format!(
        "systemctl is-active -q container@reboot && test $(systemctl show -P InvocationID container@reboot) != {before}"
    );
    host.wait_until(&again, RECOVERY).expect("back soon");
    stack.becomes_healthy("reboot").expect("healthy");
    stack.succeed("down").expect("taken down");
}
