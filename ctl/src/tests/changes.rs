//! What commands that change something print, and what they ask for.

use insta::assert_snapshot;
use nixmox_api::{AgentError, Done, GpuStatus, HostStatus, PlanReply, ServiceState, ServiceStatus, Status, Update};

use crate::output::Size;
use crate::progress::{Goal, Progress, Task};
use crate::render::{Style, frame};
use crate::testing::{Agent, Place, Ran, Script, sample};
use sample::{event, nextcloud, snapshot};

fn stack_of(script: Script) -> Agent {
    let agent = Agent::start(script);
    std::fs::write(agent.folder().join("nixmox.toml"), sample::STACK).unwrap();
    agent
}

fn told(agent: &Agent, ran: &Ran) -> String {
    ran.told(agent.folder())
}

fn caddy() -> ServiceStatus {
    sample::three().services.pop().unwrap()
}

/// Caddy is changed live, Nextcloud restarted until it answers 503.
fn under_way() -> Vec<Update> {
    vec![
        snapshot(sample::three()),
        event(1, 100, "live", "caddy", Some(caddy())),
        event(2, 100, "stopping", "nextcloud", Some(nextcloud(ServiceState::Stopping, 0))),
        event(3, 300, "stopped", "nextcloud", Some(nextcloud(ServiceState::Starting, 0))),
        event(4, 400, "starting", "nextcloud", Some(nextcloud(ServiceState::Starting, 0))),
        event(5, 3500, "started", "nextcloud", Some(nextcloud(ServiceState::Starting, 0))),
        event(6, 5500, "changed", "nextcloud", Some(nextcloud(ServiceState::Starting, 6))),
    ]
}

fn settled() -> PlanReply {
    sample::plan(["postgres", "nextcloud", "caddy"].map(|name| sample::planned(name, "unchanged", "")).to_vec())
}

fn up_script(updates: Vec<Update>) -> Script {
    let plan = sample::plan_of_three();
    Script::default()
        .reply("Plan", &plan)
        .reply("Apply", &sample::applied(plan))
        .plan_after(&settled())
        .watch(updates)
}

