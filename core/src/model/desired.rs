//! What is asked for: the services of a generation, with addresses, and what was asked beside it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{ContainerName, GpuStanding, InvocationId, Limits, Service, StackName};

/// Everything asked for on this host, over all stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The generation's number; 0 before the first.
    pub generation: u64,
    /// The declared services.
    pub services: BTreeMap<ContainerName, Assigned>,
    /// What stacks as a whole may use. One that is not here has no limits of its own.
    pub budgets: Vec<(StackName, Limits)>,
    /// Services held back by `stop`. Keys that name no declared service count for nothing.
    pub holds: BTreeMap<ContainerName, Hold>,
    /// Instances that `restart` asked to replace: done as soon as the invocation is another.
    pub restarts: BTreeMap<ContainerName, InvocationId>,
}

/// A service with what the host assigned to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// What was declared.
    pub service: Service,
    /// The ends of its veth pair; `None` unless its network is private.
    pub addresses: Option<Addresses>,
    /// What it has of the GPUs that it asks for.
    pub gpu: GpuStanding,
}

/// The addresses of a veth pair, each as a /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addresses {
    /// The host's end (`HOST_ADDRESS`).
    pub host: Ipv4Addr,
    /// The container's end (`LOCAL_ADDRESS`).
    pub local: Ipv4Addr,
}

/// A service held back by `stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who asked, as a user name or `uid N`.
    pub by: String,
    /// When, in seconds since 1970.
    pub at: u64,
}
