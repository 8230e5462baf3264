//! A stack against the rest of its host: other stacks, and containers that are not NixMox's.
//!
//! Works on resolved services, so that the agent checks the same before it takes them. There are no spans here:
//! a conflict names its service, whose [`crate::model::Origin`] leads to the lines.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::check;
use crate::container::CONF_FOLDER;
use crate::model::{
    Assigned, Condition, ContainerName, Kind, Network, Port, Protocol, Service, StackName, System, Word,
};

/// What is on the host beside the stack in question.
#[derive(Clone, Copy, Debug)]
pub struct HostView<'a> {
    /// The services of the other stacks.
    pub services: &'a BTreeMap<ContainerName, Assigned>,
    /// Containers with a conf file that is not ours, adopted ones included; each with its addresses, if it has any.
    pub containers: &'a BTreeMap<ContainerName, Vec<Ipv4Addr>>,
    /// Machines that are registered and not run by a container's unit.
    pub machines: &'a BTreeSet<ContainerName>,
}

/// Why a service cannot be on the host as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostConflict {
    /// A service of another stack has its name.
    #[error("`{service}` is a service of the stack `{stack}` already")]
    NameOfService {
        /// The service in question.
        service: ContainerName,
        /// The other stack.
        stack: StackName,
    },
    /// A container that is not ours has its name.
    #[error("the host has a container `{service}` that NixMox did not make: {CONF_FOLDER}/{service}.conf")]
    NameOfContainer {
        /// The service in question.
        service: ContainerName,
    },
    /// A machine that is not a container of the host has its name.
    #[error("a machine named `{service}` runs on the host that NixMox did not start")]
    NameOfMachine {
        /// The service in question.
        service: ContainerName,
    },
    /// There is no container to adopt.
    #[error("there is no container `{service}` to adopt")]
    NothingToAdopt {
        /// The service in question.
        service: ContainerName,
    },
    /// A service of another stack publishes the same port.
    #[error(
        "`{service}` and `{other}` of the stack `{stack}` publish {} port {}",
        protocol(.port.protocol),
        .port.host_port
    )]
    Port {
        /// The service in question.
        service: ContainerName,
        /// Its port.
        port: Port,
        /// The service that has it.
        other: ContainerName,
        /// The other service's stack.
        stack: StackName,
    },
    /// Another container has its fixed address.
    #[error("`{service}` and `{other}` have the address {address}")]
    Address {
        /// The service in question.
        service: ContainerName,
        /// Its fixed address.
        address: Ipv4Addr,
        /// The container that has it.
        other: ContainerName,
    },
    /// It depends on a service that no stack has.
    #[error("`{service}` depends on `{dependency}`, which no stack on this host declares")]
    MissingDependency {
        /// The service in question.
        service: ContainerName,
        /// What it depends on.
        dependency: ContainerName,
    },
    /// It depends on a service of one stack that is a service of another.
    #[error(
        "`{service}` depends on `{expected}/{dependency}`, but `{dependency}` is a service of the stack `{actual}`"
    )]
    OtherStack {
        /// The service in question.
        service: ContainerName,
        /// What it depends on.
        dependency: ContainerName,
        /// The stack it is to be of.
        expected: StackName,
        /// The stack it is of.
        actual: StackName,
    },
    /// It waits for what a dependency in another stack cannot reach.
    #[error(
        "`{service}` waits for `{dependency}` to be {}, which a {} never is",
        .condition.as_word(),
        .kind.as_word()
    )]
    Condition {
        /// The service in question.
        service: ContainerName,
        /// What it depends on.
        dependency: ContainerName,
        /// What it waits for.
        condition: Condition,
        /// What the dependency is.
        kind: Kind,
    },
    /// Services of several stacks depend on each other.
    #[error("services depend on each other: {}", path(.cycle))]
    Cycle {
        /// A service of the stack in question that is part of the cycle.
        service: ContainerName,
        /// The whole cycle, each depending on the next and the last on the first.
        cycle: Vec<ContainerName>,
    },
}

