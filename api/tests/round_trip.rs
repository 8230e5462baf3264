//! What the model says survives the wire; what is wrong on the wire is named and never reaches the model.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use nixmox_api::{Request, Service};
use nixmox_core::model::{self, Bytes, ContainerName, CpuQuota, StackName, Weight};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = ContainerName> {
    "[a-z][a-z0-9]{0,8}".prop_map(|text| text.parse().expect("a name"))
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[a-z:@%+ä]{1,8}(/[a-zA-Z0-9._-]{1,8}x){0,3}".prop_map(PathBuf::from)
}

fn milliseconds() -> impl Strategy<Value = Duration> {
    (100_u64..1_000_000_000).prop_map(Duration::from_millis)
}

fn probe() -> impl Strategy<Value = model::Probe> {
    prop_oneof![
        "http://localhost(:[1-9][0-9]{0,3})?/[a-z?=]{0,9}".prop_map(model::Probe::Http),
        (1_u16..).prop_map(model::Probe::Tcp),
        "[a-z@-]{1,9}\\.(service|target)".prop_map(model::Probe::Unit),
        vec("[ -~\\n]{1,9}", 1..4).prop_map(model::Probe::Exec),
        Just(model::Probe::Ready),
    ]
}

fn health() -> impl Strategy<Value = model::HealthCheck> {
    let on_unhealthy = prop_oneof![Just(model::OnUnhealthy::Report), Just(model::OnUnhealthy::Restart)];
    let share = || option::of((1_u64..=99).prop_map(|share| model::Percent::try_from(share).expect("a share")));
    let pressure = (share(), share(), share()).prop_map(|(cpu, memory, io)| model::PressureMax { cpu, memory, io });
    let asked = (probe(), pressure)
        .prop_filter("asks something", |(probe, most)| *probe != model::Probe::Ready || !most.is_empty());
    (asked, milliseconds(), milliseconds(), 1_u32.., milliseconds(), on_unhealthy).prop_map(
        |((probe, pressure), interval, timeout, retries, start_period, on_unhealthy)| model::HealthCheck {
            probe,
            pressure,
            interval,
            timeout,
            retries,
            start_period,
            on_unhealthy,
        },
    )
}

fn io_limits() -> impl Strategy<Value = Vec<model::IoLimit>> {
    btree_map(path(), 1_u64..u64::MAX, 0..3).prop_map(|rates| {
        rates.into_iter().map(|(path, rate)| model::IoLimit { path, bytes_per_second: Bytes(rate) }).collect()
    })
}

fn limits() -> impl Strategy<Value = model::Limits> {
    let bytes = || option::of((0_u64..u64::MAX).prop_map(Bytes));
    let weight = || option::of((1_u64..=10_000).prop_map(|number| Weight::try_from(number).expect("a weight")));
    let quota =
        option::of((10_000_u64..u64::MAX).prop_map(|usec| CpuQuota::from_usec_per_sec(usec).expect("a quota")));
    let memory = (bytes(), bytes(), bytes(), bytes(), bytes(), bytes());
    let cpu = (quota, weight(), btree_set(any::<u16>(), 0..4));
    let rest = (option::of(1_u64..), weight(), io_limits(), io_limits());
    (memory, cpu, rest).prop_map(|(memory, cpu, rest)| model::Limits {
        memory_min: memory.0,
        memory_low: memory.1,
        memory_high: memory.2,
        memory_max: memory.3,
        memory_swap_max: memory.4,
        memory_zswap_max: memory.5,
        cpu_quota: cpu.0,
        cpu_weight: cpu.1,
        allowed_cpus: cpu.2.into_iter().collect(),
        tasks_max: rest.0,
        io_weight: rest.1,
        io_read_bandwidth_max: rest.2,
        io_write_bandwidth_max: rest.3,
    })
}

/// A network, with ports where it can have them.
fn network() -> impl Strategy<Value = (model::Network, Vec<model::Port>)> {
    let address = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    let protocol = prop_oneof![Just(model::Protocol::Tcp), Just(model::Protocol::Udp)];
    let published = btree_map((1_u16.., option::of(address), protocol), 1_u16.., 0..4).prop_map(|ports| {
        let port = |((host_port, host_address, protocol), container_port)| model::Port {
            host_address,
            host_port,
            container_port,
            protocol,
        };
        ports.into_iter().map(port).collect()
    });
    let fixed = option::of(any::<[u8; 4]>().prop_map(Ipv4Addr::from));
    prop_oneof![
        (fixed, published).prop_map(|(address, ports)| (model::Network::Private { address }, ports)),
        "[a-z0-9.-]{2}[a-z]{1,13}".prop_map(|bridge| (model::Network::Bridge(bridge), Vec::new())),
        Just((model::Network::Host, Vec::new())),
    ]
}

