//! What is told of earlier generations: the list with what became of each, and what differs between two.
//!
//! Reads the disk anew for each question, on the blocking pool; nothing is remembered.

use std::collections::{BTreeMap, BTreeSet};

use nixmox_api::{
    AgentError, Caller, DiffReply, Difference, GenerationInfo, GenerationVerdict, GenerationsReply, ServiceDiff,
};
use nixmox_core::compare;
use nixmox_core::model::{Assigned, ContainerName, StackName, System};

use super::chain;
use crate::state::{Generation, Generations, Notes, NotesFile, StackRecord, StateError};

/// Returns the generations that were rolled back, each with why.
pub(super) fn bad(generations: &[Generation]) -> BTreeMap<u64, String> {
    let failed = generations.iter().flat_map(|generation| generation.stacks.values());
    let failed = failed.filter_map(|record| record.rolled_back.as_ref());
    failed.map(|failed| (failed.from, failed.reasons.join("; "))).collect()
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
    let read = generations.read_all().map_err(|error| unreadable(&error))?;
    let readable: Vec<Generation> = read.iter().filter_map(|(_, read)| read.as_ref().ok()?.clone()).collect();
    let bad = bad(&readable);
    let mut infos = Vec::with_capacity(read.len());
    for (number, read) in read {
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
        match read {
            Ok(Some(generation)) => infos.push(info(&generation, &bad, &notes, current)),
            // Pruned meanwhile.
            Ok(None) => {}
            Err(error) => infos.push(damaged(chain(&error))),
        }
    }
    Ok(GenerationsReply { generations: infos })
}

fn info(generation: &Generation, bad: &BTreeMap<u64, String>, notes: &Notes, current: u64) -> GenerationInfo {
    let number = generation.number;
    let changed: Vec<(&StackName, &StackRecord)> =
        generation.stacks.iter().filter(|(_, record)| record.changed_in == number).collect();
    let is_good = |(stack, _): &(&StackName, &StackRecord)| notes.is_good(stack, number);
    let verdict = if bad.contains_key(&number) {
        GenerationVerdict::Bad
    } else if !changed.is_empty() && changed.iter().all(is_good) {
        GenerationVerdict::Good
    } else if number == current && changed.iter().any(|(_, record)| record.trial.goes_back) {
        GenerationVerdict::OnTrial
    } else {
        GenerationVerdict::Unknown
    };
    GenerationInfo {
        number,
        made_at: generation.made_at,
        made_by: generation.made_by.clone(),
        current: number == current,
        verdict,
        reason: bad.get(&number).cloned().unwrap_or_default(),
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
    Ok(DiffReply { services: services.collect() })
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
        (Some(_), None) | (None, None) => "removed",
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

fn unreadable(error: &StateError) -> AgentError {
    AgentError::Refused { reason: chain(error), hint: String::new() }
}
