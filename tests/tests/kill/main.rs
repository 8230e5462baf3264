//! Killing, stopping and upgrading the agent, on a real systemd: no container notices, and it converges.
//!
//! `NIXMOX_KILL_SEED` sets the seed of the points of death, `NIXMOX_KILL_POINTS` their number.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it expected and what it does")]

mod model;
mod point;
mod storm;
mod trace;

use std::time::Duration;

use nixmox_tests::say;
use point::Phase;
use storm::Storm;

/// Kills per run.
const POINTS: usize = 50;
/// Kills between the first and the last step of an operation: four in five.
const INSIDE: fn(usize) -> usize = |points| points * 4 / 5;
/// Longest time from a kill until all is as desired.
const CONVERGE_LIMIT: Duration = Duration::from_mins(1);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// A seed of the time of day: other points in every run.
fn any_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::from(since.subsec_nanos()) ^ since.as_secs() << 20
}

#[test]
fn the_agent_converges_from_every_point_of_death() {
    let seed = number("NIXMOX_KILL_SEED").unwrap_or_else(any_seed);
    say(&format!("NIXMOX_KILL_SEED={seed}"));
    let points =
        number("NIXMOX_KILL_POINTS").map_or(POINTS, |points| usize::try_from(points).expect("a small number"));
    let mut storm = Storm::begin(seed).expect("the stacks are up");
    let inside = |storm: &Storm| storm.points().iter().filter(|point| point.phase.is_inside()).count();
    // A host that is slower or quicker than a moment ago lets some kills come too early or too late: more are made.
    while storm.points().len() < points || (inside(&storm) < INSIDE(points) && storm.points().len() < 2 * points) {
        let number = storm.points().len() + 1;
        storm.point().unwrap_or_else(|error| panic!("NIXMOX_KILL_SEED={seed}, point {number}: {error:?}"));
    }
    say(&point::histogram(storm.points()));
    let inside = inside(&storm);
    assert!(inside >= INSIDE(points), "only {inside} kills fell between the first and the last step");
    assert!(storm.points().iter().any(|point| matches!(point.phase, Phase::During(_))));
}
