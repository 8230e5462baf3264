//! Streams: order, falling behind, leaving, stopping.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use nixmox_agent::server::{Limits, Role};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::fake::Fake;
use crate::harness::{Everybody, Raw, Setup, TestServer, limits, short_limits, wait_until};

const WATCH: &str = r#"{"method":"io.nixmox.Agent.Watch","more":true}"#;

/// Larger than what a socket holds for a client that does not read.
const LARGE: usize = 1 << 20;

fn start(capacity: usize) -> TestServer {
    start_with(capacity, limits())
}

fn start_with(capacity: usize, limits: Limits) -> TestServer {
    let setup = Setup { fake: Fake::new(capacity), limits, ..Setup::default() };
    TestServer::start(setup, || async { Everybody(Some(Role::Observer)) })
}

fn watch(server: &TestServer) -> (Raw, Value) {
    let mut client = server.connect();
    let first = client.call_raw(WATCH);
    (client, first)
}

#[test]
fn a_watch_begins_with_the_snapshot_and_misses_no_event() {
    let server = start(1024);
    server.fake.send_event(1);
    let (mut client, first) = watch(&server);
    assert_eq!(first["continues"], true);
    assert_eq!(first["parameters"]["kind"], "snapshot");
    assert_eq!(first["parameters"]["number"], 1);
    let sent: Vec<u64> = (0..100).map(|_| server.fake.send_event(1)).collect();
    for number in sent {
        let event = client.receive().expect("an event");
        assert_eq!(event["parameters"]["number"], number);
        assert_eq!(event["parameters"]["resynchronize"], false);
        assert_eq!(event["continues"], true);
    }
}

#[test]
fn an_event_that_the_snapshot_has_is_not_sent_again() {
    let server = start(1024);
    server.fake.event_while_watch_begins.store(true, Ordering::SeqCst);
    let (mut client, first) = watch(&server);
    assert_eq!(first["parameters"]["number"], 1);
    let next = server.fake.send_event(1);
    assert_eq!(client.receive().expect("an event")["parameters"]["number"], next);
}

#[test]
fn an_agent_that_has_just_started_answers_when_it_knows_something() {
    let server = start(1024);
    server.fake.started.forget_permits(Semaphore::MAX_PERMITS);
    let mut waiting = server.connect();
    waiting.send(b"{\"method\":\"io.nixmox.Agent.Status\"}\0");
    waiting.0.set_nonblocking(true).unwrap();
    // Others do not wait with it.
    server.connect().call("org.varlink.service.GetInfo", serde_json::json!({}));
    let answered = std::io::Read::read(&mut waiting.0, &mut [0]).map_err(|error| error.kind());
    assert_eq!(answered, Err(ErrorKind::WouldBlock), "it knows nothing yet");
    waiting.0.set_nonblocking(false).unwrap();
    server.fake.started.add_permits(1);
    assert!(waiting.receive().expect("an answer")["parameters"].is_object());
}

#[test]
fn a_client_that_fell_behind_gets_a_snapshot_and_is_told_so() {
    let server = start(4);
    let (mut client, first) = watch(&server);
    // The first fills the socket, so that the server waits; of the others the channel holds only the last four.
    let last = (0..20).fold(0, |_, _| server.fake.send_event(LARGE));
    let mut number = first["parameters"]["number"].as_u64().expect("a number");
    let mut told = 0;
    while number < last {
        let update = client.receive().expect("an update")["parameters"].take();
        let next = update["number"].as_u64().expect("a number");
        if update["resynchronize"] == true {
            assert_eq!(update["kind"], "snapshot");
            assert!(update["status"].is_object() && next > number, "{update}");
            told += 1;
        } else {
            assert_eq!(next, number + 1, "an event is missing, and nobody said so");
        }
        number = next;
    }
    assert!(told > 0, "it fell behind, and nobody said so");
    let next = server.fake.send_event(1);
    assert_eq!(client.receive().expect("an event")["parameters"]["number"], next);
}

#[test]
fn a_client_that_stops_reading_a_watch_is_dropped_and_holds_nobody_up() {
    let server = start_with(1024, short_limits());
    let (mut reading, _) = watch(&server);
    let (mut stuck, _) = watch(&server);
    assert_eq!(server.fake.watches(), 2);
    let number = server.fake.send_event(LARGE);
    let event = reading.receive().expect("the other client gets it at once");
    assert_eq!(event["parameters"]["number"], number);
    wait_until("the client that does not read is dropped", || server.fake.watches() == 1);
    stuck.expect_end();
    let number = server.fake.send_event(1);
    assert_eq!(reading.receive().expect("an event")["parameters"]["number"], number);
    // The one that was dropped may come again.
    let (_, first) = watch(&server);
    assert_eq!(first["parameters"]["number"], number);
}

#[test]
fn a_client_that_leaves_a_watch_is_noticed_without_an_event() {
    let server = start(1024);
    let (client, _) = watch(&server);
    assert_eq!(server.fake.watches(), 1);
    drop(client);
    wait_until("the watch has ended", || server.fake.watches() == 0);
}

#[test]
fn a_watch_is_not_idle() {
    let server = start_with(1024, short_limits());
    let (mut client, _) = watch(&server);
    // Another client with nothing to say is dropped after the time that the watch must survive.
    server.connect().expect_end();
    let number = server.fake.send_event(1);
    assert_eq!(client.receive().expect("an event")["parameters"]["number"], number);
}

#[test]
fn a_call_during_a_watch_ends_that_connection() {
    let server = start(1024);
    let (mut client, _) = watch(&server);
    client.send(b"{\"method\":\"io.nixmox.Agent.Status\"}\0");
    client.expect_end();
    let mut both = server.connect();
    both.send(format!("{WATCH}\0{{\"method\":\"io.nixmox.Agent.Status\"}}\0").as_bytes());
    both.expect_end();
    wait_until("the watches have ended", || server.fake.watches() == 0);
}

#[test]
fn a_server_that_stops_ends_its_watches_and_finishes_its_calls() {
    let mut server = TestServer::for_everybody(Some(Role::Operator));
    let (mut watching, _) = watch(&server);
    let mut idle = server.connect();
    idle.expect_served();
    let mut calling = server.connect();
    server.fake.gate.forget_permits(Semaphore::MAX_PERMITS);
    calling.send(b"{\"method\":\"io.nixmox.Agent.Restart\",\"parameters\":{\"names\":[\"web\"]}}\0");
    wait_until("the call has begun", || server.fake.restarts_begun() == 1);
    server.request_stop();
    watching.expect_end();
    idle.expect_end();
    server.fake.gate.add_permits(1);
    assert_eq!(calling.receive().expect("the call is finished")["parameters"]["services"][0], "web");
    calling.expect_end();
    server.join();
    assert_eq!(server.fake.calls().len(), 1);
}
