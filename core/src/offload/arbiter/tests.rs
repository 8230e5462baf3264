//! Single decisions, and the faults of managers that were there before.

use std::time::Duration;

use super::super::estimate::Layers;
use super::super::watchdog::incidents;
use super::simulator::{Fault, GIB, World};
use super::{Setting, Step, Verdict, decide};
use crate::model::{CpuFallback, Engine, Offload};

fn unload(model: &str) -> Step {
    Step::Unload { model: model.to_owned() }
}

/// A world in which these are loaded and idle, in the order of their last use.
fn world(keep: &[&str], vram: u64, loaded: &[(&str, u64)]) -> World {
    let mut world = World::new(keep, vram * GIB, loaded);
    for (name, _) in loaded {
        world.ask(name, 5);
        world.pass(20);
        world.round(&decide);
    }
    world.pass(30);
    world
}

fn squeeze(world: &mut World, budget: u64) {
    (world.budget, world.pressure) = (Some(budget), "`game` asks for 8G".to_owned());
}

/// Rounds until nothing is over the budget, or 60 of them.
fn relieve(world: &mut World) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    while world.used() > world.budget.unwrap() && verdicts.len() < 60 {
        verdicts.push(world.round(&decide));
    }
    verdicts
}

fn steps(verdicts: &[Verdict]) -> Vec<Step> {
    verdicts.iter().filter_map(|verdict| verdict.step.clone()).collect()
}

fn rounds(world: &mut World, count: usize) -> Vec<Verdict> {
    (0..count).map(|_| world.round(&decide)).collect()
}

#[test]
fn an_idle_model_that_is_not_kept_is_unloaded_and_the_reason_has_the_numbers() {
    let mut world = world(&["a:1"], 20, &[("a:1", 2000), ("b:1", 3000), ("c:1", 3000)]);
    world.pass(200);
    let budget = world.used() - 2 * GIB;
    squeeze(&mut world, budget);
    let verdict = world.round(&decide);
    assert_eq!(verdict.step, Some(unload("b:1")));
    assert!(verdict.is_elastic);
    let why = "gives back 2G (`game` asks for 8G): unloads `b:1` (4G), idle for 4 min";
    assert_eq!(verdict.why, why);
}

#[test]
fn nothing_is_done_while_less_is_used_than_may_be() {
    let mut world = world(&["a:1"], 20, &[("a:1", 2000), ("b:1", 3000)]);
    let verdicts = rounds(&mut world, 20);
    assert_eq!(steps(&verdicts), []);
    assert!(verdicts.iter().all(|verdict| verdict.is_elastic && verdict.why.is_empty()), "{verdicts:#?}");
}

#[test]
fn more_than_may_be_is_given_back_though_nobody_waits_for_it_but_a_little_is_nothing() {
    let mut world = world(&[], 20, &[("a:1", 2000), ("b:1", 3000)]);
    let used = world.used();
    world.budget = Some(used - 50 * (1 << 20));
    assert_eq!(world.round(&decide).step, None);
    world.budget = Some(used - GIB);
    let verdict = world.round(&decide);
    assert_eq!(verdict.step, Some(unload("a:1")));
    assert!(verdict.why.starts_with("gives back 1G, uses 7.5G and may 6.5G: "), "{}", verdict.why);
}

#[test]
fn what_a_later_one_gives_back_alone_spares_the_others() {
    // The first has waited the longest, but is too small; the second is enough without it.
    let mut world = world(&[], 20, &[("a:1", 500), ("b:1", 6000), ("c:1", 6000)]);
    let budget = world.used() - 5 * GIB;
    squeeze(&mut world, budget);
    assert_eq!(steps(&relieve(&mut world)), [Step::Unload { model: "b:1".to_owned() }]);
}

#[test]
fn the_next_step_waits_until_the_driver_has_seen_the_last() {
    let mut world = world(&[], 20, &[("a:1", 2000), ("b:1", 2000)]);
    (world.returns_in, world.lag) = (8, 2);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    let at: Vec<usize> = (0..verdicts.len()).filter(|index| verdicts[*index].step.is_some()).collect();
    assert_eq!(
        steps(&verdicts),
        [Step::Unload { model: "a:1".to_owned() }, Step::Unload { model: "b:1".to_owned() }]
    );
    assert!(at[1] - at[0] >= 5, "{at:?}");
    assert!(verdicts.iter().all(|verdict| verdict.is_elastic));
}

