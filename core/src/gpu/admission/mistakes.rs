//! Mistakes that a pass could make, for the properties to notice.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Claim, Inventory, Phase, ProcessOwner};
use super::world::MIB;
use super::{Allocation, Decision, admit};
use crate::model::{Bytes, ContainerName, GpuShare, Grant};

type Decisions = BTreeMap<ContainerName, Decision>;

/// A mistake that a pass could make.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// No headroom is left.
    NoHeadroom,
    /// What others use is not counted.
    IgnoresOthers,
    /// What services use beyond their promise is not counted.
    IgnoresMeasured,
    /// What was promised and is not used is given away.
    IgnoresPromises,
    /// Everybody is promised all that it wants.
    PromisesAll,
    /// Nobody yields.
    NeverYields,
    /// Everybody of a lower priority yields.
    AllYield,
    /// The lowest priority is not the first to yield.
    YieldsInAnyOrder,
    /// Those with the most memory yield.
    YieldsTheMost,
    /// The same priority yields, too.
    YieldsToEquals,
    /// What runs is stopped where there is too little.
    StopsWhatRuns,
    /// Others yield to who cannot start.
    MakesRoomInVain,
    /// What somebody depends on yields to it.
    StopsWhatIsNeeded,
    /// What runs is given less than it had.
    ShrinksWhatRuns,
    /// What runs is moved.
    MovesWhatRuns,
    /// The room of who waits is given to those behind it.
    GivesRoomAway,
    /// The lowest priority goes first.
    Reversed,
    /// Where a service was is forgotten.
    ForgetsPlaces,
    /// Who stands first in the list goes first.
    TakesThemAsTheyCome,
    /// No numbers are told.
    NoNumbers,
    /// Who can never start is waited for.
    WaitsForTheImpossible,
    /// Whoever waits is given the place of one that runs, in turns.
    TakesTurns,
}

/// Decides with a mistake.
pub(super) fn mistaken(mistake: Mistake, inventory: &Inventory, given: &[Claim<'_>]) -> Decisions {
    let (mut claims, nothing) = (given.to_vec(), BTreeSet::new());
    let shares: Vec<GpuShare> = claims.iter().map(|claim| share(mistake, claim)).collect();
    let bare: Vec<_> =
        claims.iter().map(|claim| claim.holds.cloned().map(|grant| Grant { budget: None, ..grant })).collect();
    for (index, claim) in claims.iter_mut().enumerate() {
        claim.share = &shares[index];
        match mistake {
            Mistake::IgnoresPromises if claim.stays() => claim.holds = bare[index].as_ref(),
            Mistake::ForgetsPlaces if claim.phase == Phase::Down => claim.holds = None,
            Mistake::TakesThemAsTheyCome => claim.since = index as u64,
            Mistake::MakesRoomInVain => claim.ready = true,
            Mistake::StopsWhatIsNeeded => claim.needs = &nothing,
            _same => {}
        }
    }
    let inventory = look(mistake, inventory);
    let mut decisions = admit(&inventory, &claims);
    spoil_yields(mistake, &claims, &mut decisions);
    spoil_grants(mistake, &inventory, &claims, &mut decisions);
    if matches!(mistake, Mistake::WaitsForTheImpossible) {
        let real = admit(&inventory, given);
        let never =
            |decision: &Decision| matches!(decision, Decision::Waits { why, .. } if why.contains("at most"));
        decisions.extend(real.into_iter().filter(|(_, decision)| never(decision)));
    }
    decisions
}

fn is_to_start(claim: &Claim<'_>) -> bool {
    claim.wants && claim.phase != Phase::Up
}

/// Mistakes in what is asked for.
fn share(mistake: Mistake, claim: &Claim<'_>) -> GpuShare {
    let mut share = claim.share.clone();
    match mistake {
        Mistake::Reversed => share.priority = 101 - share.priority,
        Mistake::YieldsInAnyOrder if claim.stays() => share.priority = 0,
        Mistake::YieldsToEquals if is_to_start(claim) => share.priority += 1,
        // As if it could start one day.
        Mistake::WaitsForTheImpossible if is_to_start(claim) => {
            share.vram_min = share.vram_min.or(share.vram).map(|least| least.min(Bytes(3 << 30)));
        }
        _same => {}
    }
    share
}

/// Mistakes in what is looked at.
fn look(mistake: Mistake, inventory: &Inventory) -> Inventory {
    let mut inventory = inventory.clone();
    for gpu in &mut inventory.gpus {
        let memory = gpu.memory.as_mut().unwrap();
        let of_services = |owner: &ProcessOwner| matches!(owner, ProcessOwner::Container(_));
        match mistake {
            Mistake::NoHeadroom => memory.total = Bytes(memory.total.0 + 256 * MIB),
            Mistake::IgnoresOthers => {
                gpu.processes.retain(|process| of_services(&process.owner));
                memory.used = Bytes(0);
            }
            Mistake::IgnoresMeasured => {
                let theirs = gpu.processes.iter().filter(|process| of_services(&process.owner));
                let theirs: u64 = theirs.filter_map(|process| process.memory).map(|memory| memory.0).sum();
                gpu.processes.retain(|process| !of_services(&process.owner));
                memory.used = Bytes(memory.used.0.saturating_sub(theirs));
            }
            _same => {}
        }
    }
    inventory
}

fn keeps(claim: &Claim<'_>) -> Option<Decision> {
    let grant = claim.holds?;
    Some(Decision::Granted(Allocation { vendor: grant.vendor, gpus: grant.gpus.clone(), budget: grant.budget }))
}

/// Returns the names of those who wait.
fn waiting(decisions: &Decisions) -> Vec<ContainerName> {
    let waiting = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Waits { .. }));
    waiting.map(|(name, _)| name.clone()).collect()
}

