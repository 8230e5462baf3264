//! Complaints: one voice, the right exit code.

use std::os::unix::net::UnixListener;

use insta::assert_snapshot;
use nixmox_api::AgentError;

use crate::testing::{Agent, Place, Script, sample};

#[test]
fn every_refusal_of_the_agent_says_why_and_what_to_do() {
    let refusals = [
        AgentError::NotPermitted { role: "operator".to_owned(), method: "Stop".to_owned(), hint: String::new() },
        AgentError::Invalid {
            problems: vec!["caddy: port 80 is taken by nginx".to_owned(), "wiki: no such store path".to_owned()],
            hint: "see nixmoxctl check".to_owned(),
        },
        AgentError::UnknownService { name: "cady".to_owned(), hint: "did you mean `caddy`?".to_owned() },
        AgentError::UnknownStack { name: "clout".to_owned(), hint: String::new() },
        AgentError::Stale { expected: "a".to_owned(), actual: "b".to_owned() },
        AgentError::HasDependents {
            dependents: vec!["nextcloud".to_owned(), "wiki".to_owned()],
            hint: String::new(),
        },
        AgentError::Refused { reason: "the host shuts down".to_owned(), hint: String::new() },
    ];
    let mut text = String::new();
    for refusal in refusals {
        let script = Script::default().refuse("Stop", &refusal).watch(vec![sample::snapshot(sample::status())]);
        let agent = Agent::start(script);
        text += &Place::with(&agent).run("stop caddy").told(agent.folder());
    }
    assert_snapshot!(text);
}

#[test]
fn an_agent_that_comes_a_moment_later_is_waited_for() {
    let agent = Agent::start(Script::default().reply("Status", &sample::status()));
    let (here, there) = (agent.folder().join("agent.sock"), agent.folder().join("later.sock"));
    let mut place = Place::with(&agent);
    place.socket.clone_from(&there);
    let moved = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::rename(here, there).unwrap();
    });
    assert_eq!(place.run("status").code, 0);
    moved.join().unwrap();
}

#[test]
fn an_agent_of_another_version_is_named_as_the_cause() {
    let agent = Agent::start(Script::default().reply("Status", &serde_json::json!({ "sequence": "seven" })));
    assert_snapshot!(Place::with(&agent).run("status").told(agent.folder()));
}

#[test]
fn a_name_that_nobody_knows_is_answered_with_the_nearest() {
    let agent = Agent::start(Script::default().reply("Status", &sample::status()));
    let ran = Place::with(&agent).run("status postgers");
    assert_snapshot!(ran.told(agent.folder()));
}

#[test]
fn outside_a_stack_a_change_asks_which_one_is_meant() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::in_folder(folder.path());
    let text = place.run("down").told(folder.path()) + &place.run("up").told(folder.path());
    assert_snapshot!(text);
}

#[test]
fn arguments_that_make_no_sense_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        ["", "upp", "up --plan x caddy", "up --timeout 3", "down --all -s cloud", "up --no-deps", "why"]
    {
        assert_eq!(Place::in_folder(folder.path()).run(arguments).code, 2, "{arguments}");
    }
}

#[test]
fn an_agent_that_hangs_up_without_a_word_may_have_no_place_left() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    // Ends with the process; nothing waits for it.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ran = Place::in_folder(folder.path()).run("stacks");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.err.contains("closed one of too many connections of this user\n"), "{}", ran.err);
    assert!(ran.err.contains("journalctl -u nixmox-agent says who was turned away\n"), "{}", ran.err);
}

#[test]
fn a_refusal_is_told_to_programs_as_the_agent_said_it() {
    let refusal = AgentError::UnknownService { name: "cady".to_owned(), hint: "did you mean `caddy`?".to_owned() };
    let agent = Agent::start(Script::default().refuse("Paths", &refusal));
    let ran = Place::with(&agent).run("paths cady --json");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&ran.err).unwrap(),
        serde_json::to_value(&refusal).unwrap()
    );
}
