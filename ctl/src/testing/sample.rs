//! A host as tests see it: a stack of five services, and changes of it.

use nixmox_api::{
    Applied, Caller, Dependency, Drift, HostStatus, PlanReply, Planned, Reason, ServiceState, ServiceStatus,
    StackStatus, Status, Update, UpdateKind,
};

/// The moment of all tests, in seconds since 1970: 2025-11-20 14:02:32 UTC.
pub(crate) const NOW: u64 = 1_763_647_352;

/// A stack file whose systems need no build.
pub(crate) const STACK: &str = r#"format = 1
[stack]
name = "cloud"

[services.postgres]
system = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-postgres"

[services.nextcloud]
system = "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-nextcloud"
depends_on = { postgres = "healthy" }

[services.nextcloud.health]
http = "http://localhost/status.php"
start_period = "5min"

[services.caddy]
system = "/nix/store/cccccccccccccccccccccccccccccccc-caddy"
"#;

/// A healthy service.
pub(crate) fn service(name: &str) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        job: false,
        state: ServiceState::Healthy,
        since: Some(NOW - 12 * 86_400),
        reason: String::new(),
        hint: String::new(),
        waits_for: Vec::new(),
        probe: String::new(),
        probe_failures: 0,
        start_period_ms: 0,
        log: Vec::new(),
        declared_at: "nixmox.toml:12".to_owned(),
        health_declared_at: String::new(),
        restarts: 0,
        address: None,
        ports: Vec::new(),
        invocation: Some(format!("{name:0>32}")),
        system: None,
        memory_current: None,
        memory_max: None,
        cpu_usec: None,
        cpu_percent: None,
        tasks_current: None,
        drift: Vec::new(),
        held_by: None,
        restart_at: None,
        depends_on: Vec::new(),
        probe_at: None,
        last_end: None,
        oom_kills: None,
        gpu: None,
    }
}

/// A healthy service that needs others, each with how far it has to be.
pub(crate) fn needing(name: &str, others: &[(&str, &str)]) -> ServiceStatus {
    let dependency = |(name, condition): &(&str, &str)| Dependency {
        name: (*name).to_owned(),
        stack: None,
        condition: (*condition).to_owned(),
    };
    ServiceStatus { depends_on: others.iter().map(dependency).collect(), ..service(name) }
}

/// Five services, of which three are well.
pub(crate) fn status() -> Status {
    let running = |name: &str, address: &str, memory: u64, cpu: f64| ServiceStatus {
        address: Some(address.to_owned()),
        memory_current: Some(memory),
        cpu_percent: Some(cpu),
        ..service(name)
    };
    let by = || Caller { uid: 1000, name: "anna".to_owned() };
    Status {
        sequence: 7,
        host: HostStatus {
            version: "0.1.0".to_owned(),
            generation: 41,
            generation_at: NOW - 7300,
            generation_by: by(),
            busy: false,
            warnings: Vec::new(),
        },
        stacks: vec![StackStatus {
            name: "cloud".to_owned(),
            file: "/srv/cloud/nixmox.toml".to_owned(),
            generation: 41,
            changed_at: NOW - 7300,
            changed_by: by(),
            good: true,
            on_trial: false,
            rolled_back: None,
            owner: None,
        }],
        services: vec![
            ServiceStatus { memory_max: Some(2 << 30), ..running("postgres", "10.233.1.2", 412 << 20, 3.1) },
            ServiceStatus {
                since: Some(NOW - 7300),
                memory_max: Some(4 << 30),
                drift: vec![Drift { what: "memory_max is 6G, declared 4G".to_owned(), corrected_in: Some(20) }],
                ..running("nextcloud", "10.233.2.2", 1_181_116_006, 11.4)
            },
            ServiceStatus {
                ports: vec!["80".to_owned(), "443".to_owned()],
                ..running("caddy", "10.233.3.2", 38 << 20, 0.2)
            },
            ServiceStatus {
                state: ServiceState::Unhealthy,
                since: Some(NOW - 250),
                probe: "http://localhost:8080/ -> connection refused".to_owned(),
                probe_failures: 12,
                ports: vec!["127.0.0.1:8080:80".to_owned()],
                memory_max: Some(1 << 30),
                ..running("wiki", "10.233.5.2", 190 << 20, 1.0)
            },
            ServiceStatus {
                state: ServiceState::Stopped,
                since: Some(NOW - 3 * 86_400),
                held_by: Some("anna".to_owned()),
                invocation: None,
                ..service("paperless")
            },
        ],
    }
}

