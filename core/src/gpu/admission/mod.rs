//! Who is given what of the GPUs: start, wait, or yield.
//!
//! Owns the order in which services are served, and what becomes of those that are not. `target` says what a claim asks of this
//! machine; `place` picks GPUs and those that yield; `text` says why. What a decision becomes in a container is `grant`'s, and when
//! a service is stopped or started the planner's.
//!
//! A pass keeps two books: the memory as it is `now`, and as it is `then`, when everything has ended that is being stopped or asked
//! to. A service is granted what is free in both. In the order of priorities, then what runs, what was granted before, and names:
//!
//! ```text
//!                  there is room now ─────────────────────────────▶ Granted
//!                  there is room then ────────────────────────────▶ Waits, its room is kept
//! claim ─▶ target ─there would be, if lower priorities ended ─────▶ Waits, its room is kept; those Yield
//!            │     there would be, if others gave back theirs ────▶ Waits, what is free of its room is kept
//!            │     not while those of its priority or a higher run ▶ Waits, and lower ones may use the room meanwhile
//!            └──── never, or nobody knows ────────────────────────▶ Waits
//! ```
//!
//! - What was newly promised is, with everything else, never more than a GPU has without its headroom.
//! - What runs keeps its GPUs and its budget, whatever others use; it yields only to a strictly higher priority that it makes room
//!   for. Which ones yield: those whose highest priority is the lowest, then those with the least memory together, then the fewest,
//!   then the first by name. That is exact for up to [`EXACT_MAX`] candidates of the priorities that must be touched; among more, no
//!   higher priority yields than must, and none that need not.
//! - A budget that was given below `vram` grows when room is there that nobody waits for; it never shrinks while the service runs,
//!   unless less is declared.
//! - What a service was seen to use counts where it is more than it declares. It is no reason to wait for what others use: the service
//!   did not say that it cannot go with less.

mod fit;
mod place;
mod target;
mod text;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::ledger::{Ledger, split};
use super::{Claim, Inventory, Phase};
use crate::model::{Bytes, ContainerName, GpuDevices, GpuId, Grant, Vendor};

pub use fit::{Ask, Fit, Outcome, Yielded, fit};
pub use place::EXACT_MAX;
use target::{Refusal, Target, is_usable};
pub(super) use text::vendor as vendor_name;

/// Which GPUs a service is given, and how much of their memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Whose they are.
    pub vendor: Vendor,
    /// Which, in the order of the inventory, each once; not empty.
    pub gpus: Vec<GpuId>,
    /// Video memory that it may use, over all of them; `None`: it made no claim.
    pub budget: Option<Bytes>,
}

/// What is decided of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may start or go on, with this.
    Granted(Allocation),
    /// It is not to be started now. What runs without a grant goes on without.
    Waits {
        /// Why, in one line with the numbers.
        why: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// It runs and is to be stopped for one that goes first.
    Yields {
        /// For whom.
        to: ContainerName,
        /// Why, in one line with the numbers.
        why: String,
    },
}

/// Decides of every claim. One that neither runs nor is to run has no decision; what is being stopped for good keeps what it has.
#[must_use]
pub fn admit(inventory: &Inventory, claims: &[Claim<'_>]) -> BTreeMap<ContainerName, Decision> {
    let findings = Pass::new(inventory, claims).run();
    let of = |(claim, finding): (&Claim<'_>, Option<Finding>)| Some((claim.name.clone(), finding?.decision));
    claims.iter().zip(findings).filter_map(of).collect()
}

/// What a pass found of one claim.
#[derive(Clone, Debug)]
struct Finding {
    decision: Decision,
    outcome: Outcome,
    /// What it will be given; `None`: nobody can say yet.
    allocation: Option<Allocation>,
    /// Which claims yield to it.
    victims: Vec<usize>,
}

impl Finding {
    fn granted(allocation: Allocation) -> Self {
        Self {
            decision: Decision::Granted(allocation.clone()),
            outcome: Outcome::Fits,
            allocation: Some(allocation),
            victims: Vec::new(),
        }
    }

    fn refused(Refusal { why, hint, outcome }: Refusal) -> Self {
        Self { decision: Decision::Waits { why, hint }, outcome, allocation: None, victims: Vec::new() }
    }
}

/// One pass over all claims.
struct Pass<'a> {
    inventory: &'a Inventory,
    claims: &'a [Claim<'a>],
    /// The memory as it is.
    now: Ledger,
    /// The memory when everything has ended that ends.
    then: Ledger,
}

