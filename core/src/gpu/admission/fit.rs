//! What would become of a service, or of one that is made up: the question of `nixmoxctl gpu fit`.

use std::collections::BTreeSet;

use super::super::{Claim, Gpu, Inventory, Phase};
use super::{Allocation, Decision, Pass};
use crate::gpu::ledger::is_counted;
use crate::model::{Bytes, ContainerName, GpuId, GpuShare};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The service; `None`: one that is made up, which comes last among those of its priority.
    pub name: Option<&'a ContainerName>,
    /// What it would ask for, and be started anew with; `None`: what it declares.
    pub share: Option<&'a GpuShare>,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// In a word.
    pub outcome: Outcome,
    /// Why it does not fit, in one line with the numbers; empty when it does.
    pub why: String,
    /// What to do about it, or what else is to be known; may be empty.
    pub hint: String,
    /// The GPUs that it would have, in the order of the inventory; empty: nobody can say yet.
    pub gpus: Vec<GpuId>,
    /// Video memory that it would be promised; `None`: it makes no claim, or nobody can say yet.
    pub budget: Option<Bytes>,
    /// Who would be stopped for it, in the order of names.
    pub yields: Vec<Yielded>,
    /// Who would give memory back for it and run on, in the order of names.
    pub gives: Vec<Yielded>,
}

/// In a word what would become of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs, or could be started at once.
    Fits,
    /// Others would be stopped for it, or give memory back.
    Yields,
    /// It would wait.
    Waits,
    /// It would never start on this machine.
    Never,
}

/// A service that would be stopped for another one, or give memory back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yielded {
    /// Its name.
    pub name: ContainerName,
    /// Its priority.
    pub priority: u8,
    /// Video memory that comes free.
    pub memory: Bytes,
}

/// Returns what would become of a service if it were to run now and only GPUs could keep it from that; `None`: it is not among the claims, and no share is given.
#[must_use]
pub fn fit(inventory: &Inventory, claims: &[Claim<'_>], ask: &Ask<'_>) -> Option<Fit> {
    let (made_up, nothing) = (made_up(claims)?, BTreeSet::new());
    let known = claims.iter().position(|claim| ask.name.is_some_and(|name| name == claim.name));
    let asked = match (known, ask.share) {
        (Some(known), None) => Claim { wants: true, ready: true, ..claims[known] },
        (Some(known), Some(share)) => {
            Claim { wants: true, ready: true, phase: Phase::Down, share, ..claims[known] }
        }
        (None, Some(share)) => Claim {
            name: ask.name.unwrap_or(&made_up),
            share,
            holds: None,
            phase: Phase::Down,
            wants: true,
            ready: true,
            needs: &nothing,
            granted: false,
            since: u64::MAX,
            remembered: None,
            elastic: false,
        },
        (None, None) => return None,
    };
    let mut claims: Vec<Claim<'_>> = claims.to_vec();
    let index = known.unwrap_or(claims.len());
    match claims.get_mut(index) {
        Some(claim) => *claim = asked,
        None => claims.push(asked),
    }
    let pass = Pass::new(inventory, &claims);
    let memory: Vec<u128> = (0..claims.len()).map(|claim| pass.memory(claim)).collect();
    let finding = pass.run().into_iter().nth(index).flatten()?;
    let yielded = |claim: &usize| Yielded {
        name: claims[*claim].name.clone(),
        priority: claims[*claim].share.priority,
        memory: Bytes(u64::try_from(memory[*claim]).unwrap_or(u64::MAX)),
    };
    let (why, hint) = match finding.decision {
        Decision::Granted(ref allocation) => (String::new(), uncounted(inventory, allocation)),
        Decision::Waits { why, hint } => (why, hint),
        Decision::Shrinks { why, .. } | Decision::Yields { why, .. } => (why, String::new()),
    };
    let (gpus, budget) = finding.allocation.map(|it| (it.gpus, it.budget)).unwrap_or_default();
    let yields = finding.victims.iter().map(yielded).collect();
    let gives =
        finding.givers.iter().map(|(claim, bytes)| Yielded { memory: Bytes(*bytes), ..yielded(claim) }).collect();
    Some(Fit { gives, outcome: finding.outcome, why, hint, gpus, budget, yields })
}

/// Returns a name that comes after those of all claims; `None`: one of them is the last that there is.
fn made_up(claims: &[Claim<'_>]) -> Option<ContainerName> {
    let names = (1..).map(|length| "z".repeat(length)).map_while(|text| text.parse::<ContainerName>().ok());
    names.into_iter().find(|name| claims.iter().all(|claim| claim.name < name))
}

/// Returns what is to be known of GPUs without a ledger.
fn uncounted(inventory: &Inventory, allocation: &Allocation) -> String {
    let is_given = |gpu: &&Gpu| allocation.gpus.contains(&gpu.id) && !is_counted(gpu);
    let labels: Vec<String> = inventory.gpus.iter().filter(is_given).map(Gpu::label).collect();
    match labels.as_slice() {
        [] => String::new(),
        labels => format!(
            "the memory of {} is the machine's, or not told: nothing is counted there",
            labels.join(" and ")
        ),
    }
}
