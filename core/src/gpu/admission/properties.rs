//! Properties: every pass over a made-up machine keeps the rules of `rules`, and passes that are carried out one after the other
//! come to rest. Then mistakes are planted in the passes, and each must be noticed by the rule that it breaks.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::super::{Claim, Inventory, Phase};
use super::mistakes::{Mistake, mistaken};
use super::rules::{Rule, Violation, check, first_placed, shuffled};
use super::world::{Card, MIB, Service, World, held, id};
use super::{Decision, admit};
use crate::model::fixture::name;
use crate::model::{Bytes, ContainerName, GpuDevices, GpuShare};

/// What sizes are multiples of, in MiB.
const GRAIN: u64 = 256;
/// Rounds in which everything must have settled: every service can be asked to end by each that goes before it, and takes two rounds
/// to do so.
const ROUNDS_MAX: usize = 60;

type Decisions = BTreeMap<ContainerName, Decision>;

fn grains(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|grains| grains * GRAIN)
}

prop_compose! {
    fn drawn_card()(
        total in prop::sample::select(vec![4, 8, 8, 12]),
        reserved in prop::option::weighted(0.3, grains(1..3)),
        foreign in prop::option::weighted(0.4, grains(1..12)),
        unknown in prop::option::weighted(0.2, grains(1..8)),
        is_shared in prop::bool::weighted(0.08),
    ) -> Card {
        let or_none = Option::unwrap_or_default;
        Card { total: total * 1024, reserved: or_none(reserved), foreign: or_none(foreign), unknown: or_none(unknown), is_shared }
    }
}

/// A service before it is known how many cards there are.
#[derive(Clone, Debug)]
struct Draw {
    /// 0: all; to 2: so many; above: those of these bits.
    devices: u8,
    bits: u8,
    vram: Option<u64>,
    less: Option<u64>,
    priority: u8,
    phase: Phase,
    wants: bool,
    granted: bool,
    since: u64,
    /// Which cards it holds, and with how much.
    holds: Option<(u8, Option<u64>)>,
    remembered: Option<u64>,
    uses: [u64; 4],
    /// How far away in the list the one stands that it depends on.
    depends_on: Option<usize>,
    is_blocked: bool,
}

prop_compose! {
    fn draw()(
        devices in prop::sample::select(vec![0_u8, 1, 1, 1, 2, 3, 3]),
        bits in 1_u8..8,
        vram in prop::option::weighted(0.85, grains(1..28)),
        less in prop::option::weighted(0.4, grains(0..12)),
        priority in prop::sample::select(vec![0_u8, 20, 50, 50, 80, 100]),
        phase in prop::sample::select(vec![Phase::Down, Phase::Down, Phase::Up, Phase::Up, Phase::Up, Phase::Ending]),
        wants in prop::bool::weighted(0.92),
        granted in any::<bool>(),
        since in 0_u64..3,
        holds in prop::option::weighted(0.9, (1_u8..8, prop::option::weighted(0.8, grains(1..20)))),
        remembered in prop::option::weighted(0.25, grains(1..40)),
        uses in prop::array::uniform4(prop_oneof![2 => Just(0), 1 => grains(1..12)]),
        depends_on in prop::option::weighted(0.3, 1_usize..4),
        is_blocked in prop::bool::weighted(0.04),
    ) -> Draw {
        Draw {
            devices, bits, vram, less, priority, phase, wants, granted, since, holds, remembered, uses, depends_on, is_blocked
        }
    }
}

