//! A stack against the rest of its host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::manifest::{HostConflict, HostView, check_host};
use crate::model::fixture::{assigned, name, service};
use crate::model::{Assigned, Condition, ContainerName, Kind, Network, Port, Protocol, Service, System};

#[derive(Default)]
struct Host {
    services: BTreeMap<ContainerName, Assigned>,
    containers: BTreeMap<ContainerName, Vec<Ipv4Addr>>,
    machines: BTreeSet<ContainerName>,
}

impl Host {
    /// A host with one service of the stack `infra`, at 10.233.7.2.
    fn with(other: Service) -> Self {
        let mut assigned = assigned("other", 7);
        assigned.service = Service { stack: "infra".parse().unwrap(), ..other };
        Self { services: BTreeMap::from([(assigned.service.name.clone(), assigned)]), ..Self::default() }
    }

    fn conflicts(&self, services: &[&Service]) -> Vec<String> {
        let Self { services: others, containers, machines } = self;
        let conflicts = check_host(services, &HostView { services: others, containers, machines });
        for conflict in &conflicts {
            assert!(!conflict.help().is_empty());
            assert!(services.iter().any(|service| service.name == *conflict.service()));
        }
        conflicts.iter().map(HostConflict::to_string).collect()
    }
}

fn publishing(own: &str, port: u16) -> Service {
    let port = Port { host_address: None, host_port: port, container_port: 80, protocol: Protocol::Tcp };
    Service { ports: vec![port], ..service(own) }
}

fn depending(own: &str, on: &str, condition: Condition) -> Service {
    Service { depends_on: BTreeMap::from([(name(on), condition)]), ..service(own) }
}

#[test]
fn a_dependency_is_a_service_of_the_stack_that_is_named() {
    let of = |stack: &str| Service {
        dependency_stacks: BTreeMap::from([(name("proxy"), stack.parse().unwrap())]),
        ..depending("web", "proxy", Condition::Started)
    };
    let host = Host::with(service("proxy"));
    assert!(host.conflicts(&[&of("infra")]).is_empty());
    assert_eq!(
        host.conflicts(&[&of("edge")]),
        ["`web` depends on `edge/proxy`, but `proxy` is a service of the stack `infra`"]
    );
}

#[test]
fn a_name_is_one_containers_on_the_host() {
    let web = service("web");
    assert!(Host::default().conflicts(&[&web]).is_empty());
    assert_eq!(Host::with(service("web")).conflicts(&[&web]), ["`web` is a service of the stack `infra` already"]);

    let conf = Host { containers: BTreeMap::from([(name("web"), vec![])]), ..Host::default() };
    assert_eq!(
        conf.conflicts(&[&web]),
        ["the host has a container `web` that NixMox did not make: /etc/nixos-containers/web.conf"]
    );
    let machine = Host { machines: BTreeSet::from([name("web")]), ..Host::default() };
    assert_eq!(machine.conflicts(&[&web]), ["a machine named `web` runs on the host that NixMox did not start"]);

    let adopted = Service { system: System::Adopted, ..service("web") };
    assert!(conf.conflicts(&[&adopted]).is_empty());
    assert_eq!(Host::default().conflicts(&[&adopted]), ["there is no container `web` to adopt"]);
}

#[test]
fn ports_and_fixed_addresses_clash_across_stacks() {
    let host = Host::with(publishing("proxy", 80));
    assert_eq!(
        host.conflicts(&[&publishing("web", 80), &publishing("api", 81)]),
        ["`web` and `proxy` of the stack `infra` publish TCP port 80"]
    );
    let fixed = |address| Service { network: Network::Private { address: Some(address) }, ..service("web") };
    assert_eq!(
        host.conflicts(&[&fixed(Ipv4Addr::new(10, 233, 7, 2))]),
        ["`web` and `proxy` have the address 10.233.7.2"]
    );
    assert_eq!(host.conflicts(&[&fixed(Ipv4Addr::new(10, 233, 7, 1))]).len(), 1, "the host's end is taken too");
    let address = Ipv4Addr::new(10, 233, 9, 2);
    let foreign = Host { containers: BTreeMap::from([(name("old"), vec![address])]), ..Host::default() };
    assert_eq!(foreign.conflicts(&[&fixed(address)]), ["`web` and `old` have the address 10.233.9.2"]);
}

#[test]
fn a_dependency_in_another_stack_is_there_and_can_reach_its_condition() {
    let job = Service { kind: Kind::Job, ..service("migrate") };
    let host = Host::with(job);
    assert_eq!(
        host.conflicts(&[&depending("web", "gone", Condition::Started)]),
        ["`web` depends on `gone`, which no stack on this host declares"]
    );
    assert_eq!(
        host.conflicts(&[&depending("web", "migrate", Condition::Healthy)]),
        ["`web` waits for `migrate` to be healthy, which a job never is"]
    );
    assert!(host.conflicts(&[&depending("web", "migrate", Condition::Completed)]).is_empty());
}

#[test]
fn a_cycle_through_another_stack_is_shown_whole() {
    let host = Host::with(depending("proxy", "web", Condition::Started));
    let (web, api) = (depending("web", "api", Condition::Started), depending("api", "proxy", Condition::Started));
    assert_eq!(host.conflicts(&[&web, &api]), ["services depend on each other: api -> proxy -> web -> api"]);
}
