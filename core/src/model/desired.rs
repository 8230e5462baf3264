//! What is asked for: the services of a generation, with addresses, and what was asked beside it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use super::{ContainerName, Device, GpuMount, GpuStanding, InvocationId, Limits, Service, StackName};

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

/// What a node of a GPU is opened for. Nobody makes nodes in a container.
const NODE_ACCESS: &str = "rw";

impl Assigned {
    /// Returns the device rules of its unit: those of its own devices, in manifest order, then of the nodes of its GPUs. A node
    /// that it names itself is there once, with the access of both.
    #[must_use]
    pub fn device_rules(&self) -> Vec<Device> {
        let mut rules = self.service.devices.clone();
        for node in self.gpu.grant().iter().flat_map(|grant| &grant.nodes) {
            match rules.iter_mut().find(|rule| rule.path == *node) {
                Some(rule) => {
                    let allowed = |c: &char| rule.access.contains(*c) || NODE_ACCESS.contains(*c);
                    rule.access = "rwm".chars().filter(allowed).collect();
                }
                None => rules.push(Device { path: node.clone(), access: NODE_ACCESS.to_owned() }),
            }
        }
        rules
    }

    /// Returns the environment of the guest's services, by name: its own, and what its GPUs need where it does not say otherwise.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<&str, &str> {
        let gpu = self.gpu.grant().into_iter().flat_map(|grant| &grant.environment);
        let all = gpu.chain(&self.service.environment);
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Returns what is bound read-only for its GPUs, but where it has something mounted itself.
    pub fn gpu_mounts(&self) -> impl Iterator<Item = &GpuMount> {
        let own = |target: &Path| {
            self.service.mounts.iter().any(|mount| mount.target == target)
                || self.service.tmpfs.iter().any(|tmpfs| tmpfs.target == target)
        };
        self.gpu.grant().into_iter().flat_map(|grant| &grant.mounts).filter(move |mount| !own(&mount.target))
    }
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
