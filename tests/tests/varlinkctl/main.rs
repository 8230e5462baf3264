//! systemd's own client, `varlinkctl`, against the real agent on a real systemd: what it prints, who may do what,
//! streams, activation by the socket, and what the journal is told.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod roles;
mod secrets;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use nixmox_testbed::{Options, Testbed};
use serde_json::{Value, json};

const ADDRESS: &str = "/run/nixmox/io.nixmox.Agent";
/// Longest wait for a message of a watch.
const LIMIT: Duration = Duration::from_mins(2);
/// A word that stands for a secret, wherever a request can hold one.
const CANARY: &str = "canary-7c41";

fn boot(name: &str) -> Testbed {
    let bed = Testbed::boot(&Options::new(name).without_homelab()).expect("the host boots");
    bed.wait_until(&format!("test -S {ADDRESS}"), LIMIT).expect("the socket is there");
    bed
}

/// Calls a method as root and returns the reply, without the signs between the messages of a stream.
fn call(bed: &Testbed, method: &str, parameters: &Value) -> Value {
    let output =
        bed.succeed(&format!("varlinkctl call --json=short {ADDRESS} io.nixmox.Agent.{method} '{parameters}'"));
    serde_json::from_str(&output.expect("the call succeeds")).expect("JSON")
}

fn request(environment: &Value) -> Value {
    let service = json!({
        "name": "web", "origin": { "file": "nixmox.toml", "line": 1, "health_line": 0 }, "kind": "service",
        "system": format!("/nix/store/{}-not-there", "a".repeat(32)), "depends_on": [],
        "limits": { "allowed_cpus": [], "io_read_bandwidth_max": [], "io_write_bandwidth_max": [] },
        "network": { "mode": "private" }, "ports": [], "mounts": [], "tmpfs": [], "credentials": {},
        "environment": environment, "devices": [], "capabilities": [], "ephemeral": false, "private_users": "no",
        "nspawn_flags": [],
        "restart": { "policy": "no", "delay_ms": 1000, "delay_max_ms": 1000 },
    });
    json!({ "request": { "stack": "cloud", "file": "/root/nixmox.toml", "address_pool": "10.233.0.0/16",
                         "services": [service], "only": [], "prune": false } })
}

#[test]
fn varlinkctl_describes_calls_and_is_told_who_may_not() {
    let bed = boot("varlinkctl");

    let info = bed.succeed(&format!("varlinkctl info {ADDRESS}")).expect("it says who it is");
    assert!(info.contains("nixmox-agent") && info.contains("io.nixmox.Agent"), "{info}");
    let interface =
        bed.succeed(&format!("varlinkctl introspect {ADDRESS} io.nixmox.Agent")).expect("it is described");
    for method in nixmox_api::DESCRIPTION.methods() {
        assert!(interface.contains(&format!("method {}(", method.name())), "{} in {interface}", method.name());
    }
    // varlinkctl parses the description and prints it from what it understood.
    assert!(interface.contains("# Returns the snapshot. Role: observer."), "{interface}");
    let valid = bed.succeed(&format!("varlinkctl introspect {ADDRESS} io.nixmox.Agent | varlinkctl validate-idl"));
    valid.expect("systemd finds the description valid");

    let status = call(&bed, "Status", &json!({}));
    assert_eq!(status["host"]["generation"], 0, "{status}");

    for (user, groups, look, change) in [
        ("nobodyish", &[][..], false, false),
        ("anna", &["nixmox"][..], true, false),
        ("bob", &["nixmox-operator"][..], true, true),
    ] {
        bed.add_user(user, groups).expect("the user is added");
        for (method, parameters, allowed) in
            [("Status", "{}", look), ("Restart", "{\"names\":[\"absent\"]}", change)]
        {
            let line = format!("varlinkctl call {ADDRESS} io.nixmox.Agent.{method} '{parameters}'");
            let output = bed.shell_as(user, &line).expect("it runs");
            let refused = output.stderr.contains("io.nixmox.Agent.NotPermitted");
            assert_eq!(refused, !allowed, "{user} calls {method}: {output}");
        }
    }
    let absent = bed.fail(&format!("varlinkctl call {ADDRESS} io.nixmox.Agent.Paths '{{\"name\":\"absent\"}}'"));
    let absent = absent.expect("there is no such service");
    assert!(absent.stderr.contains("io.nixmox.Agent.UnknownService"), "{absent}");
}

#[test]
fn varlinkctl_follows_a_watch_and_the_socket_brings_a_dead_agent_back() {
    let bed = boot("watch");
    let mut watch = bed.command("varlinkctl");
    watch.args(["call", "--more", "--json=short", ADDRESS, "io.nixmox.Agent.Watch", "{}"]);
    watch.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().expect("it starts");
    let updates = updates(watch.stdout.take().expect("its output"));
    let first = updates.recv_timeout(LIMIT).expect("the snapshot");
    assert_eq!(first["kind"], "snapshot", "{first}");

    let applied = call(&bed, "Apply", &request(&json!({})));
    assert_eq!(applied["generation"], 1, "{applied}");
    let mut number = first["number"].as_u64().expect("a number");
    loop {
        let update = updates.recv_timeout(LIMIT).expect("an event");
        assert_eq!(update["number"], number + 1, "{update}");
        number += 1;
        if update["event"] == "generation" {
            break;
        }
    }

    // A client sees the end of its agent, and the next call starts another.
    bed.succeed("systemctl kill --signal=KILL nixmox-agent.service").expect("it is killed");
    let ended = watch.wait_with_output().expect("it ends");
    assert!(!ended.status.success(), "a watch whose agent died has failed");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("io.systemd.Disconnected"), "{said}");
    let status = call(&bed, "Status", &json!({}));
    assert_eq!(status["host"]["generation"], 1, "{status}");
}

#[test]
fn a_secret_in_a_request_is_not_in_the_journal() {
    let bed = boot("canary");
    call(&bed, "Plan", &request(&json!({ "PASSWORD": CANARY })));
    call(&bed, "Apply", &request(&json!({ "PASSWORD": CANARY })));
    let broken = request(&json!({ "PASSWORD": format!("{CANARY}\u{7}") }));
    bed.fail(&format!("varlinkctl call {ADDRESS} io.nixmox.Agent.Apply '{broken}'")).expect("it is refused");
    // The agent tries to start it, and says what went wrong.
    let tried = "journalctl --quiet -u nixmox-agent --grep=not-there";
    bed.wait_until(tried, LIMIT).expect("it has worked with the request");
    bed.sync_journal().expect("synchronised");
    let journal = bed.succeed("journalctl --output=export --no-pager").expect("the journal");
    assert!(journal.contains("NIXMOX_METHOD=io.nixmox.Agent.Apply"), "who changed what is there");
    let said: Vec<&str> = journal.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(said.is_empty(), "{said:?}");
}

/// Reads the messages of a stream, each a line.
fn updates(output: impl std::io::Read + Send + 'static) -> mpsc::Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Formats with a record separator have it before each line.
            let text = line.trim_start_matches('\u{1e}').trim();
            if text.is_empty() {
                continue;
            }
            let update = serde_json::from_str(text).expect("JSON");
            if sender.send(update).is_err() {
                return;
            }
        }
    });
    receiver
}
