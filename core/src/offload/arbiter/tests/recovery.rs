//! Taking again, and what is loaded for nobody.

use super::super::simulator::{Fault, GIB, Stays, World};
use super::super::{Memory, Step, decide, kept};
use super::{relieve, rounds, squeeze, steps, world};
use crate::model::{CpuFallback, Engine, Offload};
use std::time::Duration;

#[test]
fn a_model_that_a_client_loaded_is_not_loaded_again_by_us() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    squeeze(&mut world, 0);
    relieve(&mut world);
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    assert_eq!(steps(&rounds(&mut world, 100)), []);
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
    assert_eq!(kept(&offload), ["a", "b:1"]);
    let engine = Engine::LlamaServer;
    assert_eq!(kept(&Offload { engine, ..offload }), ["a", "b:1", "a:latest"]);
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
fn a_model_that_is_no_longer_to_be_kept_is_unloaded_where_nobody_asks_it() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 1000)]);
    rounds(&mut world, 20);
    assert_eq!(world.running["a:1"].stays, Stays::Ours);
    world.offload.keep.clear();
    assert_eq!(steps(&rounds(&mut world, 140)), [], "nor at once, whenever it was asked last");
    for _ in 0..30 {
        // Somebody does.
        world.ask("a:1", 3);
        assert_eq!(steps(&rounds(&mut world, 10)), []);
    }
    let verdicts = rounds(&mut world, 200);
    assert_eq!(steps(&verdicts), [Step::Unload { model: "a:1".to_owned() }]);
    let why = &verdicts.iter().find(|verdict| verdict.step.is_some()).unwrap().why;
    assert_eq!(why, "unloads `a:1`, idle for 5 min: it is no longer to be kept");
}

#[test]
fn a_model_that_was_loaded_with_more_and_nobody_said_so_is_not_asked_for_what_comes_back_of_it() {
    let mut world = World::new(&["a:1"], 4 * GIB, &[("a:1", 4417)]);
    (world.load_time, world.offload.cpu_fallback) = (0, CpuFallback::Allow);
    world.ask("a:1", 1);
    squeeze(&mut world, GIB);
    rounds(&mut world, 100);
    let few = world.running["a:1"].layers;
    (world.budget, world.pressure, world.faults) = (Some(4 * GIB), String::new(), vec![Fault::LostAnswer]);
    let steps = steps(&rounds(&mut world, 60));
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(world.running["a:1"].layers > few && world.faults.is_empty());
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
fn what_was_just_loaded_does_not_count_as_free_before_the_driver_has_seen_it() {
    let mut world = World::new(&["a:1"], 5 * GIB, &[("a:1", 3996)]);
    (world.returns_in, world.lag, world.load_time) = (8, 2, 1);
    // One layer of 16 does not fit: it is not tried, however late the driver tells.
    assert_eq!(steps(&rounds(&mut world, 200)).len(), 1);
    assert_eq!(world.running["a:1"].layers, 15);
}

#[test]
fn a_name_without_a_tag_is_kept_as_the_engine_is_seen_to_say_it() {
    let mut world = World::new(&["a"], 20 * GIB, &[("a", 2000)]);
    assert_eq!(steps(&rounds(&mut world, 60)).len(), 1);
    assert!(world.running.contains_key("a"));
}

#[test]
fn a_budget_that_goes_up_and_down_a_little_is_calm() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 4000)]);
    world.pressure = "the desktop".to_owned();
    let jitter = |round: u64| (round / 10 % 2) << 20;
    for round in 0..60 {
        world.budget = Some(GIB - jitter(round));
        world.round(&decide);
    }
    for round in 0..120 {
        world.budget = Some(12 * GIB - jitter(round));
        world.round(&decide);
    }
    assert_eq!(world.running["a:1"].layers, 16);
    // By and by a little is much.
    for round in 0..40 {
        world.budget = Some(12 * GIB - (round << 24));
        world.round(&decide);
    }
    assert!(world.memory.disturbed.is_some_and(|at| at.as_secs() + 60 > world.now));
}

#[test]
fn a_model_that_was_moved_to_the_cpu_before_this_agent_began_comes_back() {
    for policy in [CpuFallback::Allow, CpuFallback::Warn] {
        let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
        world.offload.cpu_fallback = policy;
        squeeze(&mut world, 0);
        relieve(&mut world);
        rounds(&mut world, 20);
        assert_eq!(world.running["a:1"].layers, 0);
        world.memory = Memory::default();
        (world.budget, world.pressure) = (Some(20 * GIB), String::new());
        let steps = steps(&rounds(&mut world, 200));
        assert_eq!((steps.len(), world.running["a:1"].layers), (1, 16), "{policy:?}");
    }
}

#[test]
fn what_is_loaded_already_is_said_to_get_more() {
    let mut world = world(&["a:1"], 20, &[("a:1", 8000)]);
    let budget = world.used() / 2;
    squeeze(&mut world, budget);
    relieve(&mut world);
    rounds(&mut world, 10);
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    let why = world.round(&decide).why;
    assert!(why.starts_with("`a:1` is loaded with more in "), "{why}");
}

#[test]
fn a_model_that_a_client_keeps_for_good_is_not_unloaded_as_idle() {
    let mut world = world(&[], 20, &[("a:1", 1000)]);
    world.running.get_mut("a:1").unwrap().stays = Stays::Theirs;
    world.offload.idle_unload = Some(Duration::from_mins(1));
    assert_eq!(steps(&rounds(&mut world, 600)), []);
}

#[test]
fn a_model_that_was_loaded_with_more_is_not_shrunk_because_what_it_had_before_is_still_counted() {
    let mut world = World::new(&["a:1", "b:1", "c:1"], 11 * GIB, &[("a:1", 4130), ("b:1", 2022), ("c:1", 4930)]);
    (world.returns_in, world.lag, world.load_time) = (6, 3, 0);
    world.budget = Some(11 * GIB / 100 * 89);
    rounds(&mut world, 60);
    let before = world.running["c:1"].layers;
    world.budget = Some(11 * GIB);
    let steps = steps(&rounds(&mut world, 60));
    assert!(matches!(steps[..], [Step::Load { .. }]) && world.running["c:1"].layers > before, "{steps:?}");
}

#[test]
fn what_is_loaded_with_more_is_waited_for_before_the_next_takes_the_room() {
    for (lag, load_time) in [(0, 2), (0, 10), (4, 2), (4, 10), (8, 4), (8, 10), (12, 10)] {
        let mut world = World::new(&["a:1", "b:1"], 20 * GIB, &[("a:1", 4000), ("b:1", 4000)]);
        world.load_time = load_time;
        rounds(&mut world, 100);
        let full = world.used();
        squeeze(&mut world, full / 4);
        relieve(&mut world);
        rounds(&mut world, 400);
        let most = full * 5 / 8;
        (world.lag, world.budget, world.pressure) = (lag, Some(most), String::new());
        let before = world.used();
        for _ in 0..300 {
            world.round(&decide);
            assert!(
                world.used() <= most,
                "lag {lag}, {load_time} s per GiB: {} MiB over",
                (world.used() - most) >> 20
            );
        }
        assert!(world.used() > before, "lag {lag}, {load_time} s per GiB");
    }
}
