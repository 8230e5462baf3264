//! When an engine counts as one that gives nothing back.

use super::super::decide;
use super::super::simulator::{Fault, GIB, World};
use super::{relieve, rounds, squeeze, steps, world};

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
fn an_unload_that_fails_again_and_again_makes_it_not_elastic() {
    let mut world = world(&[], 20, &[("a:1", 2000)]);
    (world.faults, world.offload.request_grace) = (vec![Fault::Fails; 9], None);
    squeeze(&mut world, 0);
    let verdicts = relieve(&mut world);
    let last = verdicts.last().unwrap();
    assert_eq!(steps(&verdicts).len(), 3);
    assert!(!last.is_elastic && last.why.contains("cannot be unloaded: 500: no"), "{}", last.why);
}
