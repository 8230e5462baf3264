//! Addresses, published ports and names: pure functions of what is desired.
//!
//! Owns which address a container gets, what the firewall table and the hosts file say, and whom guests ask for names. Writes
//! none of them (the agent's adapters do) and does not read conf files (`container::conf_addresses` does).

mod allocate;
pub mod servers;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::model::{Addresses, ContainerName, Desired, Port};

pub use allocate::{AllocateError, Request, allocate};

/// The content of the nftables table `inet nixmox`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallTable {
    /// Published ports: what arrives at the host, and where it goes.
    pub forwards: BTreeSet<Forward>,
    /// Containers with a private network: their traffic to the outside is masqueraded.
    pub guests: BTreeSet<Guest>,
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forward {
    /// What is published.
    pub port: Port,
    /// The container's address.
    pub to: Ipv4Addr,
}

/// One container with a private network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guest {
    /// The container.
    pub name: ContainerName,
    /// The ends of its veth pair.
    pub addresses: Addresses,
}

impl FirewallTable {
    /// Returns the table for everything declared.
    ///
    /// Held and stopped services are in it too: a port whose service does not run refuses connections either way,
    /// and the table changes with a generation alone.
    #[must_use]
    pub fn of(desired: &Desired) -> Self {
        let mut table = Self::default();
        for (name, assigned) in &desired.services {
            let Some(addresses) = assigned.addresses else { continue };
            table.guests.insert(Guest { name: name.clone(), addresses });
            let forward = |port: &Port| Forward { port: port.clone(), to: addresses.local };
            table.forwards.extend(assigned.service.ports.iter().map(forward));
        }
        table
    }

    /// Returns the containers that a port leads to which is published on a loopback address of the host, alone or among all.
    #[must_use]
    pub fn reached_from_loopback(&self) -> BTreeSet<ContainerName> {
        let on_loopback =
            |forward: &&Forward| forward.port.host_address.is_none_or(|address| address.is_loopback());
        let to: BTreeSet<Ipv4Addr> = self.forwards.iter().filter(on_loopback).map(|forward| forward.to).collect();
        let guests = self.guests.iter().filter(|guest| to.contains(&guest.addresses.local));
        guests.map(|guest| guest.name.clone()).collect()
    }

    /// Returns whether there is nothing in it, so that the table need not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forwards.is_empty() && self.guests.is_empty()
    }
}

/// Returns the text of the hosts file that guests share (hosts(5)).
///
/// Every service with a private network stands there as `NAME` and as `NAME.STACK`, in the order of names, after
/// the names of the loopback addresses. A service in the host's network or behind a bridge has no address that
/// this file could know.
#[must_use]
pub fn hosts_file(desired: &Desired) -> String {
    let mut text = String::from("# Written by nixmox-agent.\n127.0.0.1 localhost\n::1 localhost\n");
    for (name, assigned) in &desired.services {
        if let Some(Addresses { host: _, local }) = assigned.addresses {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{local} {name} {name}.{}", assigned.service.stack);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::fixture::{assigned, name};
    use crate::model::{Network, Protocol};

    fn desired() -> Desired {
        let mut web = assigned("web", 1);
        web.service.ports = vec![
            Port { host_address: None, host_port: 80, container_port: 8080, protocol: Protocol::Tcp },
            Port {
                host_address: Some(IpAddr::from([127, 0, 0, 1])),
                host_port: 443,
                container_port: 443,
                protocol: Protocol::Udp,
            },
        ];
        let mut open = assigned("open", 3);
        open.addresses = None;
        open.service.network = Network::Host;
        let services = [("web", web), ("db", assigned("db", 2)), ("open", open)];
        Desired { services: services.map(|(text, assigned)| (name(text), assigned)).into(), ..Desired::default() }
    }

    #[test]
    fn every_private_container_is_masqueraded_and_its_ports_lead_to_it() {
        let table = FirewallTable::of(&desired());
        let guests: Vec<_> = table.guests.iter().map(|guest| guest.name.as_str()).collect();
        assert_eq!(guests, ["db", "web"]);
        let forwards: Vec<_> = table.forwards.iter().map(|f| (f.port.host_port, f.to.octets())).collect();
        assert_eq!(forwards, [(80, [10, 233, 1, 2]), (443, [10, 233, 1, 2])]);
        assert!(FirewallTable::of(&Desired::default()).is_empty());
    }

    #[test]
    fn only_ports_on_loopback_addresses_reach_from_there() {
        let mut desired = desired();
        let reached = |desired: &Desired| FirewallTable::of(desired).reached_from_loopback();
        assert_eq!(reached(&desired), BTreeSet::from([name("web")]));
        let web = desired.services.get_mut(&name("web")).unwrap();
        for port in &mut web.service.ports {
            port.host_address = Some(IpAddr::from([192, 168, 1, 5]));
        }
        assert_eq!(reached(&desired), BTreeSet::new());
    }

    #[test]
    fn the_hosts_file_names_private_services_with_and_without_their_stack() {
        assert_eq!(
            hosts_file(&desired()),
            "# Written by nixmox-agent.\n127.0.0.1 localhost\n::1 localhost\n\
             10.233.2.2 db db.cloud\n10.233.1.2 web web.cloud\n"
        );
    }
}
