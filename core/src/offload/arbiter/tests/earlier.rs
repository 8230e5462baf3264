//! Faults of managers that were there before.

use super::super::decide;
use super::super::simulator::{GIB, World};
use super::{relieve, rounds, squeeze, steps, unload, world};

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
