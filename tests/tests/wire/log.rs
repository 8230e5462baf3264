//! What the server writes down: who changed what, and never what was said.

use std::io::Write;
use std::sync::{Arc, Mutex};

use nixmox_agent::server::{Limits, Role};
use serde_json::{Value, json};
use tracing::{Dispatch, Level};

use crate::harness::{Everybody, Setup, TestServer, limits, short_limits};

/// A word that stands for a secret, wherever a request can hold one.
const CANARY: &str = "canary-2f9d";

/// The log of a server's thread, everything down to trace.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn dispatch(&self) -> Dispatch {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(Level::TRACE);
        Dispatch::new(subscriber.with_writer(move || log.clone()).finish())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn start(role: Option<Role>, limits: Limits) -> (TestServer, Log) {
    let log = Log::default();
    let setup = Setup { log: log.dispatch(), limits, ..Setup::default() };
    (TestServer::start(setup, move || async move { Everybody(role) }), log)
}

fn request() -> Value {
    let service = json!({
        "name": "web", "origin": { "file": "nixmox.toml", "line": 1, "health_line": 0 }, "kind": "service",
        "system": format!("/nix/store/{}-nixos-system", "a".repeat(32)), "depends_on": [],
        "health": { "exec": ["/bin/check", CANARY], "interval_ms": 1000, "timeout_ms": 1000, "retries": 3,
                    "start_period_ms": 1000, "on_unhealthy": "report" },
        "limits": { "allowed_cpus": [], "io_read_bandwidth_max": [], "io_write_bandwidth_max": [] },
        "network": { "mode": "private" }, "ports": [], "mounts": [], "tmpfs": [],
        "credentials": { "key": format!("/run/secrets/{CANARY}") },
        "environment": { "PASSWORD": CANARY }, "devices": [], "capabilities": [], "ephemeral": false,
        "private_users": "no", "nspawn_flags": [format!("--x={CANARY}")],
        "restart": { "policy": "always", "delay_ms": 1, "delay_max_ms": 1 },
    });
    json!({ "stack": "cloud", "file": "/srv/nixmox.toml", "address_pool": "10.233.0.0/16", "services": [service],
            "only": [], "prune": false })
}

#[test]
fn a_change_is_written_down_with_who_what_and_outcome() {
    let (mut server, log) = start(Some(Role::Operator), limits());
    let mut client = server.connect();
    client.call("io.nixmox.Agent.Apply", json!({ "request": request() }));
    client.call("io.nixmox.Agent.Stop", json!({ "names": ["web"], "with_dependents": false }));
    client.call("io.nixmox.Agent.Restart", json!({ "names": ["a", "b"] }));
    client.call("io.nixmox.Agent.Status", json!({}));
    server.join();
    let text = log.text();
    let who = format!("uid={} pid={}", nix::unistd::geteuid(), nix::unistd::getpid());
    for (method, outcome) in [("Apply", "generation 42"), ("Stop", "HasDependents"), ("Restart", "2 services")] {
        let line = format!("{who} method=\"io.nixmox.Agent.{method}\" outcome=\"{outcome}\"");
        assert!(text.lines().any(|found| found.contains(" INFO ") && found.contains(&line)), "{line} in:\n{text}");
    }
    assert!(!text.contains("Agent.Status"), "looking is no change:\n{text}");
}

#[test]
fn a_refusal_is_written_down_once_however_often_it_is_tried() {
    let (mut server, log) = start(Some(Role::Observer), limits());
    for _ in 0..20 {
        server.connect().call("io.nixmox.Agent.Restart", json!({ "names": ["web"] }));
    }
    server.join();
    let text = log.text();
    let refusals = text.lines().filter(|line| line.contains("outcome=\"NotPermitted\"")).count();
    assert_eq!(refusals, 1, "{text}");
}

#[test]
fn nothing_that_a_client_says_is_written_down() {
    for role in [None, Some(Role::Observer), Some(Role::Operator)] {
        // Half a message ends its connection only with the time that it is given.
        let (mut server, log) = start(role, short_limits());
        let mut client = server.connect();
        for method in ["Apply", "Plan", "Status", CANARY] {
            client.call(&format!("io.nixmox.Agent.{method}"), json!({ "request": request() }));
        }
        let mut invalid = request();
        invalid["services"][0]["environment"]["PASSWORD"] = json!(format!("{CANARY}\n"));
        client.call("io.nixmox.Agent.Apply", json!({ "request": invalid }));
        client.call("io.nixmox.Agent.Apply", json!({ "request": CANARY }));
        client.call("io.nixmox.Agent.Apply", json!({ "request": { CANARY: CANARY } }));
        client.call("io.nixmox.Agent.RemoveData", json!({ "name": CANARY }));
        for nonsense in [
            format!("{CANARY}\0"),
            format!("{{\"method\":\"x\",\"oneway\":\"{CANARY}\"}}\0"),
            format!("{{\"method\":{{\"{CANARY}\":1}}}}\0"),
            CANARY.to_owned(),
        ] {
            let mut client = server.connect();
            client.send(nonsense.as_bytes());
            client.expect_end();
        }
        server.join();
        let text = log.text();
        assert!(text.contains("connection ended"), "the log was heard:\n{text}");
        assert!(!text.contains(CANARY), "{text}");
    }
}

#[test]
fn a_crowd_that_is_turned_away_is_written_down_once_with_who_it_is() {
    let log = Log::default();
    let limits = Limits { connections: 1, connections_for_operators: 0, ..limits() };
    let setup = Setup { log: log.dispatch(), limits, ..Setup::default() };
    let mut server = TestServer::start(setup, || async { Everybody(Some(Role::Operator)) });
    let mut first = server.connect();
    first.expect_served();
    for _ in 0..5 {
        assert!(server.connect().receive().is_none(), "it is closed");
    }
    server.join();
    let text = log.text();
    let line = format!("uid={} pid={}", nix::unistd::geteuid(), nix::unistd::getpid());
    let found: Vec<&str> = text.lines().filter(|found| found.contains("too many connections")).collect();
    assert!(matches!(found.as_slice(), [one] if one.contains(" INFO ") && one.contains(&line)), "{text}");
}
