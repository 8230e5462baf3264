//! Picks GPUs for a claim, and those that yield to it.

use std::cmp::Reverse;

use super::super::ledger::Account;
use super::target::{Refusal, Target};
use super::{Outcome, Pass};

/// Up to so many candidates every set of them is compared, 4096 at most; above, one that yields no priority higher than must, and
/// nobody who need not.
pub const EXACT_MAX: usize = 12;

/// A service that can be asked to yield.
struct Candidate {
    claim: usize,
    priority: u8,
    /// What it has of each GPU that comes into question, in the order of the target's.
    loads: Vec<u64>,
    /// What it has of all GPUs.
    memory: u128,
}

impl Pass<'_> {
    /// Returns the GPUs that a claim is given where `free` says what is free of each, in the order of the inventory; `None`: there is no
    /// room. Those that it had go first, then those with the most free memory.
    pub(super) fn choose(
        &self,
        target: &Target,
        index: usize,
        free: impl Fn(&Self, usize) -> i128,
    ) -> Option<Vec<usize>> {
        let required = |gpu: usize| i128::from(target.required(&self.then.accounts[gpu]));
        let frees = target.counted.iter().map(|gpu| (*gpu, free(self, *gpu)));
        // Who claims nothing takes nothing, though more be given out than is there.
        let mut fitting: Vec<(usize, i128)> =
            frees.filter(|(gpu, free)| required(*gpu) == 0 || *free >= required(*gpu)).collect();
        if fitting.len() < target.take {
            return None;
        }
        let had = |gpu: usize| {
            let id = &self.inventory.gpus[gpu].id;
            self.claims[index].holds.is_some_and(|grant| grant.gpus.contains(id))
        };
        fitting.sort_by_key(|(gpu, free)| (!had(*gpu), Reverse(*free), *gpu));
        let mut uncounted = target.uncounted.clone();
        uncounted.sort_by_key(|gpu| (!had(*gpu), *gpu));
        let mut chosen: Vec<usize> = fitting.into_iter().map(|(gpu, _)| gpu).take(target.take).collect();
        chosen.extend(uncounted.into_iter().take(target.take_uncounted));
        chosen.sort_unstable();
        Some(chosen)
    }

    /// Returns the GPUs of which a claim needs only what others have, who are not asked: that can come back at any time. `None`: services of
    /// its own priority or a higher one, or that it needs, are in its way.
    pub(super) fn choose_without_others(&self, target: &Target, index: usize) -> Option<Vec<usize>> {
        let lower = |claim: usize| self.goes_before(index, claim);
        let free = |pass: &Self, gpu: usize| {
            let account = &pass.then.accounts[gpu];
            let lower = account.loads.iter().enumerate().filter(|(claim, _)| *claim != index && lower(*claim));
            let lower: i128 = lower.map(|(_, load)| i128::from(*load)).sum();
            account.free(Some(index)) + i128::from(account.others) + lower
        };
        self.choose(target, index, free)
    }

    /// Returns why a claim can never be given what it asks for; `None`: it can.
    pub(super) fn never(&self, target: &Target) -> Option<Refusal> {
        let can = |gpu: &&usize| self.now.accounts[**gpu].capacity.unwrap_or(u64::MAX) >= target.share;
        if target.counted.iter().filter(can).count() >= target.take {
            return None;
        }
        let (why, hint) = self.why_never(target);
        Some(Refusal { why, hint, outcome: Outcome::Never })
    }

    /// Returns the claims that are to end so that this one fits, in the order of names; `None`: nothing that they have helps. See the module on
    /// which they are.
    pub(super) fn victims(&self, target: &Target, index: usize) -> Option<Vec<usize>> {
        let mut candidates = self.candidates(target, index);
        let fits = |chosen: &[&Candidate]| self.fits_without(target, index, chosen);
        // What is of no lower priority than the highest that must be touched.
        let mut priorities: Vec<u8> = candidates.iter().map(|candidate| candidate.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let up_to = |priority: u8| -> Vec<&Candidate> {
            candidates.iter().filter(|candidate| candidate.priority <= priority).collect()
        };
        let touched = priorities.into_iter().find(|priority| fits(&up_to(*priority)))?;
        candidates.retain(|candidate| candidate.priority <= touched);
        let chosen =
            if candidates.len() <= EXACT_MAX { cheapest(&candidates, fits)? } else { sparing(&candidates, fits) };
        Some(chosen.into_iter().map(|candidate| candidate.claim).collect())
    }

    /// Returns who can be asked to yield to a claim, in the order of names.
    fn candidates(&self, target: &Target, index: usize) -> Vec<Candidate> {
        let mut candidates: Vec<Candidate> = (0..self.claims.len())
            .filter(|claim| self.claims[*claim].stays() && self.goes_before(index, *claim))
            .map(|claim| Candidate {
                claim,
                priority: self.claims[claim].share.priority,
                loads: target.counted.iter().map(|gpu| self.then.accounts[*gpu].loads[claim]).collect(),
                memory: self.memory(claim),
            })
            .filter(|candidate| candidate.loads.iter().any(|load| *load > 0))
            .collect();
        candidates.sort_by_key(|candidate| self.claims[candidate.claim].name);
        candidates
    }

    /// Returns what a claim has of all GPUs with a ledger, and does not give back anyway.
    pub(super) fn memory(&self, claim: usize) -> u128 {
        let counted = self.then.accounts.iter().filter(|account| account.capacity.is_some());
        counted.map(|account: &Account| u128::from(account.loads[claim])).sum()
    }

    /// Returns whether a claim fits when these have ended.
    fn fits_without(&self, target: &Target, index: usize, ended: &[&Candidate]) -> bool {
        let fits = |(place, gpu): &(usize, &usize)| {
            let account = &self.then.accounts[**gpu];
            let back: i128 = ended.iter().map(|candidate| i128::from(candidate.loads[*place])).sum();
            let required = i128::from(target.required(account));
            required == 0 || account.free(Some(index)) + back >= required
        };
        target.counted.iter().enumerate().filter(fits).count() >= target.take
    }
}

