//! Models that are not where they should be.

use super::super::super::estimate::Layers;
use super::super::super::watchdog::incidents;
use super::super::simulator::{GIB, World};
use super::super::{Scene, Setting, Step, decide};
use super::{relieve, rounds, squeeze, steps, unload, world};
use crate::model::{Bytes, CpuFallback};

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
fn what_the_driver_does_not_see_is_an_incident() {
    let mut world = world(&[], 20, &[("a:1", 4000)]);
    rounds(&mut world, 20);
    assert_eq!(world.with(incidents), []);
    let found = world.with(|scene| {
        let scene = Scene { used: Some(Bytes(100 << 20)), ..*scene };
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
