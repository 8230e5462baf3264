//! What a person learns from `why`, `graph` and `top` on a real systemd: a chain of waiting down to its root, a crash loop,
//! who restarted what, and what it all uses.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use nixmox_api::Status;
use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::Host;
use nixmox_tests::{agent, say};
use serde_json::Value;

/// Longest time until a service that was killed is well again, on a busy machine.
const RECOVERY: Duration = Duration::from_mins(2);

/// Returns what a command printed on standard output, told to whoever runs the test.
fn told(stack: &Stack<'_>, arguments: &str) -> String {
    let output = stack.succeed(arguments).expect("it looks, and changes nothing");
    say(&format!("$ nixmoxctl {arguments}\n{}", output.stdout));
    output.stdout
}

/// Fails unless a text has all of these, whatever its lines.
fn assert_says(text: &str, words: &[&str]) {
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words {
        assert!(said.contains(word), "`{word}` is not said:\n{text}");
    }
}

fn number(service: &Value, field: &str) -> f64 {
    service.get(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {field}: {service}"))
}

#[test]
fn trouble_is_explained_and_what_is_used_is_shown() {
    let host = Host::boot("insight").expect("a host");
    let stack = Stack::new(&host, "insight");
    come_into_trouble(&host, &stack);
    trouble_is_explained(&stack);
    restarts_are_explained(&host, &stack);
    who_cannot_read_the_manifest_still_gets_the_place(&host);
    gates_are_drawn(&stack);
    what_is_used_is_shown(&host, &stack);
    stack.succeed("down").expect("taken down");
}

#[test]
fn the_share_of_a_processor_is_of_the_time_since_the_start_began() {
    let host = Host::boot("share").expect("a host");
    let stack = Stack::new(&host, "share");
    // One thread that spins, of which a moment lies after it is up.
    let busy = host.guest("busy", &Behaviour::new().ready_after(Duration::from_secs(4)).spins()).expect("a system");
    stack.declare(&[&format!("[services.busy]\nsystem = \"{busy}\"")]).expect("a manifest");
    stack.succeed("up").expect("up");
    // One that nobody has asked before compares with nothing.
    host.succeed("systemctl restart nixmox-agent").expect("another agent");
    let share = |status: &Status| status.services.first().and_then(|service| service.cpu_percent);
    let first = agent::wait_for(&host, RECOVERY, |status| share(status).map(drop).context("no share"));
    let share = share(&first.expect("it answers")).expect("a share");
    assert!(share > 0.0 && share < 150.0, "{share} %");
    stack.succeed("down").expect("taken down");
}

/// Declares services of which some cannot come up, and waits until that is known.
fn come_into_trouble(host: &Host, stack: &Stack<'_>) {
    let ill = host.guest("ill", &Behaviour::new().http(80).http_status(503)).expect("a system");
    let crash =
        host.guest("crash", &Behaviour::new().log("cannot open database").exit_at_once(3)).expect("a system");
    let well = host.guest("well", &Behaviour::new().http(80).spins()).expect("a system");
    let patient = "health = { http = \"http://localhost/\", interval = \"1s\" }";
    let check = patient.replace('}', ", start_period = \"2s\", retries = 2 }");
    stack
        .declare(&[
            &format!("[services.db]\nsystem = \"{ill}\"\n{check}"),
            &format!("[services.app]\nsystem = \"{well}\"\ndepends_on = {{ db = \"healthy\" }}"),
            &format!("[services.web]\nsystem = \"{well}\"\ndepends_on = [\"app\", \"busy\"]"),
            &format!(
                "[services.crash]\nsystem = \"{crash}\"\nrestart = {{ delay = \"10min\", delay_max = \"10min\" }}"
            ),
            &format!("[services.lost]\nsystem = \"{well}\"\nmounts = [\"/srv/no-such-disk:/data\"]"),
            &format!("[services.busy]\nsystem = \"{well}\"\n{patient}\nlimits = {{ tasks_max = 64 }}"),
        ])
        .expect("a manifest");
    stack.ctl("up --timeout 20s").expect("whatever it says");
    stack.becomes_healthy("busy").expect("healthy");
    let waits = ".services[] | select(.name == \"web\" and .waits_for == [\"app: started\"])";
    let is_ill = ".services[] | select(.name == \"db\" and .state == \"unhealthy\")";
    let failed = ".services[] | select(.name == \"crash\" and .state == \"failed\" and (.log | length) > 0)";
    for query in [waits, is_ill, failed] {
        host.wait_until(&format!("nixmoxctl --all status --json | jq -e '{query}'"), RECOVERY).expect("trouble");
    }
}

fn trouble_is_explained(stack: &Stack<'_>) {
    assert_says(
        &told(stack, "why web"),
        &[
            "web waiting for",
            "gate app: started, not met since",
            "from nixmox.toml:",
            "| depends_on = [\"app\", \"busy\"]",
            "then app waits for db: healthy, since",
            "root db is unhealthy since",
            "✗ db unhealthy for",
            "probe http://localhost/ -> 503",
            "| health = { http = \"http://localhost/\"",
            "try it answers, and says that it is ill",
        ],
    );
    assert_says(
        &told(stack, "why crash"),
        &[
            "crash failed for",
            "exit-code 3",
            "next it is started again in",
            "log",
            "cannot open database",
            "nixmoxctl start crash",
        ],
    );
    assert_says(
        &told(stack, "why lost"),
        &["the mount source `/srv/no-such-disk`", "| mounts = [\"/srv/no-such-disk:/data\"]", "mkdir -p"],
    );
}

fn restarts_are_explained(host: &Host, stack: &Stack<'_>) {
    stack.succeed("restart busy").expect("another instance");
    stack.becomes_healthy("busy").expect("healthy");
    assert_says(
        &told(stack, "why busy"),
        &["last ended", "a restart was asked for by root", "probe http://localhost/ -> 200"],
    );
    let before = stack.healthy("busy").expect("healthy");
    host.succeed("kill -9 $(systemctl show -P MainPID container@busy)").expect("nspawn is killed");
    let again = format!(
        ".services[] | select(.name == \"busy\" and .state == \"healthy\" and .invocation != \"{before}\")"
    );
    host.wait_until(&format!("nixmoxctl --all status --json | jq -e '{again}'"), RECOVERY).expect("it recovers");
    assert_says(&told(stack, "why busy"), &["last ended", "ended with signal KILL"]);
}

fn who_cannot_read_the_manifest_still_gets_the_place(host: &Host) {
    host.succeed("useradd --groups nixmox looker && chmod 700 /srv/insight").expect("an observer");
    let seen = host.succeed("cd / && runuser -u looker -- nixmoxctl why web").expect("an observer may look");
    assert!(seen.contains("nixmox.toml:") && !seen.contains("| depends_on"), "{seen}");
}

fn gates_are_drawn(stack: &Stack<'_>) {
    let tree = told(stack, "graph");
    assert_says(
        &tree,
        &["… web", "├─ … app", "started, not met", "✗ db", "healthy, not met", "● busy", "started, met"],
    );
    assert!(told(stack, "graph --dot").contains("\"app\" -> \"db\" [label=\"healthy\", style=dashed"));
}

fn what_is_used_is_shown(host: &Host, stack: &Stack<'_>) {
    let figures = || -> Value {
        let text = stack.succeed("top --json -d 1 busy").expect("figures").stdout;
        serde_json::from_str::<Value>(&text).expect("a document")["services"][0].clone()
    };
    let address = stack.field("busy", "address").expect("an address");
    let fetch = || host.succeed(&format!("curl -sf -o /dev/null http://{address}/")).expect("it answers");
    fetch();
    // A second in which a busy machine does not run it at all tells nothing.
    let begun = Instant::now();
    let first = loop {
        let first = figures();
        say(&format!("{first}"));
        if number(&first, "cpu_percent") > 1.0 {
            break first;
        }
        assert!(begun.elapsed() < RECOVERY, "it spins: {first}");
    };
    assert!(number(&first, "cpu_usec") > 0.0, "it spins: {first}");
    fetch();
    let second = figures();
    for counter in ["network_receive_bytes", "network_transmit_bytes", "cpu_usec"] {
        assert!(number(&second, counter) > number(&first, counter), "{counter}: {first} {second}");
    }
    assert!(first["invocation"].is_string() && first["restarts"].is_u64(), "{first}");
    // What this kernel's cgroups have no file for is not there, and not 0.
    let cgroup = host.succeed("systemctl show -P ControlGroup container@busy").expect("it runs");
    for (file, field) in [
        ("memory.current", "memory_current"),
        ("pids.current", "tasks_current"),
        ("cpu.pressure", "cpu_pressure"),
        ("memory.events", "oom_kills"),
        ("io.stat", "io_read_bytes"),
    ] {
        let there =
            host.succeed(&format!("test -r /sys/fs/cgroup{cgroup}/{file} && echo yes || echo no")).expect("told");
        assert_eq!(first.get(field).is_some(), there == "yes", "{file}: {first}");
    }
    let table = told(stack, "top -d 2 --sort cpu");
    assert!(table.lines().nth(1).is_some_and(|line| line.contains("busy") && line.contains('%')), "{table}");
}