impl Draw {
    fn service(self, index: usize, cards: usize) -> Service {
        let of_bits = |bits: u8| -> Vec<usize> {
            let all: Vec<usize> = (0..cards).filter(|card| bits >> card & 1 == 1).collect();
            if all.is_empty() { vec![0] } else { all }
        };
        let devices = match self.devices {
            0 => GpuDevices::All,
            count @ 1..=2 => GpuDevices::Count(count.into()),
            _named => GpuDevices::Ids(of_bits(self.bits).into_iter().map(id).collect()),
        };
        // What runs has mostly what it asks for.
        let holds = self.holds.map(|(bits, budget)| {
            let cards = match &devices {
                GpuDevices::All => (0..cards).collect(),
                GpuDevices::Count(count) => {
                    let first = usize::from(bits) % cards;
                    (first..cards).chain(0..first).take(*count as usize).collect()
                }
                GpuDevices::Ids(_) if bits < 6 => of_bits(self.bits),
                GpuDevices::Ids(_) => of_bits(bits),
            };
            let mut cards: Vec<usize> = cards;
            cards.sort_unstable();
            held(&cards, budget.filter(|_| self.vram.is_some()))
        });
        let mut service = Service {
            name: name(&format!("s{index}")),
            share: GpuShare {
                vendor: None,
                devices,
                vram: self.vram.map(|vram| Bytes(vram * MIB)),
                vram_min: self.vram.zip(self.less).map(|(vram, less)| Bytes(vram.saturating_sub(less) * MIB)),
                priority: self.priority,
            },
            holds,
            phase: self.phase,
            wants: self.wants,
            depends_on: BTreeSet::new(),
            needs: BTreeSet::new(),
            is_blocked: self.is_blocked,
            granted: self.granted,
            since: self.since,
            remembered: self.remembered,
            uses: self.uses[..cards].to_vec(),
            elastic: false,
            ends_in: 1,
        };
        for card in 0..cards {
            // Nothing runs without a process, and nothing uses a GPU without its node.
            if service.phase == Phase::Down || (!service.has(card) && !index.is_multiple_of(4)) {
                service.uses[card] = 0;
            }
        }
        service
    }
}

/// Half of them are tight: a high priority comes to machines that are in use.
pub(super) fn world() -> impl Strategy<Value = World> {
    let cards = prop::collection::vec(drawn_card(), 1..4);
    let tight = prop::option::of((8_u64..44).prop_map(|grains| Bytes(grains * GRAIN * MIB)));
    (cards, prop::collection::vec(draw(), 1..7), tight, any::<bool>()).prop_map(|(cards, draws, tight, forward)| {
        let mut draws = draws;
        if tight.is_some() {
            for draw in draws.iter_mut().filter(|draw| draw.phase != Phase::Down) {
                (draw.phase, draw.wants) = (Phase::Up, true);
            }
            let first = &mut draws[0];
            (first.phase, first.wants, first.priority, first.is_blocked) = (Phase::Down, true, 100, false);
        }
        let dependencies: Vec<Option<usize>> = draws.iter().map(|draw| draw.depends_on).collect();
        let services = draws.into_iter().enumerate().map(|(index, draw)| draw.service(index, cards.len()));
        let mut world = World { services: services.collect(), cards };
        depend(&mut world.services, &dependencies, forward);
        if let Some(vram) = tight {
            let share = &mut world.services[0].share;
            (share.vram, share.vram_min) = (Some(vram), share.vram_min.filter(|least| *least <= vram));
        }
        world
    })
}

/// Lets services depend on others, all forward in the list or all backward.
fn depend(services: &mut [Service], dependencies: &[Option<usize>], forward: bool) {
    let mut order: Vec<usize> = (0..services.len()).collect();
    if forward {
        order.reverse();
    }
    // What is depended on comes first.
    for index in order {
        let Some(away) = dependencies[index] else { continue };
        let other = if forward { index.checked_add(away) } else { index.checked_sub(away) };
        let Some(other) = other.and_then(|other| services.get(other)).cloned() else { continue };
        services[index].depends_on = [other.name.clone()].into();
        services[index].needs = other.needs.into_iter().chain([other.name]).collect();
    }
}

pub(super) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha))
}

