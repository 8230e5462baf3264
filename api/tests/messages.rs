//! Each message as a golden file: what a client of the first release sends and reads must stay readable.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;

use nixmox_api::{
    AgentError, Applied, Caller, CopyReply, CopyRequest, Dependency, Device, DiffReply, Difference, Done, Drift,
    ExecReply, ExecRequest, ExecTerminal, GenerationInfo, GenerationVerdict, GenerationsReply, GpuShare, GpuStatus,
    HealthCheck, HostStatus, IoLimit, LastEnd, Limits, Mount, Network, Offload, OomKills, Origin, PathInfo,
    PathsReply, PlanReply, Planned, Port, Pressure, PressureMax, Reason, Request, Restart, RolledBack, Service,
    ServiceDiff, ServiceState, ServiceStatus, ServiceUsage, StackDiff, StackInfo, StackStatus, StacksReply, Status,
    Tmpfs, Update, UpdateKind, UsageReply, Warning,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Compares a message with its golden file, and what is read back with the message.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, message: &T) {
    let text = serde_json::to_string_pretty(message).expect("a message can be written");
    insta::assert_snapshot!(name, text);
    assert_eq!(&serde_json::from_str::<T>(&text).expect("a message can be read"), message);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn pair(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn caller() -> Caller {
    Caller { uid: 1000, name: "anna".into() }
}

fn system() -> String {
    format!("/nix/store/{}-nixos-system-web", "a".repeat(32))
}

/// Every field in use.
fn full_service() -> Service {
    Service {
        name: "web".into(),
        origin: Origin { file: "nixmox.toml".into(), line: 18, health_line: 22 },
        kind: "service".into(),
        system: Some(system()),
        depends_on: vec![
            Dependency { name: "migrate".into(), stack: None, condition: "completed".into() },
            Dependency { name: "postgres".into(), stack: Some("infra".into()), condition: "healthy".into() },
        ],
        health: Some(HealthCheck {
            http: Some("http://localhost/status".into()),
            tcp: None,
            unit: None,
            exec: None,
            pressure: Some(PressureMax { cpu: None, memory: Some(20), io: Some(50) }),
            interval_ms: 5000,
            timeout_ms: 2000,
            retries: 3,
            start_period_ms: 300_000,
            on_unhealthy: "restart".into(),
        }),
        limits: Limits {
            memory_min: Some(1),
            memory_low: Some(2),
            memory_high: Some(3),
            memory_max: Some(4),
            memory_swap_max: Some(0),
            memory_zswap_max: Some(5),
            cpu_quota: Some(1_500_000),
            cpu_weight: Some(100),
            allowed_cpus: vec![0, 1],
            tasks_max: Some(1024),
            io_weight: Some(50),
            io_read_bandwidth_max: vec![IoLimit { path: "/dev/sda".into(), bytes_per_second: 1000 }],
            io_write_bandwidth_max: vec![IoLimit { path: "/srv".into(), bytes_per_second: 2000 }],
        },
        network: Network { mode: "private".into(), address: Some("10.233.1.2".into()), bridge: None },
        ports: vec![Port {
            host_address: Some("127.0.0.1".into()),
            host_port: 8080,
            container_port: 80,
            protocol: "tcp".into(),
        }],
        mounts: vec![Mount {
            source: "/srv/web".into(),
            target: "/var/www".into(),
            read_only: true,
            create: true,
            must_be_mountpoint: false,
        }],
        tmpfs: vec![Tmpfs { target: "/tmp".into(), size: Some(1 << 20) }],
        credentials: pair("admin-password", "/run/secrets/admin"),
        environment: pair("LANG", "C.UTF-8"),
        devices: vec![Device { path: "/dev/dri/renderD128".into(), access: "rw".into() }],
        gpu: Some(GpuShare {
            vendor: Some("nvidia".into()),
            all: false,
            count: Some(1),
            ids: Vec::new(),
            vram: Some(10 << 30),
            vram_min: Some(4 << 30),
            priority: 50,
        }),
        offload: Some(Offload {
            engine: "ollama".into(),
            url: "http://localhost:11434".into(),
            keep: words(&["llama3.1:8b"]),
            idle_unload_ms: Some(1_800_000),
            context: Some(8192),
            request_grace_ms: Some(120_000),
            cpu_fallback: "refuse".into(),
        }),
        capabilities: words(&["CAP_NET_ADMIN"]),
        ephemeral: false,
        private_users: "pick".into(),
        nspawn_flags: words(&["--timezone=off"]),
        restart: Restart {
            policy: "on-failure".into(),
            delay_ms: 1000,
            delay_max_ms: 300_000,
            attempts_max: Some(5),
        },
    }
}

fn full_status() -> Status {
    Status {
        sequence: 7,
        host: HostStatus {
            version: "0.1.0".into(),
            generation: 41,
            generation_at: 1_763_600_000,
            generation_by: caller(),
            busy: true,
            warnings: words(&["net.ipv4.ip_forward is 0; set it to 1"]),
        },
        stacks: vec![StackStatus {
            name: "cloud".into(),
            file: "/home/anna/cloud/nixmox.toml".into(),
            generation: 41,
            changed_at: 1_763_600_000,
            changed_by: caller(),
            good: false,
            on_trial: true,
            rolled_back: Some(RolledBack {
                from: 40,
                to: 39,
                services: words(&["web"]),
                reasons: words(&["web: http://localhost/status -> 503"]),
            }),
            owner: Some("services.nixmox.stacks.cloud".into()),
        }],
        services: vec![service_status()],
    }
}

fn service_status() -> ServiceStatus {
    ServiceStatus {
        name: "web".into(),
        stack: "cloud".into(),
        job: false,
        state: ServiceState::Unhealthy,
        since: Some(1_763_600_100),
        reason: "http://localhost/status -> 503".into(),
        hint: "try: nixmoxctl why web".into(),
        waits_for: words(&["postgres: healthy"]),
        probe: "http://localhost/status -> 503".into(),
        probe_failures: 12,
        start_period_ms: 300_000,
        log: words(&["php-fpm[212]: could not connect to host \"postgres\""]),
        declared_at: "nixmox.toml:18".into(),
        health_declared_at: "nixmox.toml:22".into(),
        restarts: 1,
        address: Some("10.233.1.2".into()),
        ports: words(&["127.0.0.1:8080:80"]),
        invocation: Some("0123456789abcdef0123456789abcdef".into()),
        system: Some(system()),
        memory_current: Some(400 << 20),
        memory_max: Some(1 << 30),
        cpu_usec: Some(1_000_000),
        cpu_percent: Some(12.5),
        tasks_current: Some(12),
        drift: vec![Drift { what: "memory_max is 6G, declared 4G".into(), corrected_in: Some(20) }],
        held_by: None,
        restart_at: None,
        depends_on: vec![Dependency {
            name: "postgres".into(),
            stack: Some("data".into()),
            condition: "healthy".into(),
        }],
        probe_at: Some(1_763_600_160),
        last_end: Some(LastEnd {
            at: Some(1_763_600_090),
            kind: "crashed".into(),
            why: "ended with exit-code 3".into(),
        }),
        oom_kills: Some(OomKills {
            count: 2,
            at: Some(1_763_600_089),
            process: Some("php-fpm".into()),
            pid: Some(812),
            resident: Some(300 << 20),
            why: "out of memory: killed php-fpm (pid 812), 300 MiB resident; limit 1 GiB; and 1 more".into(),
        }),
        gpu: Some(GpuStatus {
            state: "granted".into(),
            gpus: words(&["GPU-5a6c0a2e"]),
            budget: Some(10 << 30),
            used: Some(6 << 30),
        }),
    }
}

fn usage() -> UsageReply {
    let pressure = |some| Some(Pressure { some_avg10: some, full_avg10: Some(0.25) });
    let full = ServiceUsage {
        name: "web".into(),
        stack: "cloud".into(),
        invocation: Some("0123456789abcdef0123456789abcdef".into()),
        active_since_usec: Some(1_763_600_100_000_000),
        cpu_usec: Some(1_000_000),
        cpu_pressure: pressure(12.5),
        memory_current: Some(400 << 20),
        memory_swap_current: Some(0),
        memory_max: Some(2 << 30),
        memory_high: Some(1 << 30),
        memory_max_declared: Some(2 << 30),
        memory_high_declared: Some(1 << 30),
        memory_pressure: pressure(0.5),
        oom_kills: Some(1),
        io_read_bytes: Some(4096),
        io_write_bytes: Some(8192),
        io_pressure: Some(Pressure { some_avg10: 0.5, full_avg10: None }),
        tasks_current: Some(12),
        tasks_max: Some(512),
        vram_current: Some(6 << 30),
        vram_budget: Some(10 << 30),
        network_receive_bytes: Some(1024),
        network_transmit_bytes: Some(2048),
        restarts: 1,
    };
    // One that does not run, or a kernel without such figures: nothing is made up.
    let bare = ServiceUsage { name: "wiki".into(), stack: "cloud".into(), ..ServiceUsage::default() };
    UsageReply { at_usec: 1_763_600_200_000_000, clock_usec: 100_000_000, services: vec![full, bare] }
}

fn plan() -> PlanReply {
    PlanReply {
        base: "0123456789abcdef".into(),
        generation: 42,
        services: vec![Planned {
            name: "web".into(),
            change: "live".into(),
            reasons: vec![Reason { kind: "limit".into(), text: "memory_max unset -> 1G".into() }],
            after: words(&["postgres: healthy"]),
            state: Some(ServiceState::Healthy),
        }],
        orphans: words(&["wiki"]),
        warnings: vec![Warning { service: "web".into(), text: "autoStart starts it before its gates".into() }],
        limits: Some(vec![Reason { kind: "limit".into(), text: "memory_max unset -> 4G".into() }]),
    }
}

#[test]
fn a_status_is_as_its_golden_file_has_it() {
    check("status", &full_status());
}

#[test]
fn the_figures_of_use_are_as_their_golden_file_has_them() {
    check("usage", &usage());
}

#[test]
fn the_messages_of_a_watch_are_as_their_golden_files_have_them() {
    let snapshot = Update {
        kind: UpdateKind::Snapshot,
        number: 9,
        at_usec: 1_763_600_000_000_000,
        resynchronize: true,
        service: String::new(),
        event: String::new(),
        message: String::new(),
        status: Some(Status { services: Vec::new(), ..full_status() }),
        current: None,
        host: None,
        stacks: None,
    };
    check("update_snapshot", &snapshot);
    let event = Update {
        kind: UpdateKind::Event,
        number: 10,
        resynchronize: false,
        service: "web".into(),
        event: "unhealthy".into(),
        message: "http://localhost/status -> 503".into(),
        status: None,
        current: Some(service_status()),
        ..snapshot
    };
    check("update_event", &event);
}

#[test]
fn a_request_is_as_its_golden_file_has_it() {
    let request = Request {
        stack: "cloud".into(),
        file: "/home/anna/cloud/nixmox.toml".into(),
        address_pool: "10.233.0.0/16".into(),
        services: vec![full_service()],
        only: words(&["web"]),
        prune: false,
        base: Some("0123456789abcdef".into()),
        no_rollback: Some(true),
        limits: Some(nixmox_api::Limits { memory_max: Some(4 << 30), ..nixmox_api::Limits::default() }),
        owner: Some("services.nixmox.stacks.cloud".into()),
        look_inside: Some(true),
    };
    check("request", &request);
    assert!(request.into_model().is_ok(), "the example is a valid request");
}

#[test]
fn the_answers_are_as_their_golden_files_have_them() {
    check("applied", &Applied { generation: 42, number: 9, plan: plan() });
    check("done", &Done { number: 9, services: words(&["web"]) });
    let stack = StackInfo {
        name: "cloud".into(),
        file: "/home/anna/cloud/nixmox.toml".into(),
        services: words(&["postgres", "web"]),
        generation: 41,
        changed_by: caller(),
        changed_at: 1_763_600_000,
    };
    check("stacks", &StacksReply { stacks: vec![stack] });
    let path = PathInfo { what: "conf".into(), path: "/etc/nixos-containers/web.conf".into(), exists: Some(true) };
    check("paths", &PathsReply { paths: vec![path] });
    let generation = GenerationInfo {
        number: 40,
        made_at: 1_763_600_000,
        made_by: caller(),
        current: false,
        verdict: GenerationVerdict::Bad,
        reason: "web: http://localhost/status -> 503".into(),
        stacks: words(&["cloud"]),
        services: 3,
        restored: Some(38),
    };
    check("generations", &GenerationsReply { generations: vec![generation] });
    let service = ServiceDiff {
        name: "web".into(),
        stack: "cloud".into(),
        change: "changed".into(),
        system_from: None,
        system_to: Some(system()),
        differences: vec![Difference { key: "limits.memory_max".into(), from: "1G".into(), to: "2G".into() }],
    };
    let changed = Difference { key: "limits.memory_max".into(), from: String::new(), to: "4G".into() };
    let stack = StackDiff { name: "cloud".into(), differences: vec![changed] };
    check("diff", &DiffReply { services: vec![service], stacks: Some(vec![stack]) });
}

#[test]
fn the_messages_of_a_command_are_as_their_golden_files_have_them() {
    let request = ExecRequest {
        name: "web".into(),
        command: words(&["ls", "-l"]),
        login: false,
        terminal: Some(ExecTerminal { kind: "xterm".into(), rows: 24, columns: 80 }),
        user: Some("www-data".into()),
        working_directory: Some("/srv".into()),
        environment: words(&["LANG=C"]),
    };
    check("exec", &request);
    check(
        "exec_replies",
        &vec![
            ExecReply::default(),
            ExecReply { exit_status: Some(7), ..ExecReply::default() },
            ExecReply { signal: Some(15), ..ExecReply::default() },
            ExecReply::failed("not_found", "there is no program `lss` in `web`", "give its path"),
        ],
    );
}

#[test]
fn the_messages_of_a_copy_are_as_their_golden_files_have_them() {
    check("copy", &CopyRequest { name: "web".into(), path: "/etc/.".into(), into: true, follow: false });
    let reply = CopyReply {
        objects: 3,
        bytes: 4096,
        skipped: words(&["etc/fifo: it is a FIFO"]),
        skipped_more: 0,
        failure: Some("what arrives is not whole".into()),
    };
    check("copy_replies", &vec![CopyReply::default(), reply]);
}

#[test]
fn the_errors_are_as_their_golden_file_has_them() {
    let (name, hint, text) = ("web".to_owned(), "the way out".to_owned(), "text".to_owned());
    let errors = vec![
        AgentError::NotPermitted { role: "operator".into(), method: "Apply".into(), hint: hint.clone() },
        AgentError::Invalid { problems: words(&["web: ports[0]: 0 is not a port"]), hint: hint.clone() },
        AgentError::UnknownService { name: name.clone(), hint: hint.clone() },
        AgentError::UnknownStack { name: name.clone(), hint: hint.clone() },
        AgentError::UnknownGeneration { number: 7, hint: hint.clone() },
        AgentError::Stale { expected: text.clone(), actual: text.clone() },
        AgentError::HasDependents { dependents: vec![name], hint: hint.clone() },
        AgentError::Refused { reason: text, hint },
    ];
    check("errors", &errors);
}

#[test]
fn a_field_that_this_version_does_not_know_is_refused() {
    let mut request = serde_json::to_value(full_service()).expect("a message can be written");
    request["tpu"] = serde_json::json!({ "count": 1 });
    let refused = serde_json::from_value::<Service>(request).expect_err("`tpu` is not known");
    assert!(refused.to_string().contains("unknown field `tpu`"), "{refused}");
}
