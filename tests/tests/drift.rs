//! What is changed behind the agent's back: it is told, and undone; what is changed through `up` restarts no more than it must.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::{Duration, Instant};

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

/// The time that a person is given to declare a change: `GRACE` of the agent.
const GRACE: Duration = Duration::from_secs(20);
/// Longest time until a change is undone, on a busy machine.
const CORRECTION: Duration = Duration::from_mins(2);

static SHARED: Shared = Shared::new();

fn service(host: &Host, name: &str, keys: &str) -> String {
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    format!(
        "[services.{name}]\nsystem = \"{system}\"\n{keys}\n[services.{name}.health]\nhttp = \"http://localhost/\"\ninterval = \"1s\""
    )
}

#[test]
fn what_is_changed_on_a_container_is_told_and_corrected_after_a_while() {
    // Of its own: when others have systemd read its units again, another difference is told of what was deleted.
    let host = Host::boot("drifted").expect("the host boots");
    let stack = Stack::new(&host, "drift");
    let names = ["keep", "limited", "dropin", "conf", "stopped"];
    let tables = names.map(|name| service(&host, name, "limits = { memory_max = \"512M\" }"));
    stack.declare(&tables.each_ref().map(String::as_str)).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = names.map(|name| stack.healthy(name).expect("healthy"));
    let drop_in = "/run/systemd/system/container@dropin.service.d/10-nixmox.conf";
    let conf = "/etc/nixos-containers/conf.conf";
    let texts = [drop_in, conf].map(|path| host.read_file(path).expect("ours"));

    // All that is told from here on is kept: on a slow machine it is corrected before each of it was looked for.
    host.succeed(
        "systemd-run -q --unit=told --working-directory=/srv/drift -p StandardOutput=append:/tmp/told -p RuntimeMaxSec=10min \
         bash -c 'while :; do nixmoxctl status; sleep 0.2; done'",
    )
    .expect("somebody looks");
    let begin = Instant::now();
    host.succeed("systemctl set-property --runtime container@limited MemoryMax=64M").expect("set");
    host.succeed(&format!("rm {drop_in}")).expect("deleted");
    host.succeed(&format!("sed -i s/^AUTO_START=0/AUTO_START=1/ {conf}")).expect("edited");
    host.succeed("systemctl stop container@stopped").expect("stopped");

    // Told before it is corrected, with the time until then.
    for says in [
        "limited .*drift: memory_max is 64M, declared 512M; correcting in [0-9]+s",
        "dropin .*drift: its files on the host are missing or were changed; correcting in [0-9]+s",
        "conf .*drift: its files on the host are missing or were changed; correcting in [0-9]+s",
        "stopped .*stopped by somebody, not through NixMox; it is started again soon",
    ] {
        let told = host.wait_until(&format!("grep -qE '{says}' /tmp/told"), CORRECTION);
        let status = host.succeed("tail -n 40 /tmp/told").expect("readable");
        assert!(told.is_ok(), "`{says}` is not told: {status}");
    }
    host.succeed("systemctl stop told").expect("it ends");

    // Corrected later, without a restart of what runs.
    let corrected = format!(
        "test $(systemctl show -P MemoryMax container@limited) = 536870912 && test -e {drop_in} && grep -q ^AUTO_START=0 {conf} && systemctl is-active -q container@stopped"
    );
    host.wait_until(&corrected, CORRECTION).expect("corrected");
    let took = begin.elapsed();
    assert!(took + Duration::from_secs(1) >= GRACE, "a person is given time: {took:?}");
    assert_eq!([drop_in, conf].map(|path| host.read_file(path).expect("ours")), texts);
    for (name, invocation) in names.iter().zip(before) {
        let after = stack.becomes_healthy(name).expect("healthy");
        assert_eq!(after == invocation, *name != "stopped", "{name}");
        let nothing = format!(
            "nixmoxctl --all status --json | jq -e '.services[] | select(.name == \"{name}\" and .drift == [])'"
        );
        host.wait_until(&nothing, CORRECTION).expect("no drift is told any more");
    }
    assert_eq!(host.succeed("systemctl show -P NeedDaemonReload container@dropin").expect("loaded"), "no");
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_limit_that_was_set_for_good_is_reported_with_the_way_out() {
    let host = SHARED.host("drift").expect("the host boots");
    let stack = Stack::new(&host, "forgood");
    stack.declare(&[&service(&host, "forgood", "limits = { memory_max = \"512M\" }")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("forgood").expect("healthy");
    host.succeed("systemctl set-property container@forgood MemoryMax=64M").expect("set in /etc");
    let words = [
        "/etc/systemd/system.control/container@forgood.service.d/50-MemoryMax.conf",
        "overrides",
        "systemctl revert container@forgood.service",
    ];
    stack.refuse("up --timeout 30s", 1, &words).expect("not fought");
    assert_eq!(stack.healthy("forgood").expect("healthy"), before);
    host.succeed("systemctl revert container@forgood.service").expect("the way out");
    stack.succeed("up").expect("up succeeds");
    assert_eq!(stack.healthy("forgood").expect("healthy"), before);
    let limit = host.succeed("systemctl show -P MemoryMax container@forgood").expect("loaded");
    assert_eq!(limit, "536870912");
    stack.succeed("down").expect("taken down");
}

#[test]
fn tables_of_the_host_are_repaired_at_once() {
    // Of its own: the services of others are in these tables too.
    let host = Host::boot("tables").expect("the host boots");
    let stack = Stack::new(&host, "tables");
    stack.declare(&[&service(&host, "tables", "network = { ports = [\"8070:80\"] }")]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("tables").expect("healthy");
    let answers = "curl -sf --max-time 2 http://127.0.0.1:8070/";
    host.wait_until(answers, CORRECTION).expect("published");
    for spoil in ["nft flush ruleset", "nft delete table inet nixmox", "nft flush table inet nixmox"] {
        // Nobody sees the moment in between: it is over before the next command runs.
        host.succeed(spoil).expect("spoiled");
        host.wait_until(answers, GRACE / 2).expect("repaired");
    }
    let told = "systemctl show -P StatusText nixmox-agent | grep -E '^generation [0-9]+: .*[1-9] healthy'";
    host.wait_until(told, GRACE).expect("systemctl status says how it goes");
    let hosts = host.read_file("/run/nixmox/guests/hosts").expect("there");
    for spoil in ["echo 10.9.9.9 tables > /run/nixmox/guests/hosts", "rm /run/nixmox/guests/hosts"] {
        host.succeed(spoil).expect("spoiled");
        host.wait_until(
            "grep -q 'tables' /run/nixmox/guests/hosts && ! grep -q 10.9.9.9 /run/nixmox/guests/hosts",
            GRACE / 2,
        )
        .expect("repaired");
        assert_eq!(host.read_file("/run/nixmox/guests/hosts").expect("there"), hosts);
    }
    assert_eq!(stack.healthy("tables").expect("healthy"), before);
    stack.succeed("down").expect("taken down");
}

#[test]
fn a_container_that_machinectl_ended_comes_back() {
    let host = SHARED.host("drift").expect("the host boots");
    let stack = Stack::new(&host, "machinectl");
    let tables = ["terminated", "poweredoff"].map(|name| service(&host, name, ""));
    stack.declare(&tables.each_ref().map(String::as_str)).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    for (verb, name) in [("terminate", "terminated"), ("poweroff", "poweredoff")] {
        let before = stack.healthy(name).expect("healthy");
        host.succeed(&format!("machinectl {verb} {name}")).expect("ended");
        let again = format!(
            "systemctl is-active -q container@{name} && test $(systemctl show -P InvocationID container@{name}) != {before}"
        );
        host.wait_until(&again, CORRECTION).expect("started again");
        stack.becomes_healthy(name).expect("healthy");
    }
    stack.succeed("down").expect("taken down");
}

#[test]
fn up_restarts_only_what_cannot_be_changed_live() {
    let host = SHARED.host("drift").expect("the host boots");
    let stack = Stack::new(&host, "live");
    host.succeed("mkdir -p /srv/live-data").expect("made");
    let declare = |keys: &str| stack.declare(&[&service(&host, "live", keys)]).expect("a manifest");
    let show =
        |property: &str| host.succeed(&format!("systemctl show -P {property} container@live")).expect("loaded");
    declare("limits = { memory_max = \"512M\", tasks_max = 100 }");
    stack.succeed("up").expect("it comes up");
    let before = stack.healthy("live").expect("healthy");
    assert_eq!((show("MemoryMax"), show("TasksMax")), ("536870912".to_owned(), "100".to_owned()));

    // Limits and ports: live.
    declare("limits = { memory_max = \"1G\", cpu_weight = 50 }\nnetwork = { ports = [\"8071:80\"] }");
    let up = stack.succeed("up").expect("changed");
    assert!(up.stdout.contains("memory_max 512M -> 1G"), "{up}");
    assert_eq!((show("MemoryMax"), show("CPUWeight")), ("1073741824".to_owned(), "50".to_owned()));
    assert_ne!(show("TasksMax"), "100");
    host.wait_until("curl -sf --max-time 2 http://127.0.0.1:8071/", GRACE).expect("published");
    assert_eq!(stack.healthy("live").expect("healthy"), before, "nothing was restarted");
    declare("limits = { memory_max = \"768M\" }");
    stack.succeed("up").expect("changed");
    assert_eq!(stack.healthy("live").expect("healthy"), before, "nothing was restarted");
    host.wait_until("! curl -sf --max-time 2 http://127.0.0.1:8071/", GRACE).expect("no longer published");

    // Mounts: a restart, and the reason is said.
    declare("limits = { memory_max = \"768M\" }\nmounts = [\"/srv/live-data:/data\"]");
    let up = stack.succeed("up").expect("changed");
    assert!(up.stdout.contains("restart: mounts changed"), "{up}");
    assert_ne!(stack.healthy("live").expect("healthy"), before);
    // And nothing more is to be done.
    stack.succeed("plan --exit-code").expect("as declared");
    stack.succeed("down").expect("taken down");
}