impl<'a> Pass<'a> {
    fn new(inventory: &'a Inventory, claims: &'a [Claim<'a>]) -> Self {
        let now = Ledger::new(inventory, claims);
        let mut pass = Self { inventory, claims, then: now.clone(), now };
        for (index, _) in claims.iter().enumerate().filter(|(_, claim)| !claim.stays()) {
            pass.ends(index);
        }
        pass
    }

    /// Decides of every claim, in their order.
    fn run(mut self) -> Vec<Option<Finding>> {
        let mut findings: Vec<Option<Finding>> = vec![None; self.claims.len()];
        let order = self.order();
        for index in order.iter().copied() {
            let yields = findings[index].is_some();
            if yields || !self.is_to_be_placed(index) {
                continue;
            }
            let found = self.place(index);
            if let Some(found) = &found {
                for victim in &found.victims {
                    findings[*victim] = Some(self.yields(*victim, index));
                }
            }
            findings[index] = found;
        }
        for index in order {
            let claim = &self.claims[index];
            if let (None, Some(grant)) = (&findings[index], claim.holds.filter(|_| claim.phase != Phase::Down)) {
                findings[index] = Some(Finding::granted(self.keeps(index, grant)));
            }
        }
        findings
    }

    /// Returns who is served after whom.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.claims.len()).collect();
        order.sort_by_key(|index| {
            let claim = &self.claims[*index];
            (Reverse(claim.share.priority), !claim.stays(), !claim.granted, claim.name)
        });
        order
    }

    /// Returns whether GPUs are to be found for a claim: it is to start, or runs without those that it asks for.
    fn is_to_be_placed(&self, index: usize) -> bool {
        let claim = &self.claims[index];
        let is_right = |grant| claim.stays() && self.agrees(index, grant);
        claim.wants && !claim.holds.is_some_and(is_right)
    }

    /// Returns whether a running service has the GPUs that it asks for. One that is not seen any more is kept: it is in use.
    fn agrees(&self, index: usize, grant: &Grant) -> bool {
        let share = self.claims[index].share;
        let usable = |vendor| self.inventory.gpus.iter().filter(move |gpu| gpu.vendor == vendor && is_usable(gpu));
        share.vendor.is_none_or(|vendor| vendor == grant.vendor)
            && match &share.devices {
                GpuDevices::All => usable(grant.vendor).all(|gpu| grant.gpus.contains(&gpu.id)),
                GpuDevices::Count(count) => usize::try_from(*count).is_ok_and(|count| count == grant.gpus.len()),
                GpuDevices::Ids(ids) => {
                    ids.iter().all(|id| grant.gpus.contains(id)) && grant.gpus.iter().all(|id| ids.contains(id))
                }
            }
    }

    /// Finds GPUs for a claim, and writes into the books what it is given or will be. `None`: it goes on with what it has.
    fn place(&mut self, index: usize) -> Option<Finding> {
        let claim = &self.claims[index];
        // Of one that runs nothing is taken for a fault, or for a change that cannot be carried out now.
        let has_some = claim.stays() && claim.holds.is_some();
        let target = match Target::of(self.inventory, claim) {
            Ok(target) => target,
            Err(_) if has_some => return None,
            Err(refusal) => return Some(Finding::refused(refusal)),
        };
        if let Some(gpus) = self.choose(&target, index, |pass, gpu| pass.free(gpu, index)) {
            let allocation = self.promise(&target, index, &gpus, Self::free);
            self.occupy(index);
            return Some(Finding::granted(allocation));
        }
        if has_some {
            return None;
        }
        if let Some(refusal) = self.never(&target) {
            return Some(Finding::refused(refusal));
        }
        let waits = |(why, hint), allocation, victims: Vec<usize>| {
            let outcome = if victims.is_empty() { Outcome::Waits } else { Outcome::Yields };
            Some(Finding { decision: Decision::Waits { why, hint }, outcome, allocation, victims })
        };
        if let Some(gpus) = self.choose(&target, index, |pass, gpu| pass.free_then(gpu, index)) {
            let said = self.waits_for_the_end(&target, index);
            let allocation = self.promise(&target, index, &gpus, Self::free_then);
            return waits(said, Some(allocation), Vec::new());
        }
        if let Some(victims) = self.victims(&target, index) {
            let said = self.waits_for_victims(&target, index, &victims);
            for victim in &victims {
                self.ends(*victim);
            }
            let gpus = self.choose(&target, index, |pass, gpu| pass.free_then(gpu, index))?;
            let allocation = self.promise(&target, index, &gpus, Self::free_then);
            return waits(said, Some(allocation), victims);
        }
        let said = self.waits_for_memory(&target, index);
        if let Some(gpus) = self.choose_without_others(&target, index) {
            self.reserve(&target, index, &gpus);
        }
        waits(said, None, Vec::new())
    }

