//! What is different of a `llama-server`.

use super::super::super::watchdog::incidents;
use super::super::simulator::{Fault, GIB, Requests, World};
use super::super::{Scene, Step, Verdict, decide};
use super::{relieve, rounds, squeeze, steps, unload, world};
use crate::model::{Bytes, Engine};
use std::collections::BTreeMap;
use std::time::Duration;

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

fn server(keep: &[&str], loaded: &[(&str, u64)]) -> World {
    let mut world = World::new(keep, 20 * GIB, loaded);
    world.offload.engine = Engine::LlamaServer;
    for (name, _) in loaded {
        world.ask(name, 5);
        world.pass(20);
        world.round(&decide);
    }
    world.pass(60);
    world
}

#[test]
fn where_the_driver_tells_nothing_a_router_gives_back_by_what_is_estimated() {
    let mut world = server(&["a:1"], &[("a:1", 4000), ("b:1", 2000), ("c:1", 2000)]);
    world.tells_driver = false;
    rounds(&mut world, 5);
    squeeze(&mut world, 9 * GIB);
    let verdicts = rounds(&mut world, 60);
    assert_eq!(steps(&verdicts), [unload("b:1")], "{:?}", verdicts[0].why);
    assert!(world.used() <= 9 * GIB && verdicts[59].is_elastic);
    // Who gives nothing back does not count as one that does.
    world.faults = vec![Fault::Fails; 9];
    squeeze(&mut world, 0);
    assert!(!rounds(&mut world, 60)[59].is_elastic);
}

#[test]
fn where_nobody_knows_anything_a_router_gives_back_all_in_its_order() {
    let mut world = server(&["a:1"], &[("a:1", 4000), ("b:1", 2000)]);
    world.tells_driver = false;
    let none = BTreeMap::new();
    let blind = |scene: &Scene<'_>| decide(&Scene { models: &none, ..*scene });
    assert_eq!(steps(&(0..20).map(|_| world.round(&blind)).collect::<Vec<_>>()), []);
    squeeze(&mut world, 8 * GIB);
    let verdicts: Vec<Verdict> = (0..300).map(|_| world.round(&blind)).collect();
    assert_eq!(steps(&verdicts), [unload("b:1"), unload("a:1")]);
    let first = verdicts.iter().find(|verdict| verdict.step.is_some()).unwrap();
    assert_eq!(first.why, "gives back what it has (`game` asks for 8G): unloads `b:1`, idle for 1 min");
    (world.budget, world.pressure) = (Some(20 * GIB), String::new());
    let verdicts: Vec<Verdict> = (0..60).map(|_| world.round(&blind)).collect();
    assert!(matches!(steps(&verdicts)[..], [Step::Load { .. }]), "{:?}", steps(&verdicts));
}

#[test]
fn a_server_that_does_not_tell_of_requests_is_asked_after_a_minute_or_the_grace() {
    for (grace, waits) in [(None, 60), (Some(20), 20), (Some(300), 60)] {
        let mut world = server(&[], &[("a:1", 4000)]);
        (world.requests, world.offload.request_grace) = (Requests::Hidden, grace.map(Duration::from_secs));
        squeeze(&mut world, 0);
        let verdicts = relieve(&mut world);
        let at = verdicts.iter().position(|verdict| verdict.step.is_some()).unwrap();
        assert_eq!(at * 2, waits);
        let why = format!("waits for a request that `a:1` may have: it does not say, and is asked in {waits} s");
        assert!(verdicts[0].is_elastic && verdicts[0].why.ends_with(&why), "{}", verdicts[0].why);
        assert_eq!(world.used(), 0);
    }
}

#[test]
fn a_server_that_does_not_tell_of_requests_is_not_idle() {
    for (tells, count) in [(Requests::Told, 1), (Requests::Hidden, 0)] {
        let mut world = server(&[], &[("a:1", 4000)]);
        (world.requests, world.offload.idle_unload) = (tells, Some(Duration::from_mins(1)));
        assert_eq!(steps(&rounds(&mut world, 600)).len(), count);
    }
}

#[test]
fn what_was_asked_while_a_server_was_silent_is_not_taken_for_idle() {
    let mut world = server(&[], &[("a:1", 4000)]);
    world.offload.idle_unload = Some(Duration::from_mins(5));
    world.is_silent = true;
    rounds(&mut world, 200);
    world.is_silent = false;
    assert_eq!(steps(&rounds(&mut world, 60)), []);
}

#[test]
fn a_server_of_which_the_driver_sees_next_to_nothing_is_an_incident() {
    let mut world = server(&[], &[("a:1", 4000)]);
    rounds(&mut world, 20);
    assert_eq!(world.with(incidents), []);
    let with = |used: Option<u64>, budget: u64| {
        let (used, budget) = (used.map(Bytes), Some(Bytes(budget)));
        world.with(|scene| incidents(&Scene { budget, used, ..*scene }))
    };
    let [incident] = &with(Some(100 << 20), 20 * GIB)[..] else { panic!("none") };
    let found = "nothing of it is on the GPU, or little: it takes 5.2G, and the driver sees 100M of all";
    assert_eq!(incident.found, found);
    assert!(incident.hint.starts_with("restart the service"), "{}", incident.hint);
    assert_eq!(with(Some(0), 20 * GIB)[0].found, "nothing of it is on the GPU, where it takes 5.2G");
    // The driver does not tell, the budget does not hold it, or a part of it is there.
    assert_eq!(
        [with(None, 20 * GIB), with(Some(0), 4 * GIB), with(Some(3 * GIB), 20 * GIB)],
        [const { Vec::new() }; 3]
    );
    // It has just appeared.
    let mut fresh = World::new(&[], 20 * GIB, &[("a:1", 4000)]);
    fresh.offload.engine = Engine::LlamaServer;
    fresh.ask("a:1", 5);
    let found = (0..10).map(|_| {
        fresh.round(&decide);
        fresh.with(|scene| incidents(&Scene { used: Some(Bytes(0)), ..*scene })).len()
    });
    assert_eq!(found.sum::<usize>(), 0);
}
