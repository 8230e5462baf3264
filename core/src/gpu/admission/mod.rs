//! Who is given what of the GPUs: start, wait, or yield.
//!
//! Owns the order in which services are served, and what becomes of those that are not. `target` says what a claim asks of this
//! machine; `place` picks GPUs and those that yield; `text` says why. What a decision becomes in a container is `grant`'s, and when
//! a service is stopped or started the planner's.
//!
//! A pass keeps two books: the memory as it is `now`, and as it is `then`, when everything has ended that is being stopped or asked
//! to. A service is granted what is free in both. In the order of priorities, then what runs, then first come, then names, and those
//! last that something else keeps from starting:
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
//! - Services are made room for one after the other: while one waits for what ends, nobody is asked to yield to one behind it on the
//!   same GPUs. What comes free could go to the first after all, and somebody would have been stopped for nothing.
//! - Who waits for something beside GPUs (a dependency that is not healthy yet, one that is held) takes nothing from anybody: others may
//!   use the room meanwhile, what it waits for among them, and nobody yields to it before it can start.
//! - Nobody yields to what depends on it: that could not start then, or would lose what it needs.
//! - Nobody is stopped where what runs models in services can give back enough ([`Claim::elastic`]): then their budgets shrink, to nothing if need
//!   be, and they run on. Only of those is a budget ever taken while they run, also where others than services use what was promised to them.
//! - A budget that was given below `vram` grows when room is there that nobody waits for, and a change of which GPUs a service asks for
//!   is carried out then; a budget never shrinks while the service runs, unless less is declared.
//! - What a service was seen to use counts where it is more than it declares. It is no reason to wait for what others use: the service
//!   did not say that it cannot go with less.

mod elastic;
mod fit;
mod place;
mod target;
mod text;

#[cfg(test)]
mod elastic_properties;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{Ledger, split};
use super::{Claim, Inventory, Phase};
use crate::model::{Bytes, ContainerName, GpuDevices, GpuId, Grant, Vendor};

pub use fit::{Ask, Fit, Outcome, Yielded, fit};
pub use place::EXACT_MAX;
pub(super) use target::meant;
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
    /// It runs and goes on with less than it had, or used: what runs models in it is to give memory back.
    Shrinks {
        /// What it goes on with.
        allocation: Allocation,
        /// For whom; `None`: for what is no service.
        to: Option<ContainerName>,
        /// Why, in one line with the numbers.
        why: String,
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
    /// Which claims give back for it and run on, and how much, in the order of names.
    givers: Vec<(usize, u64)>,
}

impl Finding {
    fn granted(allocation: Allocation) -> Self {
        Self {
            decision: Decision::Granted(allocation.clone()),
            outcome: Outcome::Fits,
            allocation: Some(allocation),
            victims: Vec::new(),
            givers: Vec::new(),
        }
    }

    fn refused(Refusal { why, hint, outcome }: Refusal) -> Self {
        Self {
            decision: Decision::Waits { why, hint },
            outcome,
            allocation: None,
            victims: Vec::new(),
            givers: Vec::new(),
        }
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
    /// GPUs of which one who was served before will have some when others have ended.
    awaited: BTreeSet<usize>,
    /// Who was asked to yield.
    yielding: BTreeSet<&'a ContainerName>,
    /// Who goes on with less, and for whom.
    shrunk: BTreeMap<usize, Option<usize>>,
    /// Who waits for room that comes back, and on which GPUs, in the order in which they were served.
    heirs: Vec<(usize, Vec<usize>)>,
}

impl<'a> Pass<'a> {
    fn new(inventory: &'a Inventory, claims: &'a [Claim<'a>]) -> Self {
        let now = Ledger::new(inventory, claims);
        let mut pass = Self {
            inventory,
            claims,
            then: now.clone(),
            now,
            awaited: BTreeSet::new(),
            yielding: BTreeSet::new(),
            shrunk: BTreeMap::new(),
            heirs: Vec::new(),
        };
        for (index, _) in claims.iter().enumerate().filter(|(_, claim)| !claim.stays()) {
            pass.ends(index);
        }
        pass.give_back();
        pass.shrink_for_others();
        pass
    }

    /// Decides of every claim, in their order.
    fn run(mut self) -> Vec<Option<Finding>> {
        let mut findings: Vec<Option<Finding>> = vec![None; self.claims.len()];
        let (hindered, order): (Vec<usize>, Vec<usize>) =
            self.order().into_iter().partition(|index| self.claims[*index].is_hindered());
        for index in order.iter().copied() {
            let yields = findings[index].is_some();
            if yields || !self.is_to_be_placed(index) {
                continue;
            }
            let found = self.place(index);
            for victim in &found.victims {
                findings[*victim] = Some(self.yields(*victim, index));
            }
            findings[index] = Some(found);
        }
        // What is left goes to those that have something and want more, or something else.
        for index in order {
            let more = match &findings[index] {
                None => self.goes_on(index).map(|kept| self.goes_on_with(index, kept)),
                Some(Finding { allocation: Some(allocation), outcome: Outcome::Fits, .. }) => {
                    let allocation = allocation.clone();
                    let more = self.grows(index, &allocation);
                    more.map(|more| Finding::granted(Allocation { budget: Some(more), ..allocation }))
                }
                Some(_waits_or_yields) => None,
            };
            findings[index] = more.or(findings[index].take());
        }
        for index in hindered {
            findings[index] = Some(self.place(index));
        }
        findings
    }

    /// Returns who is served after whom.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.claims.len()).collect();
        order.sort_by_key(|index| {
            let claim = &self.claims[*index];
            (Reverse(claim.share.priority), !claim.stays(), claim.since, claim.name)
        });
        order
    }

