//! Properties: whatever text comes in, and what goes out reads back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::Files;
use super::examples::{CLOUD, OLLAMA};
use super::writer::written;
use crate::container::{Layout, files};
use crate::manifest::{SystemRef, parse_service, parse_stack, resolve};
use crate::model::{
    Addresses, Assigned, Bytes, Condition, ContainerName, CpuFallback, CpuQuota, Device, Engine, GpuDevices,
    GpuShare, GpuStanding, HealthCheck, IoLimit, Kind, Limits, Mount, Network, Offload, OnUnhealthy, Origin,
    Percent, Port, PressureMax, PrivateUsers, Probe, Protocol, Restart, RestartPolicy, Service, Tmpfs, Vendor,
    Weight, Word,
};

/// What must hold of any text: no panic, places inside the text, and an error wherever there is no value.
fn check_any(stack: &str, service: &str) {
    let sources = Files { stack, included: &[("a/service.toml", service)] }.sources();
    let [first, second] = sources.as_slice() else { panic!("two files") };
    let document = parse_stack(first.clone());
    let findings = match resolve(&document, &[parse_service(second.clone())]) {
        Ok(stack) => {
            assert!(stack.warnings.iter().all(|finding| !finding.is_error()));
            stack.warnings
        }
        Err(findings) => {
            assert!(findings.iter().any(super::Diagnostic::is_error));
            findings
        }
    };
    for place in findings.iter().flat_map(|finding| std::iter::once(&finding.place).chain(&finding.related)) {
        let source = if place.file == first.name() { first } else { second };
        assert!(source.text().get(place.span.clone()).is_some(), "{place:?}");
        assert!(source.line_text(place.line).is_some() && place.column > 0, "{place:?}");
    }
}

/// A small change of a text at a character: what people's editors leave behind.
fn mangled(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0_usize..12, "[ -~\n\"'\\[\\]{}=.,ä\u{0}]{0,8}");
    vec(edit, 1..5).prop_map(move |edits| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(chars.len() + 1);
            let end = (at + remove).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn any_text_is_answered(stack in any::<String>(), service in "\\PC{0,200}") {
        check_any(&stack, &service);
    }

    #[test]
    fn a_mangled_manifest_is_answered(stack in mangled(CLOUD), service in mangled(OLLAMA)) {
        check_any(&stack, &service);
    }
}

/// A path of a few parts; anything that the conf file carries.
fn path() -> impl Strategy<Value = String> {
    vec("[a-zA-Z0-9_%:.äß-]{1,8}", 1..4)
        .prop_filter("dots", |parts| parts.iter().all(|part| part != "." && part != ".."))
        .prop_map(|parts| format!("/x/{}", parts.join("/")))
}