/// Mounts and memory file systems, whose targets are unique together.
fn file_systems() -> impl Strategy<Value = (Vec<model::Mount>, Vec<model::Tmpfs>)> {
    let mount = (path(), any::<[bool; 3]>());
    btree_map(path(), (option::of(mount), option::of(1_u64..)), 0..5).prop_map(|targets| {
        let (mut mounts, mut tmpfs) = (Vec::new(), Vec::new());
        for (target, (mount, size)) in targets {
            match mount {
                Some((source, [read_only, create, must_be_mountpoint])) => {
                    mounts.push(model::Mount { source, target, read_only, create, must_be_mountpoint });
                }
                None => tmpfs.push(model::Tmpfs { target, size: size.map(Bytes) }),
            }
        }
        (mounts, tmpfs)
    })
}

fn gpu() -> impl Strategy<Value = model::GpuShare> {
    let devices = prop_oneof![
        Just(model::GpuDevices::All),
        (1_u32..9).prop_map(model::GpuDevices::Count),
        btree_set("GPU-[0-9a-f]{1,8}", 1..4)
            .prop_map(|ids| { model::GpuDevices::Ids(ids.iter().map(|id| id.parse().expect("a name")).collect()) }),
    ];
    let vendor = option::of(prop::sample::select(<model::Vendor as model::Word>::ALL));
    let vram = option::of((any::<u32>(), option::of(any::<u16>())));
    (vendor, devices, vram, 0_u8..=100).prop_map(|(vendor, devices, vram, priority)| model::GpuShare {
        vendor,
        devices,
        vram: vram.map(|(vram, _)| model::Bytes(u64::from(vram) + u64::from(u16::MAX))),
        vram_min: vram.and_then(|(_, min)| min).map(|min| model::Bytes(min.into())),
        priority,
    })
}

fn offload() -> impl Strategy<Value = model::Offload> {
    let engine = prop::sample::select(<model::Engine as model::Word>::ALL);
    let fallback = prop::sample::select(<model::CpuFallback as model::Word>::ALL);
    let url = "http://(localhost|127\\.0\\.[0-9]\\.1|\\[::1\\])(:[1-9][0-9]{0,3})?";
    let keep = btree_set("[!-~ä]{1,12}", 0..4).prop_map(|names| names.into_iter().collect());
    let times = (option::of((1000_u64..86_400_000).prop_map(Duration::from_millis)), option::of(0_u64..86_400_000));
    (engine, url, keep, times, option::of(model::Offload::CONTEXT), fallback).prop_map(
        |(engine, url, keep, (idle_unload, grace), context, cpu_fallback)| model::Offload {
            engine,
            url,
            keep,
            idle_unload,
            context,
            request_grace: grace.map(Duration::from_millis),
            cpu_fallback,
        },
    )
}

fn devices() -> impl Strategy<Value = Vec<model::Device>> {
    let access = prop_oneof![Just("r"), Just("rw"), Just("rwm"), Just("wm")];
    btree_map("/dev/[a-z]{1,5}(/[a-z0-9]{1,5})?", access, 0..3).prop_map(|devices| {
        let device =
            |(path, access): (String, &str)| model::Device { path: path.into(), access: access.to_owned() };
        devices.into_iter().map(device).collect()
    })
}

fn restart() -> impl Strategy<Value = model::Restart> {
    let policy = prop_oneof![
        Just(model::RestartPolicy::No),
        Just(model::RestartPolicy::OnFailure),
        Just(model::RestartPolicy::Always)
    ];
    (policy, milliseconds(), milliseconds(), option::of(1_u32..)).prop_map(|(policy, one, other, attempts_max)| {
        model::Restart { policy, delay: one.min(other), delay_max: one.max(other), attempts_max }
    })
}

