//! Events through the death of agents, to two who look: each once, under one number, with who caused it.

use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::operator::Stack;
use serde_json::Value;

use super::text;

const LIMIT: Duration = Duration::from_mins(2);

fn events(bed: &Testbed, arguments: &str) -> Vec<Value> {
    bed.sync_journal().expect("written");
    let printed = bed.shell_as("anna", &format!("nixmoxctl events --json {arguments}")).expect("it runs");
    assert!(printed.success(), "{printed}");
    printed.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn number(event: &Value) -> u64 {
    event["number"].as_u64().expect("a number")
}

#[test]
fn events_are_told_once_to_everybody_whatever_becomes_of_the_agent() {
    let bed = Testbed::boot(&Options::new("events")).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    bed.add_user("bob", &["nixmox-operator"]).expect("an operator");
    let watch = |name: &str, arguments: &str| {
        bed.succeed(&format!(
            "systemd-run -q --unit={name} -p User=anna -p KillSignal=SIGINT -p StandardError=journal -p StandardOutput=file:/tmp/{name} nixmoxctl events -f --json {arguments}"
        ))
        .expect("somebody looks");
    };
    watch("first", "");
    let web = bed.static_guest("web", &Behaviour::new().http(80)).expect("a system");
    let stack = Stack::new(&bed, "events");
    stack
        .declare(&[&format!(
            "[services.web]\nsystem = \"{web}\"\nhealth = {{ http = \"http://localhost/\", interval = \"1s\" }}"
        )])
        .expect("a manifest");
    stack.succeed("up").expect("it is up");
    let shows = |who: &str, what: &str| {
        bed.wait_until(&format!("grep -q '{what}' /tmp/{who}"), LIMIT).expect("it is told");
    };
    shows("first", r#""service":"web","event":"healthy".*"by":"root","cause":"up""#);
    let seen = events(&bed, "-n 1").first().map(number).expect("an event");
    let kill = || {
        // The journal knows whose a line is that it has read while the process was there.
        bed.sync_journal().expect("written");
        bed.succeed("kill -9 $(systemctl show -P MainPID nixmox-agent)").expect("killed");
        bed.wait_until("nixmoxctl --all status", LIMIT).expect("another agent");
    };
    for _ in 0..3 {
        kill();
    }
    watch("second", &format!("--since {seen}"));
    // Until an agent that has just started has asked how it is, all that becomes of it is said to come of that start.
    stack.becomes_healthy("web").expect("it is asked by the new agent, too");
    // A death of its own is the agent's to mend, a request is who asked for it.
    bed.succeed("systemctl kill --signal=KILL container@web").expect("it dies");
    shows("first", r#""service":"web","event":"failed".*"by":"agent","cause":"crash""#);
    stack.becomes_healthy("web").expect("it is back");
    kill();
    let stopped = bed.shell_as("bob", "nixmoxctl -s events stop web").expect("it runs");
    assert!(stopped.success(), "{stopped}");
    bed.succeed("systemctl restart nixmox-agent").expect("an orderly end");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("another agent");
    bed.succeed("nixmoxctl -s events start web").expect("it is started");
    for who in ["first", "second"] {
        shows(who, r#""service":"web","event":"stopped".*"by":"bob","cause":"stop""#);
        shows(who, r#""service":"web","event":"healthy".*"by":"root","cause":"start""#);
    }
    bed.succeed("systemctl stop first second").expect("Ctrl-C ends them");

    let all = events(&bed, "");
    assert!(all.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])), "{all:?}");
    let told = |who: &str| -> Vec<Value> {
        let text = bed.read_file(format!("/tmp/{who}")).expect("what was told");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let until = |events: &[Value], last: u64| -> Vec<Value> {
        events.iter().filter(|event| number(event) <= last).cloned().collect()
    };
    let (first, second) = (told("first"), told("second"));
    assert_eq!(first, until(&all, first.last().map(number).expect("events")));
    let later: Vec<Value> = all.iter().filter(|event| number(event) > seen).cloned().collect();
    assert_eq!(second, until(&later, second.last().map(number).expect("events")));
    assert_eq!(events(&bed, &format!("--since {seen}")), later);
    // Every agent said what it found.
    assert_eq!(all.iter().filter(|event| text(event, "event") == "agent").count(), 6, "{all:?}");

    let chain = bed.shell_as("anna", "nixmoxctl analyze").expect("it runs");
    assert!(chain.success() && chain.stdout.contains("up by root"), "{chain}");
}

#[test]
fn the_chain_of_the_homelab_leads_from_its_database_to_its_door() {
    let bed = Testbed::boot(&Options::new("analyze")).expect("the host boots");
    bed.install_homelab().expect("the homelab");
    let stack = Stack::new(&bed, "homelab");
    stack.succeed("up").expect("it is up");
    bed.sync_journal().expect("written");
    let chain = stack.succeed("analyze").expect("a chain");
    nixmox_tests::say(&chain.stdout);
    let widest = chain.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{}", chain.stdout);
    let analysis: Value =
        serde_json::from_str(&stack.succeed("analyze --json").expect("JSON").stdout).expect("JSON");
    let names = |list: &str| -> Vec<String> {
        let courses = analysis[list].as_array().expect("a list");
        courses.iter().map(|course| text(course, "name").to_owned()).collect()
    };
    assert_eq!((text(&analysis, "cause"), text(&analysis, "by")), ("up", "root"));
    assert_eq!(names("chain"), ["postgres", "miniflux-db", "miniflux", "caddy"], "{analysis}");
    assert_eq!(names("others"), ["hello"]);
    for course in analysis["chain"].as_array().expect("a list") {
        let at = |stage: &str| course[stage].as_u64().expect("it came there");
        assert!(at("starting") <= at("started") && at("started") <= at("ready"), "{course}");
    }
}