    /// Returns whether GPUs are to be found for a claim: it is to start, or runs without any.
    fn is_to_be_placed(&self, index: usize) -> bool {
        let claim = &self.claims[index];
        claim.wants && !(claim.stays() && claim.holds.is_some())
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

    /// Finds GPUs for a claim, and writes into the books what it is given or will be.
    fn place(&mut self, index: usize) -> Finding {
        let claim = &self.claims[index];
        let target = match Target::of(self.inventory, claim) {
            Ok(target) => target,
            Err(refusal) => return Finding::refused(refusal),
        };
        if let Some(allocation) = self.takes(&target, index) {
            return Finding::granted(allocation);
        }
        if let Some(refusal) = self.never(&target) {
            return Finding::refused(refusal);
        }
        let waits = |(why, hint), allocation, victims: Vec<usize>, givers: Vec<(usize, u64)>| {
            let asks = !victims.is_empty() || !givers.is_empty();
            let outcome = if asks { Outcome::Yields } else { Outcome::Waits };
            Finding { decision: Decision::Waits { why, hint }, outcome, allocation, victims, givers }
        };
        if let Some(gpus) = self.choose(&target, index, |pass, gpu| pass.free_then(gpu, index)) {
            let said = self.waits_for_the_end(&target, index);
            let allocation = self.awaits(&target, index, gpus);
            return waits(said, Some(allocation), Vec::new(), Vec::new());
        }
        // Who is served before may still take another of these GPUs, or more of one: nobody is stopped before that is clear.
        let is_clear = target.counted.iter().all(|gpu| !self.awaited.contains(gpu));
        let may_ask = is_clear && self.could_start(index);
        let with_gifts = |pass: &Self, gpu| pass.free_then(gpu, index) + pass.elastic(gpu, index);
        if let Some(gpus) = self.choose(&target, index, with_gifts).filter(|_| may_ask) {
            let before = self.then.clone();
            let givers = self.shrink_for(&target, index, &gpus);
            let said = self.waits_for_givers(&target, index, &before, &givers);
            let allocation = self.awaits(&target, index, gpus);
            return waits(said, Some(allocation), Vec::new(), givers);
        }
        let before = self.then.clone();
        if may_ask {
            self.shrink_all(&target, index);
        }
        let mut others = self.victims(&target, index);
        self.then = before;
        if let Some(victims) = others.take_if(|_| may_ask) {
            let said = self.waits_for_victims(&target, index, &victims);
            for victim in &victims {
                self.ends(*victim);
                self.yielding.insert(self.claims[*victim].name);
            }
            self.awaited.extend(&target.counted);
            let gpus = self.choose(&target, index, with_gifts);
            let givers = gpus.as_deref().map(|gpus| self.shrink_for(&target, index, gpus)).unwrap_or_default();
            let allocation = gpus.map(|gpus| self.awaits(&target, index, gpus));
            return waits(said, allocation, victims, givers);
        }
        let said = self.waits_for_memory(&target, index, &others.unwrap_or_default());
        if let Some(gpus) = self.choose_without_others(&target, index) {
            self.reserve(&target, index, &gpus);
        }
        waits(said, None, Vec::new(), Vec::new())
    }

    /// Promises a claim what it will have of these GPUs.
    fn awaits(&mut self, target: &Target, index: usize, gpus: Vec<usize>) -> Allocation {
        self.awaited.extend(&target.counted);
        let allocation = self.promise(target, index, &gpus, Self::free_then);
        self.heirs.push((index, gpus));
        allocation
    }

    /// Returns whether a claim would be started with the GPUs that it asks for: what it depends on goes on, too.
    fn could_start(&self, index: usize) -> bool {
        let claim = &self.claims[index];
        !claim.is_hindered() && claim.needs.iter().all(|name| !self.yielding.contains(name))
    }

    /// Returns whether a claim may ask another one to yield: it goes first, and can do without.
    fn goes_before(&self, index: usize, other: usize) -> bool {
        let (claim, other) = (&self.claims[index], &self.claims[other]);
        other.share.priority < claim.share.priority && !claim.needs.contains(other.name)
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
        // Whoever has a GPU open keeps what it has there, whatever its container is given.
        let is_elastic = self.is_elastic(index);
        let stays = self.claims[index].stays() && !is_elastic;
        for (gpu, account) in self.then.accounts.iter_mut().enumerate() {
            let measured = if stays { account.measured[index] } else { 0 };
            let promised = if counted.contains(&gpu) {
                // What gives back goes on with whatever there is.
                let required = if is_elastic { 0 } else { target.required(account) };
                split(budget.unwrap_or(0), counted.len()).max(required)
            } else {
                0
            };
            account.loads[index] = promised.max(measured);
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

    /// Gives a claim GPUs that have room for it at once.
    fn takes(&mut self, target: &Target, index: usize) -> Option<Allocation> {
        let gpus = self.choose(target, index, |pass, gpu| pass.free(gpu, index))?;
        let allocation = self.promise(target, index, &gpus, Self::free);
        self.occupy(index);
        Some(allocation)
    }

    /// Returns what a service that is not down goes on with: what it asks for now, or else what it has. Of one that runs nothing is taken for a
    /// fault, or for a change that cannot be carried out now.
    fn goes_on(&mut self, index: usize) -> Option<Allocation> {
        let claim = &self.claims[index];
        let grant = claim.holds.filter(|_| claim.phase != Phase::Down)?;
        if claim.stays() && !self.agrees(index, grant) {
            let other = Target::of(self.inventory, claim).ok().and_then(|target| self.takes(&target, index));
            if let Some(other) = other {
                return Some(other);
            }
        }
        Some(self.keeps(index, grant))
    }

    /// Returns what it has, with the budget that is declared now.
    fn keeps(&mut self, index: usize, grant: &Grant) -> Allocation {
        let claim = &self.claims[index];
        let mut kept = Allocation { vendor: grant.vendor, gpus: grant.gpus.clone(), budget: grant.budget };
        if claim.stays() {
            kept.budget = claim.share.vram.and_then(|vram| Some(grant.budget?.min(vram)));
            kept.budget = self.shrunk_budget(index).or(kept.budget);
            kept.budget = self.grows(index, &kept).or(kept.budget);
        }
        kept
    }

    /// Grows the budget of what is granted into what is free of its GPUs; `None`: it does not grow.
    fn grows(&mut self, index: usize, granted: &Allocation) -> Option<Bytes> {
        let claim = &self.claims[index];
        claim.share.vram.filter(|vram| granted.budget.is_none_or(|had| had < *vram))?;
        let is_its = |gpu: &usize| granted.gpus.contains(&self.inventory.gpus[*gpu].id);
        let gpus: Vec<usize> = (0..self.inventory.gpus.len()).filter(is_its).collect();
        if gpus.len() != granted.gpus.len() {
            return None;
        }
        let target = Target::on(self.inventory, claim, granted.vendor, gpus.clone());
        let has_room = |gpu: &usize| {
            let required = target.required(&self.then.accounts[*gpu]);
            required == 0 || self.is_elastic(index) || self.free(*gpu, index) >= i128::from(required)
        };
        if !target.counted.iter().all(has_room) {
            return None;
        }
        let budget = target.budget(target.counted.iter().map(|gpu| self.free(*gpu, index))).map(Bytes)?;
        if granted.budget.is_some_and(|had| had >= budget) {
            return None;
        }
        let allocation = self.promise(&target, index, &gpus, Self::free);
        self.occupy(index);
        allocation.budget
    }

    fn yields(&self, index: usize, to: usize) -> Finding {
        let decision = Decision::Yields { to: self.claims[to].name.clone(), why: self.why_it_yields(index, to) };
        Finding { decision, outcome: Outcome::Waits, allocation: None, victims: Vec::new(), givers: Vec::new() }
    }
}
