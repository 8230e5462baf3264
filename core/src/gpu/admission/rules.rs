//! What must be true of every pass, checked by the figures of `world` and, where a choice is made, by trying all of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use super::super::{Decision, Phase};
use super::world::{MIB, World, id};
use crate::model::ContainerName;

/// What must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// What is newly promised is, with all else, not more than a GPU has.
    Capacity,
    /// What runs keeps its GPUs and its budget, or yields to who waits and is of a higher priority.
    Untouched,
    /// Who yields to the first is the cheapest set of all, and nobody where nobody helps.
    Cheapest,
    /// What the first waits for is not given to others.
    Kept,
    /// Who had GPUs with room for it is given those.
    Places,
    /// The order of the claims is of no matter.
    Order,
    /// Nobody yields to who could not start without it, or cannot start anyway.
    Gates,
    /// Who can never start, or waits for something else, changes nothing for others.
    InTheWay,
    /// Who waits is told the numbers.
    Numbers,
    /// Everybody who is to run is decided of, and nobody else.
    Everybody,
    /// Passes that are carried out come to rest.
    Settles,
    /// Nobody is stopped for one that is not granted anything by it.
    Purpose,
    /// The highest priority does not wait for lower ones for ever.
    Starves,
}

/// A rule that was broken.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

type Decisions = BTreeMap<ContainerName, Decision>;

/// Returns the same with the services in another order.
pub(super) fn shuffled(world: &World) -> World {
    let mut world = world.clone();
    world.services.reverse();
    world
}

/// Returns the service that is served first of those for which GPUs have to be found.
pub(super) fn first_placed(world: &World) -> Option<usize> {
    let placed = (0..world.services.len()).filter(|index| {
        let service = &world.services[*index];
        service.wants && !(service.stays() && service.holds.is_some()) && !world.is_hindered(*index)
    });
    placed.min_by_key(|index| {
        let service = &world.services[*index];
        (Reverse(service.share.priority), !service.stays(), service.since, service.name.clone())
    })
}

/// Checks one pass by itself.
pub(super) fn check(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    everybody(world, decisions)?;
    capacity(world, decisions)?;
    untouched(world, decisions)?;
    gates(world, decisions)?;
    numbers(world, decisions)?;
    // Of the others, the choice depends on what became of those before them.
    match first_placed(world).filter(|first| world.is_possible(*first)) {
        Some(first) => of_the_first(world, decisions, first),
        None => Ok(()),
    }
}

fn broken(rule: Rule, text: impl Into<String>) -> Result<(), Violation> {
    Err(Violation { rule, text: text.into() })
}

fn everybody(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    for service in &world.services {
        let is_decided = decisions.contains_key(&service.name);
        let has_some = service.phase != Phase::Down && service.holds.is_some();
        if is_decided != (service.wants || has_some) {
            return broken(Rule::Everybody, format!("{} is decided of: {is_decided}", service.name));
        }
    }
    Ok(())
}

/// What a service counts with on a card after the pass, and whether some of it is new.
fn load_after(world: &World, decisions: &Decisions, index: usize, card: usize) -> (u64, bool) {
    let service = &world.services[index];
    let had = world.load(index, card);
    let Some(Decision::Granted(allocation)) = decisions.get(&service.name).filter(|_| service.wants) else {
        return (had, false);
    };
    let counted = (0..world.cards.len())
        .filter(|card| !world.cards[*card].is_shared && allocation.gpus.contains(&id(*card)))
        .count();
    let is_its = allocation.gpus.contains(&id(card));
    let promised =
        allocation.budget.filter(|_| is_its).map_or(0, |budget| budget.0.div_ceil(counted.max(1) as u64));
    (had.max(promised), promised > had || (promised > 0 && service.phase == Phase::Down))
}

fn capacity(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    for card in (0..world.cards.len()).filter(|card| !world.cards[*card].is_shared) {
        let loads: Vec<(u64, bool)> =
            (0..world.services.len()).map(|index| load_after(world, decisions, index, card)).collect();
        let sum = loads.iter().map(|(load, _)| load).sum::<u64>() + world.others(card);
        if loads.iter().any(|(_, is_new)| *is_new) && sum > world.capacity(card) {
            let capacity = world.capacity(card);
            return broken(
                Rule::Capacity,
                format!("{sum} of {capacity} are given out of card {card}: {decisions:#?}"),
            );
        }
    }
    Ok(())
}

