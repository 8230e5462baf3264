//! What a request means for what is desired: pure, from one ledger to the next.
//!
//! Owns the rules of `up`, `down`, `stop` and `start`. Writes nothing: the reconcile task puts the result on
//! disk first and works from it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nixmox_api::{AgentError, Caller, RequestedStack};
use nixmox_core::manifest::{self, HostConflict, HostView};
use nixmox_core::model::{
    AddressPool, Assigned, ContainerName, GpuStanding, Hold, Network, Service, StackName, System,
};
use nixmox_core::network;

use crate::state::{Generation, Notes, StackRecord};

/// Everything the agent was told: the current generation, and the notes beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) generation: Generation,
    pub(super) notes: Notes,
}

/// What the host already has, which a stack must not collide with.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// Containers with a conf file that is not ours, with the addresses in it.
    pub(super) containers: BTreeMap<ContainerName, Vec<Ipv4Addr>>,
    /// Machines that are registered and not run by a container's unit.
    pub(super) machines: BTreeSet<ContainerName>,
}

/// A ledger to be, and what it means for the stack that was asked about.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) ledger: Ledger,
    /// The services that the request is about.
    pub(super) scope: BTreeSet<ContainerName>,
    /// Services of the stack that the request no longer contains and that stay as they are.
    pub(super) orphans: Vec<ContainerName>,
    /// Whether the limits of the stack stay as they are, though the request has others.
    pub(super) keeps_budget: bool,
}

/// Who asks, and when, in seconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) by: Caller,
    pub(super) at: u64,
}

impl Ledger {
    /// Returns the ledger after `up`: the stack's services as the request has them, released from any hold.
    pub(super) fn up(&self, request: RequestedStack, taken: &Taken, asked: &Asked) -> Result<Next, AgentError> {
        let RequestedStack {
            name: stack,
            file,
            address_pool: pool,
            mut limits,
            owner,
            services: mut requested,
            only,
            prune,
            base: _,
            goes_back,
        } = request;
        let owner = owner.map(|owner| owner.to_string());
        let current = self.generation.stacks.get(&stack);
        self.not_of_another(&stack, owner.as_deref())?;
        // Nobody but its owner can take it down.
        let is_given_up = owner.is_some() && requested.is_empty() && prune;
        let mut keeps_budget = false;
        if !only.is_empty() {
            requested.retain(|name, _| only.contains(name));
            // A budget is that of the others, too.
            if let Some(record) = current.filter(|record| record.limits != limits) {
                (limits, keeps_budget) = (record.limits.clone(), true);
            }
        }
        let of_stack = |name: &ContainerName| {
            self.generation.services.get(name).is_some_and(|assigned| assigned.service.stack == stack)
        };
        let missing = self.generation.services.keys().filter(|name| {
            // With `only`, services that were not named stay as the last generation has them: no orphans.
            of_stack(name) && !requested.contains_key(*name) && only.is_empty()
        });
        let (orphans, pruned): (Vec<_>, Vec<_>) = missing.cloned().partition(|_| !prune);

        let mut services: BTreeMap<ContainerName, Service> = self
            .generation
            .services
            .iter()
            .filter(|(name, _)| !pruned.contains(name))
            .map(|(name, assigned)| (name.clone(), assigned.service.clone()))
            .collect();
        let mut scope: BTreeSet<ContainerName> = requested.keys().cloned().collect();
        scope.extend(pruned.iter().cloned());
        services.extend(requested);

        let mut ledger = self.clone();
        ledger.notes.holds.retain(|name, _| !scope.contains(name));
        ledger.generation.services = self.assign(services, &stack, pool, taken, &BTreeMap::new())?;
        ledger.forget();
        if is_given_up {
            ledger.generation.stacks.remove(&stack);
            self.stamp(&mut ledger, &stack, asked);
            return Ok(Next { ledger, scope, orphans, keeps_budget });
        }
        let record = StackRecord {
            file: file.to_string_lossy().into_owned(),
            address_pool: pool.to_string(),
            limits,
            owner,
            changed_in: 0,
            changed_at: asked.at,
            changed_by: asked.by.clone(),
            trial: self.trial(&stack, goes_back),
            restored: None,
            rolled_back: None,
        };
        ledger.generation.stacks.insert(stack.clone(), record);
        self.stamp(&mut ledger, &stack, asked);
        Ok(Next { ledger, scope, orphans, keeps_budget })
    }