impl HostConflict {
    /// Returns the service in question.
    #[must_use]
    pub fn service(&self) -> &ContainerName {
        match self {
            Self::NameOfService { service, .. }
            | Self::NameOfContainer { service }
            | Self::NameOfMachine { service }
            | Self::NothingToAdopt { service }
            | Self::Port { service, .. }
            | Self::Address { service, .. }
            | Self::MissingDependency { service, .. }
            | Self::OtherStack { service, .. }
            | Self::Condition { service, .. }
            | Self::Cycle { service, .. } => service,
        }
    }

    /// Returns the way out.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NameOfService { service, stack } => {
                format!(
                    "give the service another name, or take the other one down: nixmoxctl -s {stack} down {service}"
                )
            }
            Self::NameOfContainer { service } => format!(
                "give the service another name, write `adopt = true` in place of `system` to order and watch that \
                 container, or remove it: nixos-container destroy {service}"
            ),
            Self::NameOfMachine { service } => {
                format!(
                    "give the service another name, or end that machine: machinectl status {service}, then \
                     machinectl terminate {service}"
                )
            }
            Self::NothingToAdopt { service } => format!(
                "make it first, with `nixos-container create {service}` or in the host's configuration, or declare \
                 its `system` in place of `adopt`"
            ),
            Self::Port { port, .. } => {
                format!(
                    "publish it elsewhere, for example \"{}:{}\"",
                    free_port(port.host_port),
                    port.container_port
                )
            }
            Self::Address { .. } => "choose another, or leave it out: one is assigned and kept".to_owned(),
            Self::MissingDependency { dependency, .. } => {
                format!("bring up the stack that declares `{dependency}` first, or remove the dependency")
            }
            Self::OtherStack { dependency, actual, .. } => format!("write `{actual}/{dependency}`"),
            Self::Condition { kind: Kind::Job, .. } => "wait for `completed`".to_owned(),
            Self::Condition { kind: Kind::Service, .. } => "wait for `started` or `healthy`".to_owned(),
            Self::Cycle { .. } => "remove one of these dependencies".to_owned(),
        }
    }
}

/// Returns what keeps these services of one stack from being on this host beside what is there.
///
/// What `resolve` checks inside one stack with the lines at hand is checked here once more, since the agent trusts
/// no client. The order of the result is that of the services, cycles last.
#[must_use]
pub fn check_host(services: &[&Service], host: &HostView<'_>) -> Vec<HostConflict> {
    let own: BTreeMap<&ContainerName, &Service> =
        services.iter().map(|service| (&service.name, *service)).collect();
    let mut conflicts = Vec::new();
    for service in services {
        conflicts.extend(name_conflict(service, host));
        conflicts.extend(port_conflicts(service, &own, host));
        conflicts.extend(address_conflict(service, host));
        conflicts.extend(dependency_conflicts(service, &own, host));
    }
    conflicts.extend(cycles(&own, host));
    conflicts
}

/// Returns what services of other stacks could not have any more, were this stack's services these: dependencies that
/// are gone, or that turned into what never reaches the condition that is waited for.
///
/// `before` are this stack's services as they are; what they do not give either is none of their doing. The order of
/// the result is that of the others' names; each conflict's service is one of those.
#[must_use]
pub fn check_dependents(before: &[&Service], after: &[&Service], host: &HostView<'_>) -> Vec<HostConflict> {
    fn by_name<'a>(services: &[&'a Service]) -> BTreeMap<&'a ContainerName, &'a Service> {
        services.iter().map(|service| (&service.name, *service)).collect()
    }
    let (before, after) = (by_name(before), by_name(after));
    let lost = |other: &Assigned| {
        let known = dependency_conflicts(&other.service, &before, host);
        let conflicts = dependency_conflicts(&other.service, &after, host);
        conflicts.into_iter().filter(move |conflict| !known.contains(conflict))
    };
    host.services.values().flat_map(lost).collect()
}

fn name_conflict(service: &Service, host: &HostView<'_>) -> Option<HostConflict> {
    let name = service.name.clone();
    if let Some(other) = host.services.get(&name) {
        return Some(HostConflict::NameOfService { service: name, stack: other.service.stack.clone() });
    }
    let there = host.containers.contains_key(&name);
    match (&service.system, there) {
        (System::Adopted, true) => None,
        (System::Adopted, false) => Some(HostConflict::NothingToAdopt { service: name }),
        (System::Store(_), true) => Some(HostConflict::NameOfContainer { service: name }),
        (System::Store(_), false) => {
            host.machines.contains(&name).then_some(HostConflict::NameOfMachine { service: name })
        }
    }
}

