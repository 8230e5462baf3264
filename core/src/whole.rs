//! What must hold of all services of a host together, whatever stack they come from.
//!
//! Owns the checks that a single stack cannot make: dependencies and cycles across stacks, ports and fixed
//! addresses that two of them claim. `manifest` finds the same faults inside one stack, with the line they are
//! on; here they are found once more, because the agent trusts no client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Condition, ContainerName, Kind, Network, Port, Service};

/// Returns every fault, as `service: what is wrong`; empty when all is well. `services` have unique names.
#[must_use]
pub fn faults<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<String> {
    let services: BTreeMap<&ContainerName, &Service> =
        services.into_iter().map(|service| (&service.name, service)).collect();
    let mut faults = Vec::new();
    for service in services.values() {
        for (needed, condition) in &service.depends_on {
            faults.extend(dependency_fault(service, services.get(needed).copied(), needed, *condition));
        }
    }
    faults.extend(cycle(&services).map(|names| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        format!("{}: depends on itself: {}", names.first().unwrap_or(&""), names.join(" -> "))
    }));
    faults.extend(port_clashes(&services));
    faults.extend(address_clashes(&services));
    faults
}

fn dependency_fault(
    service: &Service,
    needed: Option<&Service>,
    name: &ContainerName,
    condition: Condition,
) -> Option<String> {
    let of = &service.name;
    let Some(needed) = needed else {
        return Some(format!("{of}: depends on `{name}`, which nothing declares on this host"));
    };
    match (condition, needed.kind) {
        (Condition::Completed, Kind::Service) => {
            Some(format!("{of}: waits for `{name}` to be completed, but it is a service: say healthy"))
        }
        (Condition::Healthy, Kind::Job) => {
            Some(format!("{of}: waits for `{name}` to be healthy, but it is a job: say completed"))
        }
        (Condition::Started, _) | (Condition::Healthy, Kind::Service) | (Condition::Completed, Kind::Job) => None,
    }
}

/// Returns one cycle of dependencies, its first service repeated at its end.
fn cycle<'a>(services: &BTreeMap<&'a ContainerName, &'a Service>) -> Option<Vec<&'a ContainerName>> {
    let mut done: BTreeSet<&ContainerName> = BTreeSet::new();
    for &start in services.keys() {
        // Depth first without recursion: a chain may be as long as there are services.
        let mut path: Vec<(&ContainerName, Vec<&ContainerName>)> = Vec::new();
        let mut next = Some(start);
        while let Some(name) = next.take().or_else(|| path.last_mut().and_then(|(_, open)| open.pop())) {
            if let Some(from) = path.iter().position(|(on_path, _)| *on_path == name) {
                let around = path.iter().skip(from).map(|(name, _)| *name);
                return Some(around.chain([name]).collect());
            }
            if !done.contains(name) {
                let needs = services.get(name).map(|service| service.depends_on.keys().collect());
                path.push((name, needs.unwrap_or_default()));
            }
            while let Some((finished, _)) = path.pop_if(|(_, open)| open.is_empty()) {
                done.insert(finished);
            }
        }
    }
    None
}

fn port_clashes(services: &BTreeMap<&ContainerName, &Service>) -> Vec<String> {
    let mut by_number: BTreeMap<_, Vec<(&ContainerName, &Port)>> = BTreeMap::new();
    for service in services.values() {
        for port in &service.ports {
            by_number.entry((port.host_port, port.protocol)).or_default().push((&service.name, port));
        }
    }
    let mut clashes = Vec::new();
    for claims in by_number.values() {
        for (index, (name, port)) in claims.iter().enumerate() {
            let earlier =
                claims.iter().take(index).find(|(_, other)| overlap(other.host_address, port.host_address));
            if let Some((other, _)) = earlier {
                clashes.push(format!("{name}: publishes port {}, which `{other}` publishes too", port.host_port));
            }
        }
    }
    clashes
}

/// Returns whether two host addresses can receive the same packet; `None` is every address.
fn overlap(a: Option<IpAddr>, b: Option<IpAddr>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        (None, _) | (_, None) => true,
    }
}

fn address_clashes(services: &BTreeMap<&ContainerName, &Service>) -> Vec<String> {
    let mut owners = BTreeMap::new();
    let mut clashes = Vec::new();
    for service in services.values() {
        let Network::Private { address: Some(address) } = service.network else { continue };
        if let Some(other) = owners.insert(address, &service.name) {
            clashes.push(format!("{}: has the address {address}, which `{other}` has too", service.name));
        }
    }
    clashes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use crate::model::fixture::{name, service};

    fn depending(own: &str, on: &[&str]) -> Service {
        let depends_on = on.iter().map(|other| (name(other), Condition::Started)).collect();
        Service { depends_on, ..service(own) }
    }

    #[test]
    fn the_whole_cycle_is_shown() {
        let services =
            [depending("a", &["b"]), depending("b", &["d", "c"]), depending("c", &["a"]), depending("d", &[])];
        assert_eq!(faults(&services), ["a: depends on itself: a -> b -> c -> a"]);
        assert_eq!(faults(&services[..0]), Vec::<String>::new());
    }

    #[test]
    fn a_diamond_is_no_cycle() {
        let services =
            [depending("a", &["b", "c"]), depending("b", &["d"]), depending("c", &["d"]), depending("d", &[])];
        assert_eq!(faults(&services), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_on_nobody_is_named() {
        assert!(faults(&[depending("a", &["ghost"])])[0].contains("`ghost`"));
    }

    #[test]
    fn one_port_cannot_be_published_twice_on_one_address() {
        let publishing = |own: &str, host_address: Option<&str>, protocol| Service {
            ports: vec![Port {
                host_address: host_address.map(|text| text.parse().unwrap()),
                host_port: 80,
                container_port: 80,
                protocol,
            }],
            ..service(own)
        };
        let local = || publishing("a", Some("127.0.0.1"), Protocol::Tcp);
        assert_eq!(faults(&[local(), publishing("b", None, Protocol::Tcp)]).len(), 1);
        assert_eq!(faults(&[local(), publishing("b", Some("10.0.0.1"), Protocol::Tcp)]).len(), 0);
        assert_eq!(faults(&[local(), publishing("b", None, Protocol::Udp)]).len(), 0);
    }
}