    /// Returns the ledger after `down`: these services of the stack, or all, are no longer desired.
    pub(super) fn down(&self, stack: &str, names: &[String], asked: &Asked) -> Result<Next, AgentError> {
        let (stack, _) = self
            .generation
            .stacks
            .get_key_value(stack)
            .ok_or_else(|| unknown_stack(stack, self.generation.stacks.keys()))?;
        self.not_of_another(stack, None)?;
        let mut scope = BTreeSet::new();
        for name in names {
            let known = self.declared(name)?;
            let other = &known.service.stack;
            if other != stack {
                return Err(AgentError::Invalid {
                    problems: vec![format!("{name}: it belongs to the stack `{other}`")],
                    hint: format!("nixmoxctl -s {other} down {name}"),
                });
            }
            scope.insert(known.service.name.clone());
        }
        if names.is_empty() {
            scope.extend(self.generation.of_stack(stack).map(|assigned| assigned.service.name.clone()));
        }
        let dependents = self.dependents(&scope);
        if !dependents.is_empty() {
            return Err(AgentError::HasDependents {
                dependents: dependents.iter().map(ToString::to_string).collect(),
                hint: "take them down too, or change what they depend on".to_owned(),
            });
        }
        let mut ledger = self.clone();
        ledger.generation.services.retain(|name, _| !scope.contains(name));
        ledger.forget();
        if names.is_empty() {
            ledger.generation.stacks.remove(stack);
        } else if let Some(record) = ledger.generation.stacks.get_mut(stack) {
            // What is still on trial stays so.
            let goes_back = self.is_on_trial(stack) && record.trial.goes_back;
            record.trial = self.trial(stack, goes_back);
            (record.restored, record.rolled_back) = (None, None);
        }
        self.stamp(&mut ledger, stack, asked);
        Ok(Next { ledger, scope, orphans: Vec::new(), keeps_budget: false })
    }

