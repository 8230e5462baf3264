//! How long a plan of 10,000 services with 30,000 dependencies takes, as JSON: milliseconds, one sample per scene and
//! run.
//!
//! `cargo run --release -p nixmox-core --example plan_budget -- [RUNS]`. Every sample plans values that were just
//! made and are never looked at twice.

#![allow(clippy::expect_used, reason = "a measurement, with nothing to report an error to")]

use std::net::Ipv4Addr;
use std::time::Instant;

use nixmox_core::container::{Layout, all_files};
use nixmox_core::model::{
    ActiveState, Addresses, Assigned, Condition, ConfFile, Container, ContainerName, Desired, DropIn, Health,
    InvocationId, Observed, Port, Protocol, Service, System,
};
use nixmox_core::plan::{AllFiles, plan};

const SERVICES: u32 = 10_000;
const DEPENDENCIES_EACH: u32 = 3;

fn name(number: u32) -> ContainerName {
    // Spread over the alphabet, so that the order of names is not the order of dependencies.
    format!("service-{:05}", number.wrapping_mul(7919) % SERVICES).parse().expect("a name")
}

fn service(number: u32) -> Assigned {
    let depends_on = (1..=DEPENDENCIES_EACH.min(number)).map(|step| {
        let condition = if step % 2 == 0 { Condition::Healthy } else { Condition::Started };
        // One near by, for long chains, and others far away.
        (name((number - 1) / step.pow(4)), condition)
    });
    let [a, b] = [number / 250 + 1, number % 250].map(|part| u8::try_from(part % 256).unwrap_or(0));
    let system = System::Store(format!("/nix/store/{}-nixos", "a".repeat(32)).parse().expect("a path"));
    let service = Service {
        depends_on: depends_on.collect(),
        ports: vec![Port {
            host_address: None,
            host_port: u16::try_from(number + 1).unwrap_or(0),
            container_port: 80,
            protocol: Protocol::Tcp,
        }],
        ..Service::new(name(number), "cloud".parse().expect("a name"), system)
    };
    let addresses = Addresses { host: Ipv4Addr::new(10, a, b, 1), local: Ipv4Addr::new(10, a, b, 2) };
    Assigned { service, addresses: Some(addresses), gpu: nixmox_core::model::GpuStanding::None }
}

fn desired() -> Desired {
    let services = (0..SERVICES).map(|number| (name(number), service(number))).collect();
    Desired { generation: 1, services, ..Desired::default() }
}

/// A host on which every service runs, with what `files` say.
fn running(files: &AllFiles) -> Observed {
    let containers = files.iter().zip(1..).map(|((name, files), number)| {
        let files = files.as_ref().expect("files");
        let container = Container {
            active: ActiveState::Active,
            invocation: Some(InvocationId(number)),
            started_with: Some(files.spec.clone()),
            conf: ConfFile::Ours(files.conf.clone().unwrap_or_default()),
            drop_in: DropIn::Ours(files.drop_in.clone()),
            health: Health::Healthy,
            ..Container::default()
        };
        (name.clone(), container)
    });
    Observed { containers: containers.collect(), ..Observed::default() }
}

fn milliseconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1000.0
}

#[allow(clippy::print_stdout, reason = "the result")]
fn main() {
    let runs = std::env::args().nth(1).and_then(|runs| runs.parse().ok()).unwrap_or(7);
    let layout = Layout { agent: "/bin/nixmox-agent".into(), conf_in_run: false, copy_resolv_conf: false };
    let edges: usize = desired().services.values().map(|assigned| assigned.service.depends_on.len()).sum();
    let (mut texts, mut start_all, mut nothing, mut stop_all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _run in 0..runs {
        let desired = desired();
        let mut files = AllFiles::new();
        texts.push(milliseconds(|| files = all_files(&desired, &layout)));
        let mut planned = Vec::new();
        let mut sample = |desired: &Desired, observed: &Observed, files: &AllFiles| {
            milliseconds(|| planned.push(plan(desired, observed, files)))
        };
        start_all.push(sample(&desired, &Observed::default(), &files));
        let observed = running(&files);
        nothing.push(sample(&desired, &observed, &files));
        stop_all.push(sample(&Desired::default(), &observed, &AllFiles::new()));
        let steps: Vec<_> = planned.iter().map(|plan| plan.steps.len()).collect();
        let expected = SERVICES as usize;
        assert!(steps.iter().zip([expected, 2, 2 * expected]).all(|(steps, least)| *steps >= least), "{steps:?}");
    }
    println!(
        "{{\"services\":{SERVICES},\"dependencies\":{edges},\"start_all_ms\":{start_all:?},\"nothing_ms\":{nothing:?},\
         \"stop_all_ms\":{stop_all:?},\"texts_ms\":{texts:?}}}"
    );
}