prop_compose! {
    fn managed()(
        (name, others) in (name(), btree_map(name(), prop_oneof![
            Just(model::Condition::Started),
            Just(model::Condition::Healthy),
            Just(model::Condition::Completed),
        ], 0..3)),
        (file, line, health_line) in ("[ -~]{0,12}", any::<u32>(), any::<u32>()),
        (job, ephemeral, pick) in any::<(bool, bool, bool)>(),
        hash in "[0-9a-z]{32}",
        health in option::of(health()),
        limits in limits(),
        (network, ports) in network(),
        (mounts, tmpfs) in file_systems(),
        credentials in btree_map("[a-z][a-z0-9._-]{0,8}", path(), 0..3),
        environment in btree_map("[A-Z_][A-Z0-9_]{0,8}", "[ -~ä\\t]{0,12}", 0..3),
        devices in devices(),
        (gpu, offload) in (option::of(gpu()), option::of(offload())),
        capabilities in btree_set(prop_oneof![Just("CAP_NET_ADMIN"), Just("CAP_BPF"), Just("CAP_MKNOD")], 0..3),
        nspawn_flags in vec("--[a-z]{1,8}=[a-z\\\\:]{0,8}", 0..3),
        restart in restart(),
    ) -> model::Service {
        let runs_models = !job && gpu.as_ref().is_some_and(|gpu| gpu.vram.is_some());
        let mut depends_on = others;
        depends_on.remove(&name);
        let dependency_stacks =
            depends_on.keys().take(1).map(|name| (name.clone(), "infra".parse().expect("a name"))).collect();
        model::Service {
            name,
            stack: stack(),
            origin: model::Origin { file, line, health_line },
            kind: if job { model::Kind::Job } else { model::Kind::Service },
            system: model::System::Store(format!("/nix/store/{hash}-nixos-system").parse().expect("a store path")),
            depends_on,
            dependency_stacks,
            health,
            limits,
            network,
            ports,
            mounts,
            tmpfs,
            credentials,
            environment,
            devices,
            gpu,
            offload: offload.filter(|_| runs_models),
            capabilities: capabilities.into_iter().map(str::to_owned).collect(),
            ephemeral,
            private_users: if pick { model::PrivateUsers::Pick } else { model::PrivateUsers::No },
            nspawn_flags,
            restart,
        }
    }
}

fn service() -> impl Strategy<Value = model::Service> {
    (managed(), any::<bool>()).prop_map(|(service, adopted)| {
        if !adopted {
            return service;
        }
        // What its owner declares is not ours to say.
        model::Service {
            system: model::System::Adopted,
            ports: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            credentials: BTreeMap::new(),
            environment: BTreeMap::new(),
            capabilities: Vec::new(),
            ephemeral: false,
            nspawn_flags: Vec::new(),
            ..service
        }
    })
}

fn stack() -> StackName {
    "cloud".parse().expect("a name")
}

proptest! {
    #[test]
    fn a_service_of_the_model_survives_the_wire(service in service()) {
        let text = serde_json::to_string(&Service::from(&service)).expect("a message can be written");
        let wire: Service = serde_json::from_str(&text).expect("a message can be read");
        prop_assert_eq!(wire.into_model(&stack()), Ok(service));
    }
}

/// A service that passes, for tests that break one thing of it.
fn valid() -> Service {
    let json = serde_json::json!({
        "name": "web",
        "origin": { "file": "nixmox.toml", "line": 1, "health_line": 0 },
        "kind": "service",
        "system": format!("/nix/store/{}-nixos-system", "a".repeat(32)),
        "depends_on": [],
        "limits": { "allowed_cpus": [], "io_read_bandwidth_max": [], "io_write_bandwidth_max": [] },
        "network": { "mode": "private" },
        "ports": [{ "host_port": 80, "container_port": 80, "protocol": "tcp" }],
        "mounts": [{ "source": "/srv/web", "target": "/var/www", "read_only": false, "create": false,
                     "must_be_mountpoint": false }],
        "tmpfs": [],
        "credentials": { "key": "/run/secrets/key" },
        "environment": { "LANG": "C" },
        "devices": [{ "path": "/dev/fuse", "access": "rw" }],
        "capabilities": ["CAP_NET_ADMIN"],
        "ephemeral": false,
        "private_users": "no",
        "nspawn_flags": ["--timezone=off"],
        "restart": { "policy": "always", "delay_ms": 1000, "delay_max_ms": 300_000 },
    });
    serde_json::from_value(json).expect("a service")
}

/// Breaks one thing and returns what is said about it; panics when nothing is.
fn refused(change: impl FnOnce(&mut Service)) -> Vec<String> {
    let mut service = valid();
    change(&mut service);
    service.into_model(&stack()).expect_err("it must be refused")
}

#[test]
fn a_plain_service_passes() {
    assert!(valid().into_model(&stack()).is_ok());
}

