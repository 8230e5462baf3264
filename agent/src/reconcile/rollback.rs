//! What a change has to prove, and what goes back when it does not: pure, from one ledger to the next.
//!
//! ```text
//!  up ──▶ on trial ──all that changed is well──▶ good
//!            │
//!            └──one does not become healthy──▶ rolled back: a new generation with the services of the last good one
//! ```
//!
//! Owns which services a trial is about, which generation a rollback brings back, and what of it. The verdict is
//! `nixmox_core::trial`'s; both ends of the arrows are written to disk as one file each, so an agent that dies on the
//! way is on one of them.

use std::collections::{BTreeMap, BTreeSet};

use nixmox_api::{AgentError, RolledBack};
use nixmox_core::compare;
use nixmox_core::model::{AddressPool, Assigned, ContainerName, InvalidPool, Service, StackName};

use super::change::{Asked, Ledger, Next, Taken, unknown_service, unknown_stack};
use super::history::{self, unreadable};
use crate::state::{Generation, Generations, Notes, StackRecord, Trial};

/// Where a rollback leads, and why.
#[derive(Debug)]
pub(super) struct Back<'a> {
    /// The stack.
    pub(super) stack: &'a StackName,
    /// The generation that is brought back.
    pub(super) target: &'a Generation,
    /// The services; empty: all of the stack.
    pub(super) names: &'a BTreeSet<ContainerName>,
    /// The deployment that failed; `None`: a person asks.
    pub(super) failed: Option<RolledBack>,
}

impl Ledger {
    /// Returns whether a stack's last change is still to prove itself.
    pub(super) fn is_on_trial(&self, stack: &StackName) -> bool {
        let record = self.generation.stacks.get(stack);
        record.is_some_and(|record| !self.notes.is_good(stack, record.changed_in))
    }

    /// Returns what the next change of a stack has to prove; which services is `put_on_trial`'s to say.
    pub(super) fn trial(&self, stack: &StackName, goes_back: bool) -> Trial {
        let good_before = self.generation.stacks.get(stack).and_then(|record| {
            // Of a good one, the current generation has the same, and no pruning takes it away.
            if self.is_on_trial(stack) { record.trial.good_before } else { Some(self.generation.number) }
        });
        Trial { services: None, good_before, goes_back: goes_back && good_before.is_some() }
    }

    /// Writes into a next ledger which services of the stack are on trial: those that it changes, and those that an
    /// earlier change left there.
    pub(super) fn put_on_trial(&self, next: &mut Ledger, stack: &StackName) {
        let earlier = self.generation.stacks.get(stack).filter(|_| self.is_on_trial(stack));
        let earlier = earlier.and_then(|record| record.trial.services.as_ref());
        let limits = |ledger: &Self| ledger.generation.stacks.get(stack).map(|record| record.limits.clone());
        // What all of them may use together may be too little for each.
        let all = limits(self).unwrap_or_default() != limits(next).unwrap_or_default();
        let is_on_trial = |(name, assigned): &(&ContainerName, &Assigned)| {
            assigned.service.stack == *stack
                && (all
                    || earlier.is_some_and(|earlier| earlier.contains(name.as_str()))
                    || self.generation.services.get(*name).is_none_or(|before| differs(before, assigned)))
        };
        let services = next.generation.services.iter().filter(is_on_trial).map(|(name, _)| name.to_string());
        let services = services.collect();
        if let Some(record) = next.generation.stacks.get_mut(stack) {
            record.trial.services = Some(services);
        }
    }

    /// Puts those on trial, too, that need a changed service and are well: a database that runs may have broken them.
    pub(super) fn widen_trial(&mut self, stack: &StackName, is_well: impl Fn(&ContainerName) -> bool) {
        let Some(record) = self.generation.stacks.get(stack) else { return };
        let changed = self.on_trial(stack, record).map(|assigned| assigned.service.name.clone()).collect();
        let of_stack = |name: &ContainerName| {
            self.generation.services.get(name).is_some_and(|assigned| assigned.service.stack == *stack)
        };
        let dependents = self.dependents(&changed).into_iter().filter(|name| of_stack(name) && is_well(name));
        let dependents: Vec<String> = dependents.map(|name| name.to_string()).collect();
        if let Some(services) = self.generation.stacks.get_mut(stack).and_then(|s| s.trial.services.as_mut()) {
            services.extend(dependents);
        }
    }

