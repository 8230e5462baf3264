//! Generations: the list, differences, the way back by hand and by itself.

use insta::assert_snapshot;
use nixmox_api::{
    Caller, DiffReply, Difference, GenerationInfo, GenerationVerdict, GenerationsReply, HostStatus, RolledBack,
    ServiceDiff, ServiceState, ServiceStatus, StackDiff, StackStatus, Status, Update,
};

use crate::testing::{Agent, Place, Script, sample};
use sample::{event, nextcloud, snapshot};

fn generation(number: u64, verdict: GenerationVerdict, reason: &str) -> GenerationInfo {
    GenerationInfo {
        number,
        made_at: sample::NOW - 100_000 + number * 1000,
        made_by: Caller { uid: 1000, name: "anna".to_owned() },
        current: false,
        verdict,
        reason: reason.to_owned(),
        stacks: vec!["cloud".to_owned()],
        services: 5,
        restored: None,
    }
}

fn list() -> GenerationsReply {
    let agent = Caller { uid: 0, name: "nixmox-agent".to_owned() };
    let back = generation(43, GenerationVerdict::Good, "");
    let damaged = GenerationInfo {
        made_at: 0,
        made_by: Caller::default(),
        stacks: Vec::new(),
        services: 0,
        ..generation(38, GenerationVerdict::Damaged, "`/var/lib/nixmox/generations/38.json` is damaged")
    };
    GenerationsReply {
        generations: vec![
            damaged,
            generation(39, GenerationVerdict::Unknown, ""),
            generation(41, GenerationVerdict::Good, ""),
            generation(42, GenerationVerdict::Bad, "nextcloud: http://localhost/status.php -> 503"),
            GenerationInfo { current: true, made_by: agent, restored: Some(41), ..back },
        ],
    }
}

#[test]
fn generations_are_listed_the_newest_first_with_what_became_of_them() {
    let agent = Agent::start(Script::default().reply("Generations", &list()));
    assert_snapshot!("generations", Place::with(&agent).on_terminal(80).run("generations").told(agent.folder()));
    let narrow = Place::with(&agent).on_terminal(40).run("generations").out;
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    let pipe = Place::with(&agent).run("generations").out;
    assert!(pipe.contains("bad; nextcloud: http://localhost/status.php -> 503"), "{pipe}");
    let none = Agent::start(Script::default().reply("Generations", &GenerationsReply { generations: Vec::new() }));
    assert_eq!(Place::with(&none).run("generations").out, "no generations yet; try: nixmoxctl up\n");
}