fn untouched(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    let find = |name: &ContainerName| world.services.iter().find(|service| service.name == *name);
    for (index, service) in world.services.iter().enumerate().filter(|(_, service)| service.phase == Phase::Up) {
        let name = &service.name;
        match (decisions.get(name), &service.holds) {
            (Some(Decision::Yields { to, .. }), _) => {
                let waits = matches!(decisions.get(to), Some(Decision::Waits { .. }));
                let is_higher = find(to).is_some_and(|to| to.share.priority > service.share.priority);
                if !waits || !is_higher || !service.wants {
                    return broken(Rule::Untouched, format!("{name} yields to {to}"));
                }
            }
            (Some(Decision::Granted(allocation) | Decision::Shrinks { allocation, .. }), Some(grant)) => {
                let least = match (grant.budget, service.share.vram.filter(|_| service.wants)) {
                    (Some(had), Some(vram)) => Some(had.min(vram)),
                    (had, None) if !service.wants => had,
                    (_, _) => None,
                };
                let moved = !world.is_to_change(index) && allocation.gpus != grant.gpus;
                if moved || (!world.is_to_change(index) && allocation.budget < least) {
                    return broken(Rule::Untouched, format!("{name} had {grant:?} and has {allocation:?}"));
                }
            }
            (Some(Decision::Waits { .. }), Some(_)) => {
                return broken(Rule::Untouched, format!("{name} runs and is to wait"));
            }
            (Some(Decision::Waits { .. } | Decision::Granted(_) | Decision::Shrinks { .. }) | None, None)
            | (None, Some(_)) => {}
        }
    }
    Ok(())
}

fn gates(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    let yields = |name: &ContainerName| matches!(decisions.get(name), Some(Decision::Yields { .. }));
    for (name, decision) in decisions {
        let Decision::Yields { to, .. } = decision else { continue };
        let for_whom = (0..world.services.len()).find(|index| world.services[*index].name == *to);
        let in_vain = for_whom.is_none_or(|to| {
            let needs = &world.services[to].needs;
            world.is_hindered(to) || needs.contains(name) || needs.iter().any(yields)
        });
        if in_vain {
            return broken(Rule::Gates, format!("{name} yields to {to}, which cannot start: {decisions:#?}"));
        }
    }
    Ok(())
}

fn numbers(world: &World, decisions: &Decisions) -> Result<(), Violation> {
    for (index, service) in world.services.iter().enumerate() {
        let Some(Decision::Waits { why, .. }) = decisions.get(&service.name) else { continue };
        let is_told = if world.has_cards_for(index) {
            let asked = world.asked(index);
            let cards = asked.cards.iter().take(4);
            let mut totals = cards.map(|card| crate::model::Bytes(world.cards[*card].total * MIB).roughly());
            let each = rounded_up(asked.share);
            // Where it was seen to use more, that is told.
            (why.starts_with(&format!("needs {each}")) || service.remembered.is_some())
                && totals.all(|total| {
                    why.contains(&format!(" of {total} free")) || why.contains(&format!(" of its {total} at most"))
                })
        } else {
            why.contains(&format!("{} are there", world.cards.len())) || why.contains("1 is there")
        };
        if !is_told || why.contains('\n') {
            return broken(Rule::Numbers, format!("{} waits: {why}", service.name));
        }
    }
    Ok(())
}

/// The size for people, never less than it is.
fn rounded_up(bytes: u64) -> String {
    let (unit, letter) = if bytes >= 1 << 30 { (1 << 30, 'G') } else { (1 << 20, 'M') };
    let tenths = (bytes * 10).div_ceil(unit);
    if tenths % 10 == 0 {
        format!("{}{letter}", tenths / 10)
    } else {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    }
}

/// Checks what becomes of the one that is served first, and could start on this machine.
fn of_the_first(world: &World, decisions: &Decisions, first: usize) -> Result<(), Violation> {
    let service = &world.services[first];
    let stays = |index: usize| world.services[index].stays();
    let is_now = world.fits_now_and_then(first);
    let yielding: Vec<usize> = (0..world.services.len())
        .filter(|index| {
            let decision = decisions.get(&world.services[*index].name);
            matches!(decision, Some(Decision::Yields { to, .. }) if *to == service.name)
        })
        .collect();
    let granted = matches!(decisions.get(&service.name), Some(Decision::Granted(_)));
    let best = if is_now || world.fits(first, stays) { Some(Vec::new()) } else { cheapest(world, first) };
    let right = best.clone().unwrap_or_default();
    if right != yielding {
        return broken(Rule::Cheapest, format!("to {} yield {yielding:?}, and {right:?} is right", service.name));
    }
    if is_now != granted {
        return broken(Rule::Cheapest, format!("{} fits now: {is_now}", service.name));
    }
    if is_now {
        places(world, decisions, first)?;
    }
    if best.is_some() && !is_now {
        kept(world, decisions, first, &yielding)?;
    }
    Ok(())
}

