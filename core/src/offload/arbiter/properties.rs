//! Properties: whatever an engine does and whoever asks for memory, every decision keeps the rules, and in the end all is as it should be.
//! Then mistakes are planted, and each must be noticed by a rule that it breaks.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::memory::{LOAD_BURST, LOAD_EVERY};
use super::mistakes::{Mistake, mistaken};
use super::relief::FAILURES_MAX;
use super::simulator::{Fault, GIB, MIB, World};
use super::under_way::RETURN_MAX;
use super::{Layers, Scene, Setting, Step, Verdict, decide};
use crate::model::{Bytes, CpuFallback, Engine};

/// How long more may be used than may be while it is said to give back: requests take up to 40 s, loads up to 40 s, memory comes back 9 s
/// later, steps get lost, and three models do so one after the other.
const OVER_MAX: u64 = 400;
/// Rounds of two seconds with things happening.
const ROUNDS: usize = 300;
/// What a load may be repeated after, without a word from the engine.
const REPEAT: u64 = 60;

/// What must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A step names a model that there is.
    Names,
    /// Nothing is unloaded for nothing.
    Needless,
    /// What is on its way back is waited for.
    Confirmed,
    /// What is least needed goes first.
    Order,
    /// No request is cut short.
    Busy,
    /// Memory comes back in bounded time, or it says that it cannot.
    Bounded,
    /// Loads of a model are few.
    Loads,
    /// No step is repeated without an answer.
    Repeats,
    /// Reasons are told in one line.
    Words,
    /// A router loads and unloads models as a whole.
    Whole,
    /// What is decided depends on the scene alone.
    Deterministic,
    /// In the end what is to be kept is loaded as well as it fits.
    Recovers,
}

#[derive(Debug)]
struct Violation {
    rule: Rule,
    text: String,
}

fn broken<T>(rule: Rule, text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { rule, text: text.into() })
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    /// The budget becomes this part of the whole, in percent.
    Budget(u64),
    /// A client asks a model.
    Asks(usize, u64),
    Fault(Fault),
    /// The engine does not answer, or answers again.
    Silent(bool),
}

/// What happens, and to whom.
#[derive(Clone, Debug)]
struct Story {
    world: World,
    /// By round.
    events: Vec<(usize, Event)>,
}

const NAMES: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![Just(0), Just(100), Just(100), 20_u64..100].prop_map(Event::Budget),
        8 => (0_usize..4, 1_u64..40).prop_map(|(model, seconds)| Event::Asks(model, seconds)),
        2 => prop::sample::select(vec![Fault::LostAnswer, Fault::LostStep, Fault::Fails]).prop_map(Event::Fault),
        2 => any::<bool>().prop_map(Event::Silent),
    ]
}

prop_compose! {
    fn story()(
        keep in 0_usize..4,
        sizes in prop::array::uniform4(200_u64..5000),
        vram in 4_u64..22,
        returns_in in 0_u64..10,
        lag in 0_u64..4,
        load_time in 0_u64..8,
        error in -4_i64..5,
        grace in prop::option::weighted(0.8, 10_u64..60),
        is_server in prop::bool::weighted(0.25),
        is_multi in prop::bool::weighted(0.9),
        tells_driver in prop::bool::weighted(0.9),
        policy in prop::sample::select(vec![CpuFallback::Allow, CpuFallback::Warn, CpuFallback::Refuse]),
        idle in prop::option::weighted(0.2, 30_u64..200),
        events in prop::collection::vec((0..ROUNDS, event()), 0..30),
        flaps in prop::option::weighted(0.3, 1_usize..40),
        // A request that does not end, while memory is asked for.
        stuck in prop::option::weighted(0.15, 0_usize..4),
        // Several that are idle, and a part of the memory is asked for.
        part in prop::option::weighted(0.15, 30_u64..90),
    ) -> Story {
        let models: Vec<(&str, u64)> = NAMES.into_iter().zip(sizes).collect();
        let mut world = World::new(&NAMES[..keep], vram * GIB, &models);
        (world.returns_in, world.lag, world.load_time, world.error) = (returns_in, lag, load_time, error);
        world.offload.request_grace = grace.map(Duration::from_secs);
        world.offload.engine = if is_server { Engine::LlamaServer } else { Engine::Ollama };
        // As much as it has anyway: a router cannot be told.
        world.offload.context = is_server.then_some(32_768);
        world.is_multi = is_multi || !is_server;
        world.tells_driver = tells_driver;
        world.offload.cpu_fallback = policy;
        world.offload.idle_unload = idle.map(Duration::from_secs);
        let mut events = events;
        if let Some(every) = flaps {
            let flap = |round: usize| (round, Event::Budget(if (round / every).is_multiple_of(2) { 100 } else { 0 }));
            events.extend((0..ROUNDS).filter(|round| round % every == 0).map(flap));
        }
        if let Some(model) = stuck {
            events.retain(|(_, event)| matches!(event, Event::Asks(..) | Event::Fault(_)));
            events.extend([(10, Event::Asks(model, 1500)), (12, Event::Budget(0))]);
        }
        if let Some(percent) = part {
            events.clear();
            (0..4).for_each(|model| events.push((10 + 10 * model, Event::Asks((model + keep) % 4, 2))));
            events.push((80, Event::Budget(percent)));
        }
        events.sort_by_key(|(round, _)| *round);
        Story { world, events }
    }
}