fn millis(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn health() -> impl Strategy<Value = HealthCheck> {
    let probe = prop_oneof![
        "[a-z]{1,9}(:[1-9][0-9]{0,3})?/[a-z?=&%]{0,9}".prop_map(|rest| Probe::Http(format!("http://{rest}"))),
        (1..=u16::MAX).prop_map(Probe::Tcp),
        "[a-z@-]{1,9}\\.(service|socket|target)".prop_map(Probe::Unit),
        vec("[^ \u{0}]{1,9}", 1..4).prop_map(Probe::Exec),
        Just(Probe::Ready),
    ];
    let share = || option::of((1_u64..=99).prop_map(|share| Percent::try_from(share).unwrap()));
    let pressure = (share(), share(), share()).prop_map(|(cpu, memory, io)| PressureMax { cpu, memory, io });
    let on_unhealthy = prop_oneof![Just(OnUnhealthy::Report), Just(OnUnhealthy::Restart)];
    let times = (millis(100..=3_600_000), millis(10..=600_000), millis(0..=86_400_000));
    let asked = (probe, pressure)
        .prop_filter("asks something", |(probe, pressure)| *probe != Probe::Ready || !pressure.is_empty());
    (asked, times, 1_u32..=1000, on_unhealthy).prop_map(
        |((probe, pressure), (interval, timeout, start_period), retries, on_unhealthy)| HealthCheck {
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

fn limits() -> impl Strategy<Value = Limits> {
    let size = || option::of((0_u64..1 << 40).prop_map(Bytes));
    let large = || option::of((1_u64 << 41..1 << 50).prop_map(Bytes));
    let weight = || option::of((1_u64..=10_000).prop_map(|weight| Weight::try_from(weight).unwrap()));
    let rates = || {
        btree_map(path(), 1_u64..1 << 50, 0..3).prop_map(|rates| -> Vec<IoLimit> {
            let limit = |(path, rate)| IoLimit { path: PathBuf::from(path), bytes_per_second: Bytes(rate) };
            let mut limits: Vec<_> = rates.into_iter().map(limit).collect();
            limits.sort();
            limits
        })
    };
    let memory = (size(), size(), option::of((1_u64 << 20..1 << 40).prop_map(Bytes)), large(), size(), size());
    let cpus = prop::collection::btree_set(0_u16..=8191, 0..5);
    let quota =
        option::of((1_u64..100_000).prop_map(|percent| CpuQuota::from_usec_per_sec(percent * 10_000).unwrap()));
    let rest = (quota, weight(), cpus, option::of(1_u64..1 << 40), weight(), rates(), rates());
    (memory, rest).prop_map(|(memory, rest)| Limits {
        memory_min: memory.0,
        memory_low: memory.1,
        memory_high: memory.2,
        memory_max: memory.3,
        memory_swap_max: memory.4,
        memory_zswap_max: memory.5,
        cpu_quota: rest.0,
        cpu_weight: rest.1,
        allowed_cpus: rest.2.into_iter().collect(),
        tasks_max: rest.3,
        io_weight: rest.4,
        io_read_bandwidth_max: rest.5,
        io_write_bandwidth_max: rest.6,
    })
}

fn network() -> impl Strategy<Value = (Network, Vec<Port>)> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let address = option::of(any::<Ipv4Addr>().prop_filter("specified", |address| !address.is_unspecified()));
    let port = (address, 1..=u16::MAX, 1..=u16::MAX, protocol).prop_map(
        |(host_address, host_port, container_port, protocol)| Port {
            host_address: host_address.map(IpAddr::V4),
            host_port,
            container_port,
            protocol,
        },
    );
    let ports = vec(port, 0..4).prop_map(|mut ports| {
        let mut taken = BTreeSet::new();
        ports.retain(|port| taken.insert(port.host_port));
        ports
    });
    let fixed = option::of((1_u8..255, 1_u8..255).prop_map(|(c, d)| Ipv4Addr::new(10, 233, c, d)));
    prop_oneof![
        (fixed, ports).prop_map(|(address, ports)| (Network::Private { address }, ports)),
        "[a-z][a-z0-9._-]{0,14}".prop_map(|bridge| (Network::Bridge(bridge), Vec::new())),
        Just((Network::Host, Vec::new())),
    ]
}

fn restart(kind: Kind) -> impl Strategy<Value = Restart> {
    let policies = match kind {
        Kind::Service => vec![RestartPolicy::No, RestartPolicy::OnFailure, RestartPolicy::Always],
        Kind::Job => vec![RestartPolicy::No, RestartPolicy::OnFailure],
    };
    let delays = (millis(100..=60_000), millis(60_000..=86_400_000));
    // Written out always: a job's default is not "no end".
    (prop::sample::select(policies), delays, 1..=u32::MAX).prop_map(|(policy, (delay, delay_max), attempts)| {
        Restart { policy, delay, delay_max, attempts_max: Some(attempts) }
    })
}

type Storage = (Vec<Mount>, Vec<Tmpfs>, BTreeMap<String, PathBuf>, BTreeMap<String, String>, Vec<Device>);

fn storage() -> impl Strategy<Value = Storage> {
    let mount = (path(), any::<[bool; 3]>());
    let mounts = btree_map(path().prop_map(|path| format!("/m{path}")), mount, 0..4).prop_map(|mounts| {
        let mount = |(target, (source, [read_only, create, must_be_mountpoint])): (String, (String, [bool; 3]))| {
            Mount { source: source.into(), target: target.into(), read_only, create, must_be_mountpoint }
        };
        mounts.into_iter().map(mount).collect()
    });
    let tmpfs = btree_map(path().prop_map(|path| format!("/t{path}")), option::of(1_u64..1 << 40), 0..3);
    let tmpfs = tmpfs.prop_map(|tmpfs| {
        tmpfs.into_iter().map(|(target, size)| Tmpfs { target: target.into(), size: size.map(Bytes) }).collect()
    });
    let credentials = btree_map("[a-zA-Z0-9_-]{1,9}", path().prop_map(PathBuf::from), 0..3);
    let environment = btree_map("[A-Za-z_][A-Za-z0-9_]{0,9}", "\\PC{0,20}", 0..3);
    let access = prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm"]);
    let devices = btree_map("[a-z0-9]{1,9}(/[a-z0-9]{1,9})?", access, 0..3).prop_map(|devices| {
        let device = |(node, access)| Device { path: format!("/dev/{node}").into(), access: str::to_owned(access) };
        devices.into_iter().map(device).collect()
    });
    (mounts, tmpfs, credentials, environment, devices)
}

fn gpu() -> impl Strategy<Value = GpuShare> {
    let vendor = option::of(prop::sample::select(Vendor::ALL));
    let devices = prop_oneof![
        Just(GpuDevices::All),
        (1_u32..9).prop_map(GpuDevices::Count),
        btree_map("(GPU|MIG)-[0-9a-f]{1,8}", Just(()), 1..4)
            .prop_map(|ids| GpuDevices::Ids(ids.keys().map(|id| id.parse().unwrap()).collect())),
    ];
    let vram = option::of((any::<u32>(), any::<u32>()));
    (vendor, devices, vram, any::<bool>(), 0_u8..=100).prop_map(|(vendor, devices, vram, with_min, priority)| {
        let sizes = vram.map(|(a, b)| (Bytes(a.max(b).into()), Bytes(a.min(b).into())));
        let (vram, vram_min) = (sizes.map(|(max, _)| max), sizes.map(|(_, min)| min).filter(|_| with_min));
        GpuShare { vendor, devices, vram, vram_min, priority }
    })
}

fn offload() -> impl Strategy<Value = Offload> {
    let port = option::of(1..=u16::MAX).prop_map(|port| port.map(|port| format!(":{port}")).unwrap_or_default());
    let url =
        ("localhost|127\\.[0-9]\\.0\\.1|\\[::1\\]", port).prop_map(|(host, port)| format!("http://{host}{port}"));
    let keep = btree_map("[^\\p{C}]{1,20}", Just(()), 0..4).prop_map(|names| names.into_keys().collect());
    let engine = prop::sample::select(Engine::ALL);
    let fallback = prop::sample::select(CpuFallback::ALL);
    let times = (option::of(millis(1000..=86_400_000)), option::of(millis(0..=86_400_000)));
    (engine, url, keep, times, option::of(Offload::CONTEXT), fallback).prop_map(
        |(engine, url, keep, (idle_unload, request_grace), context, cpu_fallback)| Offload {
            engine,
            url,
            keep,
            idle_unload,
            context,
            request_grace,
            cpu_fallback,
        },
    )
}

fn service() -> impl Strategy<Value = Service<SystemRef>> {
    let kind = prop_oneof![3 => Just(Kind::Service), 1 => Just(Kind::Job)];
    kind.prop_flat_map(|kind| {
        let health = match kind {
            Kind::Service => option::of(health()).boxed(),
            Kind::Job => Just(None).boxed(),
        };
        let capability = prop::sample::subsequence(vec!["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_NICE"], 0..=3);
        let flags = prop::sample::subsequence(vec!["--quiet", "--rlimit=NOFILE=9", "--timezone=auto"], 0..=3);
        let users = prop_oneof![Just(PrivateUsers::No), Just(PrivateUsers::Pick)];
        let plain = (capability, flags, any::<bool>(), users);
        let gpus = (option::of(gpu()), option::of(offload())).prop_map(move |(gpu, offload)| {
            let can = kind == Kind::Service && gpu.as_ref().is_some_and(|gpu| gpu.vram.is_some());
            (gpu, offload.filter(|_| can))
        });
        (Just(kind), health, limits(), network(), storage(), plain, restart(kind), gpus)
    })
    .prop_map(|(kind, health, limits, (network, ports), storage, plain, restart, (gpu, offload))| {
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        Service {
            name: "web".parse().unwrap(),
            stack: "cloud".parse().unwrap(),
            origin: Origin::default(),
            kind,
            system: SystemRef::Flake { installable: ".#web".to_owned(), folder: "/etc/stack".into() },
            depends_on: BTreeMap::from([
                ("db".parse::<ContainerName>().unwrap(), Condition::Healthy),
                ("migrate".parse().unwrap(), Condition::Completed),
                ("proxy".parse().unwrap(), Condition::Started),
            ]),
            dependency_stacks: BTreeMap::from([("proxy".parse().unwrap(), "infra".parse().unwrap())]),
            health,
            limits,
            network,
            ports,
            mounts: storage.0,
            tmpfs: storage.1,
            credentials: storage.2,
            environment: storage.3,
            devices: storage.4,
            offload,
            gpu,
            capabilities: owned(plain.0),
            ephemeral: plain.2,
            private_users: plain.3,
            nspawn_flags: owned(plain.1),
            restart,
        }
    })
}

proptest! {
    #[test]
    fn what_a_service_says_reads_back_and_can_be_carried(service in service()) {
        let others = "format = 1\nstack.name = 'cloud'\n[services.db]\nsystem = '.#db'\n[services.migrate]\n\
                      system = '.#m'\nkind = 'job'\n[services.web]\n";
        let text = format!("{others}{}", written(&service));
        let files_of_stack = Files { stack: &text, included: &[] };
        let stack = files_of_stack.resolve();
        prop_assert!(stack.is_ok(), "{text}\n{}", files_of_stack.complaints());
        let declared = stack.unwrap().services.pop().unwrap();
        let read = Service { origin: Origin::default(), ..declared.service.clone() };
        prop_assert_eq!(read, service, "{}", text);

        // Whatever passes the checks can be written into the container's files.
        let system = crate::model::fixture::store_path('a', "web");
        let addresses = Addresses { host: Ipv4Addr::new(10, 233, 1, 1), local: Ipv4Addr::new(10, 233, 1, 2) };
        let assigned = Assigned { service: declared.with_system(system), addresses: Some(addresses), gpu: GpuStanding::None };
        let layout = Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: false };
        prop_assert!(files(&assigned, &layout).is_ok());
    }
}
