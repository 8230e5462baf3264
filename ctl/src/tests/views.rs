//! What commands that only look print.

use insta::assert_snapshot;
use nixmox_api::{
    Caller, GpuStatus, OomKills, PathInfo, PathsReply, ServiceState, ServiceStatus, StackInfo, StacksReply, Status,
};

use crate::testing::{Agent, Place, Script, gpus, models, sample};

fn status_of(status: &Status, width: usize, arguments: &str) -> String {
    let agent = Agent::start(Script::default().reply("Status", status));
    let ran = Place::with(&agent).on_terminal(width).run(arguments);
    let widest = ran.out.lines().map(crate::render::width).max().unwrap_or(0);
    assert!(widest <= width, "{widest} columns:\n{}", ran.out);
    ran.told(agent.folder())
}

#[test]
fn status_shows_each_service_and_what_is_wrong() {
    assert_snapshot!(status_of(&sample::status(), 80, "status"));
}

#[test]
fn what_hinders_the_agent_is_said_where_no_stack_is_known() {
    let mut status = Status { stacks: Vec::new(), services: Vec::new(), ..sample::status() };
    status.host.warnings = vec!["7.json has the format 9".to_owned()];
    for arguments in ["status --all", "status"] {
        let said = status_of(&status, 80, arguments);
        assert!(said.contains("7.json has the format 9") && !said.contains("no stacks yet"), "{said}");
    }
    status.host.warnings.clear();
    assert!(status_of(&status, 80, "status --all").contains("no stacks yet"));
}

#[test]
fn status_says_what_was_killed_for_want_of_memory_until_that_is_old() {
    let killed = |count, ago: u64| {
        let why = "out of memory: killed php-fpm (pid 812), 61.2 MiB resident; limit 64 MiB".to_owned();
        let kills = OomKills { count, at: Some(sample::NOW - ago), process: None, pid: None, resident: None, why };
        let services = vec![ServiceStatus { oom_kills: Some(kills), ..sample::service("caddy") }];
        status_of(&nixmox_api::Status { services, ..sample::status() }, 120, "status")
    };
    let note = "● caddy  out of memory: killed php-fpm (pid 812), 61.2 MiB resident; limit 64 MiB, 3m ago";
    assert!(killed(1, 190).contains(note), "{}", killed(1, 190));
    assert!(killed(0, 190).contains(note) && !killed(0, 90_000).contains("out of memory"));
}

#[test]
fn status_fits_a_narrow_terminal() {
    assert_snapshot!(status_of(&sample::status(), 50, "status"));
}

#[test]
fn status_shows_every_state() {
    let mut status = sample::status();
    status.host.warnings = vec![
        "net.ipv4.ip_forward is 0: published ports do not answer; set it to 1, or let the module do it".to_owned(),
    ];
    let state = |name: &str, state, reason: &str| ServiceStatus {
        state,
        reason: reason.to_owned(),
        since: Some(sample::NOW - 14),
        ..sample::service(name)
    };
    status.services = vec![
        ServiceStatus { start_period_ms: 300_000, ..state("starting", ServiceState::Starting, "") },
        ServiceStatus {
            waits_for: vec!["starting: healthy".to_owned()],
            ..state("waiting", ServiceState::Waiting, "")
        },
        state("backing-off", ServiceState::Waiting, "ended with exit-code 1; next attempt in 8s"),
        state("stopping", ServiceState::Stopping, ""),
        ServiceStatus {
            hint: "journalctl -M failed -e".to_owned(),
            ..state("failed", ServiceState::Failed, "its init is missing: /nix/store/x/init")
        },
        ServiceStatus {
            restarts: 2,
            restart_at: Some(sample::NOW + 8),
            ..state("ending", ServiceState::Failed, "ended with exit-code 1")
        },
        ServiceStatus { job: true, ..state("completed", ServiceState::Completed, "") },
        state("a-service-with-quite-a-long-name-that-does-not-fit", ServiceState::Healthy, ""),
        ServiceStatus {
            ports: ["80", "443", "443/udp", "127.0.0.1:2019:2019", "[::1]:8080:80"].map(str::to_owned).to_vec(),
            cpu_percent: Some(1600.0),
            ..state("many-ports", ServiceState::Healthy, "")
        },
        state("日本語", ServiceState::Healthy, ""),
    ];
    assert_snapshot!(status_of(&status, 80, "status"));
}

