//! What is told of earlier generations: the list with what became of each, and what differs between two.
//!
//! Reads the disk anew for each question, on the blocking pool; nothing is remembered.

use std::collections::{BTreeMap, BTreeSet};

use nixmox_api::{
    AgentError, Caller, DiffReply, Difference, GenerationInfo, GenerationVerdict, GenerationsReply, RolledBack,
    ServiceDiff, StackDiff,
};
use nixmox_core::compare;
use nixmox_core::model::{Assigned, ContainerName, Limits, StackName, System};

use super::chain;
use crate::state::{Generation, Generations, Notes, NotesFile, StackRecord, StateError};

/// What became of the changes of stacks in all generations that are kept.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Each change of a stack: the generation it was made in, and the stack.
    changes: BTreeSet<(u64, StackName)>,
    /// Those that were rolled back, each with why.
    bad: BTreeMap<(u64, StackName), String>,
}

impl Record {
    /// Reads every generation, one at a time: all of them are many times what the agent otherwise holds.
    pub(super) fn read(generations: &Generations, numbers: &BTreeSet<u64>, notes: &Notes) -> Self {
        let (mut record, mut failures) = (Self::default(), Vec::new());
        for generation in numbers.iter().filter_map(|number| generations.read(*number).ok().flatten()) {
            for (stack, of_stack) in generation.stacks {
                if of_stack.changed_in == generation.number {
                    record.changes.insert((generation.number, stack.clone()));
                }
                failures.extend(of_stack.rolled_back.map(|failure| (stack, failure)));
            }
        }
        for (stack, RolledBack { from, to, reasons, .. }) in failures {
            // What was still on trial went with it.
            let gone = record.changes.iter().filter(|(number, of)| *of == stack && *number > to && *number <= from);
            let gone: Vec<_> = gone.filter(|(number, of)| !notes.is_good(of, *number)).cloned().collect();
            record.bad.extend(gone.into_iter().map(|change| (change, reasons.join("; "))));
        }
        record
    }

    /// Returns why the change of a stack in a generation was rolled back; `None`: it was not.
    pub(super) fn bad(&self, generation: u64, stack: &StackName) -> Option<&str> {
        self.bad.get(&(generation, stack.clone())).map(String::as_str)
    }
}

/// Returns the names of all services that any generation declares that is kept.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn declared(generations: &Generations) -> Result<BTreeSet<ContainerName>, AgentError> {
    let numbers = generations.kept().map_err(|error| unreadable(&error))?;
    let kept = numbers.into_iter().filter_map(|number| generations.read(number).ok().flatten());
    Ok(kept.flat_map(|generation| generation.services.into_keys()).collect())
}

/// Returns the list of generations.
///
/// # Errors
/// When the folder cannot be listed.
pub(super) fn list(
    generations: &Generations,
    notes: &NotesFile,
    current: u64,
) -> Result<GenerationsReply, AgentError> {
    // Notes that cannot be read are told elsewhere; without them nothing is known to be good.
    let notes = notes.load().unwrap_or_default();
    let numbers = generations.kept().map_err(|error| unreadable(&error))?;
    let record = Record::read(generations, &numbers, &notes);
    let now = generations.read(current).ok().flatten().unwrap_or_default();
    let mut infos = Vec::with_capacity(numbers.len());
    for number in numbers {
        let damaged = |reason: String| GenerationInfo {
            number,
            made_at: 0,
            made_by: Caller::default(),
            current: number == current,
            verdict: GenerationVerdict::Damaged,
            reason,
            stacks: Vec::new(),
            services: 0,
            restored: None,
        };
        match generations.read(number) {
            Ok(Some(generation)) => infos.push(info(&generation, &record, &notes, &now)),
            // Pruned meanwhile.
            Ok(None) => {}
            Err(error) => infos.push(damaged(chain(&error))),
        }
    }
    Ok(GenerationsReply { generations: infos })
}

