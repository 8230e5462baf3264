//! What is asked of nix, and what becomes of its answers: with a nix that answers as it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nixmox_api::{PlanReply, Reason, Status};
use serde_json::Value;

use crate::machine::Machine;
use crate::testing::{Agent, Place, Ran, Script, sample};

const MANIFEST: &str = "format = 1\n[stack]\nname = \"cloud\"\n[services.caddy]\nsystem = \".#caddy\"\n[services.nextcloud]\nsystem = \".#nextcloud\"\n";

/// The store path of a letter.
fn path(letter: &str) -> String {
    format!("/nix/store/{}-{letter}-1", letter.repeat(32))
}

/// What nix says of a derivation.
fn told(letter: &str) -> String {
    format!(r#"{{"drvPath":"{0}.drv","outputs":{{"out":"{0}"}}}}"#, path(letter))
}

/// Runs a command where nix is this script; `$*` are its arguments without what all calls have. Returns how it ended, the
/// calls, and what the agent was asked to plan or to apply.
fn run(arguments: &str, script: &str, agent: &Agent) -> (Ran, Vec<String>) {
    let folder = agent.folder();
    fs::write(folder.join("nixmox.toml"), MANIFEST).unwrap();
    let (programs, calls) = (folder.join("programs"), folder.join("calls"));
    fs::create_dir_all(&programs).unwrap();
    let _none = fs::remove_file(&calls);
    let nix = programs.join("nix");
    fs::write(&nix, format!("#!/bin/sh\nshift 2\necho \"$*\" >> {}\n{script}\n", calls.display())).unwrap();
    fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
    let mut search = programs.into_os_string();
    search.push(":");
    search.push(std::env::var_os("PATH").unwrap());
    let machine = Machine::below(&folder.join("machine"), search);
    let ran = Place { machine, ..Place::with(agent) }.run(arguments);
    let calls = fs::read_to_string(calls).unwrap_or_default();
    (ran, calls.lines().map(str::to_owned).collect())
}

fn systems(agent: &Agent, method: &str) -> Vec<Value> {
    let calls = agent.calls(method);
    let services = calls.last().unwrap()["request"]["services"].as_array().unwrap().clone();
    services.iter().map(|service| service["system"].clone()).collect()
}

fn plan() -> PlanReply {
    sample::plan_of_three()
}

#[test]
fn derivations_that_nix_tells_together_are_asked_for_one_by_one() {
    let agent = Agent::start(Script::default().reply("Plan", &plan()));
    let script = format!(
        "case \"$*\" in\n  eval*) echo '[]' ;;\n  *--dry-run*caddy*nextcloud*) echo '[{a}]' ;;\n  *--dry-run*) echo '[{a}]' ;;\n  path-info*) echo '{{}}' ;;\nesac",
        a = told("a")
    );
    let (ran, calls) = run("plan", &script, &agent);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(calls.iter().filter(|call| call.contains("--dry-run")).count(), 3, "{calls:#?}");
    assert_eq!(systems(&agent, "Plan"), [path("a"), path("a")]);
}

#[test]
fn answers_that_make_no_sense_are_complaints() {
    let agent = Agent::start(Script::default());
    let with = |answer: &str| {
        let script = format!("case \"$*\" in eval*) echo '[]' ;; *) echo '{answer}' ;; esac");
        let (ran, _) = run("plan", &script, &agent);
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.err
    };
    let foreign = "nix build said something that nixmoxctl does not understand";
    assert!(with("nonsense").contains(foreign));
    assert!(with(r#"[{"outputs":{}}]"#).contains(foreign));
    assert!(with("[]").contains(".#caddy is not one store path"));
    let many = r#"{"drvPath":"/d","outputs":{"dev":"/a","lib":"/b"}}"#;
    assert!(with(&format!("[{many},{many}]")).contains(".#caddy is not one store path"));
    let unknown = with(&format!(r#"[{0},{{"drvPath":"/d","outputs":{{"out":null}}}}]"#, told("a")));
    assert!(unknown.contains("where .#nextcloud will be in the store is known once it is built"), "{unknown}");
}

#[test]
fn what_nix_started_and_left_behind_is_not_waited_for() {
    let agent = Agent::start(Script::default().reply("Plan", &plan()));
    let script = format!(
        "case \"$*\" in\n  eval*) sleep 20 & echo '[]' ;;\n  *--dry-run*) echo '[{a},{b}]' ;;\n  path-info*) echo '{{}}' ;;\nesac",
        a = told("a"),
        b = told("b")
    );
    let begun = std::time::Instant::now();
    let (ran, _) = run("plan", &script, &agent);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn what_is_known_once_it_is_built_is_taken_from_the_build() {
    let agent = Agent::start(Script::default().reply("Plan", &plan()));
    let floating = |out: &str| format!(r#"{{"drvPath":"/nix/store/x.drv","outputs":{{"out":{out}}}}}"#);
    let script = format!(
        "case \"$*\" in\n  eval*) echo '[\"caddy\"]' ;;\n  *--dry-run*) echo '[{b},{unknown}]' ;;\n  *--out-link*) echo '[{known},{b}]' ;;\nesac",
        b = told("b"),
        unknown = floating("null"),
        known = floating(&format!("\"{}\"", path("c")))
    );
    let (ran, calls) = run("plan --build --offline", &script, &agent);
    assert_eq!(ran.code, 0, "{ran:?}");
    // nix need not keep the order.
    assert_eq!(systems(&agent, "Plan"), [path("b"), path("c")]);
    let [question, evaluation, build] = calls.as_slice() else { panic!("{calls:#?}") };
    assert!(question.starts_with("eval ") && question.ends_with(" -- .#."), "{question}");
    assert!(
        evaluation.ends_with(" -- .#nixosConfigurations.caddy.config.system.build.toplevel .#nextcloud"),
        "{evaluation}"
    );
    assert!(build.ends_with(&format!(" -- {}.drv^out /nix/store/x.drv^out", path("b"))), "{build}");
    assert!(calls.iter().all(|call| call.contains(" --offline")), "{calls:#?}");
}

#[test]
fn a_plan_tells_what_differs_inside_where_nix_knows_both() {
    let mut reply = plan();
    for planned in &mut reply.services {
        let text = "system changed".to_owned();
        planned.reasons = vec![Reason { kind: "field".to_owned(), text }];
        planned.change = "restart".to_owned();
    }
    let mut status: Status = sample::status();
    for service in &mut status.services {
        service.system = Some(path("a"));
    }
    let agent = Agent::start(Script::default().reply("Plan", &reply).reply("Status", &status));
    let info = |letter: &str, version: u32, size: u32| {
        format!(
            r#"{{"{}":{{"narSize":1}},"{}":{{"narSize":{size}}}}}"#,
            path(letter),
            path("d").replace("-1", &format!("-{version}"))
        )
    };
    let script = format!(
        "case \"$*\" in\n  eval*) echo '[]' ;;\n  *--dry-run*) echo '[{b},{c}]' ;;\n  path-info*--recursive*{a_path}*) echo '{old}' ;;\n  path-info*--recursive*) echo '{new}' ;;\n  path-info*) echo '{{\"{b_path}\":{{}},\"{c_path}\":null}}' ;;\nesac",
        b = told("b"),
        c = told("c"),
        a_path = path("a"),
        b_path = path("b"),
        c_path = path("c"),
        old = info("a", 1, 1000),
        new = info("a", 2, 1_049_576),
    );
    let (ran, _) = run("plan", &script, &agent);
    assert_eq!(ran.code, 0, "{ran:?}");
    insta::assert_snapshot!(ran.out);
}
