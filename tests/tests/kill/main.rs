//! Killing, stopping and upgrading the agent, on a real systemd: no container notices, and it converges.
//!
//! `NIXMOX_KILL_SEED` sets the seed of the points of death, `NIXMOX_KILL_POINTS` their number.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it expected and what it does")]

mod alive;
mod model;
mod point;
mod storm;
mod trace;

use std::time::Duration;

use alive::Quiet;
use nixmox_tests::say;
use point::Phase;
use storm::Storm;
use trace::Journal;

/// Kills per run.
const POINTS: usize = 50;
/// Kills between the first and the last step of an operation: four in five.
const INSIDE: fn(usize) -> usize = |points| points * 4 / 5;
/// Longest time from a kill until all is as desired, on a busy machine: what never converges ends here.
const CONVERGE_LIMIT: Duration = Duration::from_mins(3);

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
    // A host that is slower or quicker than a moment ago lets some kills come too early or too late: more are made, until the
    // windows have found the steps again.
    while storm.points().len() < points || (inside(&storm) < INSIDE(points) && storm.points().len() < 3 * points) {
        let number = storm.points().len() + 1;
        storm.point().unwrap_or_else(|error| panic!("NIXMOX_KILL_SEED={seed}, point {number}: {error:?}"));
    }
    say(&point::histogram(storm.points()));
    let inside = inside(&storm);
    assert!(inside >= INSIDE(points), "only {inside} kills fell between the first and the last step");
    assert!(storm.points().iter().any(|point| matches!(point.phase, Phase::During(_))));
}

#[test]
fn an_agent_that_is_restarted_stopped_or_upgraded_touches_no_container() {
    let quiet = Quiet::build("upgrade").expect("a host");
    let before = quiet.up().expect("the stack is up");
    let mut journal = Journal::default();
    journal.read(&quiet.bed).expect("readable");
    let succeed = |script: &str| quiet.bed.succeed(script).expect("it succeeds");
    for (what, script) in [
        ("killed", "systemctl kill --signal=KILL nixmox-agent"),
        ("restarted", "systemctl restart nixmox-agent"),
        // Another file in place of the one that runs, as a package manager does it.
        (
            "upgraded",
            "cd /usr/bin; cp nixmox-agent new; echo >> new; mv new nixmox-agent; systemctl restart nixmox-agent",
        ),
        ("reloaded", "systemctl daemon-reload"),
        ("stopped", "systemctl stop nixmox-agent"),
        ("stopped with its socket", "systemctl stop nixmox-agent.socket nixmox-agent"),
    ] {
        let agent = quiet.agent().expect("it answers");
        succeed(script);
        quiet.fetch().expect("the stack serves whatever happens to the agent");
        succeed("systemctl start nixmox-agent.socket");
        assert_eq!(quiet.wait_until_healthy().expect("healthy"), before, "{what}");
        if what != "reloaded" {
            assert_ne!(quiet.agent().expect("it answers"), agent, "{what}");
        }
        assert_eq!(
            succeed("readlink /proc/$(systemctl show -P MainPID nixmox-agent)/exe"),
            "/usr/bin/nixmox-agent"
        );
    }
    assert_eq!(journal.read(&quiet.bed).expect("readable"), [], "no step was taken");
}

#[test]
fn a_restart_that_was_accepted_is_carried_out_although_the_agent_dies() {
    let quiet = Quiet::build("accepted").expect("a host");
    let before = quiet.up().expect("the stack is up");
    // It is answered as soon as the agent knows, before anything is done about it.
    quiet
        .bed
        .succeed(
            "agent=$(systemctl show --property=MainPID --value nixmox-agent)
             varlinkctl call /run/nixmox/io.nixmox.Agent io.nixmox.Agent.Restart '{\"names\":[\"middle\",\"top\"]}' &&
             kill -KILL $agent",
        )
        .expect("it is accepted, and the agent dies");
    let after = quiet.wait_until_healthy().expect("healthy");
    for name in ["middle", "top"] {
        assert_ne!(after[name], before[name], "{name} was to be replaced");
    }
    for name in ["base", "slow"] {
        assert_eq!(after[name], before[name], "{name} was not");
    }
    quiet.bed.succeed("systemctl restart nixmox-agent").expect("a further agent");
    assert_eq!(quiet.wait_until_healthy().expect("healthy"), after, "what was done is not done again");
}

#[test]
fn up_goes_on_through_a_restart_of_the_agent() {
    let quiet = Quiet::build("through").expect("a host");
    let mut journal = Journal::default();
    quiet.begin("up").expect("it begins");
    quiet.wait_for_step(&mut journal, "start", "slow").expect("the first step");
    quiet.bed.succeed("systemctl restart nixmox-agent").expect("another agent");
    quiet.client_end().expect("the client sees it through");
    quiet.wait_until_healthy().expect("healthy");
    assert_eq!(quiet.failed_steps().expect("readable"), "");
}

#[test]
fn up_goes_on_while_systemd_reads_its_units_and_replaces_itself() {
    let quiet = Quiet::build("reexec").expect("a host");
    let mut journal = Journal::default();
    // It cannot be over before systemd was replaced: a service stays ill until then.
    quiet.answer("base", 503).expect("written");
    quiet.begin("up").expect("it begins");
    quiet.wait_for_step(&mut journal, "start", "slow").expect("the first step");
    let again = "systemctl daemon-reload && systemctl daemon-reexec";
    quiet.bed.succeed(&format!("{again} && {again} && test ! -e /root/end")).expect("systemd answers");
    quiet.answer("base", 200).expect("written");
    // And once more while those start that waited.
    quiet.bed.succeed(&format!("{again} && {again}")).expect("systemd answers");
    quiet.client_end().expect("the client sees it through");
    let running = quiet.wait_until_healthy().expect("healthy");
    assert_eq!(running.len(), 4);
    assert_eq!(quiet.failed_steps().expect("readable"), "");
}
