//! What a bad client does to itself, while a good one is served.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nixmox_agent::server::Role;
use serde_json::json;

use crate::harness::{Everybody, LIMIT, Raw, Setup, TestServer, limits, short_limits};

/// Longest time that a good client waits for an answer while a bad one does its worst; it takes about 1 ms. Who is held up waits for
/// the limits of time.
const PROMPT: Duration = Duration::from_secs(4);

fn operator() -> TestServer {
    TestServer::for_everybody(Some(Role::Operator))
}

/// One whose limits of time are waited for.
fn impatient_operator() -> TestServer {
    let setup = Setup { limits: short_limits(), ..Setup::default() };
    TestServer::start(setup, || async { Everybody(Some(Role::Operator)) })
}

/// Checks that a new client is served, and soon.
fn expect_prompt(server: &TestServer) {
    let begun = Instant::now();
    server.connect().expect_served();
    assert!(begun.elapsed() < PROMPT, "a good client waited for {:?}", begun.elapsed());
}

/// Sends bytes to a server and checks that it ends this connection without an answer, and not because time went by.
fn expect_ended(bytes: &[u8]) {
    let server = operator();
    let mut client = server.connect();
    // The server may end it before it has read everything.
    let _ = client.0.write_all(bytes);
    assert_eq!(client.receive(), None, "{:?}", String::from_utf8_lossy(bytes).get(..80));
    expect_prompt(&server);
}

#[test]
fn a_message_that_is_too_large_ends_its_connection() {
    let limit = limits().message_bytes;
    expect_ended(&vec![b' '; limit * 2]);
    let mut whole = br#"{"method":"io.nixmox.Agent.Status"}"#.to_vec();
    whole.resize(limit + 1, b' ');
    whole.push(0);
    expect_ended(&whole);
}

#[test]
fn a_message_of_exactly_the_limit_is_answered() {
    let server = operator();
    let mut whole = br#"{"method":"io.nixmox.Agent.Status"}"#.to_vec();
    whole.resize(limits().message_bytes, b' ');
    whole.push(0);
    let mut client = server.connect();
    client.send(&whole);
    assert!(client.receive().expect("an answer")["parameters"].is_object());
}

#[test]
fn what_is_not_a_call_ends_its_connection() {
    for bytes in [
        &b"\0"[..],
        b"\0\0\0\0\0",
        b"hello\0",
        b"{}\0",
        b"[]\0",
        b"null\0",
        b"{\"method\":5}\0",
        b"{\"method\":[\"io.nixmox.Agent.Status\"]}\0",
        b"{\"method\":\"io.nixmox.Agent.Status\",\"oneway\":\"yes\"}\0",
        b"{\"method\":\"io.nixmox.Agent.Status\",\"method\":\"io.nixmox.Agent.Status\"}\0",
        b"{\"method\":\"io.nixmox.Agent.Status\"} trailing\0",
        b"{\"method\":\"io.nixmox.Agent.Status\"\0",
        b"\xff\xfe\x00\x01\x02\x80\xc3\x28\0",
        b"{\"method\":\"\xff\xfe\"}\0",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\0",
    ] {
        expect_ended(bytes);
    }
}

#[test]
fn parameters_of_the_wrong_type_are_answered_with_an_error() {
    let server = operator();
    let mut client = server.connect();
    for parameters in [
        json!(5),
        json!([]),
        json!("request"),
        json!({}),
        json!({ "request": null }),
        json!({ "request": { "stack": 5 } }),
        json!({ "request": { "services": [[[]]] } }),
    ] {
        let answer = client.call("io.nixmox.Agent.Apply", parameters.clone());
        assert_eq!(answer["error"], "io.nixmox.Agent.Invalid", "{parameters}");
    }
    client.expect_served();
    assert!(server.fake.calls().is_empty());
}

