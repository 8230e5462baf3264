//! Guests that play a NixOS system, on a real systemd: their own `switch-to-configuration`, quick, slow, failing, killed, and an
//! agent that dies meanwhile.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::{Options, Testbed};
use nixmox_tests::nixos;
use nixmox_tests::operator::Stack;

const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn a_running_guest_is_switched_to_another_system_and_back() {
    let bed = Testbed::boot(&Options::new("switch")).expect("the host boots");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    let stack = Stack::new(&bed, "nixos");
    let declare = |system: &str| {
        stack.declare(&[&format!("[services.web]\nsystem = \"{system}\"\nhealth.unit = \"caddy.service\"")])
    };
    let version = || bed.succeed("nixmoxctl exec web -- cat /etc/version").expect("told");
    let switches = || bed.succeed("nixmoxctl exec web -- cat /var/log/switches").expect("told");
    let invocation = || bed.succeed("systemctl show -P InvocationID container@web").expect("told");

    let first = nixos::system(&bed, "one", "").expect("a system");
    declare(&first).expect("declared");
    stack.succeed("up").expect("it is up");
    let run = invocation();

    // Live, planned as such, and known to the next agent.
    let second = nixos::system(&bed, "two", "systemctl daemon-reload").expect("a system");
    declare(&second).expect("declared");
    let planned = stack.succeed("plan").expect("planned").stdout;
    assert!(planned.contains("~ web"), "{planned}");
    let flat = planned.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("inside: would restart the following units: caddy.service"), "{planned}");
    bed.add_user("olga", &["nixmox"]).expect("an observer");
    let seen = bed.shell_as("olga", "nixmoxctl -f /srv/nixos plan").expect("it runs");
    assert!(seen.stdout.contains("~ web") && !seen.stdout.contains("would restart"), "{seen}");
    stack.succeed("up").expect("switched");
    assert_eq!((version(), switches(), invocation()), ("two".to_owned(), "two test".to_owned(), run.clone()));
    bed.succeed("systemctl restart nixmox-agent").expect("another agent");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("it answers");
    let planned = stack.succeed("plan").expect("planned").stdout;
    assert!(planned.contains("nothing to do: 1 service as declared"), "{planned}");

    // An agent that dies in the middle is no reason to begin again.
    let slow = nixos::system(&bed, "slow", "sleep 8").expect("a system");
    declare(&slow).expect("declared");
    stack.succeed("up --detach").expect("asked for");
    bed.wait_until("nixmoxctl exec web -- grep -q slow /var/log/switches", LIMIT).expect("it is on its way");
    bed.succeed("systemctl kill -s KILL nixmox-agent").expect("killed");
    bed.wait_until("nixmoxctl exec web -- grep -qx slow /etc/version", LIMIT).expect("it goes on");
    bed.wait_until("nixmoxctl --all status --json | jq -e '.stacks[0].good'", LIMIT).expect("it is taken over");
    assert_eq!((switches(), invocation()), ("two test\nslow test".to_owned(), run.clone()));

    // What fails goes back, by another switch; its reason is told.
    for (name, switch, why) in
        [("broken", "echo no such user >&2; exit 4", "exit 4"), ("killed", "kill -9 $$", "signal")]
    {
        declare(&nixos::system(&bed, name, switch).expect("a system")).expect("declared");
        let failed = stack.ctl("up").expect("it runs");
        assert_eq!(failed.code, 1, "{failed}");
        assert!(failed.stderr.contains("was not switched to") && failed.stderr.contains(why), "{failed}");
        assert!(failed.stderr.contains("was rolled back"), "{failed}");
        assert_eq!((version(), invocation()), ("slow".to_owned(), run.clone()), "{failed}");
    }
    let failed = bed.succeed("nixmoxctl logs web -u nixmox-switch.service").expect("told");
    assert!(failed.contains("no such user"), "{failed}");

    // A system that is none of NixOS is restarted to, and a stop is not held up by a switch.
    let caddy = bed.homelab_systems().expect("systems").remove("caddy").expect("caddy");
    declare(&caddy).expect("declared");
    let planned = stack.succeed("plan").expect("planned").stdout;
    assert!(planned.contains("! web"), "{planned}");
    stack.succeed("up").expect("restarted");
    assert_ne!(invocation(), run);
    declare(&first).expect("declared");
    stack.succeed("up").expect("restarted");
    declare(&nixos::system(&bed, "slower", "sleep 300").expect("a system")).expect("declared");
    stack.succeed("up --detach").expect("asked for");
    bed.wait_until("nixmoxctl exec web -- grep -q slower /var/log/switches", LIMIT).expect("it is on its way");
    stack.succeed("stop web --timeout 60s").expect("stopped");
}