    /// Refuses what only a stack's owner may do, where another asks.
    fn not_of_another(&self, stack: &StackName, asks: Option<&str>) -> Result<(), AgentError> {
        match self.generation.stacks.get(stack).and_then(|record| record.owner.as_deref()) {
            Some(owner) if asks != Some(owner) => Err(AgentError::Refused {
                reason: format!("the stack `{stack}` is declared by `{owner}`"),
                hint: format!(
                    "change or remove `{owner}` in the configuration of this host, then nixos-rebuild switch; where that has \
                     gone: nixmoxctl -s {stack} down --disown"
                ),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the notes after `stop`, and the services that are held.
    pub(super) fn stop(
        &self,
        names: &[String],
        with_dependents: bool,
        running: impl Fn(&ContainerName) -> bool,
        asked: &Asked,
    ) -> Result<(Notes, BTreeSet<ContainerName>), AgentError> {
        let mut scope = BTreeSet::new();
        for name in names {
            scope.insert(self.declared(name)?.service.name.clone());
        }
        let dependents: BTreeSet<_> = self.dependents(&scope).into_iter().filter(|name| running(name)).collect();
        if !dependents.is_empty() && !with_dependents {
            return Err(AgentError::HasDependents {
                dependents: dependents.iter().map(ToString::to_string).collect(),
                hint: "stop them too with --with-dependents".to_owned(),
            });
        }
        scope.extend(dependents);
        let mut notes = self.notes.clone();
        for name in &scope {
            let hold = Hold { by: asked.by.name.clone(), at: asked.at };
            notes.holds.entry(name.clone()).or_insert(hold);
        }
        Ok((notes, scope))
    }

    /// Returns the notes after `start`, and the services that are released: those named, and what they need.
    pub(super) fn start(&self, names: &[String]) -> Result<(Notes, BTreeSet<ContainerName>), AgentError> {
        let mut scope = BTreeSet::new();
        for name in names {
            scope.insert(self.declared(name)?.service.name.clone());
        }
        // What a released service needs is released too, or it would wait forever.
        let needed = self.needed_by(&scope);
        scope.extend(needed.into_iter().filter(|name| self.notes.holds.contains_key(name)));
        let mut notes = self.notes.clone();
        notes.holds.retain(|name, _| !scope.contains(name));
        Ok((notes, scope))
    }

    /// Forgets what is noted of services that are not declared any more: a job that comes back runs again.
    pub(super) fn forget(&mut self) {
        let Self { generation, notes } = self;
        notes.retain_declared(|name| generation.services.contains_key(name));
    }

    /// Gives a ledger that was changed the number that is free on disk.
    pub(super) fn renumber(&mut self, number: u64) {
        let drafted = std::mem::replace(&mut self.generation.number, number);
        for record in self.generation.stacks.values_mut().filter(|record| record.changed_in == drafted) {
            record.changed_in = number;
        }
    }

    /// Returns a declared service.
    pub(super) fn declared(&self, name: &str) -> Result<&Assigned, AgentError> {
        self.generation.services.get(name).ok_or_else(|| unknown_service(name, self.generation.services.keys()))
    }

    /// Returns every service that these need, directly or not, with these themselves.
    pub(super) fn needed_by(&self, names: &BTreeSet<ContainerName>) -> BTreeSet<ContainerName> {
        let mut needed = names.clone();
        let mut open: Vec<ContainerName> = names.iter().cloned().collect();
        while let Some(name) = open.pop() {
            let on = self.generation.services.get(&name).map(|assigned| &assigned.service.depends_on);
            for name in on.into_iter().flat_map(BTreeMap::keys) {
                if needed.insert(name.clone()) {
                    open.push(name.clone());
                }
            }
        }
        needed
    }

    /// Returns every declared service that needs one of these, directly or not, without these themselves.
    pub(super) fn dependents(&self, of: &BTreeSet<ContainerName>) -> BTreeSet<ContainerName> {
        let mut found = of.clone();
        loop {
            let more: Vec<_> = self
                .generation
                .services
                .values()
                .map(|assigned| &assigned.service)
                .filter(|service| !found.contains(&service.name))
                .filter(|service| service.depends_on.keys().any(|needed| found.contains(needed)))
                .map(|service| service.name.clone())
                .collect();
            if more.is_empty() {
                return found.difference(of).cloned().collect();
            }
            found.extend(more);
        }
    }

    /// Checks services against the host, and gives those of the stack addresses: as they have them, else as they are
    /// `remembered`.
    pub(super) fn assign(
        &self,
        services: BTreeMap<ContainerName, Service>,
        stack: &StackName,
        pool: AddressPool,
        taken: &Taken,
        remembered: &BTreeMap<ContainerName, Assigned>,
    ) -> Result<BTreeMap<ContainerName, Assigned>, AgentError> {
        let others = self.generation.services.iter().filter(|(_, assigned)| assigned.service.stack != *stack);
        let others = others.map(|(name, assigned)| (name.clone(), assigned.clone())).collect();
        let own: Vec<&Service> = services.values().filter(|service| service.stack == *stack).collect();
        let before: Vec<&Service> = self.generation.of_stack(stack).map(|assigned| &assigned.service).collect();
        let host = HostView { services: &others, containers: &taken.containers, machines: &taken.machines };
        let conflicts = manifest::check_host(&own, &host);
        if !conflicts.is_empty() {
            // Each problem has its own way out; no check without the host finds it.
            return Err(AgentError::Invalid { problems: problems(&conflicts), hint: String::new() });
        }
        left_behind(&manifest::check_dependents(&before, &own, &host))?;
        let mut previous: BTreeMap<_, _> = remembered
            .iter()
            .chain(&self.generation.services)
            .filter_map(|(name, assigned)| Some((name.clone(), assigned.addresses?)))
            .collect();
        let ours = services.values().filter(|service| service.stack == *stack);
        let requests: BTreeMap<_, _> = ours
            .filter_map(|service| match (&service.system, &service.network) {
                (System::Store(_), Network::Private { address: fixed }) => {
                    Some((service.name.clone(), network::Request { pool, fixed: *fixed }))
                }
                // An adopted container has the addresses that its owner gave it.
                (System::Store(_), Network::Bridge(_) | Network::Host) | (System::Adopted, _) => None,
            })
            .collect();
        // Other stacks keep what they have: their addresses are as good as taken.
        let mut taken: BTreeSet<Ipv4Addr> = taken.containers.values().flatten().copied().collect();
        for service in services.values().filter(|service| service.stack != *stack) {
            let addresses = previous.get(&service.name);
            taken.extend(addresses.into_iter().flat_map(|addresses| [addresses.host, addresses.local]));
        }
        let assigned = network::allocate(&requests, &previous, &taken).map_err(|errors| AgentError::Invalid {
            problems: errors.iter().map(|error| format!("{error}; {}", error.help())).collect(),
            hint: String::new(),
        })?;
        previous.extend(assigned);
        let with_addresses = |(name, service): (ContainerName, Service)| {
            let private = matches!(service.network, Network::Private { .. }) && service.system != System::Adopted;
            let addresses = previous.get(&name).copied().filter(|_| private);
            (name, Assigned { service, addresses, gpu: GpuStanding::None })
        };
        Ok(services.into_iter().map(with_addresses).collect())
    }

    /// Numbers the ledger as the next generation if it asks for anything else than this one; the number itself
    /// is the disk's to give.
    pub(super) fn stamp(&self, next: &mut Ledger, stack: &StackName, asked: &Asked) {
        let same_stacks = |a: &Generation, b: &Generation| {
            let shape = |generation: &Generation| -> Vec<_> {
                let record = |(name, s): (&StackName, &StackRecord)| {
                    (name.clone(), s.file.clone(), s.address_pool.clone(), s.limits.clone(), s.owner.clone())
                };
                generation.stacks.iter().map(record).collect()
            };
            shape(a) == shape(b)
        };
        let (old, new) = (&self.generation, &next.generation);
        // To be taken off trial is a change too; to be put on it without one is not.
        let goes_back = |generation: &Generation| generation.stacks.get(stack).is_some_and(|s| s.trial.goes_back);
        let taken_off = self.is_on_trial(stack) && goes_back(old) && !goes_back(new);
        if old.services == new.services && same_stacks(old, new) && !taken_off {
            next.generation = old.clone();
            return;
        }
        let number = old.number.saturating_add(1);
        next.generation.number = number;
        next.generation.made_at = asked.at;
        next.generation.made_by = asked.by.clone();
        if let Some(record) = next.generation.stacks.get_mut(stack) {
            record.changed_in = number;
            record.changed_at = asked.at;
            record.changed_by = asked.by.clone();
        }
        self.put_on_trial(next, stack);
    }
}

/// Refuses what would leave services of other stacks without what they depend on: as `down` does it.
fn left_behind(conflicts: &[HostConflict]) -> Result<(), AgentError> {
    let missing = conflicts.iter().filter_map(|conflict| match conflict {
        HostConflict::MissingDependency { service, dependency } => Some((service, dependency)),
        HostConflict::NameOfService { .. }
        | HostConflict::NameOfContainer { .. }
        | HostConflict::NameOfMachine { .. }
        | HostConflict::NothingToAdopt { .. }
        | HostConflict::Port { .. }
        | HostConflict::Address { .. }
        | HostConflict::OtherStack { .. }
        | HostConflict::Condition { .. }
        | HostConflict::Cycle { .. } => None,
    });
    let (dependents, gone): (BTreeSet<&ContainerName>, BTreeSet<&ContainerName>) = missing.unzip();
    if !gone.is_empty() {
        let gone: Vec<String> = gone.iter().map(|name| format!("`{name}`")).collect();
        return Err(AgentError::HasDependents {
            dependents: dependents.iter().map(ToString::to_string).collect(),
            hint: format!("declare {} still, leave out --prune, or take them down first", gone.join(", ")),
        });
    }
    if conflicts.is_empty() {
        return Ok(());
    }
    // The line to be changed is in another stack's manifest, or it is this one's `kind`.
    Err(AgentError::Invalid { problems: problems(conflicts), hint: "change the stack that waits first".to_owned() })
}

/// Returns each conflict with its way out.
fn problems(conflicts: &[HostConflict]) -> Vec<String> {
    conflicts.iter().map(|conflict| format!("{conflict}; {}", conflict.help())).collect()
}

/// Returns the error for requests that make no sense.
pub(super) fn invalid(problems: Vec<String>) -> AgentError {
    AgentError::Invalid { problems, hint: "nixmoxctl check finds the line".to_owned() }
}

/// Returns the error for a name that nothing declares.
pub(super) fn unknown_service<'a>(name: &str, known: impl Iterator<Item = &'a ContainerName>) -> AgentError {
    let known: Vec<&str> = known.map(ContainerName::as_str).collect();
    let hint = if known.is_empty() {
        "nothing is declared".to_owned()
    } else {
        format!("there are: {}", known.join(", "))
    };
    AgentError::UnknownService { name: name.to_owned(), hint }
}

pub(super) fn unknown_stack<'a>(name: &str, stacks: impl Iterator<Item = &'a StackName>) -> AgentError {
    let known: Vec<&str> = stacks.map(StackName::as_str).collect();
    let hint =
        if known.is_empty() { "there is no stack".to_owned() } else { format!("there are: {}", known.join(", ")) };
    AgentError::UnknownStack { name: name.to_owned(), hint }
}

#[cfg(test)]
mod tests;