#[test]
fn a_model_that_is_kept_is_loaded_with_fewer_layers_and_comes_back_whole() {
    let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
    let budget = world.used() / 2;
    squeeze(&mut world, budget);
    let steps_down = steps(&relieve(&mut world));
    let [Step::Load { setting: Setting { layers: Layers::Exactly(layers), context: None }, keep: true, .. }] =
        steps_down[..]
    else {
        panic!("{steps_down:?}")
    };
    assert!((4..9).contains(&layers), "{layers}");
    rounds(&mut world, 20);
    assert!(world.used() <= budget && world.used() > budget / 2);
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    rounds(&mut world, 60);
    assert_eq!(world.running["a:1"].layers, 16);
}

#[test]
fn where_not_one_layer_fits_it_is_on_the_cpu_or_unloaded_by_policy() {
    for (policy, layers) in
        [(CpuFallback::Warn, Some(0)), (CpuFallback::Allow, Some(0)), (CpuFallback::Refuse, None)]
    {
        let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
        world.offload.cpu_fallback = policy;
        squeeze(&mut world, 0);
        relieve(&mut world);
        rounds(&mut world, 20);
        assert_eq!(world.running.get("a:1").map(|runner| runner.layers), layers, "{policy:?}");
        assert_eq!(world.used(), 0);
        (world.budget, world.pressure) = (Some(20 * GIB), String::new());
        rounds(&mut world, 60);
        assert_eq!(world.running["a:1"].layers, 16, "{policy:?}");
    }
}

#[test]
fn the_context_becomes_smaller_where_layers_alone_do_not_help() {
    let mut world = world(&["a:1"], 20, &[("a:1", 1600)]);
    // Of one layer most is context here: a layer with all of it does not fit.
    world.offload.context = Some(262_144);
    world.running.get_mut("a:1").unwrap().context = 262_144;
    world.pass(40);
    squeeze(&mut world, GIB / 2);
    let verdict = world.round(&decide);
    let Some(Step::Load { setting, .. }) = verdict.step else { panic!("{verdict:?}") };
    assert_eq!(setting, Setting { layers: Layers::Exactly(1), context: Some(32_768) }, "{}", verdict.why);
}

#[test]
fn a_model_that_a_client_loaded_is_not_loaded_again_by_us() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    squeeze(&mut world, 0);
    relieve(&mut world);
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    assert_eq!(steps(&rounds(&mut world, 100)), []);
}

#[test]
fn a_busy_model_finishes_first_and_after_the_grace_the_engine_is_not_elastic() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    world.ask("a:1", 50);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    assert_eq!(steps(&verdicts).len(), 1);
    let elastic = verdicts.iter().take_while(|verdict| verdict.is_elastic).count();
    assert_eq!(elastic, 15, "the grace is 30 s");
    assert!(
        verdicts[elastic].why.ends_with("`a:1` still answers requests 30 s after it was asked"),
        "{}",
        verdicts[elastic].why
    );
    assert_eq!(world.used(), 0);
    assert!(world.round(&decide).is_elastic);
}

#[test]
fn without_a_grace_a_request_may_take_as_long_as_it_likes() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    world.offload.request_grace = None;
    world.ask("a:1", 100);
    squeeze(&mut world, 0);
    assert!(relieve(&mut world).iter().all(|verdict| verdict.is_elastic));
    assert_eq!(world.used(), 0);
}

#[test]
fn a_router_that_would_cut_a_request_short_is_not_asked_while_there_is_one() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    world.offload.engine = Engine::LlamaServer;
    world.ask("a:1", 20);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    assert_eq!((world.cut, world.used()), (0, 0));
    assert!(verdicts[0].why.ends_with("waits for a request of `a:1` to finish"), "{}", verdicts[0].why);
}

