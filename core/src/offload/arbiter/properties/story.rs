//! Stories: what happens to an engine, made up at random.

use std::time::Duration;

use proptest::prelude::*;

use super::super::simulator::{Fault, GIB, World};
use crate::model::{CpuFallback, Engine};

/// Rounds of two seconds with things happening.
pub(super) const ROUNDS: usize = 300;

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The budget becomes this part of the whole, in percent.
    Budget(u64),
    /// A client asks a model.
    Asks(usize, u64),
    Fault(Fault),
    /// The engine does not answer, or answers again.
    Silent(bool),
}

/// What happens, and to whom.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) world: World,
    /// By round.
    pub(super) events: Vec<(usize, Event)>,
}

pub(super) const NAMES: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop_oneof![Just(0), Just(100), Just(100), 20_u64..100].prop_map(Event::Budget),
        8 => (0_usize..4, 1_u64..40).prop_map(|(model, seconds)| Event::Asks(model, seconds)),
        2 => prop::sample::select(vec![Fault::LostAnswer, Fault::LostStep, Fault::Fails]).prop_map(Event::Fault),
        2 => any::<bool>().prop_map(Event::Silent),
    ]
}

prop_compose! {
    pub(super) fn story()(
        keep in 0_usize..4,
        sizes in prop::array::uniform4(200_u64..5000),
        vram in 4_u64..22,
        returns_in in 0_u64..10,
        lag in 0_u64..4,
        load_time in 0_u64..8,
        error in -4_i64..5,
        grace in prop::option::weighted(0.8, 10_u64..60),
        is_server in prop::bool::weighted(0.25),
        is_multi in prop::bool::weighted(0.9),
        tells_driver in prop::bool::weighted(0.9),
        policy in prop::sample::select(vec![CpuFallback::Allow, CpuFallback::Warn, CpuFallback::Refuse]),
        idle in prop::option::weighted(0.2, 30_u64..200),
        events in prop::collection::vec((0..ROUNDS, event()), 0..30),
        flaps in prop::option::weighted(0.3, 1_usize..40),
        // A request that does not end, while memory is asked for.
        stuck in prop::option::weighted(0.15, 0_usize..4),
        // Several that are idle, and a part of the memory is asked for.
        part in prop::option::weighted(0.15, 30_u64..90),
    ) -> Story {
        let models: Vec<(&str, u64)> = NAMES.into_iter().zip(sizes).collect();
        let mut world = World::new(&NAMES[..keep], vram * GIB, &models);
        (world.returns_in, world.lag, world.load_time, world.error) = (returns_in, lag, load_time, error);
        world.offload.request_grace = grace.map(Duration::from_secs);
        world.offload.engine = if is_server { Engine::LlamaServer } else { Engine::Ollama };
        // As much as it has anyway: a router cannot be told.
        world.offload.context = is_server.then_some(32_768);
        world.is_multi = is_multi || !is_server;
        world.tells_driver = tells_driver;
        world.offload.cpu_fallback = policy;
        world.offload.idle_unload = idle.map(Duration::from_secs);
        let mut events = events;
        if let Some(every) = flaps {
            let flap = |round: usize| (round, Event::Budget(if (round / every).is_multiple_of(2) { 100 } else { 0 }));
            events.extend((0..ROUNDS).filter(|round| round % every == 0).map(flap));
        }
        if let Some(model) = stuck {
            events.retain(|(_, event)| matches!(event, Event::Asks(..) | Event::Fault(_)));
            events.extend([(10, Event::Asks(model, 1500)), (12, Event::Budget(0))]);
        }
        if let Some(percent) = part {
            events.clear();
            (0..4).for_each(|model| events.push((10 + 10 * model, Event::Asks((model + keep) % 4, 2))));
            events.push((80, Event::Budget(percent)));
        }
        events.sort_by_key(|(round, _)| *round);
        Story { world, events }
    }
}

pub(super) fn happens(world: &mut World, event: &Event) {
    match event {
        Event::Budget(percent) => {
            world.budget = world.share.vram.map(|vram| vram.0 / 100 * percent);
            world.pressure = if *percent < 100 { "`game` asks for it".to_owned() } else { String::new() };
        }
        Event::Asks(model, seconds) => {
            if world.is_multi || world.running.is_empty() {
                world.ask(NAMES[*model], *seconds);
            }
        }
        Event::Fault(fault) => world.faults.push(*fault),
        Event::Silent(is_silent) => world.is_silent = *is_silent,
    }
}
