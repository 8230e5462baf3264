//! Properties: whatever an engine does and whoever asks for memory, every decision keeps the rules, and in the end all is as it should be.
//! Then mistakes are planted, and each must be noticed by a rule that it breaks.

mod rules;
mod story;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::mistakes::{Mistake, mistaken};
use super::simulator::{GIB, MIB, World};
use super::{Layers, Scene, Step, Verdict, decide};
use crate::model::Bytes;
use rules::{Rule, Violation, Watch, broken, recovered};
use story::{Event, NAMES, ROUNDS, Story, happens, story};

/// Stories in which a planted mistake has to show: the rarest needs some two hundred, by seed.
const SAMPLES: usize = 600;

type Planner<'a> = &'a dyn Fn(&Scene<'_>) -> Verdict;

/// Lets a story happen, and then an hour and a half of calm where its end is of interest.
fn tell(story: &Story, planner: Planner<'_>, to_the_end: bool) -> Result<(), Violation> {
    let mut world = story.world.clone();
    let mut watch = Watch::default();
    let mut events = story.events.iter().peekable();
    for round in 0..ROUNDS {
        while let Some((_, event)) = events.next_if(|(at, _)| *at <= round) {
            happens(&mut world, event);
        }
        turn(&mut world, &mut watch, planner)?;
    }
    (world.is_silent, world.pressure, world.budget) = (false, String::new(), world.share.vram.map(|vram| vram.0));
    world.faults.clear();
    if !to_the_end {
        return Ok(());
    }
    for _ in 0..540 {
        turn(&mut world, &mut watch, planner)?;
        world.pass(8);
    }
    recovered(&world)
}

fn turn(world: &mut World, watch: &mut Watch, planner: Planner<'_>) -> Result<(), Violation> {
    let verdict = world.with(planner);
    if world.with(planner) != verdict {
        return broken(Rule::Deterministic, verdict.why);
    }
    watch.check(world, &verdict)?;
    let faults = world.faults.len();
    world.round(&|_| verdict.clone());
    let is_gone = watch.last.as_ref().is_some_and(|(step, _)| !world.running.contains_key(step.model()));
    watch.is_answered |= world.faults.len() < faults || is_gone;
    if world.cut > 0 {
        return broken(Rule::Busy, "a request was cut short");
    }
    Ok(())
}

/// The same stories each time, or those of the seed in `ARBITER_SEED`.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let seed: Option<u64> = std::env::var("ARBITER_SEED").ok().and_then(|seed| seed.parse().ok());
    let rng = seed.map_or_else(
        || TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        |seed| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
        },
    );
    TestRunner::new_with_rng(config, rng)
}

fn samples(count: usize) -> impl Iterator<Item = Story> {
    let mut runner = runner(1);
    std::iter::repeat_with(move || story().new_tree(&mut runner).unwrap().current()).take(count)
}

fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

#[test]
fn every_decision_keeps_the_rules_and_all_comes_back() {
    let result = runner(cases(60)).run(&story(), |story| {
        tell(&story, &decide, true).map_err(|broken| TestCaseError::fail(format!("{broken:?}")))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn flapping_demand_loads_a_model_only_a_few_times_in_an_hour() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 4000)]);
    let mut loads = 0;
    for round in 0..1800 {
        let is_asked = round / 50 % 2 == 1;
        happens(&mut world, &Event::Budget(if is_asked { 0 } else { 100 }));
        loads += usize::from(matches!(world.round(&decide).step, Some(Step::Load { .. })));
    }
    // Demand comes and goes 18 times.
    assert!((2..=7).contains(&loads), "{loads}");
}