#[test]
fn a_server_with_a_single_model_is_elastic_only_until_its_request_is_finished() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.offload.engine, world.is_multi) = (Engine::LlamaServer, false);
    assert!(!world.round(&decide).is_elastic);
    squeeze(&mut world, 0);
    world.ask("a:1", 10);
    let verdict = world.round(&decide);
    assert!(verdict.is_elastic && verdict.step.is_none(), "{verdict:?}");
    world.pass(10);
    assert!(!world.round(&decide).is_elastic);
    world.budget = Some(20 * GIB);
    world.round(&decide);
    world.budget = Some(0);
    world.ask("a:1", 60);
    let elastic = rounds(&mut world, 20).iter().take_while(|verdict| verdict.is_elastic).count();
    assert_eq!(elastic, 15);
}

#[test]
fn a_silent_engine_is_not_elastic_but_one_lost_answer_stops_nobody() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    world.round(&decide);
    world.is_silent = true;
    let verdicts = rounds(&mut world, 8);
    assert_eq!(verdicts.iter().take_while(|verdict| verdict.is_elastic).count(), 5, "for 10 s");
    assert_eq!(verdicts[7].why, "the engine has not answered for 14 s: connection refused");
    world.is_silent = false;
    assert!(world.round(&decide).is_elastic);
}

#[test]
fn an_engine_that_was_never_heard_is_not_elastic() {
    let mut world = World::new(&[], 20 * GIB, &[("a:1", 2000)]);
    world.is_silent = true;
    assert!(!world.round(&decide).is_elastic);
}

#[test]
fn memory_that_no_model_has_is_not_waited_for() {
    let mut world = World::new(&[], 20 * GIB, &[("a:1", 2000)]);
    world.leaving.push((u64::MAX, 3 * GIB));
    squeeze(&mut world, GIB);
    let verdict = world.round(&decide);
    assert!(!verdict.is_elastic);
    assert!(verdict.why.contains("no model is loaded, and 3G is used all the same"), "{}", verdict.why);
}

#[test]
fn who_is_loaded_again_and_again_by_clients_is_not_elastic() {
    let mut world = world(&[], 20, &[("a:1", 1000)]);
    squeeze(&mut world, 0);
    let mut last = world.round(&decide);
    for _ in 0..4 {
        relieve(&mut world);
        world.ask("a:1", 1);
        world.pass(6);
        last = world.round(&decide);
    }
    assert!(!last.is_elastic && last.why.contains("was loaded again"), "{}", last.why);
}

#[test]
fn a_step_whose_answer_is_lost_is_not_repeated_when_it_was_done() {
    let mut world = world(&[], 20, &[("a:1", 2000), ("b:1", 2000)]);
    world.faults = vec![Fault::LostAnswer; 2];
    squeeze(&mut world, 0);
    assert_eq!(steps(&relieve(&mut world)).len(), 2);
    assert_eq!(world.used(), 0);
}

#[test]
fn a_step_that_never_arrived_is_asked_for_again_after_a_minute() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.faults, world.offload.request_grace) = (vec![Fault::LostStep], None);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    assert_eq!(steps(&verdicts).len(), 2);
    assert!(verdicts.len() > 30);
}

#[test]
fn an_unload_that_fails_again_and_again_makes_it_not_elastic() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.faults, world.offload.request_grace) = (vec![Fault::Fails; 9], None);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    let last = verdicts.last().unwrap();
    assert_eq!(steps(&verdicts).len(), 3);
    assert!(!last.is_elastic && last.why.contains("cannot be unloaded: 500: no"), "{}", last.why);
}

#[test]
fn what_is_to_be_kept_is_loaded_when_the_engine_answers_and_failures_back_off() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 2000)]);
    world.faults = vec![Fault::Fails; 3];
    let verdicts = rounds(&mut world, 60);
    let at: Vec<usize> = (0..verdicts.len()).filter(|index| verdicts[*index].step.is_some()).collect();
    assert_eq!(at.len(), 4);
    assert!(at[1] - at[0] >= 5 && at[2] - at[1] >= 10 && at[3] - at[2] >= 20, "{at:?}");
    assert_eq!(verdicts[at[0]].why, "loads `a:1`, which is to be kept, 3.2G of 20G");
    assert!(verdicts[at[1] + 2].why.contains("500: no"), "{}", verdicts[at[1] + 2].why);
    assert_eq!(world.running["a:1"].layers, 16);
}