#[test]
fn every_fault_of_a_service_is_named() {
    let faults = refused(|service| {
        service.name = "../web".into();
        service.system = Some("/nix/store/x".into());
        service.kind = "daemon".into();
        service.ports[0].host_port = 0;
        service.mounts[0].source = "srv".into();
        service.mounts[0].target = "/".into();
        service.capabilities[0] = "CAP_ROOT".into();
        service.restart.delay_max_ms = 1;
    });
    let keys = ["name", "system", "kind", "ports[0]", "mounts[0].source", "mounts[0].target", "capabilities[0]"];
    for key in keys.into_iter().chain(["restart.delay_max"]) {
        let found = faults.iter().filter(|fault| fault.starts_with(&format!("../web: {key}: "))).count();
        assert_eq!(found, 1, "{key} in {faults:#?}");
    }
    assert_eq!(faults.len(), 8, "{faults:#?}");
}

#[test]
fn a_path_that_climbs_or_breaks_a_line_is_refused() {
    for bad in ["", "relative", "/srv/../etc", "/srv/..", "/a\nb", "/a\0b", "/a b", "/a*", "/a\"b", "/a\\b"] {
        refused(|service| service.mounts[0].source = bad.into());
        refused(|service| service.mounts[0].target = bad.into());
        refused(|service| service.credentials = BTreeMap::from([("key".into(), bad.into())]));
    }
    for bad in ["", "/", "/dev/../etc/shadow", "/dev/a\nb", "/dev/a b", "/devices"] {
        refused(|service| service.devices[0].path = bad.into());
    }
    refused(|service| service.mounts[0].source = format!("/{}", "a".repeat(5000)));
    refused(|service| service.devices[0].path = "/etc/shadow".into());
    refused(|service| service.devices[0].path = "/dev".into());
}

#[test]
fn a_path_is_kept_in_one_spelling() {
    let mut service = valid();
    service.mounts[0].source = "//srv/./web/".into();
    let service = service.into_model(&stack()).expect("it is a path");
    assert_eq!(service.mounts[0].source.to_str(), Some("/srv/web"));
}

#[test]
fn values_that_would_become_settings_of_their_own_are_refused() {
    refused(|service| service.environment = BTreeMap::from([("A".into(), "x\ny".into())]));
    refused(|service| service.environment = BTreeMap::from([("A=B".into(), "x".into())]));
    refused(|service| service.environment = BTreeMap::from([("1A".into(), "x".into())]));
    refused(|service| service.credentials = BTreeMap::from([("a:b".into(), "/x".into())]));
    refused(|service| service.credentials = BTreeMap::from([("..".into(), "/x".into())]));
    refused(|service| service.nspawn_flags = vec!["--bind=/ /".into()]);
    refused(|service| service.nspawn_flags = vec!["/bin/sh".into()]);
    refused(|service| service.devices[0].access = "rwx".into());
    refused(|service| service.devices[0].access = String::new());
    refused(|service| service.private_users = "yes".into());
    refused(|service| service.origin.file = "a\nb".into());
}

#[test]
fn a_secret_in_an_environment_is_not_repeated_in_a_fault() {
    let faults = refused(|service| service.environment = BTreeMap::from([("A".into(), "hunter2\n".into())]));
    assert!(!faults.concat().contains("hunter2"), "{faults:?}");
}

#[test]
fn a_health_check_asks_exactly_one_thing() {
    let health = |change: fn(&mut nixmox_api::HealthCheck)| {
        let mut health = nixmox_api::HealthCheck {
            http: None,
            tcp: Some(80),
            unit: None,
            exec: None,
            pressure: None,
            interval_ms: 10_000,
            timeout_ms: 5000,
            retries: 3,
            start_period_ms: 60_000,
            on_unhealthy: "report".into(),
        };
        change(&mut health);
        refused(|service| service.health = Some(health))
    };
    health(|health| health.tcp = None);
    health(|health| {
        health.pressure = Some(nixmox_api::PressureMax { io: Some(0), ..nixmox_api::PressureMax::default() });
    });
    health(|health| {
        health.pressure = Some(nixmox_api::PressureMax { cpu: Some(100), ..nixmox_api::PressureMax::default() });
    });
    health(|health| (health.tcp, health.pressure) = (None, Some(nixmox_api::PressureMax::default())));
    health(|health| health.unit = Some("a.service".into()));
    health(|health| health.tcp = Some(0));
    health(|health| health.interval_ms = 99);
    health(|health| health.timeout_ms = 0);
    health(|health| health.start_period_ms = u64::MAX);
    health(|health| health.retries = 0);
    health(|health| health.on_unhealthy = "ignore".into());
    health(|health| (health.tcp, health.http) = (None, Some("https://localhost/".into())));
    health(|health| (health.tcp, health.http) = (None, Some("http://".into())));
    health(|health| (health.tcp, health.http) = (None, Some("http://localhost/ HTTP/1.0\r\n".into())));
    health(|health| (health.tcp, health.unit) = (None, Some("a b.service".into())));
    health(|health| (health.tcp, health.exec) = (None, Some(Vec::new())));
    health(|health| (health.tcp, health.exec) = (None, Some(vec!["/bin/true\0".into()])));
}

