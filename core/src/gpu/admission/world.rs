//! A machine for tests: cards, services on them, and what is true of their memory, worked out without the ledger. Fields are in MiB, answers in
//! bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    Claim, Decision, Gpu, Inventory, Memory, Part, Phase, Process, ProcessKind, ProcessOwner, Sensors,
};
use crate::model::fixture::name;
use crate::model::{Bytes, ContainerName, GpuDevices, GpuId, GpuShare, Grant, Vendor};

/// One MiB.
pub(in crate::gpu) const MIB: u64 = 1 << 20;

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Card {
    pub(in crate::gpu) total: u64,
    pub(in crate::gpu) reserved: u64,
    /// What processes of the desktop use.
    pub(in crate::gpu) foreign: u64,
    /// What is in use and of no process.
    pub(in crate::gpu) unknown: u64,
    /// Whether its memory is the machine's.
    pub(in crate::gpu) is_shared: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts that are read one by one, each independent of the others")]
pub(in crate::gpu) struct Service {
    pub(in crate::gpu) name: ContainerName,
    pub(in crate::gpu) share: GpuShare,
    pub(in crate::gpu) holds: Option<Grant>,
    pub(in crate::gpu) phase: Phase,
    pub(in crate::gpu) wants: bool,
    /// What must run before it can start.
    pub(in crate::gpu) depends_on: BTreeSet<ContainerName>,
    /// The same with all that those depend on.
    pub(in crate::gpu) needs: BTreeSet<ContainerName>,
    /// Something that is no service of GPUs keeps it from starting.
    pub(in crate::gpu) is_blocked: bool,
    pub(in crate::gpu) granted: bool,
    pub(in crate::gpu) since: u64,
    pub(in crate::gpu) remembered: Option<u64>,
    /// What it uses of each card.
    pub(in crate::gpu) uses: Vec<u64>,
    /// Whether it gives memory back while it runs.
    pub(in crate::gpu) elastic: bool,
    /// Rounds until it has ended.
    pub(in crate::gpu) ends_in: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct World {
    pub(in crate::gpu) cards: Vec<Card>,
    pub(in crate::gpu) services: Vec<Service>,
}

pub(in crate::gpu) fn id(card: usize) -> GpuId {
    format!("GPU-{card}").parse().unwrap()
}

pub(in crate::gpu) fn card(total: u64) -> Card {
    Card { total, reserved: 0, foreign: 0, unknown: 0, is_shared: false }
}

/// A service that is down and wants one GPU, whichever.
pub(in crate::gpu) fn service(text: &str, vram: impl Into<Option<u64>>, priority: u8) -> Service {
    let vram = vram.into().map(|vram| Bytes(vram * MIB));
    let share = GpuShare { vendor: None, devices: GpuDevices::Count(1), vram, vram_min: None, priority };
    Service {
        name: name(text),
        share,
        holds: None,
        phase: Phase::Down,
        wants: true,
        depends_on: BTreeSet::new(),
        needs: BTreeSet::new(),
        is_blocked: false,
        granted: false,
        since: 0,
        remembered: None,
        uses: Vec::new(),
        elastic: false,
        ends_in: 0,
    }
}

impl Service {
    pub(in crate::gpu) fn on(mut self, cards: &[usize]) -> Self {
        self.share.devices = GpuDevices::Ids(cards.iter().copied().map(id).collect());
        self
    }

    pub(in crate::gpu) fn least(mut self, least: u64) -> Self {
        self.share.vram_min = Some(Bytes(least * MIB));
        self
    }

    /// It runs with these cards and this budget.
    pub(in crate::gpu) fn runs(mut self, cards: &[usize], budget: impl Into<Option<u64>>) -> Self {
        self.holds = Some(held(cards, budget.into()));
        (self.phase, self.granted) = (Phase::Up, true);
        self
    }

    /// It gives memory back while it runs.
    pub(in crate::gpu) fn elastic(mut self) -> Self {
        self.elastic = true;
        self
    }

    /// It can start only while these run, which depend on nothing.
    pub(in crate::gpu) fn after(mut self, names: &[&str]) -> Self {
        self.depends_on = names.iter().copied().map(name).collect();
        self.needs.clone_from(&self.depends_on);
        self
    }

    pub(in crate::gpu) fn uses(mut self, uses: &[u64]) -> Self {
        self.uses = uses.to_vec();
        self
    }

    pub(in crate::gpu) fn use_of(&self, card: usize) -> u64 {
        self.uses.get(card).copied().unwrap_or(0)
    }

    pub(in crate::gpu) fn stays(&self) -> bool {
        self.phase == Phase::Up && self.wants
    }

    fn excess(&self) -> u64 {
        if self.is_elastic() {
            return 0;
        }
        let vram = self.share.vram.map_or(0, |vram| vram.0);
        self.remembered.map(|seen| seen * MIB).filter(|seen| *seen > vram).unwrap_or(0)
    }

    /// Nobody gives back what does not run.
    fn is_elastic(&self) -> bool {
        self.elastic && self.phase == Phase::Up
    }

    pub(in crate::gpu) fn has(&self, card: usize) -> bool {
        self.holds.as_ref().is_some_and(|grant| grant.gpus.contains(&id(card)))
    }
}

pub(in crate::gpu) fn held(cards: &[usize], budget: Option<u64>) -> Grant {
    Grant {
        vendor: Vendor::Nvidia,
        gpus: cards.iter().copied().map(id).collect(),
        budget: budget.map(|budget| Bytes(budget * MIB)),
        nodes: Vec::new(),
        mounts: Vec::new(),
        environment: BTreeMap::new(),
    }
}

/// What a service asks of the cards.
pub(in crate::gpu) struct Asked {
    /// Those with memory of their own.
    pub(in crate::gpu) cards: Vec<usize>,
    pub(in crate::gpu) take: usize,
    /// Of each, as declared.
    pub(in crate::gpu) share: u64,
    seen: u64,
}

impl World {
    pub(in crate::gpu) fn inventory(&self) -> Inventory {
        let gpus = self.cards.iter().enumerate().map(|(index, card)| {
            let of = |pid, memory: u64, owner| Process {
                pid,
                kind: ProcessKind::Compute,
                memory: Some(Bytes(memory * MIB)),
                name: "process".to_owned(),
                owner,
            };
            let desktop = ProcessOwner::Unit("display-manager.service".to_owned());
            let mut processes = vec![of(1, card.foreign, desktop)];
            for (number, service) in (2..).zip(&self.services) {
                let owner = ProcessOwner::Container(service.name.clone());
                processes.push(of(number, service.use_of(index), owner));
            }
            processes.retain(|process| process.memory != Some(Bytes(0)));
            Gpu {
                id: id(index),
                vendor: Vendor::Nvidia,
                index: u32::try_from(index).unwrap(),
                name: "NVIDIA Test".to_owned(),
                part: Part::Whole,
                pci: None,
                memory: Some(Memory {
                    total: Bytes(card.total * MIB),
                    reserved: Bytes(card.reserved * MIB),
                    used: Bytes(self.used(index) * MIB),
                }),
                shares_memory: card.is_shared,
                nodes: Vec::new(),
                sensors: Sensors::default(),
                processes,
            }
        });
        Inventory { gpus: gpus.collect(), ..Inventory::default() }
    }

    pub(in crate::gpu) fn claims(&self) -> Vec<Claim<'_>> {
        let claim = |service: &'_ Service| -> (Option<Bytes>, Phase) {
            (service.remembered.map(|seen| Bytes(seen * MIB)), service.phase)
        };
        self.services
            .iter()
            .enumerate()
            .map(|(index, service)| {
                let (remembered, phase) = claim(service);
                Claim {
                    name: &service.name,
                    share: &service.share,
                    holds: service.holds.as_ref(),
                    phase,
                    wants: service.wants,
                    ready: self.is_ready(index),
                    needs: &service.needs,
                    granted: service.granted,
                    since: service.since,
                    remembered,
                    elastic: service.is_elastic(),
                }
            })
            .collect()
    }

    /// Whether only GPUs can keep it from starting.
    pub(in crate::gpu) fn is_ready(&self, index: usize) -> bool {
        let service = &self.services[index];
        let runs = |name: &ContainerName| self.services.iter().any(|other| other.name == *name && other.stays());
        !service.is_blocked && service.depends_on.iter().all(runs)
    }

    /// Whether it is to start, and something else keeps it from that.
    pub(in crate::gpu) fn is_hindered(&self, index: usize) -> bool {
        let service = &self.services[index];
        service.wants && !service.stays() && !self.is_ready(index)
    }

    fn known(&self, card: usize) -> u64 {
        self.cards[card].foreign + self.services.iter().map(|service| service.use_of(card)).sum::<u64>()
    }

    fn used(&self, card: usize) -> u64 {
        let Card { total, reserved, unknown, .. } = self.cards[card];
        (self.known(card) + unknown).min(total - reserved)
    }

    /// What nobody explains stays as much as it is, whatever ends: more than a card has cannot be in use.
    pub(in crate::gpu) fn settle_unknown(&mut self) {
        for card in 0..self.cards.len() {
            self.cards[card].unknown = self.used(card).saturating_sub(self.known(card));
        }
    }

    /// What can be given out of an empty card.
    pub(in crate::gpu) fn capacity(&self, card: usize) -> u64 {
        let Card { total, reserved, .. } = self.cards[card];
        let headroom = (total * MIB / 100 * 5).min(256 * MIB);
        ((total - reserved) * MIB).saturating_sub(headroom)
    }

    pub(in crate::gpu) fn others(&self, card: usize) -> u64 {
        (self.cards[card].foreign + self.used(card).saturating_sub(self.known(card))) * MIB
    }

    fn counted(&self) -> BTreeSet<usize> {
        (0..self.cards.len()).filter(|card| !self.cards[*card].is_shared).collect()
    }

    /// What a service has of a card, or was promised of it.
    pub(in crate::gpu) fn load(&self, index: usize, card: usize) -> u64 {
        let service = &self.services[index];
        let promised = match service.holds.as_ref().filter(|_| service.phase != Phase::Down && service.has(card)) {
            None => 0,
            Some(grant) => {
                let counted = self.counted().into_iter().filter(|card| service.has(*card)).count().max(1) as u64;
                let most = service.share.vram.map_or(0, |vram| vram.0);
                let budget = grant.budget.map_or(0, |budget| budget.0.min(most).div_ceil(counted));
                budget.max(service.excess().div_ceil(counted).min(self.capacity(card)))
            }
        };
        promised.max(service.use_of(card) * MIB)
    }

    pub(in crate::gpu) fn asked(&self, index: usize) -> Asked {
        let service = &self.services[index];
        let all: Vec<usize> = match &service.share.devices {
            GpuDevices::All | GpuDevices::Count(_) => (0..self.cards.len()).collect(),
            GpuDevices::Ids(ids) => (0..self.cards.len()).filter(|card| ids.contains(&id(*card))).collect(),
        };
        let cards: Vec<usize> = all.into_iter().filter(|card| !self.cards[*card].is_shared).collect();
        let take = match service.share.devices {
            GpuDevices::Count(count) => cards.len().min(count as usize),
            GpuDevices::All | GpuDevices::Ids(_) => cards.len(),
        };
        let least = service.share.vram_min.or(service.share.vram).map_or(0, |least| least.0);
        let split = |bytes: u64| bytes.div_ceil(take.max(1) as u64);
        Asked { share: split(least), seen: split(service.excess()), cards, take }
    }

    /// Whether so many cards are there.
    pub(in crate::gpu) fn has_cards_for(&self, index: usize) -> bool {
        match self.services[index].share.devices {
            GpuDevices::Count(count) => self.cards.len() >= count as usize,
            GpuDevices::All | GpuDevices::Ids(_) => true,
        }
    }

    pub(in crate::gpu) fn required(&self, asked: &Asked, card: usize) -> u64 {
        asked.share.max(asked.seen.min(self.capacity(card).saturating_sub(self.others(card))))
    }

    /// Whether a service fits where `stay` says which others stay.
    pub(in crate::gpu) fn fits(&self, index: usize, stay: impl Fn(usize) -> bool) -> bool {
        self.fitting(index, stay).len() >= self.asked(index).take
    }

    /// Whether it fits with all that is there, what ends among it.
    pub(in crate::gpu) fn fits_now_and_then(&self, index: usize) -> bool {
        self.fits(index, |_all| true)
    }

    /// The cards on which it has room then.
    pub(in crate::gpu) fn fitting(&self, index: usize, stay: impl Fn(usize) -> bool) -> Vec<usize> {
        let asked = self.asked(index);
        let fits = |card: &usize| {
            let loads = (0..self.services.len()).filter(|other| *other != index && stay(*other));
            let taken: u64 = loads.map(|other| self.load(other, *card)).sum::<u64>() + self.others(*card);
            let required = self.required(&asked, *card);
            required == 0 || taken + required <= self.capacity(*card)
        };
        asked.cards.iter().copied().filter(fits).collect()
    }

    /// Whether it could ever start.
    pub(in crate::gpu) fn is_possible(&self, index: usize) -> bool {
        let asked = self.asked(index);
        let can = |card: &&usize| self.capacity(**card) >= asked.share;
        self.has_cards_for(index) && asked.cards.iter().filter(can).count() >= asked.take
    }

    /// Whether it runs, or is to, without the GPUs that it asks for.
    pub(in crate::gpu) fn is_to_change(&self, index: usize) -> bool {
        let service = &self.services[index];
        let agrees = |grant: &Grant| match &service.share.devices {
            GpuDevices::All => grant.gpus.len() == self.cards.len(),
            GpuDevices::Count(count) => grant.gpus.len() == *count as usize,
            GpuDevices::Ids(ids) => {
                ids.iter().collect::<BTreeSet<_>>() == grant.gpus.iter().collect::<BTreeSet<_>>()
            }
        };
        service.wants && !(service.stays() && service.holds.as_ref().is_some_and(agrees))
    }

    /// Carries decisions out. What starts uses this many percent of its budget.
    pub(in crate::gpu) fn carry_out(&mut self, decisions: &BTreeMap<ContainerName, Decision>, percent: u64) {
        let cards = self.cards.len();
        let hindered: Vec<bool> = (0..self.services.len()).map(|index| self.is_hindered(index)).collect();
        for (service, is_hindered) in self.services.iter_mut().zip(hindered) {
            service.uses.resize(cards, 0);
            let decision = decisions.get(&service.name);
            service.granted =
                matches!(decision, Some(Decision::Granted(_) | Decision::Shrinks { .. })) && service.wants;
            let allocation = match decision {
                Some(Decision::Granted(allocation)) if service.wants => Some(allocation),
                Some(Decision::Shrinks { allocation, .. }) if service.wants => Some(allocation),
                Some(
                    Decision::Granted(_)
                    | Decision::Shrinks { .. }
                    | Decision::Waits { .. }
                    | Decision::Yields { .. },
                )
                | None => None,
            };
            if let Some(allocation) = allocation {
                let (gpus, budget) = (allocation.gpus.clone(), allocation.budget);
                service.holds = Some(Grant { gpus, budget, ..held(&[], None) });
            }
            match (service.phase, allocation) {
                (Phase::Ending, _) if service.ends_in > 0 => service.ends_in -= 1,
                (Phase::Ending, _) => {
                    service.phase = Phase::Down;
                    service.uses.fill(0);
                }
                (Phase::Up, _) if !service.wants || matches!(decision, Some(Decision::Yields { .. })) => {
                    service.phase = Phase::Ending;
                }
                (Phase::Down | Phase::Up, Some(allocation)) if !is_hindered => {
                    // What runs goes on using what it uses, wherever that is.
                    if service.phase == Phase::Down {
                        let budget = allocation.budget.map_or(0, |budget| budget.0 / MIB);
                        let share = budget / allocation.gpus.len() as u64 * percent / 100;
                        let of = |card| if allocation.gpus.contains(&id(card)) { share } else { 0 };
                        service.uses = (0..cards).map(of).collect();
                    }
                    service.phase = Phase::Up;
                }
                (Phase::Down | Phase::Up, Some(_) | None) => {}
            }
        }
    }
}
