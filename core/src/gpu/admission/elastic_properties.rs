//! What must be true where services give memory back and run on.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestCaseError;

use super::super::{Decision, Phase};
use super::properties::{cases, runner, world};
use super::rules::first_placed;
use super::world::{MIB, Service, World, card, service};
use super::{Ask, Outcome, admit, fit};
use crate::model::ContainerName;

type Decisions = BTreeMap<ContainerName, Decision>;

/// Rounds until every machine has come to rest.
const ROUNDS_MAX: usize = 200;

fn decide(world: &World) -> Decisions {
    admit(&world.inventory(), &world.claims())
}

fn budget(decisions: &Decisions, name: &ContainerName) -> Option<u64> {
    match decisions.get(name)? {
        Decision::Granted(allocation) | Decision::Shrinks { allocation, .. } => Some(allocation.budget?.0 / MIB),
        Decision::Waits { .. } | Decision::Yields { .. } => None,
    }
}

fn told(decisions: &Decisions, name: &str) -> String {
    match &decisions[&name.parse::<ContainerName>().unwrap()] {
        Decision::Granted(allocation) => format!("granted {}", allocation.budget.unwrap_or_default()),
        Decision::Shrinks { allocation, to, why } => {
            let to = to.as_ref().map_or("nobody", ContainerName::as_str);
            format!("shrinks to {} for {to}: {why}", allocation.budget.unwrap_or_default())
        }
        Decision::Waits { why, .. } => format!("waits: {why}"),
        Decision::Yields { to, why } => format!("yields to {to}: {why}"),
    }
}

/// A card of 12 GiB, a service that gives back and has nearly all of it, and one of a higher priority that wants 8 GiB.
fn held() -> World {
    let llm = service("llm", 11 * 1024, 30).runs(&[0], 11 * 1024).uses(&[11 * 1024]).elastic();
    World { cards: vec![card(12 * 1024)], services: vec![llm, service("game", 8 * 1024, 80)] }
}

/// What gives back has done so.
fn give_back(world: &mut World) {
    for service in world.services.iter_mut().filter(|service| service.elastic && service.phase == Phase::Up) {
        let Some(grant) = &service.holds else { continue };
        let Some(budget) = grant.budget else { continue };
        let share = budget.0 / MIB / grant.gpus.len() as u64;
        for (card, uses) in service.uses.iter_mut().enumerate() {
            if grant.gpus.contains(&super::world::id(card)) {
                *uses = (*uses).min(share);
            }
        }
    }
}

#[test]
fn memory_is_given_back_before_anybody_is_stopped() {
    let mut world = held();
    let decisions = decide(&world);
    let shrinks = "shrinks to 3840M for game: for `game` (priority 80): 3.7G of the 11G that it wants stay";
    assert_eq!(told(&decisions, "llm"), shrinks);
    let gives = "`llm` (priority 30) gives back 7.3G for it (priority 80) and runs on";
    assert_eq!(
        told(&decisions, "game"),
        format!("waits: needs 8G: GPU 0 (NVIDIA Test) has 768M of 12G free (`llm` has 11G); {gives}")
    );
    world.carry_out(&decisions, 100);
    // Until it has come back, nobody is given it, and nobody is stopped.
    let decisions = decide(&world);
    assert_eq!(told(&decisions, "llm"), shrinks);
    let comes_back = "it waits until 7.3G of `llm` came back";
    assert!(told(&decisions, "game").ends_with(comes_back), "{}", told(&decisions, "game"));
    world.carry_out(&decisions, 100);
    give_back(&mut world);
    let decisions = decide(&world);
    assert_eq!(
        (told(&decisions, "llm").as_str(), told(&decisions, "game").as_str()),
        ("granted 3840M", "granted 8G")
    );
    world.carry_out(&decisions, 100);
    assert_eq!(world.services[1].phase, Phase::Up);
    assert_eq!(told(&decide(&world), "llm"), "granted 3840M");
    // When the other one ends, it has all of it again.
    (world.services[1].wants, world.services[1].phase, world.services[1].uses) = (false, Phase::Down, vec![0]);
    assert_eq!(told(&decide(&world), "llm"), "granted 11G");
}

