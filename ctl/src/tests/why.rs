//! `why`: each kind of trouble, with its root, the line of the manifest that matters, and what to try.

use insta::assert_snapshot;
use nixmox_api::{
    Drift, LastEnd, OomKills, Pressure, ServiceState, ServiceStatus, ServiceUsage, Status, UsageReply,
};

use crate::testing::sample::{self, NOW, needing, service};
use crate::testing::{Agent, Place, Script};

/// The stack file of these tests; its lines are those that the statuses name.
const STACK: &str = r#"format = 1
[stack]
name = "cloud"

[services.postgres]
system = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-postgres"
mounts = ["/srv/postgres:/var/lib/postgresql"]
restart = { attempts_max = 5 }

[services.postgres.health]
tcp = 5432
start_period = "1min"

[services.nextcloud]
system = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nextcloud"
depends_on = { postgres = "healthy", redis = "started" }

[services.nextcloud.limits]
memory_max = "4G"

[services.caddy]
system = "/nix/store/cccccccccccccccccccccccccccccccc-caddy"
depends_on = ["nextcloud"]

[services.redis]
system = "/nix/store/dddddddddddddddddddddddddddddddd-redis"

[services.wiki]
system = "/nix/store/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-wiki"
"#;

fn postgres(state: ServiceState) -> ServiceStatus {
    ServiceStatus {
        state,
        since: Some(NOW - 250),
        declared_at: "nixmox.toml:5".to_owned(),
        health_declared_at: "nixmox.toml:10".to_owned(),
        start_period_ms: 60_000,
        ..service("postgres")
    }
}

fn ended(ago: u64, kind: &str, why: &str) -> LastEnd {
    LastEnd { at: Some(NOW - ago), kind: kind.to_owned(), why: why.to_owned() }
}

fn waiting(service: ServiceStatus, line: u32, gates: &[&str]) -> ServiceStatus {
    ServiceStatus {
        state: ServiceState::Waiting,
        since: Some(NOW - 245),
        invocation: None,
        waits_for: gates.iter().map(|gate| (*gate).to_owned()).collect(),
        reason: format!("waits for {}", gates.join(", ")),
        declared_at: format!("nixmox.toml:{line}"),
        ..service
    }
}

/// Returns what `why` says of a service, on a host with these alone and the stack file in its folder.
fn why_with(file: &str, arguments: &str, services: Vec<ServiceStatus>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nixmox.toml");
    std::fs::write(&path, file).unwrap();
    let mut status = Status { services, ..sample::status() };
    status.stacks[0].file = path.display().to_string();
    let agent = Agent::start(Script::default().reply("Status", &status));
    std::fs::write(agent.folder().join("nixmox.toml"), file).unwrap();
    let ran = Place::with(&agent).on_terminal(80).run(&format!("why {arguments}"));
    let widest = ran.out.lines().map(crate::render::width).max().unwrap_or(0);
    assert!(widest <= 80, "{widest} columns:\n{}", ran.out);
    assert!(!ran.out.contains('\x1b'), "{:?}", ran.out);
    assert!(!ran.out.contains("try   nixmoxctl why"), "it leads nowhere: {}", ran.out);
    ran.told(agent.folder())
}

