//! Properties: every pass over a made-up machine keeps the rules of `rules`, and passes that are carried out one after the other
//! come to rest. Then mistakes are planted in the passes, and each must be noticed by the rule that it breaks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use super::super::{Claim, Inventory, Phase, ProcessOwner};
use super::rules::{Rule, Violation, check, first_placed, shuffled};
use super::world::{Card, MIB, Service, World, held, id};
use super::{Allocation, Decision, admit};
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
    /// Which cards it holds, and with how much.
    holds: Option<(u8, Option<u64>)>,
    remembered: Option<u64>,
    uses: [u64; 4],
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
        holds in prop::option::weighted(0.9, (1_u8..8, prop::option::weighted(0.8, grains(1..20)))),
        remembered in prop::option::weighted(0.25, grains(1..40)),
        uses in prop::array::uniform4(prop_oneof![2 => Just(0), 1 => grains(1..12)]),
    ) -> Draw {
        Draw { devices, bits, vram, less, priority, phase, wants, granted, holds, remembered, uses }
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
            granted: self.granted,
            remembered: self.remembered,
            uses: self.uses[..cards].to_vec(),
            ends_in: 1,
        };
        for card in 0..cards {
            // Nothing runs without a process, and nothing uses a GPU without its node.
            if service.phase == Phase::Down || (!service.has(card) && index % 4 > 0) {
                service.uses[card] = 0;
            }
        }
        service
    }
}

/// Half of them are tight: a high priority comes to machines that are in use.
fn world() -> impl Strategy<Value = World> {
    let cards = prop::collection::vec(drawn_card(), 1..4);
    let tight = prop::option::of((8_u64..44).prop_map(|grains| Bytes(grains * GRAIN * MIB)));
    (cards, prop::collection::vec(draw(), 1..7), tight).prop_map(|(cards, draws, tight)| {
        let mut draws = draws;
        if tight.is_some() {
            for draw in draws.iter_mut().filter(|draw| draw.phase != Phase::Down) {
                (draw.phase, draw.wants) = (Phase::Up, true);
            }
            (draws[0].phase, draws[0].wants, draws[0].priority) = (Phase::Down, true, 100);
        }
        let services = draws.into_iter().enumerate().map(|(index, draw)| draw.service(index, cards.len()));
        let mut world = World { services: services.collect(), cards };
        if let Some(vram) = tight {
            let share = &mut world.services[0].share;
            (share.vram, share.vram_min) = (Some(vram), share.vram_min.filter(|least| *least <= vram));
        }
        world
    })
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha))
}

fn samples(count: usize) -> impl Iterator<Item = World> {
    let mut runner = runner(1);
    std::iter::repeat_with(move || world().new_tree(&mut runner).unwrap().current()).take(count)
}

