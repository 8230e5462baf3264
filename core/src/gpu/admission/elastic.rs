//! Memory that is given back by services that run on: what runs models in them unloads some.
//!
//! Before anybody is asked to end, budgets shrink: those of the lowest priority first, then those that have the most, each by no more than is
//! needed. A budget that shrank is what the service has from then on in the book of `then`; in that of `now` it has what it uses, until
//! that has come back. Where others than services use more than was left, budgets shrink likewise, whatever their priority: the memory is gone.

use std::cmp::Reverse;

use super::target::Target;
use super::{Allocation, Decision, Finding, Outcome, Pass};
use crate::model::Bytes;

impl Pass<'_> {
    /// Notes that who can give back has no more than its budget when it has.
    pub(super) fn give_back(&mut self) {
        for index in 0..self.claims.len() {
            if self.is_elastic(index) {
                for gpu in self.own(index) {
                    let account = &mut self.then.accounts[gpu];
                    account.loads[index] = account.budgets[index];
                }
            }
        }
    }

    /// Returns whether a service gives memory back while it runs. One without a budget could not be told how much.
    pub(super) fn is_elastic(&self, index: usize) -> bool {
        let claim = &self.claims[index];
        let has_budget = claim.share.vram.is_some() && claim.holds.is_some_and(|grant| grant.budget.is_some());
        claim.elastic && has_budget && claim.stays() && !self.yielding.contains(claim.name)
    }

    /// Returns whether a service was given a GPU that has a ledger. What it uses of others it does not give back.
    fn is_own(&self, index: usize, gpu: usize) -> bool {
        let id = &self.inventory.gpus[gpu].id;
        self.then.accounts[gpu].capacity.is_some()
            && self.claims[index].holds.is_some_and(|grant| grant.gpus.contains(id))
    }

    /// Returns all of these.
    fn own(&self, index: usize) -> Vec<usize> {
        (0..self.inventory.gpus.len()).filter(|gpu| self.is_own(index, *gpu)).collect()
    }

    /// Returns what others could give back of a GPU for a claim, and run on.
    pub(super) fn elastic(&self, gpu: usize, index: usize) -> i128 {
        let gives =
            |other: &usize| self.is_elastic(*other) && self.goes_before(index, *other) && self.is_own(*other, gpu);
        let loads = (0..self.claims.len()).filter(gives).map(|other| self.then.accounts[gpu].loads[other]);
        loads.map(i128::from).sum()
    }

    /// Notes that others give back whatever they have of these GPUs.
    pub(super) fn shrink_all(&mut self, target: &Target, index: usize) {
        for other in 0..self.claims.len() {
            if self.is_elastic(other) && self.goes_before(index, other) {
                for gpu in self.own(other).into_iter().filter(|gpu| target.counted.contains(gpu)) {
                    self.then.accounts[gpu].loads[other] = 0;
                }
            }
        }
    }

    /// Lets others give back what a claim lacks on these GPUs. Returns who gives how much, in the order of names.
    pub(super) fn shrink_for(&mut self, target: &Target, index: usize, gpus: &[usize]) -> Vec<(usize, u64)> {
        let before: Vec<u128> = (0..self.claims.len()).map(|claim| self.memory(claim)).collect();
        for gpu in gpus.iter().copied().filter(|gpu| target.counted.contains(gpu)) {
            let required = i128::from(target.required(&self.then.accounts[gpu]));
            self.shrink(gpu, required - self.free_then(gpu, index), |pass, other| pass.goes_before(index, other));
        }
        let mut given: Vec<(usize, u64)> = (0..self.claims.len())
            .map(|claim| {
                (claim, u64::try_from(before[claim].saturating_sub(self.memory(claim))).unwrap_or(u64::MAX))
            })
            .filter(|(_, given)| *given > 0)
            .collect();
        for (claim, _) in &given {
            self.shrunk.insert(*claim, Some(index));
        }
        given.sort_unstable_by_key(|(claim, _)| self.claims[*claim].name);
        given
    }

    /// Lets budgets shrink where more is in use, or promised, than there is.
    pub(super) fn shrink_for_others(&mut self) {
        for gpu in 0..self.then.accounts.len() {
            if self.then.accounts[gpu].capacity.is_none() {
                continue;
            }
            let lacks = -self.then.accounts[gpu].free(None);
            for claim in self.shrink(gpu, lacks, |_, _| true) {
                self.shrunk.entry(claim).or_insert(None);
            }
        }
    }

    /// Takes so much of a GPU from who can give it back. What is taken of one of its GPUs is taken of all: its share is the same of each.
    fn shrink(&mut self, gpu: usize, lacks: i128, may_ask: impl Fn(&Self, usize) -> bool) -> Vec<usize> {
        let mut lacks = u64::try_from(lacks.max(0)).unwrap_or(u64::MAX);
        let has_some =
            |pass: &Self, claim: usize| pass.then.accounts[gpu].loads[claim] > 0 && pass.is_own(claim, gpu);
        let mut givers: Vec<usize> = (0..self.claims.len())
            .filter(|claim| self.is_elastic(*claim) && may_ask(self, *claim) && has_some(self, *claim))
            .collect();
        givers.sort_unstable_by_key(|claim| {
            let load = self.then.accounts[gpu].loads[*claim];
            (self.claims[*claim].share.priority, Reverse(load), self.claims[*claim].name)
        });
        let mut given = Vec::new();
        for claim in givers {
            let load = self.then.accounts[gpu].loads[claim];
            let part = load.min(lacks);
            if part == 0 {
                continue;
            }
            lacks -= part;
            for gpu in self.own(claim) {
                let account = &mut self.then.accounts[gpu];
                account.loads[claim] = account.loads[claim].min(load - part);
            }
            given.push(claim);
        }
        given
    }

    /// Returns what a service goes on with that gives memory back, over all of its GPUs.
    pub(super) fn shrunk_budget(&self, index: usize) -> Option<Bytes> {
        self.shrunk.contains_key(&index).then(|| {
            let loads = self.own(index).into_iter().map(|gpu| self.then.accounts[gpu].loads[index]);
            Bytes(loads.fold(0, u64::saturating_add))
        })
    }

    /// Returns what becomes of a service that runs on with this.
    pub(super) fn goes_on_with(&self, index: usize, allocation: Allocation) -> Finding {
        let held = self.claims[index].holds.and_then(|grant| grant.budget);
        let has_less = self.shrunk.contains_key(&index);
        let gives_back = || self.own(index).into_iter().any(|gpu| self.uses_more(index, gpu));
        let Some(budget) = allocation
            .budget
            .filter(|budget| self.is_elastic(index) && Some(*budget) <= held && (has_less || gives_back()))
        else {
            return Finding::granted(allocation);
        };
        let to = self.shrunk.get(&index).copied().flatten().or_else(|| self.heir(index));
        let decision = Decision::Shrinks {
            why: self.why_it_shrinks(index, budget, to),
            to: to.map(|to| self.claims[to].name.clone()),
            allocation: allocation.clone(),
        };
        Finding {
            decision,
            outcome: Outcome::Fits,
            allocation: Some(allocation),
            victims: Vec::new(),
            givers: Vec::new(),
        }
    }

    /// Returns whether a service uses more of a GPU than it will have.
    fn uses_more(&self, index: usize, gpu: usize) -> bool {
        self.now.accounts[gpu].measured[index] > self.then.accounts[gpu].loads[index]
    }

    /// Returns for whom a service gives back what it does not have any more: who was served first of those that wait for it.
    fn heir(&self, index: usize) -> Option<usize> {
        let waits = |(heir, gpus): &&(usize, Vec<usize>)| {
            self.goes_before(*heir, index) && gpus.iter().any(|gpu| self.uses_more(index, *gpu))
        };
        self.heirs.iter().find(waits).map(|(heir, _)| *heir)
    }
}