/// Tries every set of those who can be asked.
fn cheapest(world: &World, first: usize) -> Option<Vec<usize>> {
    let asked = world.asked(first);
    let (priority, needs) = (world.services[first].share.priority, &world.services[first].needs);
    let mut all: Vec<usize> = (0..world.services.len())
        .filter(|index| {
            let service = &world.services[*index];
            let helps = asked.cards.iter().any(|card| world.load(*index, *card) > 0);
            service.stays() && service.share.priority < priority && helps && !needs.contains(&service.name)
        })
        .collect();
    all.sort_by_key(|index| world.services[*index].name.clone());
    let counted: Vec<usize> = (0..world.cards.len()).filter(|card| !world.cards[*card].is_shared).collect();
    let memory = |index: &usize| counted.iter().map(|card| world.load(*index, *card)).sum::<u64>();
    let sets = (1_u32..1 << all.len()).map(|mask| -> Vec<usize> {
        (0..all.len()).filter(|place| mask >> place & 1 == 1).map(|place| all[place]).collect()
    });
    let fits = |set: &Vec<usize>| world.fits(first, |other| world.services[other].stays() && !set.contains(&other));
    let mut best = sets.filter(fits).min_by_key(|set| {
        let highest = set.iter().map(|index| world.services[*index].share.priority).max();
        (highest, set.iter().map(memory).sum::<u64>(), set.len(), set.clone())
    })?;
    best.sort_unstable();
    Some(best)
}

/// What was newly granted leaves the first its room, once those have ended who yield to it.
fn kept(world: &World, decisions: &Decisions, first: usize, yielding: &[usize]) -> Result<(), Violation> {
    let asked = world.asked(first);
    let fits = |card: &&usize| {
        let after = |index: usize| {
            let service = &world.services[index];
            let granted = matches!(decisions.get(&service.name), Some(Decision::Granted(_))) && service.wants;
            // Who yields to others ends as well.
            match (granted, service.stays()) {
                (true, _) if service.stays() => {
                    (service.use_of(**card) * MIB).max(promised(decisions, world, index, **card))
                }
                (true, _) => {
                    load_after(world, decisions, index, **card).0.min(promised(decisions, world, index, **card))
                }
                (false, true) if matches!(decisions.get(&service.name), Some(Decision::Yields { .. })) => 0,
                (false, true) => world.load(index, **card),
                (false, false) => 0,
            }
        };
        let others = (0..world.services.len()).filter(|index| *index != first && !yielding.contains(index));
        let taken = others.map(after).sum::<u64>() + world.others(**card);
        let required = world.required(&asked, **card);
        required == 0 || taken + required <= world.capacity(**card)
    };
    if asked.cards.iter().filter(fits).count() >= asked.take {
        return Ok(());
    }
    broken(Rule::Kept, format!("the room of {} is given away: {decisions:#?}", world.services[first].name))
}

fn promised(decisions: &Decisions, world: &World, index: usize, card: usize) -> u64 {
    match decisions.get(&world.services[index].name) {
        Some(Decision::Granted(allocation)) if allocation.gpus.contains(&id(card)) => {
            let counted = allocation
                .gpus
                .iter()
                .filter(|gpu| (0..world.cards.len()).any(|card| id(card) == **gpu && !world.cards[card].is_shared))
                .count()
                .max(1) as u64;
            allocation.budget.map_or(0, |budget| budget.0.div_ceil(counted))
        }
        _none => 0,
    }
}

/// Who had GPUs and has room on them is given those.
fn places(world: &World, decisions: &Decisions, first: usize) -> Result<(), Violation> {
    let service = &world.services[first];
    let Some(Decision::Granted(allocation)) = decisions.get(&service.name) else { return Ok(()) };
    let asked = world.asked(first);
    let all = |index: usize| index != first;
    let now = world.fitting(first, all);
    let had: Vec<usize> = now.into_iter().filter(|card| service.has(*card)).collect();
    let given = |card: &&usize| allocation.gpus.contains(&id(**card));
    let kept = had.iter().filter(given).count();
    if kept < had.len().min(asked.take) {
        return broken(Rule::Places, format!("{} had {had:?} and is given {allocation:?}", service.name));
    }
    Ok(())
}