#[test]
fn deep_nesting_does_not_reach_the_stack() {
    let server = TestServer::for_everybody(Some(Role::Operator));
    let depth = limits().message_bytes / 2 - 100;
    let deep = "[".repeat(depth) + &"]".repeat(depth);
    // Where nobody looks, in parameters that are read, and beside them.
    let ignored =
        server.connect().call_raw(&format!(r#"{{"method":"io.nixmox.Agent.Status","parameters":{deep}}}"#));
    assert!(ignored.get("error").is_none(), "{ignored}");
    let read = server.connect().call_raw(&format!(r#"{{"method":"io.nixmox.Agent.Apply","parameters":{deep}}}"#));
    assert_eq!(read["error"], "io.nixmox.Agent.Invalid");
    let inside = format!(r#"{{"method":"io.nixmox.Agent.Plan","parameters":{{"request":{{"services":{deep}}}}}}}"#);
    assert_eq!(server.connect().call_raw(&inside)["error"], "io.nixmox.Agent.Invalid");
    let beside = format!(r#"{{"method":"io.nixmox.Agent.Status","x":{deep}}}"#);
    let answer = server.connect().call_raw(&beside);
    assert!(answer.get("error").is_none(), "{answer}");
    expect_prompt(&server);
}

#[test]
fn half_a_message_and_then_nothing_ends_its_connection() {
    let server = impatient_operator();
    let mut client = server.connect();
    client.send(b"{\"method\":");
    client.expect_end();
    expect_prompt(&server);
}

#[test]
fn half_a_message_and_then_the_end_is_no_trouble() {
    let server = operator();
    let mut client = server.connect();
    client.send(b"{\"method\":");
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_end();
    expect_prompt(&server);
}

#[test]
fn a_message_that_comes_byte_by_byte_must_still_end_in_time() {
    let server = impatient_operator();
    let begun = Instant::now();
    let mut client = server.connect();
    // Each byte comes soon enough; the whole does not.
    let mut good = server.connect();
    while client.0.write_all(b" ").is_ok() {
        assert!(begun.elapsed() < LIMIT, "the connection did not end");
        good.expect_served();
        thread::sleep(short_limits().idle / 20);
    }
    assert!(begun.elapsed() >= short_limits().idle);
    expect_prompt(&server);
}

#[test]
fn a_client_that_never_reads_its_answers_is_dropped() {
    let server = impatient_operator();
    let mut client = server.connect();
    let call =
        br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.nixmox.Agent"}}"#;
    let ended = loop {
        if let Err(error) = client.0.write_all(call).and_then(|()| client.0.write_all(&[0])) {
            break error.kind();
        }
    };
    // Not `WouldBlock`, which is this client's own time limit.
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended:?}");
    client.expect_end();
    expect_prompt(&server);
}

#[test]
fn a_flood_of_calls_is_answered_in_order_and_others_are_served_meanwhile() {
    const CALLS: usize = 20_000;
    let server = operator();
    let flooding = server.connect();
    let mut writer = flooding.0.try_clone().unwrap();
    let flood = thread::spawn(move || {
        let call = b"{\"method\":\"org.varlink.service.GetInfo\"}\0".repeat(100);
        for _ in 0..CALLS / 100 {
            writer.write_all(&call).expect("the server reads");
        }
    });
    let reading = thread::spawn(move || {
        let mut reader = flooding.0;
        let (mut answers, mut chunk) = (0, vec![0; 64 << 10]);
        while answers < CALLS {
            let read = reader.read(&mut chunk).expect("the server answers");
            assert_ne!(read, 0, "the server ended a good client");
            answers += chunk[..read].split(|byte| *byte == 0).count() - 1;
        }
        answers
    });
    let mut good = server.connect();
    while !reading.is_finished() {
        let begun = Instant::now();
        good.expect_served();
        assert!(begun.elapsed() < PROMPT, "a good client waited for {:?}", begun.elapsed());
    }
    flood.join().unwrap();
    assert_eq!(reading.join().unwrap(), CALLS);
}

#[test]
fn descriptors_end_the_connection_and_are_closed() {
    let server = operator();
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    mine.set_read_timeout(Some(LIMIT)).unwrap();
    let mut client = server.connect();
    let call = [IoSlice::new(b"{\"method\":\"io.nixmox.Agent.Status\"}\0")];
    let passed = vec![theirs.as_raw_fd(); 253];
    let control = [ControlMessage::ScmRights(&passed)];
    sendmsg::<()>(client.0.as_raw_fd(), &call, &control, MsgFlags::empty(), None).expect("they are passed");
    drop(theirs);
    assert_eq!(client.receive(), None, "a message with descriptors has no answer");
    // The last copy of the other end is gone.
    assert_eq!(mine.read(&mut [0]).expect("no descriptor is left in the server"), 0);
    expect_prompt(&server);
}

#[test]
fn a_client_that_was_ended_may_come_again() {
    let server = operator();
    for _ in 0..100 {
        let mut client = server.connect();
        client.send(b"nonsense\0");
        client.expect_end();
        expect_prompt(&server);
    }
}

#[test]
fn an_idle_client_is_ended_and_a_busy_one_is_not() {
    let server = impatient_operator();
    let begun = Instant::now();
    let mut idle = server.connect();
    let mut busy = server.connect();
    idle.0.set_nonblocking(true).unwrap();
    while !matches!(idle.0.read(&mut [0]), Ok(0)) {
        assert!(begun.elapsed() < LIMIT, "the idle connection did not end");
        busy.expect_served();
    }
    assert!(begun.elapsed() >= short_limits().idle);
    busy.expect_served();
    let mut again = Raw::new(UnixStream::connect(server.path()).unwrap());
    again.expect_served();
}
