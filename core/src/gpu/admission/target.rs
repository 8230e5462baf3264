//! What a claim asks of this machine: which GPUs come into question, and how much memory of each.

use std::collections::BTreeSet;

use super::super::ledger::{Account, is_counted, split};
use super::super::{Claim, Fault, Gpu, Inventory, Part};
use super::{Outcome, text};
use crate::model::{GpuDevices, GpuId, GpuShare, Vendor, Word};

/// What a budget is rounded down to, so that people can read it; never below what is needed.
const BUDGET_STEP: u64 = 1 << 20;

/// Why GPUs for a claim cannot be looked for.
pub(super) struct Refusal {
    pub(super) why: String,
    pub(super) hint: String,
    pub(super) outcome: Outcome,
}

/// What a claim asks of this machine. GPUs are named by their place in the inventory.
pub(super) struct Target {
    pub(super) vendor: Vendor,
    /// Those with a ledger that come into question, in the order of the inventory.
    pub(super) counted: Vec<usize>,
    /// How many of them it needs.
    pub(super) take: usize,
    /// Those without a ledger likewise: what has memory of its own goes first.
    pub(super) uncounted: Vec<usize>,
    pub(super) take_uncounted: usize,
    /// Whether it said which.
    pub(super) is_named: bool,
    /// What it waits for, of each GPU with a ledger.
    pub(super) share: u64,
    /// What it was seen to use beyond what it declares, of each likewise.
    remembered: u64,
    /// What it waits for, over all of them.
    pub(super) least: u64,
    /// What it wants and may use, over all of them.
    vram: Option<u64>,
}

/// Returns whether containers can be given a GPU.
pub(super) fn is_usable(gpu: &Gpu) -> bool {
    gpu.part != Part::Partitioned
}

impl Target {
    /// Returns what a claim asks of this machine.
    pub(super) fn of(inventory: &Inventory, claim: &Claim<'_>) -> Result<Self, Refusal> {
        let vendor = vendor(inventory, claim.share)?;
        if let Some(fault) = inventory.blind(Some(vendor)) {
            return Err(unknown(fault, ""));
        }
        let usable = |index: &usize| {
            let gpu = &inventory.gpus[*index];
            gpu.vendor == vendor && is_usable(gpu)
        };
        let usable: Vec<usize> = (0..inventory.gpus.len()).filter(usable).collect();
        let (gpus, take) = match &claim.share.devices {
            GpuDevices::All => (usable.clone(), usable.len()),
            GpuDevices::Count(count) => {
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                (usable.clone(), count)
            }
            GpuDevices::Ids(ids) => {
                let gpus = named(inventory, vendor, ids)?;
                let take = gpus.len();
                (gpus, take)
            }
        };
        if take == 0 || gpus.len() < take {
            let why = format!(
                "asks for {}, and {} there",
                text::count(take.max(1), &format!("{} GPU", text::vendor(vendor))),
                if gpus.len() == 1 { "1 is".to_owned() } else { format!("{} are", gpus.len()) }
            );
            return Err(absent(inventory, vendor, &why));
        }
        let mut target = Self::on(inventory, claim, vendor, gpus);
        target.is_named = !matches!(claim.share.devices, GpuDevices::Count(_));
        target.take = target.counted.len().min(take);
        target.take_uncounted = take - target.take;
        target.set_shares(claim);
        // More than it had it is given only when everybody was served.
        if let (true, Some(vram), Some(had)) =
            (claim.granted, target.vram, claim.holds.and_then(|grant| grant.budget))
        {
            target.vram = Some(vram.min(had.0.max(target.least)));
        }
        Ok(target)
    }

    /// Returns what a claim asks of all of these GPUs.
    pub(super) fn on(inventory: &Inventory, claim: &Claim<'_>, vendor: Vendor, gpus: Vec<usize>) -> Self {
        let (counted, uncounted): (Vec<_>, Vec<_>) =
            gpus.into_iter().partition(|gpu| is_counted(&inventory.gpus[*gpu]));
        let vram = claim.share.vram.map(|vram| vram.0);
        let mut target = Self {
            vendor,
            take: counted.len(),
            take_uncounted: uncounted.len(),
            counted,
            uncounted,
            is_named: true,
            share: 0,
            remembered: 0,
            least: claim.share.vram_min.map(|least| least.0).or(vram).unwrap_or(0),
            vram,
        };
        target.set_shares(claim);
        target
    }

    fn set_shares(&mut self, claim: &Claim<'_>) {
        self.share = split(self.least, self.take);
        self.remembered = split(claim.excess(), self.take);
    }

    /// Returns what must be free of a GPU. What it was seen to use and did not declare is no reason to wait for what others use.
    pub(super) fn required(&self, account: &Account) -> u64 {
        let capacity = account.capacity.unwrap_or(u64::MAX).saturating_sub(account.others);
        self.share.max(self.remembered.min(capacity))
    }

    /// Returns the budget where so much is free of each of its GPUs with a ledger; `None`: it makes no claim.
    pub(super) fn budget(&self, free: impl ExactSizeIterator<Item = i128>) -> Option<u64> {
        let vram = self.vram?;
        let count = i128::try_from(free.len()).unwrap_or(i128::MAX);
        let Some(least_free) = free.min() else { return Some(vram) };
        let fits = u64::try_from(least_free.saturating_mul(count).max(0)).unwrap_or(u64::MAX);
        let rounded = fits / BUDGET_STEP * BUDGET_STEP;
        Some(if fits >= vram { vram } else { rounded.max(self.least.min(fits)) })
    }
}

/// Returns whose GPUs a share means on this machine; `None`: nobody can say.
pub(in crate::gpu) fn meant(inventory: &Inventory, share: &GpuShare) -> Option<Vendor> {
    vendor(inventory, share).ok()
}

