//! Whose the memory of each GPU is.
//!
//! Of every GPU that has memory of its own, all of it is told apart: what the driver keeps, what is left free on purpose, what
//! services were promised, what everybody else uses, and what is left. A service counts with the larger of what it was promised
//! and what it is measured to use; the desktop, containers without a share, processes of which the driver tells nothing and what no
//! process explains count as others'.
//!
//! Where a driver hides the memory of single processes (WSL, MIG), what no process explains is first that of the services with
//! such a process, up to their promises: it would be counted twice otherwise. With a hidden process of somebody else beside
//! them nobody can tell, and all of it counts as others'.

use std::collections::BTreeMap;

use super::{Claim, Gpu, Inventory, Phase, ProcessOwner};
use crate::model::{Bytes, ContainerName, GpuId};

/// Left free on every GPU: contexts grow by themselves, and what a driver tells is a moment old.
pub const HEADROOM: Bytes = Bytes(256 << 20);
/// The headroom of small GPUs and instances, as a part of their memory.
pub const HEADROOM_PERCENT_MAX: u64 = 5;

/// How the memory of one GPU is given out. `total` = `reserved` + `headroom` + `promised` + `others` + `free`, unless more is
/// given out than is there: then `free` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The GPU.
    pub id: GpuId,
    /// All of it.
    pub total: Bytes,
    /// What driver and firmware keep.
    pub reserved: Bytes,
    /// What is left free on purpose.
    pub headroom: Bytes,
    /// What services were promised, or use where that is more.
    pub promised: Bytes,
    /// What everybody else uses, unknown ones among them.
    pub others: Bytes,
    /// What can be given out.
    pub free: Bytes,
}

/// Returns what is left free on purpose of a GPU with this much memory.
#[must_use]
pub fn headroom(total: Bytes) -> Bytes {
    HEADROOM.min(Bytes(total.0 / 100 * HEADROOM_PERCENT_MAX))
}

/// Returns how the memory of each GPU is given out, in the order of the inventory; without GPUs of which no ledger can be kept.
#[must_use]
pub fn rooms(inventory: &Inventory, claims: &[Claim<'_>]) -> Vec<Room> {
    let ledger = Ledger::new(inventory, claims);
    let room = |(gpu, account): (&Gpu, &Account)| {
        let memory = gpu.memory.filter(|_| account.capacity.is_some())?;
        let promised = account.loads.iter().copied().fold(0, u64::saturating_add);
        Some(Room {
            id: gpu.id.clone(),
            total: memory.total,
            reserved: memory.reserved,
            headroom: headroom(memory.total),
            promised: Bytes(promised),
            others: Bytes(account.others),
            free: Bytes(u64::try_from(account.free(None)).unwrap_or(0)),
        })
    };
    inventory.gpus.iter().zip(&ledger.accounts).filter_map(room).collect()
}

/// Returns the video memory that a container's processes use, over all GPUs; `None`: it has a process of which the driver does not
/// tell.
#[must_use]
pub fn used(inventory: &Inventory, name: &ContainerName) -> Option<Bytes> {
    let mut sum = 0_u64;
    for usage in inventory.gpus.iter().map(Usage::of) {
        let Some(used) = usage.containers.get(name) else { continue };
        if used.hidden {
            return None;
        }
        sum = sum.saturating_add(used.known);
    }
    Some(Bytes(sum))
}

/// Returns whose a process is, from the text of its `/proc/PID/cgroup`.
///
/// The unit is the first part of the path that is not a slice: so much is named by the host's service manager, and what lies below
/// by whoever was given that unit (cgroups(7), `Delegate=` of systemd.resource-control(5)). A path that leads out of the cgroup
/// namespace of the reader says nothing.
#[must_use]
pub fn owner(cgroup: &str) -> ProcessOwner {
    let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return ProcessOwner::Unknown;
    };
    // The cgroup of a process that ends can be gone already (cgroups(7)).
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if path.split('/').any(|part| part == "..") {
        return ProcessOwner::Unknown;
    }
    // systemd puts `_` before what would be taken for a file of the kernel (`cg_escape`).
    let mut parts = path.split('/').map(|part| part.strip_prefix('_').unwrap_or(part));
    let Some(unit) = parts.find(|part| part.strip_suffix(".slice").is_none()) else { return ProcessOwner::Unknown };
    match ContainerName::from_unit(unit) {
        Some(name) => ProcessOwner::Container(name),
        None if UNITS.iter().any(|kind| unit.strip_suffix(kind).is_some()) => ProcessOwner::Unit(unit.to_owned()),
        None => ProcessOwner::Unknown,
    }
}

/// Units that have processes.
const UNITS: [&str; 5] = [".service", ".scope", ".mount", ".socket", ".swap"];

/// What everybody has of every GPU.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// One per GPU of the inventory, in its order.
    pub(super) accounts: Vec<Account>,
}

/// What everybody has of one GPU, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// What can be given out of it when nobody uses it; `None`: no ledger can be kept of it.
    pub(super) capacity: Option<u64>,
    /// What everybody else uses.
    pub(super) others: u64,
    /// What each claim counts with, in their order.
    pub(super) loads: Vec<u64>,
    /// What each claim is measured to use, in their order.
    pub(super) measured: Vec<u64>,
}

