//! The exit codes of `nixmoxctl`, each by a real call.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use crate::{LIMIT, service, web, whole_host};

#[test]
fn every_exit_code_means_what_is_documented() {
    let (host, _held) = whole_host();
    let stack = Stack::new(&host, "codes");
    stack.declare(&[&web(&host, "codes", "")]).expect("a manifest");

    stack.refuse("plan --exit-code", 3, &[]).expect("it would be started");
    stack.succeed("plan").expect("without the flag a plan is a plan");
    stack.succeed("up").expect("0: done");
    stack.succeed("plan --exit-code").expect("0: nothing would change");
    let before = stack.healthy("codes").expect("healthy");

    stack.refuse("up --no-such-flag", 2, &["--no-such-flag"]).expect("2: usage");
    stack.refuse("up --no-deps", 2, &[]).expect("2: flags that need others");
    stack.refuse("no-such-command", 2, &["no-such-command"]).expect("2: no such command");
    let outside = host.shell("cd / && nixmoxctl down").expect("it runs");
    assert_eq!(outside.code, 2, "which stack is meant is for the caller to say: {outside}");

    stack.refuse("up absent", 1, &["there is no service `absent`"]).expect("1: a name that is not there");
    let dies = host.guest("dies", &Behaviour::new().exit_at_once(7)).expect("a system");
    stack.declare(&[&web(&host, "codes", ""), &service("dies", &dies, "")]).expect("a manifest");
    stack.refuse("up --timeout 1min", 1, &["dies"]).expect("1: a service that does not come up");
    stack.declare(&[&web(&host, "codes", "")]).expect("a manifest");
    stack.succeed("up --prune").expect("0: done");
    stack.declare(&["nonsense = 1"]).expect("a manifest");
    stack.refuse("check", 1, &["nonsense"]).expect("1: a mistake in the manifest");
    stack.declare(&[&web(&host, "codes", "")]).expect("a manifest");

    // Nobody; who may look; who may change.
    for (user, groups, look, change) in
        [("otto", &[][..], 5, 5), ("vera", &["nixmox"][..], 0, 5), ("omar", &["nixmox-operator"][..], 0, 0)]
    {
        host.add_user(user, groups).expect("the user is added");
        for (command, code) in
            [("status", look), ("up", change), ("restart nothing-to-hide", if change == 0 { 1 } else { 5 })]
        {
            let output = host.shell_as(user, &format!("cd /srv/codes && nixmoxctl {command}")).expect("it runs");
            assert_eq!(output.code, code, "{user}: {command}: {output}");
        }
    }

    host.succeed("systemctl stop nixmox-agent.socket nixmox-agent.service").expect("stopped");
    let silent = ["status", "plan", "up", "down"].map(|command| stack.ctl(command).expect("it runs"));
    let check = stack.ctl("check").expect("it runs");
    let container = host.shell("systemctl is-active container@codes").expect("it runs");
    // Before anything is looked at: the other tests need the agent.
    host.succeed("systemctl start nixmox-agent.socket").expect("started");
    for output in silent {
        assert!(output.code == 4 && output.stderr.contains("nixmox-agent"), "4: nobody answers: {output}");
    }
    assert!(check.success(), "0: it needs no agent: {check}");
    assert!(container.success(), "the container runs on: {container}");
    host.wait_until("nixmoxctl --all status", LIMIT).expect("somebody answers again");
    assert_eq!(stack.becomes_healthy("codes").expect("healthy"), before, "nothing was restarted");
    stack.succeed("down").expect("taken down");
}