#[test]
fn what_does_not_fit_beside_the_first_waits_for_it() {
    let mut world = World::new(&["a:1", "b:1"], 6 * GIB, &[("a:1", 3000), ("b:1", 6000)]);
    world.offload.cpu_fallback = CpuFallback::Refuse;
    rounds(&mut world, 120);
    assert_eq!(world.running["a:1"].layers, 16);
    assert!(world.running.get("b:1").is_none_or(|runner| runner.layers < 16));
    assert!(world.used() <= 6 * GIB);
}

#[test]
fn a_model_that_is_named_with_and_without_its_tag_is_kept_once() {
    // The engine's names are told as the first of them has it.
    let offload =
        Offload { keep: ["a", "b:1", "a:latest"].map(str::to_owned).to_vec(), ..World::new(&[], 0, &[]).offload };
    assert_eq!(super::kept(&offload), ["a", "b:1"]);
    let engine = Engine::LlamaServer;
    assert_eq!(super::kept(&Offload { engine, ..offload }), ["a", "b:1", "a:latest"]);
}

#[test]
fn a_model_that_is_idle_for_too_long_is_unloaded_where_the_engine_keeps_it() {
    let mut world = world(&["b:1"], 20, &[("a:1", 1000), ("b:1", 1000)]);
    world.offload.idle_unload = Some(Duration::from_mins(1));
    let verdicts = rounds(&mut world, 80);
    assert_eq!(steps(&verdicts), [Step::Unload { model: "a:1".to_owned() }]);
    let why = &verdicts.iter().find(|verdict| verdict.step.is_some()).unwrap().why;
    assert_eq!(why, "unloads `a:1`, idle for 2 min: `idle_unload` is 60 s");
}

#[test]
fn a_promotion_waits_for_a_minute_of_calm_and_longer_each_time_it_is_taken_back_soon() {
    let mut world = world(&["a:1"], 20, &[("a:1", 2000)]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        squeeze(&mut world, 0);
        relieve(&mut world);
        (world.budget, world.pressure) = (Some(20 * GIB), String::new());
        let mut wait = 0;
        while world.round(&decide).step.is_none() {
            wait += 2;
        }
        rounds(&mut world, 10);
        assert!(world.used() > 0);
        waits.push(wait);
    }
    assert!((56..70).contains(&waits[0]), "{waits:?}");
    assert!(waits[2] >= 100 && waits[3] >= 220 && waits[4] >= 460, "{waits:?}");
    // What has lasted is not held against it.
    rounds(&mut world, 400);
    squeeze(&mut world, 0);
    relieve(&mut world);
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    let wait = rounds(&mut world, 100).iter().position(|verdict| verdict.step.is_some()).unwrap();
    assert!(wait < 40, "{wait}");
}

#[test]
fn a_model_that_the_engine_put_on_the_cpu_is_an_incident_and_is_repaired() {
    let mut world = world(&["a:1"], 20, &[("a:1", 4000)]);
    world.running.get_mut("a:1").unwrap().layers = 8;
    world.offload.cpu_fallback = CpuFallback::Allow;
    let verdicts = rounds(&mut world, 30);
    assert_eq!(steps(&verdicts), [], "it is shown only");
    let found = world.with(incidents);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].found, "2.6G of 5G are on the GPU, though 17.3G of the budget are free");
    world.offload.cpu_fallback = CpuFallback::Warn;
    let verdicts = rounds(&mut world, 30);
    let repaired = Setting { layers: Layers::Exactly(16), context: None };
    assert_eq!(steps(&verdicts), [Step::Load { model: "a:1".to_owned(), setting: repaired, keep: true }]);
    assert_eq!(world.running["a:1"].layers, 16);
    rounds(&mut world, 30);
    assert_eq!(world.with(incidents), []);
}