/// Two services that have GPUs, one that waits for some; two ask for none.
fn with_gpus() -> Status {
    let mut status = sample::status();
    let (one, other) = ("GPU-5a6c0a2e-93be-4b4e", "GPU-5a6c0a2e-77aa-4b4e");
    let gpu = |state: &str, gpus: &[&str], used, budget| {
        let gpus = gpus.iter().map(|&id| id.to_owned()).collect();
        Some(GpuStatus { state: state.to_owned(), gpus, budget, used })
    };
    status.services[0].gpu = gpu("granted", &["GPU-0d9f0f4c-93be-4b4e"], Some(6 << 30), Some(10 << 30));
    status.services[1].gpu = gpu("granted", &[one, other], Some(512 << 20), None);
    let reason = "it needs 8G of one GPU, and 1.8G are free".to_owned();
    let hint = "give it a priority above 50".to_owned();
    status.services[3] = ServiceStatus {
        state: ServiceState::Waiting,
        gpu: gpu("waiting", &[], None, None),
        reason,
        hint,
        declared_at: "nixmox.toml:31".to_owned(),
        invocation: None,
        ..sample::service("wiki")
    };
    status
}

#[test]
fn status_shows_gpus_where_a_service_has_some() {
    let status = with_gpus();
    let texts = [100, 80, 50].map(|width| status_of(&status, width, "status"));
    assert_snapshot!(texts.join("\n"));
}

#[test]
fn why_tells_which_gpus_it_has_and_why_it_waits_for_some() {
    let status = with_gpus();
    assert_snapshot!(status_of(&status, 80, "why postgres") + "\n" + &status_of(&status, 80, "why wiki"));
}

#[test]
fn why_tells_what_is_to_be_given_back_and_what_was_decided_about_models() {
    let mut status = with_gpus();
    let name = status.services[0].name.clone();
    let gpus = vec!["GPU-0d9f0f4c-93be-4b4e".to_owned()];
    let standing = GpuStatus { state: "shrinking".to_owned(), gpus, budget: Some(4 << 30), used: Some(6 << 30) };
    status.services[0].gpu = Some(standing);
    let gpu = nixmox_api::GpuService {
        reason: "whisper, which goes first, needs 4G of GPU 0".to_owned(),
        ..gpus::service(&name, "shrinking", &["GPU-0d9f0f4c-93be-4b4e"], Some(4 << 30))
    };
    let gpus = nixmox_api::GpusReply { services: vec![gpu], ..Default::default() };
    let mut offloads = models::reply();
    offloads.services[1].name.clone_from(&name);
    let script = Script::default().reply("Status", &status).reply("Gpus", &gpus).reply("Offloads", &offloads);
    let agent = Agent::start(script);
    let ran = Place::with(&agent).on_terminal(80).run(&format!("why {name}"));
    assert_snapshot!(ran.out);
    let ran = Place::with(&agent).on_terminal(100).run("status");
    assert!(ran.out.contains("  shrinks  "), "{}", ran.out);
    // Of one without a share nothing of that is asked.
    let before = agent.calls("Offloads").len();
    let plain = status.services.iter().find(|service| service.gpu.is_none()).unwrap().name.clone();
    Place::with(&agent).run(&format!("why {plain}"));
    assert_eq!(agent.calls("Offloads").len(), before);
}

#[test]
fn status_into_a_pipe_cuts_nothing() {
    let mut status = sample::status();
    let long = "a-service-with-quite-a-long-name-that-does-not-fit-into-a-line";
    status.services.push(ServiceStatus { address: Some("10.233.6.2".to_owned()), ..sample::service(long) });
    let agent = Agent::start(Script::default().reply("Status", &status));
    let ran = Place::with(&agent).run("status");
    assert!(ran.out.contains(long), "{}", ran.out);
}