/// Returns whose GPUs a share means.
fn vendor(inventory: &Inventory, share: &GpuShare) -> Result<Vendor, Refusal> {
    if let Some(vendor) = share.vendor {
        return Ok(vendor);
    }
    let seen: BTreeSet<Vendor> = inventory.gpus.iter().map(|gpu| gpu.vendor).collect();
    if let GpuDevices::Ids(ids) = &share.devices {
        let of = |gpu: &&Gpu| ids.contains(&gpu.id);
        let vendors: BTreeSet<Vendor> = inventory.gpus.iter().filter(of).map(|gpu| gpu.vendor).collect();
        if let Some(vendor) = only(&vendors) {
            return Ok(vendor);
        }
        if vendors.len() > 1 {
            let names: Vec<&str> = vendors.into_iter().map(text::vendor).collect();
            let why = format!("asks for GPUs of {}: {} vendors at once", names.join(" and "), names.len());
            let hint = "give each vendor's GPUs to a service of its own".to_owned();
            return Err(Refusal { why, hint, outcome: Outcome::Never });
        }
    }
    // An integrated one beside a card is nobody's wish.
    let own = |gpu: &&Gpu| !gpu.shares_memory;
    let with_memory: BTreeSet<Vendor> = inventory.gpus.iter().filter(own).map(|gpu| gpu.vendor).collect();
    match only(&seen).or(only(&with_memory)) {
        Some(vendor) => match unseen(inventory, &seen) {
            None => Ok(vendor),
            Some(fault) => Err(unknown(fault, &format!("`gpu.vendor = \"{}\"` does without", vendor.as_word()))),
        },
        None if seen.is_empty() => match inventory.faults.first() {
            Some(fault) => Err(unknown(fault, "")),
            None => Err(Refusal {
                why: "asks for a GPU, and 0 are there".to_owned(),
                hint: "`nixmoxctl gpu doctor` looks for the reason".to_owned(),
                outcome: Outcome::Never,
            }),
        },
        None => {
            let count = |vendor: &Vendor| inventory.gpus.iter().filter(|gpu| gpu.vendor == *vendor).count();
            let there: Vec<String> =
                seen.iter().map(|vendor| format!("{} of {}", count(vendor), text::vendor(*vendor))).collect();
            let words: Vec<String> = seen.iter().map(|vendor| format!("\"{}\"", vendor.as_word())).collect();
            Err(Refusal {
                why: format!(
                    "GPUs of several vendors are there ({}), and it does not say whose it asks for",
                    there.join(", ")
                ),
                hint: format!("say `gpu.vendor = {}`", words.join(" or ")),
                outcome: Outcome::Never,
            })
        }
    }
}

/// Returns why it is not known whether somebody else has GPUs here, too: something of theirs is in the machine, and none of it is seen.
fn unseen<'a>(inventory: &'a Inventory, seen: &BTreeSet<Vendor>) -> Option<&'a Fault> {
    let is_there = |vendor: &Vendor| !seen.contains(vendor) && inventory.drivers.contains_key(vendor);
    inventory.faults.iter().find(|fault| fault.vendor.as_ref().is_some_and(is_there))
}

fn only(vendors: &BTreeSet<Vendor>) -> Option<Vendor> {
    vendors.first().copied().filter(|_| vendors.len() == 1)
}

/// Finds the GPUs of these names.
fn named(inventory: &Inventory, vendor: Vendor, ids: &[GpuId]) -> Result<Vec<usize>, Refusal> {
    let of_vendor = || inventory.gpus.iter().enumerate().filter(move |(_, gpu)| gpu.vendor == vendor);
    let missing: Vec<&str> =
        ids.iter().filter(|id| of_vendor().all(|(_, gpu)| gpu.id != **id)).map(GpuId::as_str).collect();
    let there = || text::list(of_vendor().filter(|(_, gpu)| is_usable(gpu)).map(|(_, gpu)| gpu.id.to_string()));
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let why = format!(
            "asks for {}, which {verb} not among the {} GPUs that are there",
            missing.join(" and "),
            text::vendor(vendor)
        );
        return Err(Refusal { hint: format!("there: {}", there()), ..absent(inventory, vendor, &why) });
    }
    let gpus: Vec<usize> = of_vendor().filter(|(_, gpu)| ids.contains(&gpu.id)).map(|(index, _)| index).collect();
    if let Some(gpu) = gpus.iter().map(|index| &inventory.gpus[*index]).find(|gpu| !is_usable(gpu)) {
        return Err(Refusal {
            why: format!(
                "asks for {} ({}), which is cut into instances (MIG): only those can be used",
                gpu.label(),
                gpu.id
            ),
            hint: format!("there: {}", there()),
            outcome: Outcome::Never,
        });
    }
    Ok(gpus)
}

/// Nobody knows.
fn unknown(fault: &Fault, hint: &str) -> Refusal {
    let hint = if hint.is_empty() { "`nixmoxctl gpu doctor` names the layer that fails" } else { hint };
    Refusal { why: fault.message.clone(), hint: hint.to_owned(), outcome: Outcome::Waits }
}

/// It is not there; if something of the vendor's is not known, perhaps only not seen.
fn absent(inventory: &Inventory, vendor: Vendor, why: &str) -> Refusal {
    let fault = inventory.faults.iter().find(|fault| fault.vendor.is_none_or(|of| of == vendor));
    Refusal {
        why: fault.map_or(why.to_owned(), |fault| format!("{why}; {}", fault.message)),
        hint: "`nixmoxctl gpu` shows which GPUs are there".to_owned(),
        outcome: if fault.is_some() { Outcome::Waits } else { Outcome::Never },
    }
}