fn samples(count: usize) -> impl Iterator<Item = World> {
    let mut runner = runner(1);
    std::iter::repeat_with(move || world().new_tree(&mut runner).unwrap().current()).take(count)
}

pub(super) fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

type Planner<'a> = &'a dyn Fn(&Inventory, &[Claim<'_>]) -> Decisions;

/// Checks one pass.
fn check_pass(world: &World, planner: Planner<'_>) -> Result<(), Violation> {
    let decisions = planner(&world.inventory(), &world.claims());
    check(world, &decisions)?;
    let turned = shuffled(world);
    if planner(&turned.inventory(), &turned.claims()) != decisions {
        return Err(Violation {
            rule: Rule::Order,
            text: "another order of the claims decides otherwise".to_owned(),
        });
    }
    hindered_are_in_nobodys_way(world, planner, &decisions)?;
    let Some(first) = first_placed(world).filter(|first| !world.is_possible(*first)) else { return Ok(()) };
    // What can never start is in nobody's way.
    let mut without = world.clone();
    let name = without.services.remove(first).name;
    if world.services[first].uses.iter().any(|uses| *uses > 0) || world.services[first].phase != Phase::Down {
        return Ok(());
    }
    let mut rest = decisions;
    rest.remove(&name);
    if planner(&without.inventory(), &without.claims()) != rest {
        return Err(Violation {
            rule: Rule::InTheWay,
            text: format!("{name} can never start, and changes something"),
        });
    }
    Ok(())
}

/// Checks that those who wait for something else change nothing for the others.
fn hindered_are_in_nobodys_way(
    world: &World,
    planner: Planner<'_>,
    decisions: &Decisions,
) -> Result<(), Violation> {
    // What ends is seen by others until it has.
    let is_out = |index: &usize| world.is_hindered(*index) && world.services[*index].phase == Phase::Down;
    let out: Vec<usize> = (0..world.services.len()).filter(is_out).collect();
    let has_something = |index: &usize| world.services[*index].uses.iter().any(|uses| *uses > 0);
    if out.is_empty() || out.iter().any(has_something) {
        return Ok(());
    }
    let mut without = world.clone();
    for index in out.iter().rev() {
        without.services.remove(*index);
    }
    let of_others = |decisions: Decisions| -> Decisions {
        let is_hindered = |name: &ContainerName| {
            (0..world.services.len()).any(|index| world.services[index].name == *name && world.is_hindered(index))
        };
        decisions.into_iter().filter(|(name, _)| !is_hindered(name)).collect()
    };
    if of_others(planner(&without.inventory(), &without.claims())) == of_others(decisions.clone()) {
        return Ok(());
    }
    let names: Vec<&str> = out.iter().map(|index| world.services[*index].name.as_str()).collect();
    Err(Violation {
        rule: Rule::InTheWay,
        text: format!("{} cannot start, and changes something", names.join(", ")),
    })
}

/// Carries passes out until nothing changes, and then checks that who goes first has what it can have. `Starves`: meanwhile services of
/// the lowest priority come and go.
fn settle(world: &World, planner: Planner<'_>, stream: bool) -> Result<(), Violation> {
    let mut world = world.clone();
    world.settle_unknown();
    if stream {
        for (index, cards) in [(90, 1_usize), (91, 2), (92, 3)] {
            let small = super::world::service(&format!("x{index}"), GRAIN, 0).least(GRAIN);
            world.services.push(if cards <= world.cards.len() { small.on(&[cards - 1]) } else { small });
        }
        // The others are of higher ones.
        let is_old = |service: &&mut Service| service.name.as_str().starts_with('s');
        world.services.iter_mut().filter(is_old).for_each(|service| service.share.priority += 1);
    }
    let mut starts: BTreeMap<ContainerName, usize> = BTreeMap::new();
    let (mut granted, mut made_way) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = None;
    let hindered = |world: &World| (0..world.services.len()).filter(|index| world.is_hindered(*index)).collect();
    let (at_first, mut gates_moved): (Vec<usize>, bool) = (hindered(&world), false);
    for round in 0..ROUNDS_MAX {
        let decisions = planner(&world.inventory(), &world.claims());
        for (name, decision) in &decisions {
            match decision {
                Decision::Granted(_) | Decision::Shrinks { .. } => granted.insert(name.clone()),
                Decision::Yields { to, .. } => made_way.insert(to.clone()),
                Decision::Waits { .. } => false,
            };
        }
        let before = world.clone();
        world.carry_out(&decisions, 100);
        gates_moved |= hindered(&world) != at_first;
        for (old, new) in before.services.iter().zip(&world.services) {
            if (old.phase, new.phase) == (Phase::Down, Phase::Up) {
                *starts.entry(new.name.clone()).or_default() += 1;
            }
        }
        if stream {
            let ends =
                |service: &&mut Service| service.name.as_str().starts_with('x') && service.phase == Phase::Up;
            for (number, service) in world.services.iter_mut().filter(ends).enumerate() {
                if (round + number) % 3 == 0 {
                    (service.phase, service.ends_in) = (Phase::Ending, 0);
                }
            }
        } else if world == before {
            rest = Some(decisions);
            break;
        }
    }
    if stream {
        return starves(&world);
    }
    let Some(decisions) = rest else {
        let text = format!("nothing comes to rest: {starts:?}");
        return Err(Violation { rule: Rule::Settles, text });
    };
    // Each can be asked to end once by everybody who goes before it.
    if let Some((name, count)) = starts.iter().find(|(_, count)| **count > world.services.len()) {
        return Err(Violation { rule: Rule::Settles, text: format!("{name} is started {count} times") });
    }
    // Who becomes ready meanwhile goes before others, and can take what they were made room for.
    if let Some(name) = made_way.difference(&granted).next().filter(|_| !gates_moved) {
        return Err(Violation {
            rule: Rule::Purpose,
            text: format!("others yielded to {name}, and it is never granted"),
        });
    }
    starves(&world)?;
    check(&world, &decisions)
}

/// Checks that the highest priority waits for nobody below it.
fn starves(world: &World) -> Result<(), Violation> {
    let Some(first) = first_placed(world).filter(|first| world.services[*first].phase == Phase::Down) else {
        return Ok(());
    };
    let Service { share, needs, .. } = &world.services[first];
    let stays = |other: &Service| other.share.priority >= share.priority || needs.contains(&other.name);
    let fits = world.fits(first, |other| stays(&world.services[other]));
    if world.is_possible(first) && fits {
        let text = format!("{} still waits after all rounds", world.services[first].name);
        return Err(Violation { rule: Rule::Starves, text });
    }
    Ok(())
}

#[test]
fn every_pass_keeps_the_rules() {
    let result = runner(cases(10_000)).run(&world(), |world| {
        check_pass(&world, &admit).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn passes_that_are_carried_out_come_to_rest_and_nobody_starves() {
    let result = runner(cases(1_000)).run(&world(), |world| {
        let both = settle(&world, &admit, false).and_then(|()| settle(&world, &admit, true));
        both.map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_machines_that_are_made_up_have_something_to_decide() {
    let (mut yield_at_all, mut yield_together, mut wait, mut start, mut run) = (0, 0, 0, 0, 0);
    for world in samples(1000) {
        let decisions = admit(&world.inventory(), &world.claims());
        let yields = decisions.values().filter(|decision| matches!(decision, Decision::Yields { .. })).count();
        yield_at_all += usize::from(yields > 0);
        yield_together += usize::from(yields > 1);
        wait += usize::from(decisions.values().any(|decision| matches!(decision, Decision::Waits { .. })));
        let granted = |service: &&Service| matches!(decisions.get(&service.name), Some(Decision::Granted(_)));
        start += usize::from(world.services.iter().filter(granted).any(|service| service.phase == Phase::Down));
        run += usize::from(world.services.iter().filter(granted).any(|service| service.phase == Phase::Up));
    }
    println!("of 1000: yields {yield_at_all}, several {yield_together}, waits {wait}, starts {start}, runs {run}");
    assert!(yield_at_all > 100 && yield_together > 20 && wait > 200 && start > 200 && run > 200);
}

const STEPS: [(Mistake, &[Rule]); 21] = [
    (Mistake::NoHeadroom, &[Rule::Capacity]),
    (Mistake::IgnoresOthers, &[Rule::Capacity]),
    (Mistake::IgnoresMeasured, &[Rule::Capacity]),
    (Mistake::IgnoresPromises, &[Rule::Capacity]),
    (Mistake::PromisesAll, &[Rule::Capacity]),
    (Mistake::NeverYields, &[Rule::Cheapest]),
    (Mistake::AllYield, &[Rule::Cheapest, Rule::Untouched]),
    (Mistake::YieldsInAnyOrder, &[Rule::Cheapest]),
    (Mistake::YieldsTheMost, &[Rule::Cheapest]),
    (Mistake::YieldsToEquals, &[Rule::Cheapest, Rule::Untouched]),
    (Mistake::StopsWhatRuns, &[Rule::Untouched]),
    (Mistake::MakesRoomInVain, &[Rule::Gates]),
    (Mistake::MakesRoomInVain, &[Rule::InTheWay]),
    (Mistake::StopsWhatIsNeeded, &[Rule::Gates, Rule::Cheapest]),
    (Mistake::ShrinksWhatRuns, &[Rule::Untouched]),
    (Mistake::MovesWhatRuns, &[Rule::Untouched]),
    (Mistake::GivesRoomAway, &[Rule::Kept]),
    (Mistake::ForgetsPlaces, &[Rule::Places]),
    (Mistake::TakesThemAsTheyCome, &[Rule::Order]),
    (Mistake::NoNumbers, &[Rule::Numbers]),
    (Mistake::WaitsForTheImpossible, &[Rule::InTheWay]),
];

#[test]
fn every_planted_mistake_is_noticed_by_its_rule() {
    for (mistake, rules) in STEPS {
        let planner = |inventory: &Inventory, claims: &[Claim<'_>]| mistaken(mistake, inventory, claims);
        let noticed = (1..).zip(samples(3000)).find_map(|(count, world)| {
            let violation = check_pass(&world, &planner).err()?;
            // A mistake can break another rule first; the one that is meant must notice it as well.
            rules.contains(&violation.rule).then_some((count, violation))
        });
        let Some((count, violation)) = noticed else { panic!("{mistake:?} is not noticed by {rules:?}") };
        println!("{mistake:?}: {:?} after {count} machines", violation.rule);
    }
}

#[test]
fn mistakes_that_only_show_in_time_are_noticed() {
    let whole: [(Mistake, Rule, bool); 6] = [
        (Mistake::StopsWhatRuns, Rule::Purpose, false),
        (Mistake::TakesTurns, Rule::Settles, false),
        (Mistake::NeverYields, Rule::Starves, false),
        (Mistake::NeverYields, Rule::Starves, true),
        (Mistake::Reversed, Rule::Starves, false),
        (Mistake::GivesRoomAway, Rule::Starves, true),
    ];
    for (mistake, rule, stream) in whole {
        let planner = |inventory: &Inventory, claims: &[Claim<'_>]| mistaken(mistake, inventory, claims);
        let noticed = (1..).zip(samples(3000)).find_map(|(count, world)| {
            let violation = settle(&world, &planner, stream).err()?;
            (violation.rule == rule).then_some(count)
        });
        let Some(count) = noticed else { panic!("{mistake:?} is not noticed by {rule:?}") };
        println!("{mistake:?}: {rule:?} after {count} machines");
    }
}