#[test]
fn who_cannot_give_back_any_more_is_stopped() {
    let mut world = held();
    world.carry_out(&decide(&world), 100);
    world.services[0].elastic = false;
    assert!(told(&decide(&world), "llm").starts_with("yields to game"), "{}", told(&decide(&world), "llm"));
}

#[test]
fn what_others_use_is_given_back_too_by_the_lowest_priority_first() {
    let mut world = World {
        cards: vec![card(12 * 1024)],
        services: vec![
            service("a", 5 * 1024, 30).runs(&[0], 5 * 1024).uses(&[5 * 1024]).elastic(),
            service("b", 6 * 1024, 70).runs(&[0], 6 * 1024).uses(&[6 * 1024]).elastic(),
        ],
    };
    world.cards[0].foreign = 6 * 1024;
    let decisions = decide(&world);
    let why = "for nobody: others use more of the GPU";
    assert_eq!(told(&decisions, "a"), format!("shrinks to 0 {why}: 0M of the 5G that it wants stay"));
    assert_eq!(told(&decisions, "b"), format!("shrinks to 5888M {why}: 5.7G of the 6G that it wants stay"));
    world.carry_out(&decisions, 100);
    give_back(&mut world);
    world.cards[0].foreign = 0;
    let decisions = decide(&world);
    assert_eq!((told(&decisions, "a"), told(&decisions, "b")), ("granted 5G".to_owned(), "granted 6G".to_owned()));
}

#[test]
fn an_equal_or_lower_priority_gets_nothing_given_back() {
    for priority in [30, 10] {
        let mut world = held();
        world.services[1].share.priority = priority;
        let decisions = decide(&world);
        assert_eq!(told(&decisions, "llm"), "granted 11G");
        assert!(told(&decisions, "game").starts_with("waits: needs 8G"), "{}", told(&decisions, "game"));
    }
}

#[test]
fn only_what_is_lacking_then_is_stopped() {
    let mut world = held();
    world.services.push(service("old", 5 * 1024, 20).runs(&[0], 5 * 1024).uses(&[5 * 1024]));
    world.cards[0].total = 17 * 1024;
    world.services[1].share.vram = Some(crate::model::Bytes(14 << 30));
    let decisions = decide(&world);
    // All that the models have is not enough; with what the other one has, a part of it is.
    assert!(told(&decisions, "old").starts_with("yields to game"), "{}", told(&decisions, "old"));
    assert_eq!(budget(&decisions, &"llm".parse().unwrap()), Some(17 * 1024 - 256 - 14 * 1024));
}

#[test]
fn the_question_tells_who_would_give_back() {
    let world = held();
    let name = "game".parse().unwrap();
    let found = fit(&world.inventory(), &world.claims(), &Ask { name: Some(&name), share: None }).unwrap();
    assert_eq!(found.outcome, Outcome::Yields);
    let gives: Vec<(String, u64)> =
        found.gives.iter().map(|other| (other.name.to_string(), other.memory.0 / MIB)).collect();
    assert_eq!((gives, found.yields), (vec![("llm".to_owned(), 7 * 1024 + 256)], Vec::new()));
}

/// Machines on which about half of what runs gives memory back.
fn elastic_world() -> impl Strategy<Value = World> {
    (world(), any::<u8>()).prop_map(|(mut world, drawn)| {
        for (index, service) in world.services.iter_mut().enumerate() {
            let has_budget = service.holds.as_ref().is_some_and(|grant| grant.budget.is_some());
            service.elastic = drawn >> (index % 8) & 1 == 1 && service.share.vram.is_some() && has_budget;
        }
        world
    })
}

fn stays(service: &Service) -> bool {
    service.stays()
}