/// What a line of a plan says.
pub(crate) fn planned(name: &str, change: &str, reason: &str) -> Planned {
    let reasons = if reason.is_empty() {
        Vec::new()
    } else {
        vec![Reason { kind: "field".to_owned(), text: reason.to_owned() }]
    };
    Planned { name: name.to_owned(), change: change.to_owned(), reasons, after: Vec::new(), state: None }
}

/// A plan for generation 42.
pub(crate) fn plan(services: Vec<Planned>) -> PlanReply {
    PlanReply {
        base: "b41".to_owned(),
        generation: 42,
        services,
        orphans: Vec::new(),
        warnings: Vec::new(),
        limits: None,
    }
}

/// The plan of most tests: one service of each kind.
pub(crate) fn plan_of_three() -> PlanReply {
    plan(vec![
        planned("postgres", "unchanged", ""),
        planned("nextcloud", "restart", "mounts changed"),
        planned("caddy", "live", "memory_max unset -> 1G"),
    ])
}

/// The answer to a change after which events are numbered from 1.
pub(crate) fn applied(plan: PlanReply) -> Applied {
    Applied { generation: 42, number: 0, plan }
}

/// A snapshot as the first message of a watch.
pub(crate) fn snapshot(status: Status) -> Update {
    Update {
        kind: UpdateKind::Snapshot,
        number: 0,
        at_usec: NOW * 1_000_000,
        resynchronize: false,
        service: String::new(),
        event: String::new(),
        message: String::new(),
        status: Some(status),
        current: None,
        host: None,
        stacks: None,
    }
}

/// An event, so many milliseconds after the moment of all tests.
pub(crate) fn event(number: u64, after_ms: u64, event: &str, name: &str, current: Option<ServiceStatus>) -> Update {
    Update {
        kind: UpdateKind::Event,
        number,
        at_usec: NOW * 1_000_000 + after_ms * 1000,
        service: name.to_owned(),
        event: event.to_owned(),
        status: None,
        current,
        ..snapshot(Status::default())
    }
}

/// The event by which a generation is told that was made, and has proven good.
pub(crate) fn made() -> Update {
    let host = HostStatus { generation: 42, ..status().host };
    let stacks = status().stacks.into_iter().map(|stack| StackStatus { generation: 42, ..stack }).collect();
    Update { host: Some(host), stacks: Some(stacks), ..event(0, 0, "generation", "", None) }
}

/// A status of three services that are well.
pub(crate) fn three() -> Status {
    let status = status();
    let names = ["postgres", "nextcloud", "caddy"];
    let services = status.services.iter().filter(|service| names.contains(&service.name.as_str()));
    let services = services.map(|service| ServiceStatus { drift: Vec::new(), ..service.clone() }).collect();
    Status { services, ..status }
}

/// Nextcloud on its way up, in a new instance.
pub(crate) fn nextcloud(state: ServiceState, tries: u32) -> ServiceStatus {
    ServiceStatus {
        state,
        since: Some(NOW),
        invocation: Some("f".repeat(32)),
        start_period_ms: 300_000,
        probe: if tries > 0 { "http://localhost/status.php -> 503".to_owned() } else { String::new() },
        probe_failures: tries,
        health_declared_at: "nixmox.toml:12".to_owned(),
        declared_at: "nixmox.toml:8".to_owned(),
        ..service("nextcloud")
    }
}

/// An event as the journal has it.
pub(crate) fn told(at_usec: u64, event: crate::journal::Event) -> crate::journal::Entry {
    crate::journal::Entry {
        service: String::new(),
        kind: nixmox_api::LogKind::Agent,
        at_usec,
        cursor: String::new(),
        speaker: String::new(),
        message: format!("{}: {}", event.service, event.word),
        priority: None,
        pid: None,
        event: Some(event),
    }
}
