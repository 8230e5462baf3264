//! Single decisions, by subject.

mod context;
mod earlier;
mod elastic;
mod estimates;
mod recovery;
mod relief;
mod repair;
mod servers;

use super::simulator::{GIB, World};
use super::{Step, Verdict, decide};

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
