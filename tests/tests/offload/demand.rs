//! Demand that comes and goes does not have models loaded again and again.

use std::time::{Duration, Instant};

use crate::machine::{HIGH, Machine, OLLAMA};

/// How long demand comes and goes.
const FLAPS: Duration = Duration::from_secs(90);
/// How often it does.
const EVERY: Duration = Duration::from_secs(4);
/// Loads of a model that may be made at once, and how often there is another one.
const BURST: u64 = 3;
const PER: u64 = 60;

#[test]
fn demand_that_comes_and_goes_reloads_models_a_bounded_number_of_times() {
    let machine = Machine::boot("offload-demand", "memory_returns 0.5\n");
    machine.up(&[("ollama", OLLAMA), ("high", HIGH)]);
    assert!(machine.ctl("stop high").success());
    machine.is("ollama", "healthy");
    machine.wait("big is loaded, to be kept", || machine.is_whole("big"));
    let begin = Instant::now();
    let mut rounds = 0_u32;
    while begin.elapsed() < FLAPS {
        if rounds.is_multiple_of(2) {
            machine.begin("start high");
            machine.other_uses(0);
        } else {
            machine.begin("stop high");
            machine.other_uses(9 * 1024);
        }
        rounds += 1;
        // What is tested is that time passes: somebody comes and goes, whatever happens.
        std::thread::sleep(EVERY);
    }
    let loads = machine.count("load", "big") as u64;
    let allowed = BURST + begin.elapsed().as_secs() / PER;
    println!("{loads} loads in {rounds} rounds, at most {allowed}");
    assert!(
        rounds > 8 && loads <= allowed,
        "{loads} loads in {rounds} rounds, at most {allowed}: {}",
        machine.all()
    );
    assert!(machine.count("unloaded", "big") >= 1, "it was asked at all: {}", machine.all());

    machine.ctl("stop high");
    machine.other_uses(0);
    machine.wait("it returns when all is calm", || machine.is_whole("big"));
    machine.is("ollama", "healthy");
}