/// Mistakes in who yields.
fn spoil_yields(mistake: Mistake, claims: &[Claim<'_>], decisions: &mut Decisions) {
    let yields = |to: &ContainerName| Decision::Yields { to: to.clone(), why: String::new() };
    let asked: Vec<ContainerName> = decisions
        .values()
        .filter_map(|decision| if let Decision::Yields { to, .. } = decision { Some(to.clone()) } else { None })
        .collect();
    let priority = |name: &ContainerName| claims.iter().find(|claim| claim.name == name).unwrap().share.priority;
    match mistake {
        Mistake::NeverYields => {
            for claim in claims {
                if let (Some(Decision::Yields { .. }), Some(kept)) = (decisions.get(claim.name), keeps(claim)) {
                    decisions.insert(claim.name.clone(), kept);
                }
            }
        }
        Mistake::AllYield => {
            for (to, claim) in asked.iter().flat_map(|to| claims.iter().map(move |claim| (to, claim))) {
                if claim.stays() && claim.share.priority < priority(to) {
                    decisions.insert(claim.name.clone(), yields(to));
                }
            }
        }
        Mistake::YieldsTheMost => {
            // One that yields changes with one that does not.
            let of = |claim: &&Claim<'_>| matches!(decisions.get(claim.name), Some(Decision::Yields { .. }));
            if let (Some(spared), Some(to)) = (claims.iter().find(of), asked.first()) {
                let other = claims.iter().find(|claim| {
                    claim.stays() && claim.name != spared.name && claim.share.priority < priority(to) && !of(claim)
                });
                if let (Some(other), Some(kept)) = (other, keeps(spared)) {
                    let (other, spared) = (other.name.clone(), spared.name.clone());
                    decisions.extend([(other, yields(to)), (spared, kept)]);
                }
            }
        }
        Mistake::StopsWhatRuns => {
            if let (Some(claim), Some(to)) = (claims.iter().find(|claim| claim.stays()), waiting(decisions).first())
            {
                decisions.insert(claim.name.clone(), yields(to));
            }
        }
        Mistake::TakesTurns => {
            if let (Some(claim), Some(to)) = (claims.iter().find(|claim| claim.stays()), waiting(decisions).first())
            {
                let place = keeps(claim);
                decisions.insert(claim.name.clone(), yields(to));
                decisions.extend(place.map(|place| (to.clone(), place)));
            }
        }
        _in_something_else => {}
    }
}

/// Mistakes in who is granted what, and in what is told.
fn spoil_grants(mistake: Mistake, inventory: &Inventory, claims: &[Claim<'_>], decisions: &mut Decisions) {
    match mistake {
        Mistake::PromisesAll => {
            for claim in claims.iter().filter(|claim| is_to_start(claim)) {
                if let Some(Decision::Granted(allocation)) = decisions.get_mut(claim.name) {
                    allocation.budget = claim.share.vram;
                }
            }
        }
        Mistake::ShrinksWhatRuns | Mistake::MovesWhatRuns => {
            for claim in claims.iter().filter(|claim| claim.stays()) {
                let Some(Decision::Granted(allocation)) = decisions.get_mut(claim.name) else { continue };
                if matches!(mistake, Mistake::ShrinksWhatRuns) {
                    allocation.budget = allocation.budget.map(|budget| Bytes(budget.0 / 2));
                } else if let Some(last) = inventory.gpus.last() {
                    allocation.gpus = vec![last.id.clone()];
                }
            }
        }
        Mistake::GivesRoomAway => {
            let behind: Vec<Claim<'_>> = claims
                .iter()
                .filter(|claim| !waiting(decisions).contains(claim.name) || claim.share.priority == 0)
                .copied()
                .collect();
            for (name, decision) in admit(inventory, &behind) {
                if let (Decision::Granted(_), Some(Decision::Waits { .. })) = (&decision, decisions.get(&name)) {
                    decisions.insert(name, decision);
                }
            }
        }
        Mistake::NoNumbers => {
            for decision in decisions.values_mut() {
                if let Decision::Waits { why, .. } = decision {
                    "there is not enough memory".clone_into(why);
                }
            }
        }
        _in_something_else => {}
    }
}