type Planner<'a> = &'a dyn Fn(&Scene<'_>) -> Verdict;

/// What was seen so far.
#[derive(Default)]
struct Watch {
    /// Loads by model.
    loads: BTreeMap<String, Vec<u64>>,
    last: Option<(Step, u64)>,
    /// What was reported or seen since.
    is_answered: bool,
    over_since: Option<u64>,
}

fn held(world: &World, name: &str) -> u64 {
    world.running.get(name).map_or(0, |runner| {
        if runner.loads_until > world.now { 0 } else { world.counted(name, runner.layers, runner.context) }
    })
}

fn is_kept(world: &World, name: &str) -> bool {
    world.offload.keep.iter().any(|kept| kept == name)
}

impl Watch {
    /// Checks a decision before it is carried out.
    fn check(&mut self, world: &World, verdict: &Verdict) -> Result<(), Violation> {
        let told = world.told().1;
        let over = world.budget.map_or(0, |budget| told.saturating_sub(budget));
        // While nobody waits, a little is nothing.
        let slack = world.budget.map_or(0, |budget| (budget / 50).max(64 * MIB));
        let excess = if world.pressure.is_empty() && over <= slack { 0 } else { over };
        self.bounded(world, verdict)?;
        let Some(step) = &verdict.step else { return Ok(()) };
        let name = step.model();
        if !world.models.contains_key(name) {
            return broken(Rule::Names, format!("{step:?}"));
        }
        if verdict.why.is_empty() || verdict.why.contains('\n') || !verdict.why.contains(name) {
            return broken(Rule::Words, format!("{step:?}: {}", verdict.why));
        }
        if !world.is_multi {
            return broken(Rule::Names, "a server with a single model is asked for another");
        }
        self.repeats(world, step)?;
        if let Step::Load { setting, .. } = step {
            self.loads(world, name)?;
            let as_its_preset_says = Setting { layers: Layers::Auto, context: None };
            if world.offload.engine == Engine::LlamaServer && *setting != as_its_preset_says {
                return broken(Rule::Whole, format!("{step:?} for a router"));
            }
        }
        if world.offload.engine == Engine::LlamaServer
            && world
                .running
                .get(name)
                .is_some_and(|runner| runner.busy_until > world.now && runner.loads_until <= world.now)
        {
            return broken(Rule::Busy, format!("{step:?}"));
        }
        if world.tells_driver && excess == 0 {
            return needless(world, step);
        }
        if world.tells_driver && excess > 0 {
            given(world, step, excess)?;
        }
        Ok(())
    }

    fn bounded(&mut self, world: &World, verdict: &Verdict) -> Result<(), Violation> {
        let is_over = world.budget.is_some_and(|budget| world.used() > budget) && !world.pressure.is_empty();
        let is_busy = world.running.values().any(|runner| runner.busy_until > world.now);
        let may_wait = is_busy && world.offload.request_grace.is_none();
        let is_over = is_over && world.tells_driver && verdict.is_elastic && !may_wait;
        self.over_since = is_over.then(|| self.over_since.unwrap_or(world.now));
        if self.over_since.is_some_and(|since| world.now - since > OVER_MAX) {
            return broken(
                Rule::Bounded,
                format!("{} for {OVER_MAX} s: {}", Bytes(world.used()).roughly(), verdict.why),
            );
        }
        if verdict.is_elastic && !world.is_multi && !is_busy && !world.is_silent {
            return broken(Rule::Bounded, "a server with a single model gives nothing back");
        }
        Ok(())
    }

    fn repeats(&mut self, world: &World, step: &Step) -> Result<(), Violation> {
        let is_answered = std::mem::take(&mut self.is_answered);
        let last = self.last.replace((step.clone(), world.now));
        let Some((last, at)) = last.filter(|(last, _)| last == step) else { return Ok(()) };
        let is_open = match &last {
            Step::Unload { model } => world.running.contains_key(model),
            Step::Load { .. } => false,
        };
        if world.now - at < REPEAT && is_open && !is_answered {
            return broken(Rule::Repeats, format!("{step:?} after {} s", world.now - at));
        }
        Ok(())
    }

    fn loads(&mut self, world: &World, name: &str) -> Result<(), Violation> {
        let loads = self.loads.entry(name.to_owned()).or_default();
        loads.push(world.now);
        for window in [LOAD_EVERY.as_secs(), 3600] {
            let most = u64::from(LOAD_BURST) + window / LOAD_EVERY.as_secs();
            let count = loads.iter().filter(|at| world.now - **at < window).count() as u64;
            if count > most {
                return broken(Rule::Loads, format!("{name}: {count} within {window} s"));
            }
        }
        Ok(())
    }
}

/// Checks that what is done while nothing is asked for takes nothing away.
fn needless(world: &World, step: &Step) -> Result<(), Violation> {
    let Step::Unload { model } = step else { return Ok(()) };
    let used_at = world.running.get(model).map_or(0, |runner| runner.used_at);
    let idle = world.offload.idle_unload.map_or(u64::MAX, |idle| idle.as_secs());
    // Ollama does not say who is asked just now, and lets it finish.
    if !is_kept(world, model) && world.running.get(model).is_some_and(|runner| runner.busy_until > world.now) {
        return Ok(());
    }
    if is_kept(world, model) || world.now.saturating_sub(used_at) < idle {
        return broken(Rule::Needless, format!("{step:?}"));
    }
    Ok(())
}

/// Checks what is asked to give memory back.
fn given(world: &World, step: &Step, excess: u64) -> Result<(), Violation> {
    let on_its_way: u64 = world
        .leaving
        .iter()
        .filter(|(at, _)| *at <= world.now + RETURN_MAX.as_secs() - 2)
        .map(|(_, bytes)| bytes)
        .sum();
    let name = step.model();
    let is_reload = matches!(step, Step::Load { .. });
    // The driver's figures are late.
    let still = world.used().saturating_sub(world.budget.unwrap_or(u64::MAX)).min(excess);
    // What a model had that is being loaded anew is taken again.
    let is_theirs = world.now - world.expired_at <= 2 * RETURN_MAX.as_secs();
    let is_loading = is_theirs || world.running.values().any(|runner| runner.loads_until > world.now);
    if on_its_way > 0 && on_its_way >= still && still > 0 && !is_loading {
        return broken(Rule::Confirmed, format!("{step:?}: {} comes back by itself", Bytes(on_its_way).roughly()));
    }
    if is_reload && !world.running.contains_key(name) {
        return broken(Rule::Needless, format!("{step:?} while memory is asked for"));
    }
    // Figures of another moment say nothing of the order.
    if world.used() != world.told().1 || world.memory.is_busy_with().is_some() {
        return Ok(());
    }
    let is_idle = |other: &&String| {
        let runner = &world.running[*other];
        // One that was asked, and is not seen to do it, may be busy.
        // Nor can one whose unloads fail.
        let known = world.memory.known(other);
        if known.asked_since.is_some() || known.failures >= FAILURES_MAX {
            return false;
        }
        runner.loads_until.max(runner.busy_until) <= world.now && **other != name && held(world, other) > 0
    };
    let others: Vec<&String> =
        world.running.keys().filter(|other| !is_kept(world, other)).filter(is_idle).collect();
    if is_kept(world, name) && !others.is_empty() {
        return broken(Rule::Order, format!("{step:?} before {others:?}"));
    }
    let sooner = |other: &&&String| {
        let (used_at, own) = (world.running[**other].used_at, world.running[name].used_at);
        let is_server = world.offload.engine == Engine::LlamaServer;
        // A server tells of requests while they last, and what it has is estimated.
        let is_known = !is_server || used_at.min(own) > world.silent_at;
        let enough = if is_server { excess / 9 * 10 } else { excess };
        // What was seen within one round is as old.
        is_known && used_at + 4 < own && held(world, other) >= enough
    };
    if world.running.contains_key(name)
        && world.running[name].busy_until + 4 < world.now
        && let Some(other) = others.iter().find(sooner)
    {
        return broken(Rule::Order, format!("{step:?} before {other}, which was asked longer ago and is enough"));
    }
    Ok(())
}

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

fn happens(world: &mut World, event: &Event) {
    match event {
        Event::Budget(percent) => {
            world.budget = world.share.vram.map(|vram| vram.0 / 100 * percent);
            world.pressure = if *percent < 100 { "`game` asks for it".to_owned() } else { String::new() };
        }
        Event::Asks(model, seconds) => {
            if world.is_multi || world.running.is_empty() {
                world.ask(NAMES[*model], *seconds);
            }
        }
        Event::Fault(fault) => world.faults.push(*fault),
        Event::Silent(is_silent) => world.is_silent = *is_silent,
    }
}

/// Checks that what is to be kept is loaded as a whole where there is room for it beside the others.
fn recovered(world: &World) -> Result<(), Violation> {
    if !world.is_multi {
        return Ok(());
    }
    let vram = world.share.vram.map_or(0, |vram| vram.0);
    for name in &world.offload.keep {
        let others = world.running.iter().filter(|(other, _)| *other != name);
        let others: u64 = others.map(|(other, runner)| world.takes(other, runner)).sum();
        let need = world.counted(name, 16, 32_768) + 200 * MIB;
        let runner = world.running.get(name);
        let is_whole = runner.is_some_and(|runner| runner.layers == 16 && runner.context == 32_768);
        // The estimate is wrong by 4 percent at most.
        if !is_whole && others + need <= vram / 100 * 94 {
            let (need, others) = (Bytes(need).roughly(), Bytes(others).roughly());
            return broken(
                Rule::Recovers,
                format!("{name}: {runner:?}, {need} beside {others} of {}", Bytes(vram).roughly()),
            );
        }
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
        let noticed = (1..).zip(samples(150)).find_map(|(count, story)| {
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
