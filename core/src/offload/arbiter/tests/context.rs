//! The context that a model has, as far as it can be known.

use super::super::super::engine::{Device, default_context, environment};
use super::super::super::seen::EngineSeen;
use super::super::simulator::{GIB, World};
use super::super::{Scene, Sizes};
use super::{rounds, steps};
use crate::model::{Bytes, Engine};

/// Returns the context that a model is thought to have.
fn thought(world: &World, said: Option<u32>) -> u32 {
    world.with(|scene| {
        let scene = Scene { context: said, ..*scene };
        let EngineSeen::Answers(view) = scene.engine else { panic!("it is silent") };
        Sizes::new(&scene, view).context("a:1", None)
    })
}

#[test]
fn the_engines_default_is_by_what_it_sees_of_the_gpu() {
    let mut world = World::new(&["a:1"], 10 * GIB, &[("a:1", 4000)]);
    let gpu = Device { total: Bytes(24 * GIB), others: Bytes(0) };
    let told = environment(&world.offload, Some(Bytes(10 * GIB)), &[gpu]);
    world.overhead = told["OLLAMA_GPU_OVERHEAD"].parse().unwrap();
    world.context = default_context(Engine::Ollama, None, Bytes(24 * GIB - world.overhead), None);
    assert_eq!((world.context, thought(&world, None), thought(&world, Some(8192))), (4096, 4096, 8192));
    let verdicts = rounds(&mut world, 300);
    assert_eq!(steps(&verdicts).len(), 1);
    assert_eq!(verdicts[0].why, "loads `a:1`, which is to be kept, 4.3G of 10G");
}

#[test]
fn more_context_than_a_model_was_made_for_is_no_reason_to_load_it_anew() {
    let mut world = World::new(&["a:1"], 20 * GIB, &[("a:1", 4000)]);
    world.offload.context = Some(131_072);
    world.train("a:1", 8192);
    assert_eq!(steps(&rounds(&mut world, 1800)).len(), 1);
    assert_eq!((world.running["a:1"].context, thought(&world, None)), (8192, 8192));
}