#[test]
fn limits_are_in_range() {
    refused(|service| service.limits.memory_max = Some(u64::MAX));
    refused(|service| service.limits.cpu_quota = Some(9999));
    refused(|service| service.limits.cpu_weight = Some(0));
    refused(|service| service.limits.io_weight = Some(10_001));
    refused(|service| service.limits.tasks_max = Some(0));
    let rate = |path: &str, bytes_per_second| nixmox_api::IoLimit { path: path.into(), bytes_per_second };
    refused(|service| service.limits.io_read_bandwidth_max = vec![rate("/dev/sda", 0)]);
    refused(|service| service.limits.io_read_bandwidth_max = vec![rate("/dev/sda", 1), rate("/dev/sda", 2)]);
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let network = |mode: &str, address: Option<&str>, bridge: Option<&str>| nixmox_api::Network {
        mode: mode.into(),
        address: address.map(Into::into),
        bridge: bridge.map(Into::into),
    };
    refused(|service| service.network = network("host", None, None));
    refused(|service| (service.network, service.ports) = (network("bridge", None, None), Vec::new()));
    refused(|service| (service.network, service.ports) = (network("bridge", None, Some("a/b")), Vec::new()));
    refused(|service| service.network = network("private", Some("::1"), None));
    refused(|service| service.network = network("none", None, None));
    refused(|service| service.ports.push(service.ports[0].clone()));
    refused(|service| service.mounts.push(service.mounts[0].clone()));
    refused(|service| service.tmpfs.push(nixmox_api::Tmpfs { target: "/var/www".into(), size: None }));
    refused(|service| service.tmpfs.push(nixmox_api::Tmpfs { target: "/tmp".into(), size: Some(0) }));
    refused(|service| service.devices.push(service.devices[0].clone()));
    let dependency =
        |name: &str| nixmox_api::Dependency { name: name.into(), stack: None, condition: "started".into() };
    refused(|service| service.depends_on = vec![dependency("web")]);
    refused(|service| service.depends_on = vec![dependency("a"), dependency("a")]);
    refused(|service| service.name = "Web".into());
    // The files of an adopted container are its owner's.
    let faults = refused(|service| service.system = None);
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_request_names_the_faults_of_all_its_services() {
    let request = |services, only: &[&str]| Request {
        stack: "cloud".into(),
        file: "/home/anna/nixmox.toml".into(),
        address_pool: "10.233.0.0/16".into(),
        services,
        only: only.iter().map(|&name| name.to_owned()).collect(),
        prune: false,
        base: None,
        no_rollback: None,
        limits: None,
        owner: None,
        look_inside: None,
    };
    let with_name = |name: &str| Service { name: name.into(), ..valid() };
    let read = request(vec![with_name("a"), with_name("b")], &["b"]).into_model().expect("it is valid");
    assert_eq!(read.services.len(), 2);

    let faults = request(vec![with_name("a!"), with_name("b!")], &[]).into_model().expect_err("two faults");
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(request(vec![with_name("a"), with_name("a")], &[]).into_model().is_err());
    assert!(request(vec![with_name("a")], &["b"]).into_model().is_err());
    assert!(Request { prune: true, ..request(vec![with_name("a")], &["a"]) }.into_model().is_err());
    assert!(Request { stack: "C/".into(), ..request(vec![], &[]) }.into_model().is_err());
    assert!(Request { file: "nixmox.toml".into(), ..request(vec![], &[]) }.into_model().is_err());
    assert!(Request { address_pool: "10.233.1.1/16".into(), ..request(vec![], &[]) }.into_model().is_err());
    let limits = nixmox_api::Limits { tasks_max: Some(0), cpu_weight: Some(0), ..nixmox_api::Limits::default() };
    let faults = Request { limits: Some(limits), ..request(vec![], &[]) }.into_model().expect_err("no such limits");
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults.iter().all(|fault| fault.starts_with("stack: limits.")), "{faults:#?}");
    let hostile = request((0..500).map(|_| with_name("\n")).collect(), &[]).into_model().expect_err("many faults");
    assert_eq!(hostile.len(), 100);
    assert!(hostile.iter().all(|fault| !fault.contains(char::is_control)), "what is shown is escaped");
}