fn info(generation: &Generation, record: &Record, notes: &Notes, now: &Generation) -> GenerationInfo {
    let number = generation.number;
    let changed: Vec<(&StackName, &StackRecord)> =
        generation.stacks.iter().filter(|(_, record)| record.changed_in == number).collect();
    let bad: Vec<&str> = changed.iter().filter_map(|(stack, _)| record.bad(number, stack)).collect();
    let is_good = |(stack, _): &(&StackName, &StackRecord)| notes.is_good(stack, number);
    // Another stack may have made a newer generation meanwhile.
    let is_on_trial = |(stack, _): &(&StackName, &StackRecord)| {
        now.stacks.get(*stack).is_some_and(|record| record.changed_in == number && record.trial.goes_back)
    };
    let verdict = if !bad.is_empty() {
        GenerationVerdict::Bad
    } else if !changed.is_empty() && changed.iter().all(is_good) {
        GenerationVerdict::Good
    } else if changed.iter().any(is_on_trial) {
        GenerationVerdict::OnTrial
    } else {
        GenerationVerdict::Unknown
    };
    GenerationInfo {
        number,
        made_at: generation.made_at,
        made_by: generation.made_by.clone(),
        current: number == now.number,
        verdict,
        reason: bad.join("; "),
        stacks: changed.iter().map(|(stack, _)| stack.to_string()).collect(),
        services: u32::try_from(generation.services.len()).unwrap_or(u32::MAX),
        restored: changed.iter().find_map(|(_, record)| record.restored),
    }
}

/// Returns what differs between two generations.
///
/// # Errors
/// When one of them is not there, or cannot be read.
pub(super) fn diff(generations: &Generations, from: u64, to: u64) -> Result<DiffReply, AgentError> {
    let read = |number| match generations.read(number) {
        Ok(Some(generation)) => Ok(generation),
        Ok(None) => {
            let hint = "nixmoxctl generations lists those that are kept".to_owned();
            Err(AgentError::UnknownGeneration { number, hint })
        }
        Err(error) => Err(unreadable(&error)),
    };
    let (old, new) = (read(from)?, read(to)?);
    let names: BTreeSet<&ContainerName> = old.services.keys().chain(new.services.keys()).collect();
    let services = names.into_iter().filter_map(|name| service(old.services.get(name), new.services.get(name)));
    let services = services.collect();
    let stacks: BTreeSet<&StackName> = old.stacks.keys().chain(new.stacks.keys()).collect();
    let stacks = stacks.into_iter().filter_map(|name| stack(name, old.stacks.get(name), new.stacks.get(name)));
    let stacks: Vec<StackDiff> = stacks.collect();
    Ok(DiffReply { services, stacks: (!stacks.is_empty()).then_some(stacks) })
}

/// Returns what differs of a stack itself.
fn stack(name: &StackName, old: Option<&StackRecord>, new: Option<&StackRecord>) -> Option<StackDiff> {
    let none = Limits::default();
    let limits = |record: Option<&StackRecord>| record.map_or_else(|| none.clone(), |record| record.limits.clone());
    let differences = compare::limits(&limits(old), &limits(new)).into_iter();
    let differences = differences.map(|compare::Difference { key, from, to }| Difference { key, from, to });
    let differences: Vec<Difference> = differences.collect();
    (!differences.is_empty()).then(|| StackDiff { name: name.to_string(), differences })
}

fn service(old: Option<&Assigned>, new: Option<&Assigned>) -> Option<ServiceDiff> {
    let system = |assigned: Option<&Assigned>| match &assigned?.service.system {
        System::Store(path) => Some(path.to_string()),
        System::Adopted => None,
    };
    let there = new.or(old)?;
    let mut differences = Vec::new();
    let change = match (old, new) {
        (Some(old), Some(new)) => {
            let address = |assigned: &Assigned| assigned.addresses.map(|a| a.local.to_string()).unwrap_or_default();
            differences.extend(
                compare::compare(&old.service, &new.service)
                    .into_iter()
                    .map(|compare::Difference { key, from, to }| Difference { key, from, to }),
            );
            if address(old) != address(new) {
                differences.push(Difference { key: "address".to_owned(), from: address(old), to: address(new) });
            }
            if differences.is_empty() {
                return None;
            }
            "changed"
        }
        (None, Some(_)) => "added",
        (_, None) => "removed",
    };
    Some(ServiceDiff {
        name: there.service.name.to_string(),
        stack: there.service.stack.to_string(),
        change: change.to_owned(),
        system_from: system(old),
        system_to: system(new),
        differences,
    })
}

/// Says that what is on disk could not be read.
pub(super) fn unreadable(error: &StateError) -> AgentError {
    AgentError::Refused { reason: chain(error), hint: String::new() }
}
