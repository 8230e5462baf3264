//! A generation: an immutable, numbered record of everything desired on the host, and its form on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nixmox_api::{Caller, RolledBack};
use nixmox_core::model::{Addresses, Assigned, ContainerName, GpuStanding, Limits, StackName, StorePath, System};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The newest format this agent writes and knows.
pub(super) const FORMAT: u64 = 1;

/// Everything desired on the host, with who asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1; 0 stands for "nothing was ever desired".
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// Who made it.
    pub made_by: Caller,
    /// The stacks.
    pub stacks: BTreeMap<StackName, StackRecord>,
    /// The services of all stacks.
    pub services: BTreeMap<ContainerName, Assigned>,
}

impl Generation {
    /// Returns the services of a stack.
    pub fn of_stack(&self, stack: &StackName) -> impl Iterator<Item = &Assigned> {
        self.services.values().filter(move |assigned| assigned.service.stack == *stack)
    }

    /// Returns what stacks may use as a whole, where that is limited.
    #[must_use]
    pub fn budgets(&self) -> Vec<(StackName, Limits)> {
        let limited = self.stacks.iter().filter(|(_, record)| record.limits != Limits::default());
        limited.map(|(name, record)| (name.clone(), record.limits.clone())).collect()
    }

    /// Returns the systems that its services run.
    pub fn systems(&self) -> impl Iterator<Item = &StorePath> {
        self.services.values().filter_map(|assigned| match &assigned.service.system {
            System::Store(path) => Some(path),
            System::Adopted => None,
        })
    }
}

/// What is known of a stack beside its services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRecord {
    /// The stack file: an absolute path.
    pub file: String,
    /// The pool of addresses, such as `10.233.0.0/16`.
    pub address_pool: String,
    /// What it may use as a whole; absent: no limits, as before it was written down.
    #[serde(default, serialize_with = "write_limits", deserialize_with = "read_limits")]
    pub limits: Limits,
    /// Who declares it; absent: a person's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The generation in which it was last changed.
    pub changed_in: u64,
    /// When that was, in seconds since 1970.
    pub changed_at: u64,
    /// Who changed it.
    pub changed_by: Caller,
    /// What its services had to prove when it was last changed.
    #[serde(default)]
    pub trial: Trial,
    /// The generation whose services a rollback brought back; `None`: it came of something else.
    #[serde(default)]
    pub restored: Option<u64>,
    /// The deployment that failed, where the agent itself went back.
    #[serde(default)]
    pub rolled_back: Option<RolledBack>,
}

/// Writes limits as the wire has them, as those of a service.
fn write_limits<S: Serializer>(limits: &Limits, serializer: S) -> Result<S::Ok, S::Error> {
    nixmox_api::Limits::from(limits).serialize(serializer)
}

fn read_limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
    let limits = nixmox_api::Limits::deserialize(deserializer)?;
    limits.into_model().map_err(|problems| D::Error::custom(problems.join("; ")))
}

/// What a change of a stack has to prove, written down with it: a restarted agent goes on where another was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The services that have to become healthy; `None`: all of the stack, as before this was written down.
    pub services: Option<BTreeSet<String>>,
    /// The last generation before in which the stack was good; `None`: there is none.
    pub good_before: Option<u64>,
    /// Whether the services go back there when one does not become healthy.
    pub goes_back: bool,
}

/// The form on disk. A service is kept as the wire has it: one set of types under one rule of compatibility.
#[derive(Serialize, Deserialize)]
pub(super) struct OnDisk {
    format: u64,
    number: u64,
    made_at: u64,
    made_by: Caller,
    stacks: BTreeMap<String, StackRecord>,
    services: Vec<ServiceOnDisk>,
}

#[derive(Serialize, Deserialize)]
struct ServiceOnDisk {
    stack: String,
    host_address: Option<Ipv4Addr>,
    local_address: Option<Ipv4Addr>,
    service: nixmox_api::Service,
}

/// What is wrong with a file that is JSON of the right format.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Meaningless(String);

impl From<&Generation> for OnDisk {
    fn from(generation: &Generation) -> Self {
        let service = |assigned: &Assigned| ServiceOnDisk {
            stack: assigned.service.stack.to_string(),
            host_address: assigned.addresses.map(|addresses| addresses.host),
            local_address: assigned.addresses.map(|addresses| addresses.local),
            service: nixmox_api::Service::from(&assigned.service),
        };
        Self {
            format: FORMAT,
            number: generation.number,
            made_at: generation.made_at,
            made_by: generation.made_by.clone(),
            stacks: generation.stacks.iter().map(|(name, stack)| (name.to_string(), stack.clone())).collect(),
            services: generation.services.values().map(service).collect(),
        }
    }
}

impl TryFrom<OnDisk> for Generation {
    type Error = Meaningless;

    fn try_from(disk: OnDisk) -> Result<Self, Meaningless> {
        let stack_name = |text: &str| text.parse::<StackName>().map_err(|error| Meaningless(error.to_string()));
        let mut stacks = BTreeMap::new();
        for (name, stack) in disk.stacks {
            stacks.insert(stack_name(&name)?, stack);
        }
        let mut services = BTreeMap::new();
        for entry in disk.services {
            let service = entry
                .service
                .into_model(&stack_name(&entry.stack)?)
                .map_err(|problems| Meaningless(problems.join("; ")))?;
            let addresses = match (entry.host_address, entry.local_address) {
                (Some(host), Some(local)) => Some(Addresses { host, local }),
                (None, None) => None,
                _ => return Err(Meaningless(format!("{}: one of two addresses is missing", service.name))),
            };
            services.insert(service.name.clone(), Assigned { service, addresses, gpu: GpuStanding::None });
        }
        Ok(Self { number: disk.number, made_at: disk.made_at, made_by: disk.made_by, stacks, services })
    }
}
