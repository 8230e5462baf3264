//! Several stacks on one host: dependencies across them, what they may not share, and services that a manifest drops.

use std::time::Duration;

use nixmox_testbed::{Behaviour, LAN_HOST_ADDRESS};
use nixmox_tests::containers::started_when_it_listened;
use nixmox_tests::operator::Stack;

use crate::from::{From, To, answers, is_unpublished};
use crate::{host, service, web};

/// How long the dependency takes from its start to its health.
const LISTENS_AFTER: Duration = Duration::from_secs(3);

#[test]
fn a_dependency_on_another_stack_orders_both() {
    let (host, _held) = host();
    let (lower, upper) = (Stack::new(&host, "lower"), Stack::new(&host, "upper"));
    let slow = host.guest("slow", &Behaviour::new().http(80).listen_after(LISTENS_AFTER)).expect("a system");
    lower.declare(&[&service("base", &slow, "")]).expect("a manifest");
    upper.declare(&[&web(&host, "top", "depends_on = { \"lower/base\" = \"healthy\" }")]).expect("a manifest");

    let words =
        ["`top` depends on `base`, which no stack on this host declares", "bring up the stack that declares"];
    upper.refuse("up", 1, &words).expect("the other stack is not up");
    lower.succeed("up").expect("it comes up");
    upper.succeed("up").expect("it comes up");
    let after = host.succeed("systemctl show -P After container@top").expect("loaded");
    assert!(after.contains("container@base.service"), "systemd knows the order too: {after}");

    // Neither `down` nor `stop` takes away what another stack stands on.
    let base = lower.healthy("base").expect("healthy");
    lower
        .refuse("down", 1, &["services depend on it; nothing was stopped", "top"])
        .expect("the other stack needs it");
    lower.refuse("stop base", 1, &["top", "--with-dependents"]).expect("the other stack needs it");
    assert_eq!(lower.healthy("base").expect("healthy"), base);
    upper.healthy("top").expect("healthy");

    lower.succeed("stop base --with-dependents").expect("both are stopped");
    host.fail("systemctl is-active container@base || systemctl is-active container@top").expect("both are stopped");
    upper.succeed("start top").expect("both are started");
    started_when_it_listened(&host, "top", "base").expect("top waits until base is healthy");

    upper.succeed("down").expect("taken down");
    lower.succeed("down").expect("nothing needs it any more");
}

#[test]
fn two_stacks_cannot_have_one_port_nor_one_name() {
    let (host, _held) = host();
    let (first, second) = (Stack::new(&host, "first-port"), Stack::new(&host, "second-port"));
    first.declare(&[&web(&host, "has-it", "network = { ports = [\"8300:80\"] }")]).expect("a manifest");
    first.succeed("up").expect("it comes up");
    let before = first.healthy("has-it").expect("healthy");
    second
        .declare(&[
            &web(&host, "wants-it", "network = { ports = [\"127.0.0.1:8300:80\"] }"),
            &web(&host, "has-it", ""),
        ])
        .expect("a manifest");
    let words = [
        "`wants-it` and `has-it` of the stack `first-port` publish TCP port 8300",
        "publish it elsewhere",
        "`has-it` is a service of the stack `first-port` already",
        "nixmoxctl -s first-port down has-it",
    ];
    second.refuse("up", 1, &words).expect("both clashes are told");
    host.fail("test -e /etc/nixos-containers/wants-it.conf").expect("nothing was begun");
    // The same port of the other protocol is another.
    second.declare(&[&web(&host, "wants-it", "network = { ports = [\"8300:53/udp\"] }")]).expect("a manifest");
    second.succeed("up").expect("it comes up");
    answers(&host, From::Lan, To::Http(LAN_HOST_ADDRESS, 8300)).expect("it is the first one's");
    assert_eq!(first.healthy("has-it").expect("healthy"), before);
    for stack in [second, first] {
        stack.succeed("down").expect("taken down");
    }
}

#[test]
fn what_a_manifest_drops_is_named_and_stopped_only_when_asked() {
    let (host, _held) = host();
    let stack = Stack::new(&host, "dropped");
    let keep = web(&host, "keep", "");
    let drop = web(&host, "drop", "network = { ports = [\"8310:80\"] }");
    stack.declare(&[&keep, &drop]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let before = ["keep", "drop"].map(|name| stack.healthy(name).expect("healthy"));
    host.succeed("echo kept > /var/lib/nixos-containers/drop/data").expect("data");

    stack.declare(&[&keep]).expect("a manifest");
    for verb in ["plan", "up", "up"] {
        let output = stack.succeed(verb).expect("it leaves it alone");
        let said = format!("{} {}", output.stdout, output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        let names = "drop runs, and the stack does not contain it any more; nixmoxctl up --prune stops it";
        assert!(said.contains(names), "{verb}: {output}");
        assert_eq!(["keep", "drop"].map(|name| stack.healthy(name).expect("healthy")), before, "after {verb}");
    }
    answers(&host, From::Lan, To::Http(LAN_HOST_ADDRESS, 8310)).expect("still published");

    let plan = stack.succeed("plan --prune").expect("a plan").stdout;
    assert!(plan.lines().any(|line| line.starts_with("- drop")), "{plan}");
    let up = stack.succeed("up --prune").expect("it is stopped");
    assert!(!up.stderr.contains("does not contain"), "{up}");
    host.fail("systemctl is-active container@drop || test -e /etc/nixos-containers/drop.conf").expect("gone");
    is_unpublished(&host, 8310).expect("no longer published");
    assert_eq!(host.read_file("/var/lib/nixos-containers/drop/data").expect("data stays"), "kept\n");
    assert_eq!(stack.healthy("keep").expect("healthy"), before[0]);
    stack.succeed("down").expect("taken down");
}
