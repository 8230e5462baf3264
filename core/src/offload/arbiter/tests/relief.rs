//! Giving back, step by step.

use super::super::super::estimate::Layers;
use super::super::simulator::{Fault, GIB, World};
use super::super::{Setting, Step, decide};
use super::{relieve, rounds, squeeze, steps, unload, world};
use crate::model::CpuFallback;

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
fn memory_that_no_model_has_is_not_waited_for() {
    let mut world = World::new(&[], 20 * GIB, &[("a:1", 2000)]);
    world.leaving.push((u64::MAX, 3 * GIB));
    squeeze(&mut world, GIB);
    let verdict = world.round(&decide);
    assert!(!verdict.is_elastic);
    assert!(verdict.why.contains("no model is loaded, and 3G is used all the same"), "{}", verdict.why);
}

#[test]
fn a_relief_that_waited_for_a_request_is_done_when_the_memory_is_back() {
    let mut world = World::new(&["b:1"], 4 * GIB, &[("a:1", 200), ("b:1", 200)]);
    (world.load_time, world.offload.request_grace) = (3, None);
    world.offload.cpu_fallback = CpuFallback::Allow;
    world.ask("b:1", 33);
    world.pass(6);
    world.round(&decide);
    squeeze(&mut world, 0);
    // It is loaded on the CPU as soon as its request is over, and is not unloaded while its memory is on its way.
    let steps = steps(&relieve(&mut world));
    assert!(
        matches!(steps[..], [Step::Load { setting: Setting { layers: Layers::Exactly(0), .. }, .. }]),
        "{steps:?}"
    );
}
