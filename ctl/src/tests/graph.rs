//! `graph`: the tree, the same for Graphviz, and for programs.

use insta::assert_snapshot;
use nixmox_api::{ServiceState, ServiceStatus, StackStatus, Status};
use serde_json::Value;

use crate::testing::sample::{needing, service};
use crate::testing::{Agent, Place, Script, sample};

/// Two stacks: what a page needs, with a database that is ill, and a player that needs a disk of the other stack.
fn status() -> Status {
    let mut status = sample::status();
    let media = StackStatus { name: "media".to_owned(), ..status.stacks[0].clone() };
    status.stacks.push(media);
    let waits = |gate: &str, service| ServiceStatus {
        state: ServiceState::Waiting,
        waits_for: vec![gate.to_owned()],
        ..service
    };
    let of_media = |service| ServiceStatus { stack: "media".to_owned(), ..service };
    status.services = vec![
        ServiceStatus { job: true, state: ServiceState::Completed, ..service("prepare") },
        service("redis"),
        ServiceStatus { state: ServiceState::Unhealthy, ..needing("postgres", &[("prepare", "completed")]) },
        waits("postgres: healthy", needing("nextcloud", &[("postgres", "healthy"), ("redis", "started")])),
        waits("nextcloud: started", needing("caddy", &[("nextcloud", "started")])),
        needing("forgejo", &[("postgres", "started"), ("redis", "started")]),
        of_media(service("disk")),
        of_media(needing("jellyfin", &[("disk", "started"), ("redis", "healthy"), ("tuner", "started")])),
    ];
    status
}

fn run(arguments: &str) -> String {
    let agent = Agent::start(Script::default().reply("Status", &status()));
    let ran = Place::with(&agent).on_terminal(80).run(arguments);
    assert_eq!(ran.code, 0, "{ran:?}");
    let widest = ran.out.lines().map(crate::render::width).max().unwrap_or(0);
    assert!(widest <= 80 || arguments.contains("--"), "{widest} columns:\n{}", ran.out);
    ran.out
}

#[test]
fn every_service_stands_above_what_it_needs_and_once() {
    assert_snapshot!(run("graph"));
}

#[test]
fn names_show_their_own_trees_across_stacks() {
    let text = run("graph jellyfin");
    assert!(text.contains("redis (cloud)") && !text.contains("postgres"), "{text}");
    assert!(text.contains("? tuner") && text.contains("not up"), "{text}");
    assert!(run("graph -s media").starts_with("media "));
}

#[test]
fn graphviz_is_told_states_and_gates() {
    assert_snapshot!(run("graph --dot"));
}

#[test]
fn what_a_name_could_do_to_graphviz_is_escaped() {
    let mut status = status();
    status.services = vec![service("a\"]; b [label=\\"), needing("c", &[("a\"]; b [label=\\", "started")])];
    let agent = Agent::start(Script::default().reply("Status", &status));
    let ran = Place::with(&agent).run("graph --dot");
    // Every line has its quotes in pairs once the escaped ones are out of the way.
    for line in ran.out.lines() {
        let bare = line.replace("\\\\", "").replace("\\\"", "");
        assert_eq!(bare.matches('"').count() % 2, 0, "{line}");
    }
    assert!(ran.out.contains(r#""c" -> "a\"]; b [label=\\" [label="started"];"#), "{}", ran.out);
}

#[test]
fn programs_get_services_with_their_gates() {
    let graph: Value = serde_json::from_str(&run("graph --json nextcloud")).unwrap();
    let services = graph["services"].as_array().unwrap();
    let names: Vec<&str> = services.iter().map(|service| service["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prepare", "redis", "postgres", "nextcloud"]);
    let expected = serde_json::json!([
        { "name": "postgres", "condition": "healthy", "met": false },
        { "name": "redis", "condition": "started", "met": true },
    ]);
    assert_eq!(services[3]["depends_on"], expected);
    assert_eq!((&services[3]["asked"], &services[1]["asked"]), (&Value::Bool(true), &Value::Bool(false)));
}

#[test]
fn short_names_keep_their_branches() {
    let mut status = status();
    status.services =
        vec![service("db"), needing("app", &[("db", "started")]), needing("w", &[("app", "started")])];
    let agent = Agent::start(Script::default().reply("Status", &status));
    for place in [Place::with(&agent), Place::with(&agent).on_terminal(80)] {
        let out = place.run("graph").out;
        assert!(out.contains("\n└─ ● app ") && out.contains("\n   └─ ● db "), "{out}");
    }
}

#[test]
fn a_deep_tree_fits_a_narrow_terminal() {
    let mut status = status();
    let name = |depth: usize| format!("service-number-{depth:02}");
    let chain = |depth: usize| match depth {
        0 => service(&name(0)),
        depth => needing(&name(depth), &[(&name(depth - 1), "started")]),
    };
    status.services = (0..30).map(chain).collect();
    let agent = Agent::start(Script::default().reply("Status", &status));
    let ran = Place::with(&agent).on_terminal(40).run("graph");
    assert!(ran.out.lines().count() > 30, "{}", ran.out);
    assert!(ran.out.lines().all(|line| crate::render::width(line) <= 40), "{}", ran.out);
    // The beginning of the name is there on every line, and a branch that leads to it.
    assert_eq!(ran.out.matches("─ ● servi").count(), 29, "{}", ran.out);
}