#[test]
fn a_load_with_explicit_layers_that_ended_on_the_cpu_is_repaired_by_an_unload_and_a_load() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 4000)]);
    // By itself, then with explicit layers.
    world.lost_gpu = 2;
    let verdicts = rounds(&mut world, 180);
    let load =
        |layers| Step::Load { model: "a:1".to_owned(), setting: Setting { layers, context: None }, keep: true };
    let exact = || load(Layers::Exactly(16));
    assert_eq!(steps(&verdicts), [load(Layers::Auto), exact(), unload("a:1"), exact()]);
    let whys: Vec<&str> =
        verdicts.iter().filter(|verdict| verdict.step.is_some()).map(|verdict| verdict.why.as_str()).collect();
    assert_eq!(
        whys[1..],
        [
            "loads `a:1` with all of its 16 layers: it is on the CPU, though 20G are free (repair 1 of 3)",
            "unloads `a:1` to load it again: it is on the CPU, though 20G are free (repair 2 of 3)",
            "loads `a:1` with all of its 16 layers, which was unloaded for that",
        ]
    );
    assert_eq!(world.running["a:1"].layers, 16);
    assert_eq!(world.with(incidents), []);
}

#[test]
fn repairs_become_rare_and_end_and_then_the_incident_stays_and_says_so() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 4000)]);
    world.lost_gpu = u32::MAX;
    let verdicts = rounds(&mut world, 1800);
    let at: Vec<usize> = (0..verdicts.len()).filter(|index| verdicts[*index].step.is_some()).collect();
    assert_eq!(at.len(), 6, "a load, a load anew, and twice an unload with a load: {:?}", steps(&verdicts));
    assert!(at[2] - at[1] >= 30 && at[4] - at[2] >= 60, "{at:?}");
    let found = world.with(incidents);
    assert_eq!(found[0].found, "it is on the CPU, 5G in all, though 20G of the budget are free");
    assert!(found[0].hint.starts_with("it was loaded again 3 times without effect"), "{}", found[0].hint);
    // One who loads it well begins anew.
    world.lost_gpu = 0;
    world.running.get_mut("a:1").unwrap().layers = 16;
    rounds(&mut world, 100);
    assert_eq!(world.with(incidents), []);
    world.running.get_mut("a:1").unwrap().layers = 0;
    assert!(!steps(&rounds(&mut world, 100)).is_empty());
}

#[test]
fn a_part_that_is_less_than_was_asked_for_is_an_incident() {
    let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
    let budget = world.used() / 2;
    squeeze(&mut world, budget);
    relieve(&mut world);
    rounds(&mut world, 40);
    assert_eq!(world.with(incidents), []);
    let layers = world.running["a:1"].layers;
    world.running.get_mut("a:1").unwrap().layers = 1;
    world.pass(4);
    assert!(layers > 4);
    assert_eq!(world.with(incidents).len(), 1);
    rounds(&mut world, 90);
    assert!(world.running["a:1"].layers >= 4, "{}", world.running["a:1"].layers);
}

#[test]
fn a_router_that_refuses_to_unload_a_busy_model_has_not_failed() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.offload.engine, world.offload.request_grace) = (Engine::LlamaServer, Some(Duration::from_mins(5)));
    for _ in 0..4 {
        squeeze(&mut world, 0);
        let verdict = world.with(decide);
        assert_eq!(verdict.step, Some(unload("a:1")));
        world.memory = verdict.memory;
        // A request came just before it was asked.
        world.ask("a:1", 20);
        world.pass(2);
        world.memory = world.with(decide).memory;
        world.pass(8);
        world.memory.failed("a request is under way", Duration::from_secs(world.now));
        let waits = world.with(decide);
        assert!(waits.is_elastic && waits.step.is_none(), "{waits:?}");
        assert!(waits.why.ends_with("waits for a request of `a:1` to finish"), "{}", waits.why);
        world.pass(20);
    }
    assert_eq!(steps(&relieve(&mut world)), [unload("a:1")]);
    assert_eq!((world.cut, world.used()), (0, 0));
}

#[test]
fn what_was_just_loaded_does_not_count_as_free_before_the_driver_has_seen_it() {
    let mut world = World::new(&["a:1"], 5 * GIB, &[("a:1", 3996)]);
    (world.returns_in, world.lag, world.load_time) = (8, 2, 1);
    // One layer of 16 does not fit: it is not tried, however late the driver tells.
    assert_eq!(steps(&rounds(&mut world, 200)).len(), 1);
    assert_eq!(world.running["a:1"].layers, 15);
}