#[test]
fn a_diff_tells_services_limits_and_systems_apart() {
    let difference = |key: &str, from: &str, to: &str| Difference {
        key: key.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let system = |letter: &str, name: &str| Some(format!("/nix/store/{}-nixos-system-{name}", letter.repeat(32)));
    let service = |name: &str, change: &str, differences| ServiceDiff {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        change: change.to_owned(),
        system_from: system("a", name).filter(|_| change != "added"),
        system_to: system("b", name).filter(|_| change != "removed"),
        differences,
    };
    let changed = vec![
        difference("system", "x", "y"),
        difference("limits.memory_max", "1G", "2G"),
        difference("mounts", "", "/srv/photos:/photos"),
        difference("environment.TOKEN", "a value", "another"),
        difference("nspawn_flags", "--a\u{1b}[31m", ""),
    ];
    let reply = DiffReply {
        services: vec![
            service("blog", "removed", Vec::new()),
            service("nextcloud", "changed", changed),
            service("wiki", "added", Vec::new()),
        ],
        stacks: Some(vec![StackDiff {
            name: "cloud".to_owned(),
            differences: vec![
                difference("limits.memory_max", "", "4G"),
                difference("limits.cpu_quota", "50%", "300%"),
            ],
        }]),
    };
    let script = Script::default().reply("Diff", &reply).reply("Status", &sample::status());
    let agent = Agent::start(script);
    assert_snapshot!("diff", Place::with(&agent).on_terminal(80).run("diff 40 42").told(agent.folder()));
    assert_eq!(agent.calls("Diff")[0], serde_json::json!({ "from": 40, "to": 42 }));
    Place::with(&agent).run("diff 40");
    assert_eq!(agent.calls("Diff")[1], serde_json::json!({ "from": 40, "to": 41 }), "with the current one");
    let same = Agent::start(Script::default().reply("Diff", &DiffReply { services: Vec::new(), stacks: None }));
    let text = Place::with(&same).run("diff 7 8").out;
    assert_eq!(text, "nothing differs between the generations 7 and 8\n");
}

fn stack(generation: u64, good: bool, on_trial: bool, rolled_back: Option<RolledBack>) -> StackStatus {
    StackStatus { generation, good, on_trial, rolled_back, ..sample::status().stacks[0].clone() }
}

fn of_host(number: u64, after_ms: u64, word: &str, generation: u64, stack: StackStatus) -> Update {
    let host = HostStatus { generation, ..sample::status().host };
    Update { host: Some(host), stacks: Some(vec![stack]), ..event(number, after_ms, word, "", None) }
}

fn rolled_back() -> RolledBack {
    RolledBack {
        from: 42,
        to: 41,
        services: vec!["nextcloud".to_owned()],
        reasons: vec!["nextcloud: http://localhost/status.php -> 503".to_owned()],
    }
}

/// Nextcloud's new generation fails, and the old one comes back.
fn back_again(last: ServiceStatus) -> Vec<Update> {
    let failed = ServiceStatus {
        log: vec!["php-fpm[212]: could not connect to host \"postgres\"".to_owned()],
        ..nextcloud(ServiceState::Unhealthy, 61)
    };
    let old = ServiceStatus { invocation: Some("e".repeat(32)), ..last };
    vec![
        snapshot(sample::three()),
        of_host(1, 10, "generation", 42, stack(42, false, true, None)),
        event(2, 400, "starting", "nextcloud", Some(nextcloud(ServiceState::Starting, 0))),
        event(3, 3500, "started", "nextcloud", Some(nextcloud(ServiceState::Starting, 0))),
        event(4, 303_000, "unhealthy", "nextcloud", Some(failed.clone())),
        of_host(5, 303_010, "rollback", 43, stack(43, false, false, Some(rolled_back()))),
        event(6, 303_020, "stopping", "nextcloud", Some(ServiceStatus { state: ServiceState::Stopping, ..failed })),
        event(
            7,
            304_000,
            "starting",
            "nextcloud",
            Some(ServiceStatus { state: ServiceState::Starting, ..old.clone() }),
        ),
        event(
            8,
            305_000,
            "started",
            "nextcloud",
            Some(ServiceStatus { state: ServiceState::Starting, ..old.clone() }),
        ),
        event(9, 306_000, old.state.word(), "nextcloud", Some(old)),
        of_host(10, 306_001, "good", 43, stack(43, true, false, Some(rolled_back()))),
    ]
}

fn up_that_fails(updates: Vec<Update>) -> Agent {
    let host = HostStatus { generation: 43, ..sample::status().host };
    let after = Status { host, stacks: vec![stack(43, false, false, Some(rolled_back()))], ..sample::three() };
    let plan = sample::plan_of_three();
    let script = Script::default()
        .reply("Plan", &plan)
        .reply("Status", &after)
        .reply("Apply", &sample::applied(plan))
        .watch(updates);
    let agent = Agent::start(script);
    std::fs::write(agent.folder().join("nixmox.toml"), sample::STACK).unwrap();
    agent
}

#[test]
fn up_waits_for_the_way_back_and_says_that_the_old_state_is_healthy() {
    let agent = up_that_fails(back_again(nextcloud(ServiceState::Healthy, 0)));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!("up_rolled_back", ran.told(agent.folder()));
    assert_eq!(agent.calls("Apply")[0]["request"].get("no_rollback"), None);
}

#[test]
fn up_can_be_told_to_keep_what_fails() {
    let agent = up_that_fails(back_again(nextcloud(ServiceState::Healthy, 0)));
    Place::with(&agent).run("up --no-rollback --detach");
    assert_eq!(agent.calls("Apply")[0]["request"]["no_rollback"], true);
}

#[test]
fn rollback_names_stack_generation_and_services() {
    let plan = sample::plan(vec![sample::planned("nextcloud", "restart", "system changed")]);
    let script = Script::default().reply("Rollback", &sample::applied(plan)).watch(vec![snapshot(sample::three())]);
    let agent = Agent::start(script);
    let ran = Place::with(&agent).run("rollback nextcloud --to 40 -s cloud --detach");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let asked = serde_json::json!({ "stack": "cloud", "to": 40, "names": ["nextcloud"] });
    assert_eq!(agent.calls("Rollback"), [asked]);
    let all = Place::with(&agent).run("rollback --all");
    assert_eq!(all.code, 2, "{}", all.err);
}