/// Returns whether a service would have room if everybody below it gave back what can be given back.
fn would_fit(world: &World, first: usize) -> bool {
    let Service { share, needs, .. } = &world.services[first];
    // What is used of a GPU that it was not given is not its to give back.
    let strays = |other: &Service| (0..world.cards.len()).any(|card| other.use_of(card) > 0 && !other.has(card));
    let gives = |other: &Service| {
        let goes_after = other.share.priority < share.priority && !needs.contains(&other.name);
        other.elastic && goes_after && !strays(other)
    };
    world.fits(first, |other| stays(&world.services[other]) && !gives(&world.services[other]))
}

fn check(world: &World) -> Result<(), String> {
    let decisions = decide(world);
    for service in &world.services {
        let Some(Decision::Shrinks { allocation, to, .. }) = decisions.get(&service.name) else { continue };
        if !service.elastic || !service.stays() {
            return Err(format!("{} cannot give back", service.name));
        }
        let had = service.holds.as_ref().and_then(|grant| grant.budget);
        if allocation.budget > had || allocation.budget.is_none() {
            return Err(format!("{} shrinks from {had:?} to {:?}", service.name, allocation.budget));
        }
        let to = to.as_ref().and_then(|to| world.services.iter().find(|other| other.name == *to));
        if to.is_some_and(|to| to.share.priority <= service.share.priority || to.needs.contains(&service.name)) {
            return Err(format!("{} gives back for {to:?}", service.name));
        }
    }
    for card in 0..world.cards.len() {
        // Who claims nothing takes nothing.
        let new = |service: &&Service| service.phase == Phase::Down && budget(&decisions, &service.name) > Some(0);
        if world.cards[card].is_shared
            || !world.services.iter().filter(new).any(|service| starts_on(&decisions, service, card))
        {
            continue;
        }
        // What is in use now counts until it has come back.
        let load = |(index, service): (usize, &Service)| match decisions.get(&service.name) {
            Some(Decision::Granted(allocation)) if service.phase == Phase::Down => {
                let gpus = allocation
                    .gpus
                    .iter()
                    .filter(|gpu| {
                        (0..world.cards.len())
                            .any(|card| super::world::id(card) == **gpu && !world.cards[card].is_shared)
                    })
                    .count()
                    .max(1) as u64;
                if starts_on(&decisions, service, card) {
                    allocation.budget.map_or(0, |budget| budget.0.div_ceil(gpus))
                } else {
                    0
                }
            }
            _other => world.load(index, card),
        };
        let sum = world.services.iter().enumerate().map(load).sum::<u64>() + world.others(card);
        if sum > world.capacity(card) {
            return Err(format!("{sum} of {} are given out of card {card}: {decisions:#?}", world.capacity(card)));
        }
    }
    let Some(first) = first_placed(world).filter(|first| world.is_possible(*first)) else { return Ok(()) };
    let name = &world.services[first].name;
    let yields = decisions.values().any(|decision| matches!(decision, Decision::Yields { to, .. } if to == name));
    if yields && would_fit(world, first) {
        return Err(format!("somebody is stopped for {name}, and others could give back enough: {decisions:#?}"));
    }
    spares(world, &decisions, first)?;
    let shrinks = decisions
        .iter()
        .filter(|(_, decision)| matches!(decision, Decision::Shrinks { to: Some(to), .. } if to == name));
    if shrinks.count() > 0 && world.fits_now_and_then(first) {
        return Err(format!("memory is given back for {name}, which has room"));
    }
    Ok(())
}