/// Returns a text on one line, whatever its rows and widths.
fn said(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn why(name: &str, services: Vec<ServiceStatus>) -> String {
    why_with(STACK, name, services)
}

#[test]
fn a_service_that_is_held() {
    let held = ServiceStatus {
        state: ServiceState::Stopped,
        since: Some(NOW - 3 * 86_400),
        invocation: None,
        held_by: Some("anna".to_owned()),
        reason: "stopped by anna".to_owned(),
        hint: "nixmoxctl start redis".to_owned(),
        declared_at: "nixmox.toml:25".to_owned(),
        last_end: Some(ended(3 * 86_400, "asked", "stopped by anna")),
        ..service("redis")
    };
    assert_snapshot!(why("redis", vec![held]));
}

#[test]
fn a_chain_of_waiting_is_followed_to_its_root() {
    let ill = ServiceStatus {
        reason: "tcp 5432 -> connection refused".to_owned(),
        hint: "nixmoxctl why postgres".to_owned(),
        probe: "tcp 5432 -> connection refused".to_owned(),
        probe_failures: 12,
        probe_at: Some(NOW - 3),
        log: vec!["FATAL: could not write lock file \"postmaster.pid\": No space left on \x1b[2Jdevice".to_owned()],
        ..postgres(ServiceState::Unhealthy)
    };
    let nextcloud = waiting(
        needing("nextcloud", &[("postgres", "healthy"), ("redis", "started")]),
        14,
        &["redis: started", "postgres: healthy"],
    );
    let caddy = waiting(needing("caddy", &[("nextcloud", "started")]), 21, &["nextcloud: started"]);
    let redis = ServiceStatus { state: ServiceState::Starting, ..service("redis") };
    let all = vec![redis, ill, nextcloud, caddy];
    assert_snapshot!(why("caddy", all.clone()));
    let text = why("nextcloud", all);
    assert!(said(&text).contains("gate postgres: healthy, not met since 13:58"), "{text}");
    assert!(said(&text).contains("also redis: started"), "{text}");
    assert!(text.contains("nixmox.toml:16 | depends_on = { postgres = \"healthy\""), "{text}");
}

#[test]
fn what_waits_for_something_that_is_not_up_says_so() {
    let nextcloud = waiting(needing("nextcloud", &[("gone", "healthy")]), 14, &["gone: healthy"]);
    let text = why("nextcloud", vec![nextcloud]);
    assert!(said(&text).contains("gate gone: healthy; no stack that is up declares it"), "{text}");
}

#[test]
fn a_start_that_failed_names_the_line_with_what_is_missing() {
    let reason = "the mount source `/srv/postgres` does not exist on this host";
    let failed = ServiceStatus {
        invocation: None,
        reason: reason.to_owned(),
        hint: "create it (`mkdir -p /srv/postgres`), or say `create = true` in the mount".to_owned(),
        restarts: 1,
        restart_at: Some(NOW + 2),
        last_end: Some(ended(1, "not_started", reason)),
        ..postgres(ServiceState::Failed)
    };
    assert_snapshot!(why("postgres", vec![failed]));
}

#[test]
fn a_crash_loop_in_its_back_off() {
    let failed = ServiceStatus {
        invocation: None,
        reason: "does not run: ended with exit-code 3; waits before the next attempt".to_owned(),
        hint: "nixmoxctl why postgres".to_owned(),
        restarts: 4,
        restart_at: Some(NOW + 8),
        log: vec!["cannot open database".to_owned()],
        last_end: Some(ended(8, "crashed", "ended with exit-code 3")),
        ..postgres(ServiceState::Failed)
    };
    assert_snapshot!(why("postgres", vec![failed]));
}

#[test]
fn a_service_that_is_unhealthy() {
    let ill = ServiceStatus {
        reason: "http://localhost/status -> 503".to_owned(),
        hint: "nixmoxctl why postgres".to_owned(),
        probe: "http://localhost/status -> 503".to_owned(),
        probe_failures: 61,
        probe_at: Some(NOW - 2),
        last_end: Some(ended(7300, "unhealthy", "it was unhealthy: http://localhost/status -> 503")),
        restarts: 1,
        ..postgres(ServiceState::Unhealthy)
    };
    assert_snapshot!(why("postgres", vec![ill]));
}

#[test]
fn a_service_that_was_given_up() {
    let failed = ServiceStatus {
        invocation: None,
        reason: "does not run: ended with signal SEGV; its restart policy forbids a further start".to_owned(),
        hint: "nixmoxctl why postgres".to_owned(),
        restarts: 5,
        log: vec!["assertion failed".to_owned()],
        last_end: Some(ended(250, "crashed", "ended with signal SEGV")),
        ..postgres(ServiceState::Failed)
    };
    assert_snapshot!(why("postgres", vec![failed]));
}

fn killed(count: u64) -> OomKills {
    OomKills {
        count,
        at: Some(NOW - 190),
        process: Some("php-fpm".to_owned()),
        pid: Some(812),
        resident: Some(3 << 30),
        why: "out of memory: killed php-fpm (pid 812), 3 GiB resident; limit 4 GiB".to_owned(),
    }
}

fn nextcloud(state: ServiceState) -> ServiceStatus {
    let declared_at = "nixmox.toml:14".to_owned();
    ServiceStatus { state, declared_at, memory_max: Some(4 << 30), ..service("nextcloud") }
}

#[test]
fn a_service_under_pressure() {
    let reason = "memory pressure 34% (some, avg10) above 20%".to_owned();
    let pressed = ServiceStatus {
        reason: reason.clone(),
        probe: reason,
        probe_failures: 3,
        probe_at: Some(NOW - 2),
        hint: "nixmoxctl why postgres".to_owned(),
        ..postgres(ServiceState::Unhealthy)
    };
    let pressure = |some_avg10| Some(Pressure { some_avg10, full_avg10: None });
    let usage = ServiceUsage {
        name: "postgres".to_owned(),
        cpu_pressure: pressure(1.6),
        memory_pressure: pressure(33.2),
        ..ServiceUsage::default()
    };
    let status = Status { services: vec![pressed], ..sample::status() };
    let usage = UsageReply { services: vec![usage], ..UsageReply::default() };
    let agent = Agent::start(Script::default().reply("Status", &status).reply("Usage", &usage));
    assert_snapshot!(Place::with(&agent).on_terminal(80).run("why postgres").told(agent.folder()));
}

#[test]
fn a_service_that_died_of_want_of_memory() {
    let failed = ServiceStatus {
        invocation: None,
        reason: format!("{}; waits before the next attempt", killed(1).why),
        hint: "nixmoxctl why nextcloud".to_owned(),
        restarts: 2,
        restart_at: Some(NOW + 4),
        oom_kills: Some(killed(1)),
        last_end: Some(ended(190, "crashed", &killed(1).why)),
        ..nextcloud(ServiceState::Failed)
    };
    assert_snapshot!(why("nextcloud", vec![failed]));
}

#[test]
fn a_service_that_lives_though_processes_of_it_were_killed() {
    let lives = ServiceStatus { oom_kills: Some(killed(3)), ..nextcloud(ServiceState::Healthy) };
    assert_snapshot!(why("nextcloud", vec![lives]));
    let before = ServiceStatus { oom_kills: Some(killed(0)), ..nextcloud(ServiceState::Healthy) };
    let text = why("nextcloud", vec![before]);
    assert!(said(&text).contains("limit 4 GiB; 3m ago, 13:59; in a run before"), "{text}");
    assert!(!text.contains("memory_max"), "{text}");
}

#[test]
fn a_service_that_drifts() {
    let drifts = ServiceStatus {
        drift: vec![Drift { what: "memory_max is 6G, declared 4G".to_owned(), corrected_in: Some(17) }],
        declared_at: "nixmox.toml:14".to_owned(),
        ..service("nextcloud")
    };
    assert_snapshot!(why("nextcloud", vec![drifts]));
}

#[test]
fn a_service_that_is_well_after_a_restart() {
    let well = ServiceStatus {
        probe: "tcp 5432 -> open".to_owned(),
        probe_at: Some(NOW - 4),
        last_end: Some(ended(250, "asked", "a restart was asked for by anna")),
        ..postgres(ServiceState::Healthy)
    };
    assert_snapshot!(why("postgres", vec![well.clone()]));
    let found = Some(LastEnd { at: None, kind: "crashed".to_owned(), why: "ended with signal KILL".to_owned() });
    let text = why("postgres", vec![ServiceStatus { last_end: found, ..well }]);
    assert!(said(&text).contains("last ended before the agent was started: ended with signal KILL"), "{text}");
}

#[test]
fn a_service_that_still_starts_says_how_long_it_may() {
    let starts = ServiceStatus {
        since: Some(NOW - 14),
        probe: "tcp 5432 -> connection refused".to_owned(),
        probe_failures: 7,
        probe_at: Some(NOW),
        ..postgres(ServiceState::Starting)
    };
    let text = why("postgres", vec![starts]);
    assert!(said(&text).contains("next 14s of its start period of 1min are over"), "{text}");
    assert!(said(&text).contains("nothing listens there: systemctl -M postgres --failed"), "{text}");
}

#[test]
fn a_service_that_is_declared_and_not_up_and_one_that_nobody_knows() {
    assert_snapshot!(why("wiki", vec![postgres(ServiceState::Healthy)]));
    assert_snapshot!(why("wikki", vec![postgres(ServiceState::Healthy)]));
}

#[test]
fn several_names_stand_one_below_the_other() {
    let text = why("postgres redis", vec![postgres(ServiceState::Healthy), service("redis")]);
    assert!(text.contains("● postgres") && text.contains("\n\n● redis"), "{text}");
}

#[test]
fn a_line_of_a_file_that_was_changed_since_is_not_shown() {
    let ill = || ServiceStatus { probe: "tcp 5432 -> no".to_owned(), ..postgres(ServiceState::Unhealthy) };
    let moved = format!("# one more line\n{STACK}");
    let text = why_with(&moved, "postgres", vec![ill()]);
    assert!(said(&text).contains("from nixmox.toml:10 [services.postgres.health]"), "{text}");
    let steering = STACK
        .replace("tcp = 5432", "tcp = 5432 # \x1b[2J")
        .replace("[services.postgres.health]", "[services.postgres.health] # \x1b[31m");
    let text = why_with(&steering, "postgres", vec![ill()]);
    assert!(said(&text).contains("from nixmox.toml:10 | [services.postgres.health] # [31m"), "{text}");
}