    /// Returns the services that a stack's trial is about.
    pub(super) fn on_trial<'a>(
        &'a self,
        stack: &'a StackName,
        record: &'a StackRecord,
    ) -> impl Iterator<Item = &'a Assigned> {
        self.generation.of_stack(stack).filter(|assigned| {
            let services = record.trial.services.as_ref();
            services.is_none_or(|services| services.contains(assigned.service.name.as_str()))
        })
    }

    /// Returns the services of every stack that is to prove itself.
    pub(super) fn all_on_trial(&self) -> BTreeSet<ContainerName> {
        let open = self.generation.stacks.iter().filter(|(stack, _)| self.is_on_trial(stack));
        let services = open.flat_map(|(stack, record)| self.on_trial(stack, record));
        services.map(|assigned| assigned.service.name.clone()).collect()
    }

    /// Returns the ledger after a rollback: these services, or the whole stack, as the target has them. What is held
    /// stays held.
    pub(super) fn back(&self, back: &Back<'_>, taken: &Taken, asked: &Asked) -> Result<Next, AgentError> {
        let Back { stack, target, names, failed } = back;
        let of_stack = |generation: &Generation| -> BTreeMap<ContainerName, Service> {
            let own = generation.of_stack(stack);
            own.map(|assigned| (assigned.service.name.clone(), assigned.service.clone())).collect()
        };
        let (now, then) = (of_stack(&self.generation), of_stack(target));
        if let Some(unknown) = names.iter().find(|name| !now.contains_key(*name) && !then.contains_key(*name)) {
            return Err(unknown_service(unknown.as_str(), now.keys()));
        }
        let before = target.stacks.get(*stack);
        let record = self.generation.stacks.get(*stack).filter(|_| !names.is_empty()).or(before);
        let Some(record) = record else { return Err(unknown_stack(stack.as_str(), target.stacks.keys())) };
        let pool: AddressPool = record.address_pool.parse().map_err(|error: InvalidPool| AgentError::Refused {
            reason: format!("generation {}: {error}", target.number),
            hint: String::new(),
        })?;

        let scope: BTreeSet<ContainerName> =
            if names.is_empty() { now.keys().chain(then.keys()).cloned().collect() } else { (*names).clone() };
        let mut services: BTreeMap<ContainerName, Service> = self
            .generation
            .services
            .iter()
            .map(|(name, assigned)| (name.clone(), assigned.service.clone()))
            .filter(|(name, service)| !(scope.contains(name) && service.stack == **stack))
            .collect();
        services.extend(then.into_iter().filter(|(name, _)| scope.contains(name)));

        let mut ledger = self.clone();
        ledger.generation.services = self.assign(services, stack, pool, taken, &target.services)?;
        ledger.forget();
        let record = StackRecord {
            // That what was good before comes back proves itself or does not: there is nothing further back.
            trial: self.trial(stack, false),
            // What is declared elsewhere stays so, whatever an earlier generation says.
            owner: self.generation.stacks.get(*stack).unwrap_or(record).owner.clone(),
            restored: Some(target.number),
            rolled_back: failed.clone(),
            ..record.clone()
        };
        ledger.generation.stacks.insert((*stack).clone(), record);
        self.stamp(&mut ledger, stack, asked);
        Ok(Next { ledger, scope, orphans: Vec::new(), keeps_budget: false })
    }
}

/// Returns whether something else is declared.
fn differs(before: &Assigned, after: &Assigned) -> bool {
    before.addresses != after.addresses || !compare::is_same(&before.service, &after.service)
}

/// Returns the generation of this number.
pub(super) fn named(generations: &Generations, number: u64) -> Result<Generation, AgentError> {
    match generations.read(number) {
        Ok(Some(target)) => Ok(target),
        Ok(None) => {
            let kept = generations.kept().map_err(|error| unreadable(&error))?;
            let kept: Vec<String> = kept.iter().map(u64::to_string).collect();
            Err(AgentError::UnknownGeneration { number, hint: format!("there are: {}", kept.join(", ")) })
        }
        Err(error) => Err(unreadable(&error)),
    }
}

/// Returns the last good generation before in which the stack, or these services of it, were others; where none is
/// known to be good, the last that is not bad.
pub(super) fn last_before(
    generations: &Generations,
    notes: &Notes,
    now: &Generation,
    stack: &StackName,
    names: &BTreeSet<ContainerName>,
) -> Result<Generation, AgentError> {
    let kept = generations.kept().map_err(|error| unreadable(&error))?;
    let record = history::Record::read(generations, &kept, notes);
    let changed_in = now.stacks.get(stack).map_or(now.number.saturating_add(1), |record| record.changed_in);
    let find = |is_wanted: &dyn Fn(u64) -> bool| {
        let mut earlier =
            kept.range(..changed_in).rev().filter_map(|number| generations.read(*number).ok().flatten());
        earlier.find(|then| {
            let change = then.stacks.get(stack).map(|of_stack| of_stack.changed_in);
            change.is_some_and(is_wanted) && is_other(stack, names, now, then)
        })
    };
    let was_good = |change| notes.is_good(stack, change);
    let was_not_bad = |change| record.bad(change, stack).is_none();
    find(&was_good).or_else(|| find(&was_not_bad)).ok_or_else(|| AgentError::Refused {
        reason: format!("there is no earlier generation in which `{stack}` was another and not bad"),
        hint: "nixmoxctl generations lists them; --to NUMBER takes any".to_owned(),
    })
}

/// Returns whether a stack, or these services of it, are other ones in another generation.
fn is_other(stack: &StackName, names: &BTreeSet<ContainerName>, now: &Generation, then: &Generation) -> bool {
    let meant = |service: &&Service| names.is_empty() || names.contains(&service.name);
    let budget = |generation: &Generation| generation.stacks.get(stack).map(|record| record.limits.clone());
    if names.is_empty() && budget(now) != budget(then) {
        return true;
    }
    let (now, then): (Vec<&Service>, Vec<&Service>) = (
        now.of_stack(stack).map(|assigned| &assigned.service).filter(meant).collect(),
        then.of_stack(stack).map(|assigned| &assigned.service).filter(meant).collect(),
    );
    // Both are in the order of their names, and another name is another service.
    now.len() != then.len() || !now.iter().zip(&then).all(|(old, new)| compare::is_same(old, new))
}
