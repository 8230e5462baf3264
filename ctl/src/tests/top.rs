//! `top` without a terminal: one table, documents for programs.

use insta::assert_snapshot;
use nixmox_api::{Pressure, ServiceUsage, UsageReply};
use serde_json::Value;

use crate::testing::{Agent, Place, Script, sample};

fn usage() -> UsageReply {
    let used = |name: &str, memory: u64| ServiceUsage {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        invocation: Some(format!("{name:0>32}")),
        cpu_usec: Some(5_000_000),
        cpu_pressure: Some(Pressure { some_avg10: 12.0, full_avg10: None }),
        memory_current: Some(memory),
        memory_max: Some(2 << 30),
        ..ServiceUsage::default()
    };
    let services = vec![used("postgres", 412 << 20), used("nextcloud", 1 << 30), ServiceUsage::default()];
    UsageReply { at_usec: sample::NOW * 1_000_000, clock_usec: 77, services }
}

fn agent() -> Agent {
    Agent::start(Script::default().reply("Status", &sample::status()).reply("Usage", &usage()))
}

#[test]
fn without_a_terminal_it_is_one_table() {
    let agent = agent();
    assert_snapshot!(Place::with(&agent).run("top -d 100ms --sort memory").told(agent.folder()));
    assert_eq!(agent.calls("Usage").len(), 2, "a rate is of two answers");
}

#[test]
fn on_a_terminal_it_is_one_table_when_asked_for() {
    let agent = agent();
    let ran = Place::with(&agent).on_terminal(60).run("top -b -d 100ms postgres");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("postgres") && !ran.out.contains("nextcloud"), "{}", ran.out);
    assert!(ran.out.lines().all(|line| crate::render::width(line) <= 60), "{}", ran.out);
}

#[test]
fn programs_get_a_document_in_which_nothing_is_made_up() {
    let agent = agent();
    let ran = Place::with(&agent).run("top --json -d 100ms nextcloud");
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(ran.out.lines().count(), 1);
    let services = document["services"].as_array().unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services[0]["memory_current"], 1_u64 << 30);
    assert_eq!(services[0]["cpu_pressure"]["some_avg10"], 12.0);
    for missing in ["io_read_bytes", "io_read_per_second", "tasks_current", "memory_high"] {
        assert!(services[0].get(missing).is_none(), "{missing}: {document}");
    }
}

#[test]
fn a_service_that_is_not_there_is_complained_about() {
    let agent = agent();
    for arguments in ["top nextclod", "top --json nextclod", "top --json --follow nextclod"] {
        let ran = Place::with(&agent).run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
        assert!(ran.err.contains("did you mean `nextcloud`?"), "{}", ran.err);
    }
}

#[test]
fn following_is_for_programs() {
    let agent = agent();
    assert_eq!(Place::with(&agent).run("top --follow").code, 2);
}