/// Checks that nobody gives back more than is lacking, where there is one GPU.
fn spares(world: &World, decisions: &Decisions, first: usize) -> Result<(), String> {
    let name = &world.services[first].name;
    let gives = |service: &&Service| {
        let had = service.holds.as_ref().and_then(|grant| grant.budget).map(|budget| budget.0 / MIB);
        let for_it =
            matches!(decisions.get(&service.name), Some(Decision::Shrinks { to: Some(to), .. }) if to == name);
        for_it && budget(decisions, &service.name) < had.min(service.share.vram.map(|vram| vram.0 / MIB))
    };
    let yields = decisions.values().any(|decision| matches!(decision, Decision::Yields { .. }));
    if world.cards.len() > 1 || yields || !world.services.iter().any(|service| gives(&service)) {
        return Ok(());
    }
    let stays = |(index, service): (usize, &Service)| match decisions.get(&service.name) {
        _ if index == first || !service.stays() => 0,
        Some(Decision::Shrinks { allocation, .. }) => allocation.budget.unwrap_or_default().0,
        // It may be asked to give back what it uses beyond its budget.
        Some(Decision::Granted(allocation)) if service.elastic => allocation.budget.unwrap_or_default().0,
        _other => world.load(index, 0),
    };
    let taken = world.services.iter().enumerate().map(stays).sum::<u64>() + world.others(0);
    let (required, capacity) = (world.required(&world.asked(first), 0), world.capacity(0));
    if taken + required == capacity {
        Ok(())
    } else {
        Err(format!("{taken} and {required} of {capacity}: {decisions:#?}"))
    }
}

fn starts_on(decisions: &Decisions, service: &Service, card: usize) -> bool {
    matches!(decisions.get(&service.name), Some(Decision::Granted(allocation)) if allocation.gpus.contains(&super::world::id(card)))
}

/// Carries passes out until nothing changes; memory comes back a round after it was asked for.
fn settle(world: &World) -> Result<(), String> {
    let mut world = world.clone();
    world.settle_unknown();
    let mut stopped: Vec<ContainerName> = Vec::new();
    for _round in 0..ROUNDS_MAX {
        let decisions = decide(&world);
        let before = world.clone();
        let late = world.clone();
        world.carry_out(&decisions, 100);
        for (service, old) in world.services.iter_mut().zip(&late.services) {
            if service.phase == Phase::Ending && old.phase == Phase::Up {
                stopped.push(service.name.clone());
            }
        }
        // Of what was asked for in an earlier round.
        let mut given = late;
        give_back(&mut given);
        for (service, given) in world.services.iter_mut().zip(&given.services) {
            if service.phase == Phase::Up && given.phase == Phase::Up && service.elastic {
                service.uses.clone_from(&given.uses);
            }
        }
        if world == before {
            return rests(&world, &decisions);
        }
    }
    Err("nothing comes to rest".to_owned())
}

fn rests(world: &World, decisions: &Decisions) -> Result<(), String> {
    check(world)?;
    let Some(first) = first_placed(world).filter(|first| world.services[*first].phase == Phase::Down) else {
        return Ok(());
    };
    if world.is_possible(first) && would_fit(world, first) {
        return Err(format!("{} still waits: {decisions:#?}", world.services[first].name));
    }
    Ok(())
}

#[test]
fn passes_with_elastic_services_keep_the_rules_and_come_to_rest() {
    let result = runner(cases(3_000))
        .run(&elastic_world(), |world| check(&world).and_then(|()| settle(&world)).map_err(TestCaseError::fail));
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn who_gives_back_is_decided_whatever_the_order() {
    let result = runner(cases(1_000)).run(&elastic_world(), |world| {
        let turned = super::rules::shuffled(&world);
        prop_assert_eq!(decide(&world), decide(&turned));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_machines_have_something_to_give_back() {
    let (mut shrinks, mut for_others, mut beside) = (0, 0, 0);
    let mut runner = runner(1);
    for _ in 0..1000 {
        let world = elastic_world().new_tree(&mut runner).unwrap().current();
        let decisions = decide(&world);
        let of = |wanted: bool| {
            decisions
                .values()
                .any(|decision| matches!(decision, Decision::Shrinks { to, .. } if to.is_some() == wanted))
        };
        shrinks += usize::from(of(true));
        for_others += usize::from(of(false));
        let yields = decisions.values().any(|decision| matches!(decision, Decision::Yields { .. }));
        beside += usize::from(of(true) && yields);
    }
    println!("of 1000: for services {shrinks}, for others {for_others}, beside one that is stopped {beside}");
    assert!(shrinks > 40 && for_others > 100 && beside > 5);
}