#[test]
fn what_a_model_had_that_went_by_itself_is_waited_for() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.returns_in, world.offload.idle_unload) = (8, None);
    world.pass(300 - 45);
    while world.running.contains_key("a:1") {
        world.round(&decide);
    }
    world.round(&decide);
    squeeze(&mut world, 0);
    let verdict = world.round(&decide);
    assert!(verdict.is_elastic && verdict.step.is_none(), "{verdict:?}");
    assert!(verdict.why.ends_with("waits for what is gone already to come back"), "{}", verdict.why);
    rounds(&mut world, 5);
    assert_eq!(world.used(), 0);
}

#[test]
fn a_name_without_a_tag_is_kept_as_the_engine_is_seen_to_say_it() {
    let mut world = World::new(&["a"], 20 * GIB, &[("a", 2000)]);
    assert_eq!(steps(&rounds(&mut world, 60)).len(), 1);
    assert!(world.running.contains_key("a"));
}

#[test]
fn what_the_driver_does_not_see_is_an_incident() {
    let mut world = world(&[], 20, &[("a:1", 4000)]);
    rounds(&mut world, 20);
    assert_eq!(world.with(incidents), []);
    let found = world.with(|scene| {
        let scene = super::Scene { used: Some(crate::model::Bytes(100 << 20)), ..*scene };
        incidents(&scene)
    });
    assert_eq!(found[0].found, "the engine counts 5G on the GPU, the driver sees 100M");
}

#[test]
fn what_was_given_up_on_purpose_is_no_incident() {
    let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
    let budget = world.used() / 2;
    squeeze(&mut world, budget);
    relieve(&mut world);
    let all = (0..60).flat_map(|_| {
        world.round(&decide);
        world.with(incidents)
    });
    assert_eq!(all.count(), 0);
}

mod the_earlier_manager {
    use super::*;

    #[test]
    fn acts_while_a_model_is_loaded_and_not_when_none_is() {
        let mut loaded = world(&[], 20, &[("a:1", 2000)]);
        squeeze(&mut loaded, 0);
        assert!(loaded.round(&decide).step.is_some());
        let mut none = World::new(&[], 20 * GIB, &[("a:1", 2000)]);
        none.pass(3600);
        squeeze(&mut none, 0);
        assert_eq!(steps(&rounds(&mut none, 50)), []);
    }

    #[test]
    fn never_sends_an_empty_name() {
        let mut world = World::new(&["", "a:1"], 20 * GIB, &[("", 2000), ("a:1", 2000)]);
        world.ask("", 1);
        let mut verdicts = rounds(&mut world, 10);
        squeeze(&mut world, 0);
        verdicts.extend(rounds(&mut world, 50));
        assert!(steps(&verdicts).iter().all(|step| !step.model().is_empty()));
        assert!(verdicts.iter().any(|verdict| verdict.step.is_some()));
    }

    #[test]
    fn looks_at_what_the_driver_says_and_not_at_the_engine_alone() {
        // The engine counts less than the budget; the driver has more.
        let mut world = world(&[], 20, &[("a:1", 2000)]);
        world.leaving.push((u64::MAX, 3 * GIB));
        world.budget = Some(4 * GIB);
        world.pass(1);
        assert_eq!(world.round(&decide).step, Some(unload("a:1")));
    }

    #[test]
    fn unloads_nothing_because_somebody_goes_away() {
        let mut world = world(&[], 20, &[("a:1", 2000)]);
        world.pass(200);
        assert_eq!(world.round(&decide).step, None);
    }

    #[test]
    fn gives_back_what_is_needed_and_not_all_or_nothing() {
        let mut world = world(&[], 20, &[("a:1", 2000), ("b:1", 2000), ("c:1", 2000)]);
        let budget = world.used() - GIB;
        squeeze(&mut world, budget);
        assert_eq!(steps(&relieve(&mut world)).len(), 1);
        assert_eq!(world.running.len(), 2);
    }
}
