//! What a client attends: descriptors arrive, the end is told, and leaving ends it.

use std::io::Write;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use nixmox_agent::server::Role;
use nixmox_api::{AgentProxy, ExecReply, ExecRequest};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::fake::Fake;
use crate::harness::{Everybody, Setup, TestServer, limits, short_limits, wait_until};

fn start(limits: nixmox_agent::server::Limits) -> TestServer {
    // A command goes on until the test lets it end.
    let mut fake = Fake::new(1);
    fake.gate = Arc::new(Semaphore::new(0));
    TestServer::start(Setup { limits, fake, ..Setup::default() }, || async { Everybody(Some(Role::Operator)) })
}

fn request() -> Value {
    json!({ "name": "web", "command": ["sleep", "1"], "login": false, "environment": [] })
}

fn call(parameters: Value) -> String {
    json!({ "method": "io.nixmox.Agent.Exec", "parameters": parameters, "more": true }).to_string()
}

#[test]
fn a_command_hands_its_descriptors_over_and_tells_its_end() {
    let server = start(limits());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut agent = zlink::tokio::unix::connect(server.path()).await.expect("the server listens");
        let request: ExecRequest = serde_json::from_value(request()).unwrap();
        let mut replies = pin!(agent.exec(&request).await.expect("it is sent"));
        let (first, mut descriptors) = replies.next().await.expect("a reply").expect("it can be read");
        assert_eq!((first.unwrap(), descriptors.len()), (ExecReply::default(), 1));
        std::fs::File::from(descriptors.pop().unwrap()).write_all(b"to the command").expect("it is open there");
        server.fake.gate.add_permits(1);
        let (last, none) = replies.next().await.expect("a reply").expect("it can be read");
        assert_eq!((last.unwrap().exit_status, none.len()), (Some(2), 0));
    });
    wait_until("it is over", || server.fake.attended() == 0);
}

#[test]
fn a_client_that_leaves_or_speaks_leaves_its_command() {
    let server = start(limits());
    for speaks in [false, true] {
        let mut client = server.connect();
        assert_eq!(client.call_raw(&call(json!({ "request": request() })))["continues"], true);
        assert_eq!(server.fake.attended(), 1);
        if speaks {
            client.send(b"{}\0");
            client.expect_end();
        }
        drop(client);
        wait_until("the command is left", || server.fake.attended() == 0);
    }
}

#[test]
fn a_command_may_take_longer_than_a_client_may_be_silent() {
    let server = start(short_limits());
    let mut client = server.connect();
    client.call_raw(&call(json!({ "request": request() })));
    let mut idle = server.connect();
    // The other connection has had its time: so has this one.
    idle.expect_end();
    server.fake.gate.add_permits(1);
    assert_eq!(client.receive().expect("the end")["parameters"]["exit_status"], 2);
    // It is served as before.
    client.expect_served();
}

#[test]
fn a_command_for_which_nobody_would_stay_is_not_begun() {
    let server = start(limits());
    let mut client = server.connect();
    let answer = client.call("io.nixmox.Agent.Exec", json!({ "request": request() }));
    assert_eq!(answer["error"], "org.varlink.service.ExpectedMore");
    let oneway = json!({ "method": "io.nixmox.Agent.Exec", "parameters": { "request": request() }, "more": true,
                         "oneway": true });
    client.send(format!("{oneway}\0").as_bytes());
    client.expect_served();
    let strange = json!({ "request": { "name": "../web", "command": [], "login": false, "environment": [] } });
    assert_eq!(client.call_raw(&call(strange))["error"], "io.nixmox.Agent.UnknownService");
    let unknown =
        json!({ "request": { "name": "web", "command": [], "login": false, "environment": [], "root": 1 } });
    assert_eq!(client.call_raw(&call(unknown))["error"], "io.nixmox.Agent.Invalid");
    assert_eq!(server.fake.attended(), 0);
    let copy = json!({ "request": { "name": "..", "path": "/", "into": true, "follow": false } });
    assert_eq!(client.call("io.nixmox.Agent.Copy", copy.clone())["error"], "org.varlink.service.ExpectedMore");
    let copy = json!({ "method": "io.nixmox.Agent.Copy", "parameters": copy, "more": true }).to_string();
    assert_eq!(client.call_raw(&copy)["error"], "io.nixmox.Agent.UnknownService");
}