#[test]
fn any_scene_gets_a_sane_verdict() {
    let sizes = prop::sample::select(vec![0, 1, MIB, 7 * GIB, u64::MAX - 1, u64::MAX]);
    let scene = (
        story(),
        prop::collection::vec((0_usize..4, prop::option::of(sizes.clone()), prop::option::of(sizes.clone())), 0..6),
        (prop::option::of(sizes.clone()), prop::option::of(sizes.clone()), prop::option::of(sizes)),
        prop::collection::vec(any::<u64>(), 3),
        any::<bool>(),
    );
    let result = runner(cases(2000)).run(&scene, |(story, loaded, (budget, used, vram), times, knows)| {
        let mut world = story.world;
        world.share.vram = vram.map(Bytes);
        world.offload.keep.extend([String::new(), "a:1".to_owned(), "gone".to_owned()]);
        let mut memory = super::Memory::default();
        for round in 0..6_u64 {
            let verdict = world.with(|scene| {
                let seen = |(model, size, size_vram): &(usize, Option<u64>, Option<u64>)| super::LoadedModel {
                    name: if *model == 3 { String::new() } else { NAMES[*model].to_owned() },
                    size: size.map(Bytes),
                    size_vram: size_vram.map(Bytes),
                    context: size.map(|size| u32::try_from(size).unwrap_or(u32::MAX)),
                    expires_usec: *size,
                    ..super::LoadedModel::default()
                };
                let view = super::EngineView {
                    loaded: loaded.iter().skip(usize::try_from(round).unwrap() % 3).map(seen).collect(),
                    is_multi: true,
                    ..super::EngineView::default()
                };
                let (engine, none) = (super::EngineSeen::Answers(view), BTreeMap::new());
                let at = |time: u64| Duration::from_micros(time.wrapping_add(round * 7_000_000));
                let scene = Scene {
                    budget: budget.map(Bytes),
                    used: used.map(Bytes),
                    now: at(times[0]),
                    used_at: at(times[1]),
                    seen_at: at(times[2]),
                    engine: &engine,
                    models: if knows { scene.models } else { &none },
                    rooms: &[],
                    memory: &memory,
                    ..*scene
                };
                let _found = super::super::watchdog::incidents(&scene);
                decide(&scene)
            });
            prop_assert!(verdict.step.as_ref().is_none_or(|step| !step.model().is_empty()));
            prop_assert!(verdict.step.is_none() || !verdict.why.is_empty());
            if let Some(Step::Load { setting, .. }) = &verdict.step {
                prop_assert!(setting.layers == Layers::Auto || matches!(setting.layers, Layers::Exactly(0..=16)));
            }
            memory = verdict.memory;
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_stories_that_are_made_up_have_something_to_decide() {
    let (mut unloads, mut loads, mut stiff, mut shrinks) = (0, 0, 0, 0);
    for story in samples(60) {
        let planner = |scene: &Scene<'_>| decide(scene);
        let mut world = story.world.clone();
        let mut events = story.events.iter().peekable();
        let (mut has, mut had) = ([false; 4], [false; 4]);
        for round in 0..ROUNDS {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= round) {
                happens(&mut world, event);
            }
            let verdict = world.round(&planner);
            match &verdict.step {
                Some(Step::Unload { .. }) => has[0] = true,
                Some(Step::Load { setting, .. }) => {
                    has[1] = true;
                    has[3] |= matches!(setting.layers, Layers::Exactly(1..16));
                }
                None => {}
            }
            has[2] |= !verdict.is_elastic;
            had = has;
        }
        unloads += usize::from(had[0]);
        loads += usize::from(had[1]);
        stiff += usize::from(had[2]);
        shrinks += usize::from(had[3]);
    }
    println!("of 60: unloads {unloads}, loads {loads}, with a part {shrinks}, not elastic for a while {stiff}");
    assert!(unloads > 20 && loads > 30 && stiff > 10 && shrinks > 5, "{unloads} {loads} {stiff} {shrinks}");
}

const MISTAKES: [(Mistake, &[Rule]); 18] = [
    (Mistake::PartsForRouters, &[Rule::Whole]),
    (Mistake::NotWhileLoaded, &[Rule::Bounded]),
    (Mistake::UnloadsForNothing, &[Rule::Needless]),
    (Mistake::DoesNotConfirm, &[Rule::Confirmed, Rule::Repeats]),
    (Mistake::Forgets, &[Rule::Repeats, Rule::Confirmed]),
    (Mistake::NoName, &[Rule::Names]),
    (Mistake::KeptFirst, &[Rule::Order]),
    (Mistake::RecentFirst, &[Rule::Order]),
    (Mistake::AllOrNothing, &[Rule::Confirmed, Rule::Needless]),
    (Mistake::Interrupts, &[Rule::Busy]),
    (Mistake::NoRate, &[Rule::Loads]),
    (Mistake::NeverPromotes, &[Rule::Recovers]),
    (Mistake::AlwaysElastic, &[Rule::Bounded]),
    (Mistake::IgnoresDriver, &[Rule::Bounded, Rule::Needless, Rule::Confirmed]),
    (Mistake::IgnoresBudget, &[Rule::Bounded]),
    (Mistake::NoWords, &[Rule::Words]),
    (Mistake::NoGrace, &[Rule::Bounded]),
    (Mistake::Moody, &[Rule::Deterministic]),
];

#[test]
fn every_planted_mistake_is_noticed_by_its_rule() {
    let mut missed = Vec::new();
    for (mistake, rules) in MISTAKES {
        let planner = |scene: &Scene<'_>| mistaken(mistake, scene);
        let noticed = (1..).zip(samples(SAMPLES)).find_map(|(count, story)| {
            let violation = tell(&story, &planner, rules.contains(&Rule::Recovers)).err()?;
            rules.contains(&violation.rule).then_some((count, violation))
        });
        match noticed {
            Some((count, violation)) => {
                println!("{mistake:?}: {:?} after {count}: {}", violation.rule, violation.text);
            }
            None => missed.push(mistake),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
