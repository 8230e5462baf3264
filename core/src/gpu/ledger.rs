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

use super::{Claim, Gpu, Inventory, Part, Phase, ProcessOwner};
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

/// Returns how the memory of each GPU is given out, in the order of the inventory; without GPUs of which no ledger
/// can be kept, and those that are cut into instances: they have theirs.
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
    // What is used of an instance can be told of its GPU, too.
    let whole = inventory.gpus.iter().filter(|gpu| gpu.part != Part::Partitioned);
    for usage in whole.map(Usage::of) {
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
    /// What each claim may use, in their order.
    pub(super) budgets: Vec<u64>,
}

impl Ledger {
    pub(super) fn new(inventory: &Inventory, claims: &[Claim<'_>]) -> Self {
        let owed: Vec<Promise<'_>> = claims.iter().map(|claim| Promise::of(inventory, claim)).collect();
        let account = |gpu: &Gpu| {
            let capacity = capacity(gpu);
            let usage = Usage::of(gpu);
            let mut containers: BTreeMap<&ContainerName, Used> = usage.containers;
            let (mut loads, mut measured, mut budgets) = (Vec::new(), Vec::new(), Vec::new());
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
                budgets.push(promise.budget_on(&gpu.id));
            }
            let strangers = containers.values().fold(usage.strangers, |sum, used| sum.and(*used));
            let explained = if strangers.hidden { 0 } else { explained };
            let others = strangers.known.saturating_add(usage.unknown.saturating_sub(explained));
            Account { capacity, others, loads, measured, budgets }
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

/// Returns what can be given out of a GPU that nobody uses; `None`: no ledger can be kept of it, or its instances have theirs.
fn capacity(gpu: &Gpu) -> Option<u64> {
    let memory = gpu.memory.filter(|_| !gpu.shares_memory && gpu.part != Part::Partitioned)?;
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
        // Less than it had counts as soon as less is declared; more only when it is granted.
        let budget = grant.budget.zip(claim.share.vram).map_or(0, |(had, vram)| had.min(vram).0);
        let of_it = |gpu: &&Gpu| grant.gpus.contains(&gpu.id);
        let uncounted = inventory.gpus.iter().filter(of_it).filter(|gpu| !is_counted(gpu)).count();
        let counted = grant.gpus.len().saturating_sub(uncounted);
        // What was seen of one that gives back was of what it was let have.
        let remembered = if claim.elastic { 0 } else { split(claim.excess(), counted) };
        Self { gpus: &grant.gpus, budget: split(budget, counted), remembered }
    }

    fn budget_on(&self, gpu: &GpuId) -> u64 {
        if self.gpus.contains(gpu) { self.budget } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::super::admission::world::{MIB, World, card, service};
    use super::*;
    use crate::model::fixture::name;

    /// Total, reserved, headroom, promised, others and free of each, in MiB.
    fn told(inventory: &Inventory, world: &World) -> Vec<[u64; 6]> {
        let rooms = rooms(inventory, &world.claims());
        let parts = |room: &Room| [room.total, room.reserved, room.headroom, room.promised, room.others, room.free];
        rooms.iter().map(|room| parts(room).map(|bytes| bytes.0 / MIB)).collect()
    }

    #[test]
    fn all_memory_is_told_apart() {
        let mut world = World {
            cards: vec![card(8 * 1024), card(20 * 1024)],
            services: vec![
                // Over its promise on one, under it on the other.
                service("a", 6 * 1024, 50).runs(&[0, 1], 6 * 1024).uses(&[4 * 1024, 1024]),
                // It has no promise where it is.
                service("b", 1024, 50).uses(&[512, 0]),
            ],
        };
        world.cards[0].reserved = 300;
        world.cards[0].foreign = 100;
        world.cards[1].unknown = 50;
        let expected = [
            [8 * 1024, 300, 256, 4 * 1024 + 512, 100, 8 * 1024 - 300 - 256 - 4 * 1024 - 512 - 100],
            [20 * 1024, 0, 256, 3 * 1024, 50, 17 * 1024 - 256 - 50],
        ];
        assert_eq!(told(&world.inventory(), &world), expected);
        assert_eq!(used(&world.inventory(), &name("a")), Some(Bytes(5 << 30)));
        assert_eq!(used(&world.inventory(), &name("none")), Some(Bytes(0)));
        // Who is not declared, or without a share, is one of the others.
        let inventory = world.inventory();
        world.services.clear();
        assert_eq!(told(&inventory, &world)[0][3..5], [0, 100 + 4 * 1024 + 512]);
    }

    #[test]
    fn small_gpus_keep_a_part_of_their_memory_free() {
        assert_eq!(headroom(Bytes(1000)), Bytes(50));
        assert_eq!(headroom(Bytes(80 << 30)), HEADROOM);
    }

    #[test]
    fn what_computes_and_draws_is_counted_once() {
        let world = World { cards: vec![card(8 * 1024)], services: vec![service("a", 1024, 50).uses(&[512])] };
        let mut inventory = world.inventory();
        let mut twice = inventory.gpus[0].processes[0].clone();
        twice.kind = super::super::ProcessKind::Graphics;
        inventory.gpus[0].processes.push(twice);
        assert_eq!(told(&inventory, &world)[0][3..], [512, 0, 8 * 1024 - 256 - 512]);
    }

    #[test]
    fn memory_that_the_driver_hides_is_not_counted_twice() {
        let mut world = World {
            cards: vec![card(12 * 1024)],
            services: vec![service("a", 6 * 1024, 50).runs(&[0], 6 * 1024).uses(&[4 * 1024])],
        };
        let hide = |inventory: &mut Inventory| {
            inventory.gpus[0].processes.iter_mut().for_each(|process| process.memory = None);
        };
        let mut inventory = world.inventory();
        hide(&mut inventory);
        assert_eq!(told(&inventory, &world)[0][3..5], [6 * 1024, 0], "it is what was promised to it");
        assert_eq!(used(&inventory, &name("a")), None, "nobody knows");
        // More than was promised is of somebody.
        world.services[0] = world.services[0].clone().uses(&[7 * 1024]);
        inventory = world.inventory();
        hide(&mut inventory);
        assert_eq!(told(&inventory, &world)[0][3..5], [6 * 1024, 1024]);
        // With a stranger beside it, all of it can be the stranger's.
        world.cards[0].foreign = 1024;
        inventory = world.inventory();
        hide(&mut inventory);
        assert_eq!(told(&inventory, &world)[0][3..], [6 * 1024, 8 * 1024, 0]);
    }

    #[test]
    fn of_a_gpu_without_memory_of_its_own_there_is_no_ledger() {
        let mut world = World { cards: vec![card(8 * 1024); 2], services: Vec::new() };
        world.cards[0].is_shared = true;
        let mut inventory = world.inventory();
        assert_eq!(told(&inventory, &world).len(), 1);
        inventory.gpus[1].memory = None;
        assert!(told(&inventory, &world).is_empty());
        let mut whole = World { cards: vec![card(8 * 1024); 2], services: Vec::new() }.inventory();
        whole.gpus[0].part = Part::Partitioned;
        assert_eq!(rooms(&whole, &[]).len(), 1);
    }

    #[test]
    fn a_process_is_of_the_first_unit_that_is_no_slice() {
        let container = |text: &str| ProcessOwner::Container(name(text));
        let unit = |text: &str| ProcessOwner::Unit(text.to_owned());
        for (cgroup, owned) in [
            ("0::/machine.slice/container@web.service/payload/system.slice/ollama.service\n", container("web")),
            ("0::/machine.slice/machine-cloud.slice/container@web-1.service/supervisor", container("web-1")),
            ("0::/machine.slice/machine-my\\x2dcloud.slice/container@a_b.service", container("a_b")),
            ("12:memory:/x\n1:name=systemd:/y\n0::/system.slice/sshd.service\n", unit("sshd.service")),
            ("0::/machine.slice/container@web.service/payload (deleted)", container("web")),
            ("0::/user.slice/user-1000.slice/session-2.scope", unit("session-2.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope", unit("user@1000.service")),
            ("0::/system.slice/_cpu.service", unit("cpu.service")),
            ("0::/system.slice/system-dbus\\x2d1.slice/dbus@a\\x2db.service", unit("dbus@a\\x2db.service")),
            ("0::/init.scope", unit("init.scope")),
            // What a unit calls things below it is its own.
            ("0::/user.slice/user-1000.slice/user@1000.service/container@web.service", unit("user@1000.service")),
            ("0::/machine.slice/container@a.service/payload/container@b.service", container("a")),
            ("0::/system.slice/systemd-nspawn@web.service/payload", unit("systemd-nspawn@web.service")),
            ("0::/machine.slice/container@a\\x2fb.service", unit("container@a\\x2fb.service")),
            ("0::/../../machine.slice/container@web.service", ProcessOwner::Unknown),
            ("0::/machine.slice/../container@web.service", ProcessOwner::Unknown),
            ("0::/system.slice/evil.service/container@ollama.service\n", unit("evil.service")),
            ("0::/machine.slice/container@-bad-.service\n", unit("container@-bad-.service")),
            // Another manager's cgroup is no unit of systemd's, whatever is below it.
            ("0::/lxc.payload.x/container@ollama.service", ProcessOwner::Unknown),
            ("0::/docker/0123abcd", ProcessOwner::Unknown),
            ("0::/machine.slice", ProcessOwner::Unknown),
            ("0::/", ProcessOwner::Unknown),
            // systemd keeps the unified tree beside its own of cgroup v1, and needs no other since version 258.
            ("1:name=systemd:/machine.slice/container@web.service", ProcessOwner::Unknown),
            (
                "12:devices:/\n1:name=systemd:/system.slice/x.service\n0::/system.slice/x.service\n",
                unit("x.service"),
            ),
            ("12:devices:/\n1:name=systemd:/system.slice/display-manager.service\n0::/\n", ProcessOwner::Unknown),
            ("", ProcessOwner::Unknown),
        ] {
            assert_eq!(owner(cgroup), owned, "{cgroup}");
        }
    }
}