impl Ledger {
    pub(super) fn new(inventory: &Inventory, claims: &[Claim<'_>]) -> Self {
        let owed: Vec<Promise<'_>> = claims.iter().map(|claim| Promise::of(inventory, claim)).collect();
        let account = |gpu: &Gpu| {
            let capacity = capacity(gpu);
            let usage = Usage::of(gpu);
            let mut containers: BTreeMap<&ContainerName, Used> = usage.containers;
            let (mut loads, mut measured) = (Vec::new(), Vec::new());
            // What hidden processes of services may have, and was promised to them anyway.
            let mut explained = 0_u64;
            for (claim, promise) in claims.iter().zip(&owed) {
                let used = containers.remove(claim.name).unwrap_or_default();
                let promised = promise.on(&gpu.id, capacity.unwrap_or(u64::MAX));
                if used.hidden {
                    explained = explained.saturating_add(promised.saturating_sub(used.known));
                }
                loads.push(promised.max(used.known));
                measured.push(used.known);
            }
            let strangers = containers.values().fold(usage.strangers, |sum, used| sum.and(*used));
            let explained = if strangers.hidden { 0 } else { explained };
            let others = strangers.known.saturating_add(usage.unknown.saturating_sub(explained));
            Account { capacity, others, loads, measured }
        };
        Self { accounts: inventory.gpus.iter().map(account).collect() }
    }
}

impl Account {
    /// Returns what is left when this claim has nothing; below 0 where more is given out than is there.
    pub(super) fn free(&self, without: Option<usize>) -> i128 {
        let loads = self.loads.iter().enumerate().filter(|(claim, _)| Some(*claim) != without);
        let loads: i128 = loads.map(|(_, load)| i128::from(*load)).sum();
        i128::from(self.capacity.unwrap_or(u64::MAX)) - i128::from(self.others) - loads
    }
}

/// Returns what can be given out of a GPU that nobody uses; `None`: no ledger can be kept of it.
fn capacity(gpu: &Gpu) -> Option<u64> {
    let memory = gpu.memory.filter(|_| !gpu.shares_memory)?;
    Some(memory.total.0.saturating_sub(memory.reserved.0).saturating_sub(headroom(memory.total).0))
}

/// Returns whether a ledger can be kept of a GPU.
pub(super) fn is_counted(gpu: &Gpu) -> bool {
    capacity(gpu).is_some()
}

/// What a service that is not down counts with on each of its GPUs, whatever it uses.
struct Promise<'a> {
    gpus: &'a [GpuId],
    budget: u64,
    remembered: u64,
}

impl<'a> Promise<'a> {
    fn of(inventory: &Inventory, claim: &Claim<'a>) -> Self {
        let Some(grant) = claim.holds.filter(|_| claim.phase != Phase::Down) else {
            return Self { gpus: &[], budget: 0, remembered: 0 };
        };
        let of_it = |gpu: &&Gpu| grant.gpus.contains(&gpu.id);
        let uncounted = inventory.gpus.iter().filter(of_it).filter(|gpu| !is_counted(gpu)).count();
        let counted = grant.gpus.len().saturating_sub(uncounted);
        Self {
            gpus: &grant.gpus,
            budget: split(grant.budget.map_or(0, |budget| budget.0), counted),
            remembered: split(claim.excess(), counted),
        }
    }

    fn on(&self, gpu: &GpuId, capacity: u64) -> u64 {
        if self.gpus.contains(gpu) { self.budget.max(self.remembered.min(capacity)) } else { 0 }
    }
}

/// Returns the part of each of so many GPUs, rounded up.
pub(super) fn split(bytes: u64, gpus: usize) -> u64 {
    bytes.div_ceil(u64::try_from(gpus).unwrap_or(u64::MAX).max(1))
}

/// What processes use of one GPU.
struct Usage<'a> {
    containers: BTreeMap<&'a ContainerName, Used>,
    strangers: Used,
    /// What is in use and no process explains.
    unknown: u64,
}

#[derive(Clone, Copy, Default)]
struct Used {
    known: u64,
    /// Whether there is a process of which the driver does not tell.
    hidden: bool,
}

impl Used {
    fn and(self, other: Self) -> Self {
        Self { known: self.known.saturating_add(other.known), hidden: self.hidden || other.hidden }
    }
}

impl<'a> Usage<'a> {
    fn of(gpu: &'a Gpu) -> Self {
        // One that computes and draws is listed twice, each time with all of its memory.
        let mut processes: BTreeMap<u32, (&ProcessOwner, Option<u64>)> = BTreeMap::new();
        for process in &gpu.processes {
            let entry = processes.entry(process.pid).or_insert((&process.owner, None));
            entry.1 = entry.1.max(process.memory.map(|memory| memory.0));
        }
        let mut usage = Self { containers: BTreeMap::new(), strangers: Used::default(), unknown: 0 };
        let mut known = 0_u64;
        for (owner, memory) in processes.into_values() {
            let used = Used { known: memory.unwrap_or(0), hidden: memory.is_none() };
            known = known.saturating_add(used.known);
            let of = match owner {
                ProcessOwner::Container(name) => usage.containers.entry(name).or_default(),
                ProcessOwner::Unit(_) | ProcessOwner::Unknown => &mut usage.strangers,
            };
            *of = of.and(used);
        }
        usage.unknown = gpu.memory.map_or(0, |memory| memory.used.0).saturating_sub(known);
        usage
    }
}