/// Compares every set.
fn cheapest<'c>(
    candidates: &'c [Candidate],
    fits: impl Fn(&[&'c Candidate]) -> bool,
) -> Option<Vec<&'c Candidate>> {
    let set = |places: &[usize]| -> Vec<&'c Candidate> { places.iter().map(|place| &candidates[*place]).collect() };
    let mut best: Option<(u128, usize, Vec<usize>)> = None;
    for mask in 1_u32..1 << candidates.len() {
        let places: Vec<usize> = (0..candidates.len()).filter(|place| mask >> place & 1 == 1).collect();
        let memory: u128 = places.iter().map(|place| candidates[*place].memory).sum();
        let cost = (memory, places.len(), places);
        if best.as_ref().is_none_or(|least| cost < *least) && fits(&set(&cost.2)) {
            best = Some(cost);
        }
    }
    best.map(|(_, _, places)| set(&places))
}

/// Spares one after the other, those of high priority and with much memory first, while it still fits.
fn sparing<'c>(candidates: &'c [Candidate], fits: impl Fn(&[&'c Candidate]) -> bool) -> Vec<&'c Candidate> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|place| {
        (Reverse(candidates[*place].priority), Reverse(candidates[*place].memory), Reverse(*place))
    });
    let mut ends = vec![true; candidates.len()];
    let set = |ends: &[bool]| -> Vec<&'c Candidate> {
        candidates.iter().zip(ends).filter(|(_, ends)| **ends).map(|(candidate, _)| candidate).collect()
    };
    for place in order {
        ends[place] = false;
        if !fits(&set(&ends)) {
            ends[place] = true;
        }
    }
    set(&ends)
}
