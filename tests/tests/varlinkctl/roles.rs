//! Three users and every method on the real socket: who is refused, and what the journal says of changes.

use std::collections::BTreeMap;

use nixmox_testbed::Testbed;
use serde_json::{Value, json};

use super::{ADDRESS, boot, request};

/// A user's name, groups, and what they may do.
const USERS: [(&str, &[&str], &[&str]); 3] = [
    ("olga", &[], &[]),
    ("anna", &["nixmox"], &["observer"]),
    ("bob", &["nixmox-operator"], &["observer", "operator"]),
];

/// Returns every method with the role that its description names.
fn methods() -> BTreeMap<String, String> {
    let role = |method: &zlink::idl::Method<'_>| {
        let text: Vec<&str> = method.comments().map(zlink::idl::Comment::content).collect();
        let text = text.join(" ");
        let (_, role) = text.split_once("Role: ").expect("it names a role");
        role.split('.').next().unwrap_or_default().to_owned()
    };
    nixmox_api::DESCRIPTION.methods().map(|method| (method.name().to_string(), role(method))).collect()
}

/// Returns parameters that a method understands, about what is not there where that is possible.
fn parameters(method: &str) -> Value {
    match method {
        "Status" | "Usage" | "Watch" | "Stacks" | "Generations" | "Gpus" | "Offloads" => json!({}),
        "Logs" => json!({ "request": { "services": [], "follow": false } }),
        "Events" => json!({ "request": { "follow": false } }),
        "Diff" => json!({ "from": 1, "to": 2 }),
        "GpuFit" => json!({ "request": { "name": "absent" } }),
        "Paths" | "RemoveData" | "GpuDoctor" => json!({ "name": "absent" }),
        "OffloadModel" => json!({ "name": "absent", "model": "llama3:8b" }),
        "Plan" | "Apply" => request(&json!({})),
        "Down" | "Rollback" => json!({ "stack": "absent", "names": [] }),
        "Start" | "Restart" => json!({ "names": ["absent"] }),
        "Stop" => json!({ "names": ["absent"], "with_dependents": false }),
        "Exec" => {
            json!({ "request": { "name": "absent", "command": ["true"], "login": false, "environment": [] } })
        }
        "Copy" => json!({ "request": { "name": "absent", "path": "/", "into": false, "follow": false } }),
        other => panic!("a method without parameters here: {other}"),
    }
}

/// Calls a method as a user; returns the process that called, and the error's name or an empty one.
fn call_as(bed: &Testbed, user: &str, method: &str, allowed: bool) -> (String, String) {
    // A watch that is allowed goes on until its time is over.
    let options = match method {
        "Watch" if allowed => "--more --timeout=2",
        "Watch" | "Logs" | "Events" | "Exec" | "Copy" => "--more --timeout=60",
        _ => "--timeout=60",
    };
    // The shell becomes the client, so its number is the client's.
    let script = format!(
        "echo $$; exec varlinkctl call --quiet {options} {ADDRESS} io.nixmox.Agent.{method} '{}'",
        parameters(method)
    );
    let output = bed.shell_as(user, &script).expect("it runs");
    let pid = output.stdout.lines().next().expect("its number").to_owned();
    let error = output.stderr.lines().find_map(|line| line.split_once(" failed: ")).map_or("", |(_, name)| name);
    (pid, error.to_owned())
}

#[test]
fn groups_decide_what_each_user_may_call_and_every_change_is_recorded() {
    let bed = boot("roles");
    let methods = methods();
    assert_eq!(methods.len(), 24, "{methods:?}");
    // Who called what, and how it ended: as the journal must have it.
    let mut expected = Vec::new();
    for (user, groups, roles) in USERS {
        bed.add_user(user, groups).expect("the user is added");
        let uid = bed.succeed(&format!("id -u {user}")).expect("it has a number");
        let mut refusals = 0;
        for (method, role) in &methods {
            let allowed = roles.contains(&role.as_str());
            let (pid, error) = call_as(&bed, user, method, allowed);
            assert_eq!(error != "io.nixmox.Agent.NotPermitted", allowed, "{user} calls {method}: {error}");
            if !allowed {
                refusals += 1;
            }
            // Of the refusals of one user only the first within ten seconds is written down.
            if (allowed && role == "operator") || refusals == 1 && !allowed {
                let outcome = match (method.as_str(), error.rsplit('.').next().unwrap_or_default()) {
                    ("Apply", "") => "generation 1",
                    (_, "") => "done",
                    (_, error) => error,
                };
                expected.push((uid.clone(), pid, format!("io.nixmox.Agent.{method}"), outcome.to_owned()));
            }
        }
    }
    // The last user has made the stack, so that its name is known to all.
    for (user, _, roles) in USERS {
        let status = bed.shell_as(user, "nixmoxctl --all status").expect("it runs");
        assert_eq!(status.code, if roles.is_empty() { 5 } else { 0 }, "{user}: {status}");
        let change = bed.shell_as(user, "nixmoxctl -s cloud down").expect("it runs");
        assert_eq!(change.code == 5, !roles.contains(&"operator"), "{user}: {change}");
        if change.code == 5 {
            assert!(change.stderr.contains("nixmox"), "it names the group: {change}");
        }
    }
    let recorded = recorded(&bed);
    for change in &expected {
        let found = recorded.iter().filter(|recorded| *recorded == change).count();
        assert_eq!(found, 1, "{change:?} is in the journal once: {recorded:#?}");
    }
    for (_, _, method, outcome) in &recorded {
        let role = method.rsplit('.').next().and_then(|name| methods.get(name)).expect("a method of ours");
        assert!(role == "operator" || outcome == "NotPermitted", "{method} changes nothing, and is recorded");
    }
}

/// Returns the journal's records of who changed what: user, process, method, outcome.
fn recorded(bed: &Testbed) -> Vec<(String, String, String, String)> {
    bed.sync_journal().expect("synchronised");
    let text =
        bed.succeed("journalctl --quiet --unit=nixmox-agent --output=json --grep='^change$'").expect("readable");
    let entry = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let field = |key: &str| entry[key].as_str().expect(key).to_owned();
        (field("NIXMOX_UID"), field("NIXMOX_PID"), field("NIXMOX_METHOD"), field("NIXMOX_OUTCOME"))
    };
    text.lines().map(entry).collect()
}