#[test]
fn status_narrows_to_services_and_stacks() {
    let mut status = sample::status();
    status.stacks.push(nixmox_api::StackStatus { name: "media".to_owned(), ..status.stacks[0].clone() });
    status.services.push(ServiceStatus { stack: "media".to_owned(), ..sample::service("jellyfin") });
    assert!(status_of(&status, 80, "status").contains("jellyfin"));
    assert!(!status_of(&status, 80, "status -s cloud").contains("jellyfin"));
    let one = status_of(&status, 80, "status caddy");
    assert!(one.contains("caddy") && !one.contains("postgres") && !one.contains("media"), "{one}");
    assert_snapshot!(status_of(&status, 80, "status -s clout"), @r"
    exit 1
    --- stdout
    --- stderr
    error: there is no stack `clout`
      try   did you mean `cloud`?
    ");
}

#[test]
fn status_is_of_the_stack_of_this_folder() {
    let mut status = sample::status();
    status.stacks.push(nixmox_api::StackStatus { name: "media".to_owned(), ..status.stacks[0].clone() });
    let agent = Agent::start(Script::default().reply("Status", &status));
    std::fs::write(agent.folder().join("nixmox.toml"), sample::STACK).unwrap();
    std::fs::create_dir(agent.folder().join("below")).unwrap();
    let mut place = Place::with(&agent);
    place.folder.push("below");
    let ran = place.run("status");
    assert!(ran.out.starts_with("cloud ") && !ran.out.contains("media"), "{}", ran.out);
}

#[test]
fn json_is_what_the_agent_said() {
    let status = sample::status();
    let agent = Agent::start(Script::default().reply("Status", &status));
    let ran = Place::with(&agent).run("status --json");
    assert_eq!(serde_json::from_str::<Status>(&ran.out).unwrap(), status);
    assert_eq!(ran.out.lines().count(), 1);
}

#[test]
fn colours_mean_states() {
    let text = crate::render::status(
        &sample::status(),
        &crate::context::Moment { at_usec: sample::NOW * 1_000_000, zone: jiff::tz::TimeZone::UTC },
        Some(80),
        crate::render::Style::new(true),
    );
    assert!(text.contains("\x1b[32m●\x1b[0m postgres   \x1b[32mhealthy\x1b[0m"), "{text}");
    assert!(text.contains("\x1b[31m✗\x1b[0m wiki"), "{text}");
}

#[test]
fn why_tells_everything() {
    let mut status = sample::status();
    status.services = vec![ServiceStatus {
        reason: "the health check fails".to_owned(),
        log: vec!["php-fpm[212]: could not connect to host \"postgres\"".to_owned(), "\x1b[2Jgone".to_owned()],
        restarts: 2,
        ..sample::nextcloud(ServiceState::Unhealthy, 61)
    }];
    assert_snapshot!(status_of(&status, 80, "why nextcloud"));
}

#[test]
fn stacks_and_paths_are_tables() {
    let stack = StackInfo {
        name: "cloud".to_owned(),
        file: "/srv/cloud/nixmox.toml".to_owned(),
        services: vec!["postgres".to_owned(), "caddy".to_owned()],
        generation: 41,
        changed_by: Caller { uid: 1000, name: "anna".to_owned() },
        changed_at: sample::NOW - 7300,
    };
    let stacks = StacksReply { stacks: vec![stack] };
    let path = |what: &str, path: &str, exists| PathInfo { what: what.to_owned(), path: path.to_owned(), exists };
    let paths = PathsReply {
        paths: vec![
            path("unit", "container@caddy.service", Some(true)),
            path("state", "/var/lib/nixos-containers/caddy", Some(true)),
            path("environment", "/run/nixmox/environment/caddy", Some(false)),
            path("mount", "/srv/nas", None),
        ],
    };
    let agent = Agent::start(Script::default().reply("Stacks", &stacks).reply("Paths", &paths));
    let place = Place::with(&agent).on_terminal(80);
    assert_snapshot!(place.run("ls").told(agent.folder()) + &place.run("paths caddy").told(agent.folder()));
    assert_eq!(agent.calls("Paths"), [serde_json::json!({ "name": "caddy" })]);
}

#[test]
fn a_status_that_is_higher_than_the_screen_only_counts_what_is_well() {
    let moment = crate::context::Moment { at_usec: sample::NOW * 1_000_000, zone: jiff::tz::TimeZone::UTC };
    let style = crate::render::Style::default();
    let size = Some(crate::output::Size { width: 80, height: 10 });
    let screen = crate::output::Screen { size, error_size: None, error_width: None, style, error_style: style };
    let text = crate::render::status_in_short(&sample::status(), &moment, screen);
    // Nextcloud is healthy and has drift.
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with(['●', '✗', '○', '■'])).collect();
    assert!(rows.iter().all(|row| !row.contains("postgres") && !row.contains("caddy")), "{text}");
    assert!(text.contains("3 healthy, 1 unhealthy, 1 stopped\n"), "{text}");
    assert!(text.contains("  2 services not shown: well\n"), "{text}");
    assert!(
        text.contains("drift: memory_max is 6G, declared 4G") && text.contains("try: nixmoxctl why wiki"),
        "{text}"
    );
}
