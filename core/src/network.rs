//! Addresses, published ports and names: pure functions of what is desired.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::model::{Addresses, ContainerName, Port};

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