fn port_conflicts(
    service: &Service,
    own: &BTreeMap<&ContainerName, &Service>,
    host: &HostView<'_>,
) -> Vec<HostConflict> {
    // Of two services of the stack itself, the later one complains.
    let earlier = own.range::<ContainerName, _>(..&service.name).map(|(_, other)| *other);
    let others: Vec<&Service> = host.services.values().map(|other| &other.service).chain(earlier).collect();
    let clash = |port: &Port| {
        let other = others.iter().find(|other| {
            other.name != service.name && other.ports.iter().any(|taken| check::overlap(taken, port))
        })?;
        Some(HostConflict::Port {
            service: service.name.clone(),
            port: port.clone(),
            other: other.name.clone(),
            stack: other.stack.clone(),
        })
    };
    service.ports.iter().filter_map(clash).collect()
}

fn address_conflict(service: &Service, host: &HostView<'_>) -> Option<HostConflict> {
    let Network::Private { address: Some(address) } = service.network else { return None };
    let assigned = host.services.values().find(|other| {
        other.addresses.is_some_and(|addresses| addresses.local == address || addresses.host == address)
    });
    let foreign = host.containers.iter().find(|(_, addresses)| addresses.contains(&address));
    let other = assigned.map(|other| &other.service.name).or(foreign.map(|(name, _)| name))?;
    (*other != service.name).then(|| HostConflict::Address {
        service: service.name.clone(),
        address,
        other: other.clone(),
    })
}

fn dependency_conflicts(
    service: &Service,
    own: &BTreeMap<&ContainerName, &Service>,
    host: &HostView<'_>,
) -> Vec<HostConflict> {
    let conflict = |(dependency, condition): (&ContainerName, &Condition)| {
        let other = own.get(dependency).copied().or_else(|| Some(&host.services.get(dependency)?.service));
        let expected = service.dependency_stacks.get(dependency);
        let (service, dependency) = (service.name.clone(), dependency.clone());
        let Some(other) = other else { return Some(HostConflict::MissingDependency { service, dependency }) };
        if let Some(expected) = expected.filter(|expected| **expected != other.stack) {
            let (expected, actual) = (expected.clone(), other.stack.clone());
            return Some(HostConflict::OtherStack { service, dependency, expected, actual });
        }
        match (condition, other.kind) {
            (Condition::Completed, Kind::Service) | (Condition::Healthy, Kind::Job) => {
                Some(HostConflict::Condition { service, dependency, condition: *condition, kind: other.kind })
            }
            (Condition::Started, Kind::Service | Kind::Job)
            | (Condition::Healthy, Kind::Service)
            | (Condition::Completed, Kind::Job) => None,
        }
    };
    service.depends_on.iter().filter_map(conflict).collect()
}

/// Returns the cycles that a service of this stack is part of.
fn cycles(own: &BTreeMap<&ContainerName, &Service>, host: &HostView<'_>) -> Vec<HostConflict> {
    let mut edges: BTreeMap<&ContainerName, BTreeSet<&ContainerName>> =
        host.services.iter().map(|(name, other)| (name, other.service.depends_on.keys().collect())).collect();
    edges.extend(own.iter().map(|(name, service)| (*name, service.depends_on.keys().collect())));
    let conflict = |cycle: Vec<&ContainerName>| {
        let service = cycle.iter().find(|name| own.contains_key(**name)).copied().cloned()?;
        Some(HostConflict::Cycle { service, cycle: cycle.into_iter().cloned().collect() })
    };
    check::cycles(&edges).into_iter().filter_map(conflict).collect()
}

fn free_port(port: u16) -> u16 {
    port.checked_add(8000).unwrap_or(8080)
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

fn path(cycle: &[ContainerName]) -> String {
    let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(ContainerName::as_str).collect();
    names.join(" -> ")
}
