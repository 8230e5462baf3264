//! What ends while something else already begins, on a real systemd.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::Shared;

static SHARED: Shared = Shared::new();

#[test]
fn a_job_that_ends_between_ready_and_the_end_of_its_start_is_completed() {
    let host = SHARED.host("handover").expect("the host boots");
    let stack = Stack::new(&host, "jobs");
    let quick = host.guest("quick", &Behaviour::new().exit(0, Duration::from_millis(200))).expect("a system");
    let broken = host.guest("broken", &Behaviour::new().exit(3, Duration::from_millis(200))).expect("a system");
    // The start goes on for a second after READY: before the interface is set up, and after it.
    let early = "[Service]\nExecStartPost=\nExecStartPost=/bin/sleep 1\nExecStartPost=/usr/lib/nixmox/container-start post-start\n\
                 ExecStartPost=-/usr/bin/nixmox-agent exit-record --started %i\n";
    let late = "[Service]\nExecStartPost=/bin/sleep 1\n";
    let jobs = [("early", early, &quick), ("late", late, &quick), ("bad", early, &broken)];
    for (name, drop_in, _) in jobs {
        let path = format!("/etc/systemd/system/container@{name}.service.d/50-slow.conf");
        host.write_file(path, drop_in, 0o644).expect("written");
    }
    let table = |name: &str, system: &str| {
        format!("[services.{name}]\nsystem = \"{system}\"\nkind = \"job\"\nrestart = {{ policy = \"no\" }}")
    };
    let tables = jobs.map(|(name, _, system)| table(name, system));
    stack.declare(&[&tables[0], &tables[1]]).expect("a manifest");
    stack.succeed("up").expect("they complete");
    for name in ["early", "late"] {
        let state = stack.field(name, "state").expect("known");
        let record = host.succeed(&format!("cat /run/nixmox/exit/{name}")).expect("a record");
        assert_eq!(state, "completed", "{name}: {record}");
    }
    stack.declare(&[&tables[2]]).expect("a manifest");
    stack.refuse("up --prune", 1, &["bad failed", "exit-code 3"]).expect("a job that fails is told");
    stack.succeed("down").expect("taken down");
}