    /// Returns what a claim can have of a GPU, now and then.
    fn free(&self, gpu: usize, index: usize) -> i128 {
        self.now.accounts[gpu].free(Some(index)).min(self.free_then(gpu, index))
    }

    /// Returns what a claim can have of a GPU when everything has ended that ends.
    fn free_then(&self, gpu: usize, index: usize) -> i128 {
        self.then.accounts[gpu].free(Some(index))
    }

    /// Notes that a claim ends.
    fn ends(&mut self, index: usize) {
        self.then.accounts.iter_mut().for_each(|account| account.loads[index] = 0);
    }

    /// Notes what a claim is given of these GPUs when all has ended: as much of what it wants as is free of them.
    fn promise(
        &mut self,
        target: &Target,
        index: usize,
        gpus: &[usize],
        free: fn(&Self, usize, usize) -> i128,
    ) -> Allocation {
        let counted: Vec<usize> = gpus.iter().copied().filter(|gpu| target.counted.contains(gpu)).collect();
        let budget = target.budget(counted.iter().map(|gpu| free(self, *gpu, index)));
        self.ends(index);
        for gpu in &counted {
            let account = &mut self.then.accounts[*gpu];
            let measured = if self.claims[index].stays() { account.measured[index] } else { 0 };
            let promised = split(budget.unwrap_or(0), counted.len());
            account.loads[index] = promised.max(target.required(account)).max(measured);
        }
        let gpus = gpus.iter().map(|gpu| self.inventory.gpus[*gpu].id.clone()).collect();
        Allocation { vendor: target.vendor, gpus, budget: budget.map(Bytes) }
    }

    /// Notes that a claim has at once what it was promised.
    fn occupy(&mut self, index: usize) {
        for (now, then) in self.now.accounts.iter_mut().zip(&self.then.accounts) {
            now.loads[index] = now.loads[index].max(then.loads[index]);
        }
    }

    /// Keeps what is free of these GPUs for a claim, as far as it needs it.
    fn reserve(&mut self, target: &Target, index: usize, gpus: &[usize]) {
        for gpu in gpus.iter().filter(|gpu| target.counted.contains(gpu)) {
            let account = &mut self.then.accounts[*gpu];
            account.loads[index] = account.loads[index].max(target.required(account));
        }
    }

    /// Returns what a running service goes on with: what it has, with the budget that is declared now.
    fn keeps(&mut self, index: usize, grant: &Grant) -> Allocation {
        let claim = &self.claims[index];
        let had = grant.budget.map(|budget| budget.0);
        let budget = match claim.share.vram.filter(|_| claim.stays()) {
            Some(vram) => self.grows(index, grant, vram.0).max(had.map(|had| had.min(vram.0))),
            None if claim.stays() => None,
            None => had,
        };
        Allocation { vendor: grant.vendor, gpus: grant.gpus.clone(), budget: budget.map(Bytes) }
    }

    /// Grows the budget of a running service into what is free of its GPUs; `None`: there is no room for it.
    fn grows(&mut self, index: usize, grant: &Grant, vram: u64) -> Option<u64> {
        let claim = &self.claims[index];
        let is_its = |gpu: &usize| grant.gpus.contains(&self.inventory.gpus[*gpu].id);
        let gpus: Vec<usize> = (0..self.inventory.gpus.len()).filter(is_its).collect();
        if gpus.len() != grant.gpus.len() {
            return None;
        }
        let target = Target::on(self.inventory, claim, grant.vendor, gpus.clone());
        let has_room =
            |gpu: &usize| self.free(*gpu, index) >= i128::from(target.required(&self.then.accounts[*gpu]));
        let counted = &target.counted;
        if counted.is_empty() {
            return Some(vram);
        }
        if !counted.iter().all(has_room) {
            return None;
        }
        let budget = target.budget(counted.iter().map(|gpu| self.free(*gpu, index)))?;
        if grant.budget.is_some_and(|had| had.0 >= budget) {
            return None;
        }
        let allocation = self.promise(&target, index, &gpus, Self::free);
        self.occupy(index);
        allocation.budget.map(|budget| budget.0)
    }

    fn yields(&self, index: usize, to: usize) -> Finding {
        let decision = Decision::Yields { to: self.claims[to].name.clone(), why: self.why_it_yields(index, to) };
        Finding { decision, outcome: Outcome::Waits, allocation: None, victims: Vec::new() }
    }
}