fn cases(usual: u32) -> u32 {
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

/// Carries passes out until nothing changes, and then checks that who goes first has what it can have. `Starves`: meanwhile services of
/// the lowest priority come and go.
fn settle(world: &World, planner: Planner<'_>, stream: bool) -> Result<(), Violation> {
    let mut world = world.clone();
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
    let mut rest = None;
    for round in 0..ROUNDS_MAX {
        let decisions = planner(&world.inventory(), &world.claims());
        let before = world.clone();
        world.carry_out(&decisions, 100);
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
    starves(&world)?;
    check(&world, &decisions)
}

/// Checks that the highest priority waits for nobody below it.
fn starves(world: &World) -> Result<(), Violation> {
    let Some(first) = first_placed(world).filter(|first| world.services[*first].phase == Phase::Down) else {
        return Ok(());
    };
    let priority = world.services[first].share.priority;
    let fits = world.fits(first, |other| world.services[other].share.priority >= priority);
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
    let result = runner(cases(1_500)).run(&world(), |world| {
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

/// A mistake that a pass could make.
#[derive(Clone, Copy, Debug)]
enum Mistake {
    /// No headroom is left.
    NoHeadroom,
    /// What others use is not counted.
    IgnoresOthers,
    /// What services use beyond their promise is not counted.
    IgnoresMeasured,
    /// What was promised and is not used is given away.
    IgnoresPromises,
    /// Everybody is promised all that it wants.
    PromisesAll,
    /// Nobody yields.
    NeverYields,
    /// Everybody of a lower priority yields.
    AllYield,
    /// The lowest priority is not the first to yield.
    YieldsInAnyOrder,
    /// Those with the most memory yield.
    YieldsTheMost,
    /// The same priority yields, too.
    YieldsToEquals,
    /// What runs is stopped where there is too little.
    StopsWhatRuns,
    /// What runs is given less than it had.
    ShrinksWhatRuns,
    /// What runs is moved.
    MovesWhatRuns,
    /// The room of who waits is given to those behind it.
    GivesRoomAway,
    /// The lowest priority goes first.
    Reversed,
    /// Where a service was is forgotten.
    ForgetsPlaces,
    /// Who stands first in the list goes first.
    TakesThemAsTheyCome,
    /// No numbers are told.
    NoNumbers,
    /// Who can never start is waited for.
    WaitsForTheImpossible,
    /// Whoever waits is given the place of one that runs, in turns.
    TakesTurns,
}

const STEPS: [(Mistake, &[Rule]); 18] = [
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
    let whole: [(Mistake, Rule, bool); 5] = [
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

/// Decides with a mistake.
fn mistaken(mistake: Mistake, inventory: &Inventory, given: &[Claim<'_>]) -> Decisions {
    let mut inventory = inventory.clone();
    let mut claims = given.to_vec();
    let waits = |claim: &Claim<'_>| claim.wants && claim.phase != Phase::Up;
    let shares: Vec<GpuShare> = claims
        .iter()
        .map(|claim| {
            let share = claim.share.clone();
            let priority = match mistake {
                Mistake::Reversed => 101 - share.priority,
                Mistake::YieldsInAnyOrder if claim.stays() => 0,
                Mistake::YieldsToEquals if waits(claim) => share.priority + 1,
                _same => share.priority,
            };
            // As if it could start one day.
            let is_wrong = matches!(mistake, Mistake::WaitsForTheImpossible) && waits(claim);
            let most = if is_wrong { 3 << 30 } else { u64::MAX };
            let vram_min = share.vram_min.or(share.vram).map(|least| Bytes(least.0.min(most)));
            GpuShare { priority, vram_min, ..share }
        })
        .collect();
    for (claim, share) in claims.iter_mut().zip(&shares) {
        claim.share = share;
    }
    let bare: Vec<_> = claims
        .iter()
        .map(|claim| claim.holds.cloned().map(|grant| crate::model::Grant { budget: None, ..grant }))
        .collect();
    for gpu in &mut inventory.gpus {
        let memory = gpu.memory.as_mut().unwrap();
        let of_services = |owner: &ProcessOwner| matches!(owner, ProcessOwner::Container(_));
        match mistake {
            Mistake::NoHeadroom => memory.total = Bytes(memory.total.0 + 256 * MIB),
            Mistake::IgnoresOthers => {
                gpu.processes.retain(|process| of_services(&process.owner));
                memory.used = Bytes(0);
            }
            Mistake::IgnoresMeasured => {
                let theirs = gpu.processes.iter().filter(|process| of_services(&process.owner));
                let theirs: u64 = theirs.filter_map(|process| process.memory).map(|memory| memory.0).sum();
                gpu.processes.retain(|process| !of_services(&process.owner));
                memory.used = Bytes(memory.used.0.saturating_sub(theirs));
            }
            _same => {}
        }
    }
    for (claim, bare) in claims.iter_mut().zip(&bare) {
        match mistake {
            Mistake::IgnoresPromises if claim.stays() => claim.holds = bare.as_ref(),
            Mistake::ForgetsPlaces if claim.phase == Phase::Down => claim.holds = None,
            _same => {}
        }
    }
    if matches!(mistake, Mistake::TakesThemAsTheyCome) {
        claims.iter_mut().enumerate().for_each(|(index, claim)| claim.granted = index == 0);
    }
    let mut decisions = admit(&inventory, &claims);
    let keeps = |claim: &Claim<'_>| {
        let grant = claim.holds?;
        Some(Decision::Granted(Allocation { vendor: grant.vendor, gpus: grant.gpus.clone(), budget: grant.budget }))
    };
    let yields = |to: &ContainerName| Decision::Yields { to: to.clone(), why: String::new() };
    let waiting = |decisions: &Decisions| -> Vec<ContainerName> {
        let waiting = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Waits { .. }));
        waiting.map(|(name, _)| name.clone()).collect()
    };
    let asked: Vec<ContainerName> = decisions
        .values()
        .filter_map(|decision| if let Decision::Yields { to, .. } = decision { Some(to.clone()) } else { None })
        .collect();
    let priority = |name: &ContainerName| claims.iter().find(|claim| claim.name == name).unwrap().share.priority;
    match mistake {
        Mistake::PromisesAll => {
            for claim in claims.iter().filter(|claim| waits(claim)) {
                if let Some(Decision::Granted(allocation)) = decisions.get_mut(claim.name) {
                    allocation.budget = claim.share.vram;
                }
            }
        }
        Mistake::NeverYields => {
            for claim in &claims {
                if let (Some(Decision::Yields { .. }), Some(kept)) = (decisions.get(claim.name), keeps(claim)) {
                    decisions.insert(claim.name.clone(), kept);
                }
            }
        }
        Mistake::AllYield => {
            for (to, claim) in asked.iter().flat_map(|to| claims.iter().map(move |claim| (to, claim))) {
                if claim.stays() && claim.share.priority < priority(to) {
                    decisions.insert(claim.name.clone(), yields(to));
                }
            }
        }
        Mistake::YieldsTheMost => {
            // One that yields changes with one that does not.
            let of = |claim: &&Claim<'_>| matches!(decisions.get(claim.name), Some(Decision::Yields { .. }));
            if let (Some(spared), Some(to)) = (claims.iter().find(of), asked.first()) {
                let other = claims.iter().find(|claim| {
                    claim.stays() && claim.name != spared.name && claim.share.priority < priority(to) && !of(claim)
                });
                if let (Some(other), Some(kept)) = (other, keeps(spared)) {
                    let (other, spared) = (other.name.clone(), spared.name.clone());
                    decisions.extend([(other, yields(to)), (spared, kept)]);
                }
            }
        }
        Mistake::StopsWhatRuns => {
            if let (Some(claim), Some(to)) =
                (claims.iter().find(|claim| claim.stays()), waiting(&decisions).first())
            {
                decisions.insert(claim.name.clone(), yields(to));
            }
        }
        Mistake::TakesTurns => {
            if let (Some(claim), Some(to)) =
                (claims.iter().find(|claim| claim.stays()), waiting(&decisions).first())
            {
                let place = keeps(claim);
                decisions.insert(claim.name.clone(), yields(to));
                decisions.extend(place.map(|place| (to.clone(), place)));
            }
        }
        Mistake::ShrinksWhatRuns | Mistake::MovesWhatRuns => {
            for claim in claims.iter().filter(|claim| claim.stays()) {
                let Some(Decision::Granted(allocation)) = decisions.get_mut(claim.name) else { continue };
                if matches!(mistake, Mistake::ShrinksWhatRuns) {
                    allocation.budget = allocation.budget.map(|budget| Bytes(budget.0 / 2));
                } else if let Some(last) = inventory.gpus.last() {
                    allocation.gpus = vec![last.id.clone()];
                }
            }
        }
        Mistake::GivesRoomAway => {
            let behind: Vec<Claim<'_>> = claims
                .iter()
                .filter(|claim| !waiting(&decisions).contains(claim.name) || claim.share.priority == 0)
                .copied()
                .collect();
            for (name, decision) in admit(&inventory, &behind) {
                if let (Decision::Granted(_), Some(Decision::Waits { .. })) = (&decision, decisions.get(&name)) {
                    decisions.insert(name, decision);
                }
            }
        }
        Mistake::NoNumbers => {
            for decision in decisions.values_mut() {
                if let Decision::Waits { why, .. } = decision {
                    "there is not enough memory".clone_into(why);
                }
            }
        }
        Mistake::WaitsForTheImpossible => {
            let real = admit(&inventory, given);
            let never =
                |decision: &Decision| matches!(decision, Decision::Waits { why, .. } if why.contains("at most"));
            decisions.extend(real.into_iter().filter(|(_, decision)| never(decision)));
        }
        _in_what_is_looked_at => {}
    }
    decisions
}