#[test]
fn up_tells_line_by_line_until_all_is_healthy() {
    let mut updates = under_way();
    updates.push(event(7, 17_500, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(updates));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!(told(&agent, &ran));
    let request = &agent.calls("Apply")[0]["request"];
    assert_eq!(request["stack"], "cloud");
    assert_eq!(request["services"].as_array().unwrap().len(), 3);
    assert_eq!(request["only"], serde_json::json!([]));
}

#[test]
fn up_does_not_take_an_old_instance_for_a_new_one() {
    // Everything is healthy from the first snapshot on; only the planner knows that nothing was done yet.
    let mut updates = under_way();
    updates.push(event(7, 9000, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(updates).slow());
    let ran = Place::with(&agent).run("up");
    assert!(ran.out.contains("nextcloud  healthy after 5.5s"), "{}", ran.out);
}

#[test]
fn up_says_which_gate_was_not_reached() {
    let mut updates = under_way();
    let failed = ServiceStatus {
        log: vec!["php-fpm[212]: could not connect to host \"postgres\"".to_owned()],
        health_declared_at: "nixmox.toml:18".to_owned(),
        ..nextcloud(ServiceState::Unhealthy, 61)
    };
    updates.push(event(7, 303_000, "unhealthy", "nextcloud", Some(failed)));
    let agent = stack_of(up_script(updates));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!(told(&agent, &ran));
}

#[test]
fn up_names_what_was_not_started_because_of_a_failure() {
    let waiting =
        ServiceStatus { state: ServiceState::Waiting, waits_for: vec!["nextcloud: healthy".to_owned()], ..caddy() };
    let failed = ServiceStatus {
        reason: "mount source /srv/nextcloud is missing".to_owned(),
        hint: "create it, or write create = true".to_owned(),
        ..nextcloud(ServiceState::Failed, 0)
    };
    let updates = vec![
        snapshot(Status { services: Vec::new(), ..sample::three() }),
        event(1, 0, "changed", "caddy", Some(waiting)),
        event(2, 100, "failed", "nextcloud", Some(failed)),
    ];
    let plan = sample::plan(vec![
        sample::planned("nextcloud", "create", "nothing of it is there yet"),
        sample::planned("caddy", "create", "nothing of it is there yet"),
    ]);
    let after = sample::plan(vec![
        sample::planned("nextcloud", "blocked", "its restart policy forbids a further start"),
        sample::planned("caddy", "blocked", ""),
    ]);
    let script = Script::default().reply("Apply", &sample::applied(plan)).reply("Plan", &after).watch(updates);
    let agent = stack_of(script);
    let ran = Place::with(&agent).run("up caddy nextcloud --no-deps");
    assert_snapshot!(told(&agent, &ran));
    assert_eq!(agent.calls("Apply")[0]["request"]["only"], serde_json::json!(["caddy", "nextcloud"]));
}

#[test]
fn up_does_not_wait_for_ever_for_room_on_a_gpu() {
    let waiting = |gpu: &str| ServiceStatus {
        state: ServiceState::Waiting,
        reason: "needs 8G: GPU 0 (NVIDIA T4) has 2.5G of 12G free (`caddy` has 9G)".to_owned(),
        hint: "a lower `gpu.vram_min`".to_owned(),
        gpu: Some(GpuStatus { state: gpu.to_owned(), ..GpuStatus::default() }),
        ..nextcloud(ServiceState::Waiting, 0)
    };
    let updates = vec![
        snapshot(Status { services: Vec::new(), ..sample::three() }),
        event(1, 0, "healthy", "caddy", Some(caddy())),
        // Who is about to make room is waited for.
        event(2, 100, "waiting", "nextcloud", Some(waiting("yielding"))),
        event(3, 200, "waiting", "nextcloud", Some(waiting("waiting"))),
    ];
    let plan = sample::plan(vec![
        sample::planned("nextcloud", "blocked", "needs 8G"),
        sample::planned("caddy", "create", ""),
    ]);
    let script =
        Script::default().reply("Apply", &sample::applied(plan.clone())).reply("Plan", &plan).watch(updates);
    let agent = stack_of(script);
    let ran = Place::with(&agent).run("up caddy nextcloud --no-deps");
    assert_snapshot!(told(&agent, &ran));
}

#[test]
fn up_says_no_word_of_the_agent_twice() {
    let say = |number, word: &str, message: &str| Update {
        message: message.to_owned(),
        ..event(number, 600, word, "nextcloud", Some(nextcloud(ServiceState::Starting, 0)))
    };
    let mut updates = under_way();
    updates.truncate(1);
    // Who waits says so by not going on; a newer agent may have words that this client does not know.
    updates.push(say(1, "waiting", "waiting: waits for postgres to be healthy"));
    updates.push(say(2, "paused", "paused: by anna"));
    updates.push(say(3, "drift", "memory_max is 6G"));
    updates.push(event(4, 900, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    updates.push(event(5, 900, "live", "caddy", Some(caddy())));
    let agent = stack_of(up_script(updates));
    let ran = Place::with(&agent).run("up");
    let said: Vec<&str> = ran.out.lines().filter_map(|line| line.split_once("  ")).map(|(_, text)| text).collect();
    assert!(!ran.out.contains("waiting"), "{}", ran.out);
    assert!(said.contains(&"paused: by anna") && said.contains(&"drift: memory_max is 6G"), "{}", ran.out);
}

#[test]
fn a_stack_of_a_thousand_services_is_asked_for_at_once() {
    let agent = stack_of(up_script(Vec::new()));
    let path = agent.folder().join("nixmox.toml");
    let store = format!("/nix/store/{}", "a".repeat(32));
    let table = |number: usize| format!("[services.web{number}]\nsystem = \"{store}-web{number}\"\n");
    let services: Vec<String> = (0..1000).map(table).collect();
    std::fs::write(path, format!("format = 1\n[stack]\nname = \"cloud\"\n{}", services.concat())).unwrap();
    let begin = std::time::Instant::now();
    let ran = Place::with(&agent).run("plan");
    // Written in steps of 256 bytes that each begin anew, it takes half a minute in a debug build.
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(agent.calls("Plan")[0]["request"]["services"].as_array().map(Vec::len), Some(1000));
}

#[test]
fn up_gives_a_service_that_ends_a_few_tries() {
    let failed = |tries: u32, again| ServiceStatus {
        reason: "ended with exit-code 1".to_owned(),
        restarts: tries,
        restart_at: again,
        ..nextcloud(ServiceState::Failed, 0)
    };
    let starting = || Some(nextcloud(ServiceState::Starting, 0));
    let mut updates = under_way();
    updates.truncate(6);
    updates.push(event(6, 4000, "failed", "nextcloud", Some(failed(1, Some(sample::NOW + 5)))));
    updates.push(event(7, 5000, "starting", "nextcloud", starting()));
    updates.push(event(8, 6000, "started", "nextcloud", starting()));
    let mut recovering = updates.clone();
    recovering.push(event(9, 7000, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(recovering));
    assert_snapshot!(told(&agent, &Place::with(&agent).run("up")));
    updates.push(event(9, 7000, "failed", "nextcloud", Some(failed(3, Some(sample::NOW + 11)))));
    let agent = stack_of(up_script(updates));
    assert_snapshot!(told(&agent, &Place::with(&agent).run("up")));
}

#[test]
fn up_goes_on_when_the_agent_is_killed() {
    let mut after = sample::three();
    after.services[1] = nextcloud(ServiceState::Starting, 2);
    let updates =
        vec![snapshot(after), event(1, 17_500, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0)))];
    // The first agent had told 50 events before; the second counts from 1.
    let before = under_way().into_iter().map(|update| Update { number: update.number + 50, ..update }).collect();
    let applied = nixmox_api::Applied { number: 50, ..sample::applied(sample::plan_of_three()) };
    let agent = stack_of(up_script(before).reply("Apply", &applied).watch(updates));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!(told(&agent, &ran));
}

#[test]
fn up_sees_in_the_snapshot_what_happened_while_the_agent_was_away() {
    let mut after = sample::three();
    after.services[1] = nextcloud(ServiceState::Healthy, 0);
    let agent = stack_of(up_script(under_way()).watch(vec![snapshot(after)]));
    let ran = Place::with(&agent).run("up");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("nextcloud  healthy\n"), "{}", ran.out);
}

#[test]
fn up_ends_when_somebody_makes_a_newer_generation() {
    let mut updates = under_way();
    let host = HostStatus { generation: 43, ..sample::three().host };
    updates.push(Update { host: Some(host), ..event(7, 6000, "generation", "", None) });
    let mut newer = sample::three();
    newer.host.generation = 43;
    newer.stacks[0].generation = 43;
    newer.stacks[0].changed_by.name = "bob".to_owned();
    let agent = stack_of(up_script(updates).reply("Status", &newer));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!(ran.err);
    assert_eq!(ran.code, 1);
}

#[test]
fn up_of_another_stack_does_not_end_this_one() {
    let mut updates = under_way();
    let host = HostStatus { generation: 43, ..sample::three().host };
    updates.push(Update { host: Some(host), ..event(7, 6000, "generation", "", None) });
    updates.push(event(8, 9000, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(updates).reply("Status", &sample::three()));
    assert_eq!(Place::with(&agent).run("up").code, 0);
}

#[test]
fn up_names_services_that_are_left_over() {
    let plan = PlanReply { orphans: vec!["wiki".to_owned()], ..settled() };
    let script = Script::default().reply("Apply", &sample::applied(plan)).reply("Plan", &settled());
    let agent = stack_of(script.watch(vec![snapshot(sample::three())]));
    let ran = Place::with(&agent).run("up");
    assert_snapshot!(told(&agent, &ran));
}

#[test]
fn up_with_a_time_limit_fails_and_says_what_is_open() {
    let agent = stack_of(up_script(under_way()).plan_after(&sample::plan_of_three()));
    let ran = Place::with(&agent).run("up --timeout 1s");
    assert_snapshot!(ran.err);
    assert_eq!(ran.code, 1);
}

#[test]
fn up_as_json_prints_the_answer_and_every_update() {
    let mut updates = under_way();
    updates.push(event(7, 9000, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(updates.clone()));
    let ran = Place::with(&agent).run("up --json");
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(serde_json::from_str::<nixmox_api::Applied>(lines[0]).unwrap().generation, 42);
    let printed: Vec<Update> = lines[1..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&printed[0], &printed[1..]), (&sample::made(), &updates[1..]));
}

#[test]
fn up_on_a_terminal_leaves_the_last_block_and_a_summary() {
    let mut updates = under_way();
    updates.push(event(7, 17_500, "healthy", "nextcloud", Some(nextcloud(ServiceState::Healthy, 0))));
    let agent = stack_of(up_script(updates));
    let ran = Place::with(&agent).on_terminal(80).run("up");
    let last = ran.out.rsplit("A\r").next().unwrap().replace("\x1b[K", "").replace("\x1b[J", "");
    assert_snapshot!(last);
}

fn progress_after(updates: &[Update]) -> Progress {
    let mut mirror = crate::client::Mirror::default();
    mirror.take(&updates[0]);
    let tasks = sample::plan_of_three().services;
    let tasks = tasks.iter().map(|planned| Task::of_plan(planned, mirror.service(&planned.name))).collect();
    let mut progress = Progress::new(Goal::Up, tasks, mirror, sample::NOW * 1_000_000, 0);
    for update in &updates[1..] {
        progress.take(update);
    }
    progress
}

#[test]
fn a_frame_shows_how_far_each_service_is() {
    let size = Size { width: 80, height: 24 };
    let at = |ms: u64| sample::NOW * 1_000_000 + ms * 1000;
    let mut text = String::new();
    for count in [1, 3, 5, 7] {
        let updates = &under_way()[..count];
        let lines = frame(&progress_after(updates), at(17_500), size, Style::default());
        assert!(lines.iter().all(|line| crate::render::width(line) <= 80));
        let line = format!("after {} events\n{}\n", count - 1, lines.join("\n"));
        text.push_str(&line);
    }
    assert_snapshot!(text);
}

#[test]
fn a_frame_fits_a_small_terminal() {
    let size = Size { width: 40, height: 4 };
    let lines = frame(&progress_after(&under_way()), sample::NOW * 1_000_000 + 17_500_000, size, Style::default());
    assert!(lines.iter().all(|line| crate::render::width(line) <= 40), "{lines:#?}");
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn down_waits_until_all_is_gone() {
    let stopping = |name: &str| ServiceStatus { state: ServiceState::Stopping, ..sample::service(name) };
    let mut updates = vec![snapshot(sample::three())];
    for (index, name) in ["caddy", "nextcloud", "postgres"].into_iter().enumerate() {
        let index = index as u64;
        updates.push(event(3 * index + 1, index * 1000, "stopping", name, Some(stopping(name))));
        updates.push(event(3 * index + 2, index * 1000 + 700, "stopped", name, Some(stopping(name))));
        updates.push(event(3 * index + 3, index * 1000 + 800, "removed", name, None));
    }
    let agent =
        stack_of(Script::default().reply("Down", &sample::applied(sample::plan(Vec::new()))).watch(updates));
    let ran = Place::with(&agent).run("down");
    assert_snapshot!(told(&agent, &ran));
    assert_eq!(agent.calls("Down"), [serde_json::json!({ "stack": "cloud", "names": [] })]);
}

#[test]
fn stop_start_and_restart_wait_for_what_they_asked() {
    let done = Done { number: 0, services: vec!["caddy".to_owned()] };
    let held = ServiceStatus {
        state: ServiceState::Stopped,
        held_by: Some("anna".to_owned()),
        invocation: None,
        ..caddy()
    };
    let again = ServiceStatus { invocation: Some("e".repeat(32)), ..caddy() };
    let stopping =
        || event(1, 100, "stopping", "caddy", Some(ServiceStatus { state: ServiceState::Stopping, ..caddy() }));
    let agent = stack_of(Script::default().reply("Stop", &done).watch(vec![
        snapshot(sample::three()),
        stopping(),
        event(2, 900, "stopped", "caddy", Some(held.clone())),
    ]));
    let mut text = told(&agent, &Place::with(&agent).run("stop caddy --with-dependents"));
    assert_eq!(agent.calls("Stop"), [serde_json::json!({ "names": ["caddy"], "with_dependents": true })]);
    let mut stopped = sample::three();
    stopped.services[2] = held;
    let agent = stack_of(Script::default().reply("Start", &done).watch(vec![
        snapshot(stopped),
        event(1, 100, "starting", "caddy", Some(ServiceStatus { state: ServiceState::Starting, ..again.clone() })),
        event(2, 900, "started", "caddy", Some(ServiceStatus { state: ServiceState::Starting, ..again.clone() })),
        event(3, 1900, "healthy", "caddy", Some(again.clone())),
    ]));
    text += &told(&agent, &Place::with(&agent).run("start caddy"));
    let agent = stack_of(Script::default().reply("Restart", &done).watch(vec![
        snapshot(sample::three()),
        stopping(),
        event(2, 500, "stopped", "caddy", None),
        event(3, 900, "started", "caddy", Some(again.clone())),
        event(4, 900, "healthy", "caddy", Some(again)),
    ]));
    text += &told(&agent, &Place::with(&agent).run("restart caddy"));
    assert_snapshot!(text);
}

#[test]
fn plan_says_what_and_why_and_exits_with_3_when_asked() {
    let mut plan = sample::plan_of_three();
    plan.services.push(sample::planned("wiki", "remove", "no stack declares it any more"));
    plan.warnings = vec![nixmox_api::Warning {
        service: "caddy".to_owned(),
        text: "a file of the same name in /etc overrides its limits".to_owned(),
    }];
    plan.orphans = vec!["paperless".to_owned()];
    let reason = |text: &str| nixmox_api::Reason { kind: "limit".to_owned(), text: text.to_owned() };
    let limits = Some(vec![reason("memory_max unset -> 4G"), reason("cpu_quota 50% -> 300%")]);
    plan.limits.clone_from(&limits);
    let agent = stack_of(Script::default().reply("Plan", &plan));
    let place = Place::with(&agent).on_terminal(80);
    assert_snapshot!(told(&agent, &place.run("plan --exit-code")));
    assert_eq!(place.run("plan").code, 0);
    let agent = stack_of(Script::default().reply("Plan", &settled()));
    let ran = Place::with(&agent).run("plan --exit-code");
    assert_snapshot!(told(&agent, &ran));
    // Where nothing of a service changes, a budget does.
    let agent = stack_of(Script::default().reply("Plan", &PlanReply { limits, ..settled() }));
    assert_eq!(Place::with(&agent).run("plan --exit-code").code, 3);
}

#[test]
fn a_saved_plan_is_applied_as_it_was_shown() {
    let agent = stack_of(
        Script::default()
            .reply("Plan", &sample::plan_of_three())
            .refuse("Apply", &AgentError::Stale { expected: "b41".to_owned(), actual: "b43".to_owned() })
            .watch(vec![snapshot(sample::three())]),
    );
    let place = Place::with(&agent);
    assert_eq!(place.run("plan caddy -o plan.json").code, 0);
    // What the stack file says by then does not matter.
    std::fs::remove_file(agent.folder().join("nixmox.toml")).unwrap();
    let ran = place.run("up --plan plan.json");
    assert_snapshot!(told(&agent, &ran));
    let request = &agent.calls("Apply")[0]["request"];
    assert_eq!((&request["base"], &request["only"]), (&"b41".into(), &serde_json::json!(["caddy"])));
}

#[test]
fn rm_deletes_only_when_told_and_confirmed() {
    let agent = Agent::start(Script::default().reply("RemoveData", &serde_json::json!({})));
    let mut place = Place::with(&agent);
    let mut text = String::new();
    for (arguments, answer) in [
        ("rm wiki", None),
        ("rm wiki --data", None),
        ("rm wiki --data", Some("\n")),
        ("rm wiki --data", Some("y\n")),
        ("rm wiki paperless --data --yes", None),
    ] {
        place.answer = answer;
        let line = format!("$ nixmoxctl {arguments}\n{}", place.run(arguments).told(agent.folder()));
        text.push_str(&line);
    }
    assert_snapshot!(text);
    assert_eq!(agent.calls("RemoveData").len(), 3);
    assert_eq!(place.run("rm wiki paperless --data --yes --json").out, "{}\n{}\n");
}

#[test]
fn services_that_are_not_meant_need_not_be_built() {
    let agent = Agent::start(Script::default().reply("Plan", &settled()));
    let system = format!("/nix/store/{}-nixos-system", "a".repeat(32));
    let manifest = format!(
        "format = 1\n[stack]\nname = \"cloud\"\n[services.web]\nsystem = \"{system}\"\ndepends_on = [\"db\"]\n\
         [services.db]\nsystem = \"{system}\"\n[services.paperless]\nsystem = \"./not-built-yet\"\n"
    );
    std::fs::write(agent.folder().join("nixmox.toml"), manifest).unwrap();
    let ran = Place::with(&agent).run("plan web");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let request = &agent.calls("Plan")[0]["request"];
    let services = request["services"].as_array().unwrap().iter().map(|service| service["name"].as_str());
    assert_eq!(services.flatten().collect::<Vec<_>>(), ["web", "db"]);
    assert_eq!(request["only"], serde_json::json!(["web", "db"]));
    let ran = Place::with(&agent).run("plan");
    assert!(ran.code == 1 && ran.err.contains("not-built-yet"), "{}", ran.err);
    let ran = Place::with(&agent).run("plan web --prune");
    assert!(ran.code == 2 && ran.err.contains("--prune"), "{}", ran.err);
}
