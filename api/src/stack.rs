//! A request as the model has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nixmox_core::model::{AddressPool, ContainerName, Limits, Owner, Service, StackName};

use crate::Request;
use crate::rule::{self, quoted};

/// The most problems that one reply lists.
const PROBLEMS_MAX: usize = 100;

/// A [`Request`] that passed every check of a single stack; whether it fits the host is the planner's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedStack {
    /// The stack's name, which every service carries too.
    pub name: StackName,
    /// The stack file.
    pub file: PathBuf,
    /// The pool that its private networks are numbered from.
    pub address_pool: AddressPool,
    /// What it may use as a whole.
    pub limits: Limits,
    /// Who declares it; `None`: a person's file.
    pub owner: Option<Owner>,
    /// Its services.
    pub services: BTreeMap<ContainerName, Service>,
    /// The services to apply; empty: all. Each is one of `services`.
    pub only: BTreeSet<ContainerName>,
    /// Whether services that the stack no longer contains are stopped and forgotten.
    pub prune: bool,
    /// The base of a plan that was shown before; `None`: any.
    pub base: Option<String>,
    /// Whether a failed trial leads back to the last good generation.
    pub goes_back: bool,
}

impl Request {
    /// Checks a request from outside and returns it as the model has it.
    ///
    /// # Errors
    ///
    /// Every fault, as `service: key: what is wrong`, at most 100 of them.
    pub fn into_model(self) -> Result<RequestedStack, Vec<String>> {
        let mut problems = Vec::new();
        let mut keep = |key: &str, error: String| problems.push(format!("{key}: {error}"));
        let name = rule::stack(&self.stack).map_err(|error| keep("stack", error));
        let file = rule::path(&self.file).map_err(|error| keep("file", error));
        let address_pool = rule::address_pool(&self.address_pool).map_err(|error| keep("address_pool", error));
        let owner = self.owner.as_deref().map(rule::owner).transpose().map_err(|error| keep("owner", error));
        let limits = self.limits.unwrap_or_default().into_model().map_err(|faults| problems.extend(faults));
        // Services are checked even where the stack's name is not one, so that every fault is named.
        let stack = name.clone().or_else(|()| "stack".parse::<StackName>());
        let mut services = BTreeMap::new();
        for service in self.services {
            let Ok(stack) = &stack else { break };
            match service.into_model(stack) {
                Err(faults) => problems.extend(faults),
                Ok(service) => {
                    if let Some(twice) = services.insert(service.name.clone(), service) {
                        problems.push(format!("{}: it is there twice", twice.name));
                    }
                }
            }
        }
        let mut only = BTreeSet::new();
        for text in &self.only {
            match rule::container(text) {
                Ok(name) if services.contains_key(&name) => {
                    only.insert(name);
                }
                // A service with faults of its own was named above.
                Ok(_) if !problems.is_empty() => {}
                Ok(_) | Err(_) => problems.push(format!("only: {} is no service of the stack", quoted(text))),
            }
        }
        if self.prune && !self.only.is_empty() {
            problems.push("prune: it is about the whole stack, so it goes without `only`".to_owned());
        }
        if self.base.as_ref().is_some_and(|base| base.len() > 256) {
            problems.push("base: it is not the base of a plan".to_owned());
        }
        problems.truncate(PROBLEMS_MAX);
        match (name, file, address_pool, limits, owner) {
            (Ok(name), Ok(file), Ok(address_pool), Ok(limits), Ok(owner)) if problems.is_empty() => {
                let (prune, base, goes_back) = (self.prune, self.base, self.no_rollback != Some(true));
                Ok(RequestedStack {
                    name,
                    file,
                    address_pool,
                    limits,
                    owner,
                    services,
                    only,
                    prune,
                    base,
                    goes_back,
                })
            }
            (_, _, _, _, _) => Err(problems),
        }
    }
}
