//! The host of these tests: two booted guests, with and without users of their own, and one without a systemd.

use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Output, Testbed};
use nixmox_tests::stack;

/// Longest wait for anything that is to happen; far more than it takes.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
/// Guests that are booted: one whose root is the host's root, and one with users of its own.
pub(crate) const BOOTED: [&str; 2] = ["plain", "picked"];
/// The guest without a systemd.
pub(crate) const STATIC: &str = "still";
const STACK: &str = "guests";

/// A booted host whose guests are up.
pub(crate) fn boot(name: &str) -> Testbed {
    let bed = Testbed::boot(&Options::new(name)).expect("the host boots");
    let systems = bed.homelab_systems().expect("the systems are listed");
    let debian = &systems["caddy"];
    let still = bed.static_guest(STATIC, &Behaviour::new()).expect("the system is added");
    let declare = |name: &str, system: &str, users: &str| {
        format!("[services.{name}]\nsystem = \"{system}\"\nprivate_users = \"{users}\"\n")
    };
    let services =
        [declare("plain", debian, "no"), declare("picked", debian, "pick"), declare(STATIC, &still, "no")];
    stack::write(&bed, STACK, &services.join("\n")).expect("the stack is written");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    stack::succeed(&bed, STACK, "up").expect("the guests come up");
    bed
}

/// Runs a script on the host, in which `nixmoxctl` is called; its failure is no error.
pub(crate) fn shell(bed: &Testbed, script: &str) -> Output {
    bed.shell(script).expect("the shell runs")
}

/// Runs a script whose exit status, output and errors must be these.
pub(crate) fn is(bed: &Testbed, script: &str, code: i32, stdout: &str, stderr: &str) {
    let output = shell(bed, script);
    let found = (output.code, output.stdout.as_str(), output.stderr.as_str());
    assert_eq!(found, (code, stdout, stderr), "`{script}`\n{}", journal(bed));
}

/// Runs a script that must fail so and say all of this on standard error.
pub(crate) fn refuses(bed: &Testbed, script: &str, code: i32, words: &[&str]) {
    let output = shell(bed, script);
    assert!(output.code == code, "`{script}` is to end with {code}: {output}\n{}", journal(bed));
    for word in words {
        assert!(output.stderr.contains(word), "`{script}` is to say `{word}`: {output}");
    }
}

/// The last lines of the agent's journal, for messages.
fn journal(bed: &Testbed) -> String {
    bed.journal(&["-u", "nixmox-agent", "-n", "20"]).unwrap_or_else(|error| format!("{error:#}"))
}
