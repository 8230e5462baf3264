//! How many estimates a decision takes, and what becomes of it when it may not make as many.

use std::time::Duration;

use super::super::simulator::{GIB, World, estimate};
use super::super::{Estimates, Scene, Verdict, decide};
use super::{rounds, squeeze, world};

fn crowd() -> World {
    let mut world = world(&["a:1", "b:1"], 20, &[("a:1", 4000), ("b:1", 5000)]);
    let budget = world.used() / 3;
    squeeze(&mut world, budget);
    world
}

fn with(world: &World, estimates: &Estimates, left: u32) -> Verdict {
    estimates.allow(left);
    world.with(|scene| decide(&Scene { estimates, ..*scene }))
}

#[test]
fn what_is_not_decided_in_one_round_is_decided_in_the_next_ones_and_the_same() {
    let (mut world, estimates) = (crowd(), Estimates::new(estimate));
    let at_once = world.with(decide);
    assert!(at_once.step.is_some());
    let mut waits = 0;
    let found = loop {
        let verdict = with(&world, &estimates, 20);
        world.memory = verdict.memory.clone();
        if !estimates.is_short() {
            break verdict;
        }
        assert!(verdict.step.is_none() && verdict.is_elastic, "{verdict:?}");
        assert_eq!(verdict.again_at, Some(Duration::from_secs(world.now)));
        waits += 1;
    };
    assert!((2..30).contains(&waits), "{waits}");
    assert_eq!((found.step, found.why), (at_once.step, at_once.why));
}

#[test]
fn what_was_estimated_is_not_estimated_again_until_another_model_has_the_name_or_more_has_changed() {
    let (world, estimates) = (crowd(), Estimates::new(estimate));
    with(&world, &estimates, 1000);
    let count = 1000 - estimates.left().unwrap();
    assert!(count > 4, "{count}");
    with(&world, &estimates, 1000);
    assert_eq!(estimates.left(), Some(1000));
    estimates.forget("a:1");
    with(&world, &estimates, 1000);
    assert_eq!(estimates.left(), Some(1000), "it is the other that is loaded smaller");
    estimates.forget("b:1");
    with(&world, &estimates, 1000);
    assert_eq!(estimates.left(), Some(1000 - count));
    estimates.allow(1000);
    world.with(|scene| decide(&Scene { estimates: &estimates, parallel: 2, ..*scene }));
    assert_eq!(estimates.left(), Some(1000 - count));
}

#[test]
fn an_engine_whose_models_are_never_estimated_to_the_end_does_not_count_as_one_that_gives_back() {
    let (mut world, estimates) = (crowd(), Estimates::new(estimate));
    let mut elastic = 0;
    for _ in 0..45 {
        let verdict = with(&world, &estimates, 0);
        elastic += u32::from(verdict.is_elastic);
        world.memory = verdict.memory;
        world.pass(2);
    }
    assert_eq!(elastic, 30, "for a minute");
    assert!(rounds(&mut world, 1)[0].is_elastic && world.used() > GIB);
}
