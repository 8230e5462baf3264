//! Why, in one line with the numbers.
//!
//! Sizes are rounded to one digit after the point, what is free down and what is used up, so that a figure never promises more than is
//! there, and what does not fit never looks as if it did.

use super::super::ledger::Ledger;
use super::super::{Claim, Phase};
use super::Pass;
use super::target::Target;
use crate::model::{Bytes, Vendor};

/// How many of a list are told.
const TOLD_MAX: usize = 4;

/// Returns what people call a vendor.
pub(in super::super) fn vendor(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Nvidia => "NVIDIA",
        Vendor::Amd => "AMD",
        Vendor::Intel => "Intel",
    }
}

/// Returns `1 thing` or `2 things`.
pub(super) fn count(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// Returns a list that is not too long for a line.
pub(super) fn list(all: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = all.collect();
    match all.split_at_checked(TOLD_MAX) {
        Some((told, more)) if !more.is_empty() => format!("{} and {} more", told.join(", "), more.len()),
        _all_of_it => all.join(", "),
    }
}

/// Returns what is free, rounded.
fn down(bytes: i128) -> String {
    let bytes = u64::try_from(bytes.max(0)).unwrap_or(u64::MAX);
    let unit = unit(bytes);
    tenths(u128::from(bytes) * 10 / unit, unit)
}

/// Returns what is used, rounded.
fn up(bytes: u64) -> String {
    let unit = unit(bytes);
    tenths((u128::from(bytes) * 10).div_ceil(unit), unit)
}

/// Returns what people are told a size in.
fn unit(bytes: u64) -> u128 {
    1 << [40, 30, 20].into_iter().find(|shift| bytes >> shift > 0).unwrap_or(20)
}

fn tenths(tenths: u128, unit: u128) -> String {
    Bytes(u64::try_from((tenths * unit).div_ceil(10)).unwrap_or(u64::MAX)).roughly()
}

impl Pass<'_> {
    /// Returns why a claim waits that has room when everything has ended that ends.
    pub(super) fn waits_for_the_end(&self, target: &Target, index: usize) -> (String, String) {
        let comes_back = |claim: &usize| -> u64 {
            let of = |gpu: &usize| {
                self.now.accounts[*gpu].loads[*claim].saturating_sub(self.then.accounts[*gpu].loads[*claim])
            };
            target.counted.iter().map(of).fold(0, u64::saturating_add)
        };
        let mut ending: Vec<usize> =
            (0..self.claims.len()).filter(|claim| *claim != index && comes_back(claim) > 0).collect();
        ending.sort_unstable_by_key(|claim| self.claims[*claim].name);
        let ending = list(
            ending.into_iter().map(|claim| format!("{} of `{}`", up(comes_back(&claim)), self.claims[claim].name)),
        );
        let needs = self.needs_and_free(target, index, Self::free);
        (format!("{needs}; it waits until {ending} came back"), String::new())
    }

    /// Returns why a claim waits that others yield to.
    pub(super) fn waits_for_victims(&self, target: &Target, index: usize, victims: &[usize]) -> (String, String) {
        let victim = |claim: &usize| {
            let Self { claims, .. } = self;
            format!("`{}` (priority {}, {})", claims[*claim].name, claims[*claim].share.priority, self.has(*claim))
        };
        let ending = list(victims.iter().map(victim));
        let needs = self.needs_and_free(target, index, Self::free_then);
        let priority = self.claims[index].share.priority;
        let verb = if victims.len() == 1 { "is" } else { "are" };
        (format!("{needs}; {ending} {verb} asked to end for it (priority {priority})"), String::new())
    }

    /// Returns why a claim waits that others give memory back for. `before` is the book before they do.
    pub(super) fn waits_for_givers(
        &self,
        target: &Target,
        index: usize,
        before: &Ledger,
        givers: &[(usize, u64)],
    ) -> (String, String) {
        let told = |(claim, bytes): &(usize, u64)| {
            let claim = &self.claims[*claim];
            format!("`{}` (priority {}) gives back {}", claim.name, claim.share.priority, up(*bytes))
        };
        let needs = self.needs_and_free(target, index, |_, gpu, index| before.accounts[gpu].free(Some(index)));
        let priority = self.claims[index].share.priority;
        (
            format!("{needs}; {} for it (priority {priority}) and runs on", list(givers.iter().map(told))),
            String::new(),
        )
    }

    /// Returns why a service that runs on has less than it wants.
    pub(super) fn why_it_shrinks(&self, index: usize, budget: Bytes, to: Option<usize>) -> String {
        let claim = &self.claims[index];
        let wants =
            claim.share.vram.map_or(String::new(), |vram| format!(" of the {} that it wants", vram.roughly()));
        let keeps = format!("{}{wants} stay", down(budget.0.into()));
        match to {
            Some(to) => {
                let other = &self.claims[to];
                format!("for `{}` (priority {}): {keeps}", other.name, other.share.priority)
            }
            None => format!("others use more of the GPU: {keeps}"),
        }
    }

    /// Returns why a claim waits for memory that nobody is asked for; `spared` would make room, and are not asked yet.
    pub(super) fn waits_for_memory(&self, target: &Target, index: usize, spared: &[usize]) -> (String, String) {
        let mut needs = self.needs_and_free(target, index, Self::free_then);
        if !spared.is_empty() && !self.could_start(index) {
            let spared = list(spared.iter().map(|claim| format!("`{}`", self.claims[*claim].name)));
            needs = format!("{needs}; {spared} would end for it if it could start otherwise");
        }
        let needed = self.needed(target, index);
        if !needed.is_empty() {
            needs = format!("{needs}; it depends on {needed}, which does not end for it");
        }
        let claim = &self.claims[index];
        let less = match claim.share.vram {
            Some(_) => "a lower `gpu.vram_min`",
            None => "`gpu.vram`, which says how much it needs",
        };
        let priority = claim.share.priority;
        let hint = format!(
            "{less}, a higher `gpu.priority` (it is {priority}), or `nixmoxctl stop` of what can go without"
        );
        (needs, hint)
    }

    /// Returns those whose memory it could have if it did not depend on them.
    fn needed(&self, target: &Target, index: usize) -> String {
        let claim = &self.claims[index];
        let has_some = |other: &&Claim<'_>| {
            let place = self.claims.iter().position(|claim| claim.name == other.name);
            let load = |gpu: &usize| place.is_some_and(|place| self.then.accounts[*gpu].loads[place] > 0);
            other.stays() && other.share.priority < claim.share.priority && target.counted.iter().any(load)
        };
        let mut needed: Vec<&Claim<'_>> =
            self.claims.iter().filter(|other| claim.needs.contains(other.name)).collect();
        needed.retain(has_some);
        needed.sort_unstable_by_key(|other| other.name);
        list(needed.into_iter().map(|other| format!("`{}`", other.name)))
    }

    /// Returns why a claim can never be given what it asks for.
    pub(super) fn why_never(&self, target: &Target) -> (String, String) {
        let most = |gpu: usize| {
            let capacity = self.now.accounts[gpu].capacity.unwrap_or(u64::MAX);
            let gpu = &self.inventory.gpus[gpu];
            let total = gpu.memory.map_or(0, |memory| memory.total.0);
            let kept = total.saturating_sub(capacity);
            format!(
                "{} gives {} of its {} at most ({} are the driver's or stay free)",
                gpu.label(),
                down(capacity.into()),
                Bytes(total).roughly(),
                up(kept)
            )
        };
        let why = format!("{}: {}", self.needs(target), list(target.counted.iter().map(|gpu| most(*gpu))));
        (why, "a lower `gpu.vram_min`, or more GPUs for it (`gpu.devices`)".to_owned())
    }

    /// Returns why a service yields to a claim.
    pub(super) fn why_it_yields(&self, index: usize, to: usize) -> String {
        let (own, other) = (&self.claims[index], &self.claims[to]);
        let has: u64 = self.now.accounts.iter().map(|account| account.loads[index]).fold(0, u64::saturating_add);
        let needs: u64 = self.then.accounts.iter().map(|account| account.loads[to]).fold(0, u64::saturating_add);
        format!(
            "`{}` (priority {}) is given {}; this one (priority {}) gives back {}",
            other.name,
            other.share.priority,
            up(needs),
            own.share.priority,
            up(has)
        )
    }

    /// Returns what a claim needs, and where.
    fn needs(&self, target: &Target) -> String {
        let required = target.counted.iter().map(|gpu| target.required(&self.then.accounts[*gpu]));
        let each = required.max().unwrap_or(0);
        let seen = if each > target.share { " (as much as it was seen to use)" } else { "" };
        let needs = format!("needs {}{seen}", up(each));
        match (target.counted.as_slice(), target.take) {
            ([_], _) => needs,
            (gpus, 1) => format!("{needs} on one of {} GPUs", gpus.len()),
            (gpus, take) if gpus.len() == take => format!("{needs} on each of {take} GPUs"),
            (gpus, take) => format!("{needs} on each of {take} of {} GPUs", gpus.len()),
        }
    }

    /// Returns what a claim needs, what is free of each GPU that comes into question, and who has the rest.
    fn needs_and_free(&self, target: &Target, index: usize, free: impl Fn(&Self, usize, usize) -> i128) -> String {
        let one = |gpu: &usize| {
            let label = self.inventory.gpus[*gpu].label();
            let total = self.inventory.gpus[*gpu].memory.map_or(0, |memory| memory.total.0);
            let rest = self.rest(*gpu, index);
            let rest = if rest.is_empty() { rest } else { format!(" ({rest})") };
            format!("{label} has {} of {} free{rest}", down(free(self, *gpu, index)), Bytes(total).roughly())
        };
        format!("{}: {}", self.needs(target), list(target.counted.iter().map(one)))
    }

    /// Returns who has what of a GPU, the most first.
    fn rest(&self, gpu: usize, without: usize) -> String {
        let (now, then) = (&self.now.accounts[gpu], &self.then.accounts[gpu]);
        let mut loads: Vec<(u64, usize)> = (0..self.claims.len())
            .filter(|claim| *claim != without)
            .map(|claim| (now.loads[claim].max(then.loads[claim]), claim))
            .filter(|(load, _)| *load > 0)
            .collect();
        loads.sort_unstable_by_key(|(load, claim)| (u64::MAX - load, self.claims[*claim].name));
        let of = |(load, claim): (u64, usize)| {
            let Self { claims, .. } = self;
            let claim = &claims[claim];
            let verb = match claim.phase {
                Phase::Up | Phase::Ending => "has",
                Phase::Down => "is kept",
            };
            format!("`{}` {verb} {}", claim.name, up(load))
        };
        let mut told: Vec<String> = Vec::new();
        if !loads.is_empty() {
            told.push(list(loads.into_iter().map(of)));
        }
        if then.others > 0 {
            told.push(format!("others use {}", up(then.others)));
        }
        told.join(", ")
    }

    /// Returns what a claim has of all GPUs.
    fn has(&self, claim: usize) -> String {
        up(u64::try_from(self.memory(claim)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people_and_promise_nothing() {
        const MIB: u64 = 1 << 20;
        for (bytes, free, used) in [
            (0, "0M", "0M"),
            (5, "0M", "0.1M"),
            (256 * MIB, "256M", "256M"),
            (1024 * MIB - 1, "1023.9M", "1G"),
            (2560 * MIB, "2.5G", "2.5G"),
            (2560 * MIB + 1, "2.5G", "2.6G"),
            (2560 * MIB - 1, "2.4G", "2.5G"),
            (24564 * MIB, "23.9G", "24G"),
            (3 << 40, "3T", "3T"),
        ] {
            assert_eq!((down(bytes.into()).as_str(), up(bytes).as_str()), (free, used), "{bytes}");
        }
        assert_eq!(down(-1), "0M");
        assert!(up(u64::MAX).ends_with('T') && down(i128::MAX).ends_with('T'));
    }
}
