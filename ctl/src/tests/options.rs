//! Options that every command has, where they count and where they are refused.

use nixmox_api::{AgentError, Done, ServiceStatus, StackStatus};

use crate::testing::{Agent, Place, Ran, Script, sample};
use sample::snapshot;

/// The stack `cloud` of this folder, which is up or not, and beside it `media` with the service `jellyfin`.
fn agent(cloud_is_up: bool) -> Agent {
    agent_with(cloud_is_up, Script::default())
}

/// The same, with more answers.
fn agent_with(cloud_is_up: bool, script: Script) -> Agent {
    let mut status = sample::three();
    let media = StackStatus { name: "media".to_owned(), ..status.stacks[0].clone() };
    if !cloud_is_up {
        (status.stacks, status.services) = (Vec::new(), Vec::new());
    }
    status.stacks.push(media);
    status.services.push(ServiceStatus { stack: "media".to_owned(), ..sample::service("jellyfin") });
    let plan = sample::plan_of_three();
    let done = Done { number: 0, services: vec!["jellyfin".to_owned()] };
    let mut script = script
        .reply("Plan", &plan)
        .reply("Status", &status)
        .reply("Apply", &sample::applied(plan))
        .reply("RemoveData", &serde_json::json!({}));
    for verb in ["Start", "Stop", "Restart"] {
        script = script.reply(verb, &done);
    }
    let agent = Agent::start(script.watch(vec![snapshot(status)]));
    std::fs::write(agent.folder().join("nixmox.toml"), sample::STACK).unwrap();
    agent
}

fn run(agent: &Agent, arguments: &str) -> Ran {
    Place::with(agent).run(arguments)
}

#[test]
fn a_stack_that_is_named_for_a_command_of_a_stack_file_is_refused_and_nothing_is_asked_for() {
    for arguments in [
        "up -s media",
        "up --all",
        "plan -s media",
        "check -s nope",
        "check --all",
        "config -s media",
        "schema --all",
        "stacks -s media",
        "why jellyfin -s cloud",
        "paths jellyfin --all",
        "rm jellyfin --data --yes -s cloud",
        "exec -s cloud jellyfin true",
        "shell --all jellyfin",
        "cp -s cloud jellyfin:/etc .",
    ] {
        let agent = agent(true);
        let ran = run(&agent, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments}: {ran:?}");
        assert!(ran.err.contains("means nothing here\n  try"), "{arguments}: {}", ran.err);
        for method in ["Apply", "Plan", "RemoveData"] {
            assert!(agent.calls(method).is_empty(), "{arguments} calls {method}");
        }
    }
}

#[test]
fn a_service_of_another_stack_than_the_named_one_is_not_touched() {
    for (verb, method) in [("start", "Start"), ("stop", "Stop"), ("restart", "Restart")] {
        let agent = agent(true);
        let ran = run(&agent, &format!("-s cloud {verb} -d jellyfin"));
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("there is no service `jellyfin`"), "{}", ran.err);
        assert!(agent.calls(method).is_empty(), "{verb}");
    }
    let agent = agent(true);
    assert_eq!(run(&agent, "-s cloud status jellyfin").code, 1);
    assert_eq!(run(&agent, "-s media restart -d jellyfin").code, 0);
    assert_eq!(agent.calls("Restart"), [serde_json::json!({ "names": ["jellyfin"] })]);
}

#[test]
fn a_verb_in_the_folder_of_a_stack_that_is_not_up_says_so_and_asks_for_nothing() {
    for (verb, method) in [("start", "Start"), ("stop", "Stop"), ("restart", "Restart"), ("restart -d", "Restart")]
    {
        let agent = agent(false);
        let ran = run(&agent, verb);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{verb}: {ran:?}");
        assert_eq!(ran.err, "error: cloud is not up\n  try   nixmoxctl up\n", "{verb}");
        assert!(agent.calls(method).is_empty(), "{verb}");
    }
}

#[test]
fn down_asks_also_where_no_stack_is_seen_for_an_agent_that_touches_nothing_knows_none() {
    let unknown = AgentError::UnknownStack { name: "cloud".to_owned(), hint: String::new() };
    let refusing = |error: &AgentError| agent_with(false, Script::default().refuse("Down", error));
    let ran = run(&refusing(&unknown), "down wiki");
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: cloud is not up\n  try   nixmoxctl up\n"));
    // What is to be gone is gone.
    assert_eq!(run(&refusing(&unknown), "down").code, 0);
    let newer = AgentError::Refused { reason: "7.json has format 9".to_owned(), hint: String::new() };
    let ran = run(&refusing(&newer), "down");
    assert!(ran.code == 1 && ran.err.contains("7.json has format 9"), "{ran:?}");
}
