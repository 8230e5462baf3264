//! The client on a real terminal: the real `nixmoxctl` on a pseudo terminal, the real agent on a simulated host.
//!
//! `terminal`: the client's terminal and what is typed there. `screen`: what a person would see on it. `agent`: the agent.
//! `top`: the one command that takes the whole screen.
//! What the texts say is tested in the client; here it is that they are drawn, redrawn and left as they should be.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

mod agent;
mod completion;
mod pager;
mod screen;
mod terminal;
mod top;

use std::time::{Duration, Instant};

use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};

use agent::Agent;
use terminal::Terminal;

/// How soon a program has to end once somebody pressed Ctrl-C.
const PROMPTLY: Duration = Duration::from_secs(5);
/// What stands below the progress.
const PROMISE: &str = "Ctrl-C stops watching; the deployment goes on.";

fn slow(start: u64, health: u64) -> Behaviour {
    Behaviour {
        start_time: Duration::from_millis(start),
        health: HealthBehaviour::After(Duration::from_millis(health)),
        ..Behaviour::default()
    }
}

#[test]
fn up_draws_its_progress_in_place_and_leaves_it_there() {
    let agent = Agent::start();
    agent.behave("postgres", slow(200, 300));
    agent.behave("nextcloud", slow(200, 2500));
    let mut terminal = Terminal::run(&agent, "up");
    terminal.until("it waits for the gate", |screen| {
        screen.line("nextcloud").is_some_and(|line| line.contains("waits for postgres: healthy"))
    });
    let health = |screen: &screen::Screen| {
        let line = screen.line("nextcloud")?;
        Some(line.split_once("health ")?.1.split_once(" of 5min")?.0.to_owned())
    };
    terminal.until("it waits for health", |screen| {
        health(screen).is_some() && screen.text().contains("waiting: simulated -> 503 (")
    });
    assert!(terminal.screen.line("+ nextcloud").is_some(), "{}", terminal.screen.text());
    assert!(terminal.screen.text().trim_end().ends_with(PROMISE), "{}", terminal.screen.text());
    let before = health(&terminal.screen);
    terminal.until("time passes", |screen| health(screen) != before);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen.text());
    let text = terminal.screen.text();
    assert!(!text.contains(PROMISE) && !text.contains("waiting:"), "{text}");
    for line in ["+ postgres", "+ nextcloud", &format!("+ {}", &agent::LONG[..20])] {
        assert_eq!(text.lines().filter(|row| row.starts_with(line)).count(), 1, "drawn in place: {text}");
    }
    assert!(text.lines().last().is_some_and(|line| line.starts_with("generation 1: 3 healthy in ")), "{text}");
    assert!(terminal.screen.is_colored && !terminal.screen.has_overflown, "{text}");
    terminal.assert_as_found();
}

#[test]
fn ctrl_c_in_up_stops_watching_and_not_the_deployment() {
    let agent = Agent::start();
    agent.behave("postgres", slow(100, 0));
    agent.behave("nextcloud", slow(1500, 8000));
    let mut terminal = Terminal::run(&agent, "up");
    terminal.until("the start is under way", |screen| {
        screen.line("nextcloud").is_some_and(|line| line.contains("starting "))
    });
    terminal.press_ctrl_c();
    let pressed = Instant::now();
    assert_eq!(terminal.end(), 130, "{}", terminal.screen.text());
    assert!(pressed.elapsed() < PROMPTLY, "{:?}", pressed.elapsed());
    let text = terminal.screen.text();
    assert!(text.ends_with("stopped watching; the deployment goes on\n"), "{text}");
    assert!(!text.contains(PROMISE) && !text.contains("^C"), "{text}");
    terminal.assert_as_found();
    assert_eq!(agent.state("nextcloud"), "starting", "the deployment is not over yet");
    agent.until_state("nextcloud", "healthy");
}

#[test]
fn status_w_follows_the_host_until_ctrl_c() {
    let agent = Agent::start();
    agent.up();
    let mut terminal = Terminal::run(&agent, "status -w");
    terminal.until("all is shown", |screen| screen.text().contains("3 healthy"));
    let age = |screen: &screen::Screen| screen.line("● postgres");
    let before = age(&terminal.screen);
    terminal.until("it grows older", |screen| age(screen) != before);
    agent.kill("nextcloud");
    terminal.until("its end is shown", |screen| {
        screen.line("✗ nextcloud").is_some_and(|line| line.contains("failed"))
            && screen.text().contains("2 healthy, 1 failed")
    });
    let text = terminal.screen.text();
    assert_eq!(text.lines().filter(|line| line.contains("SERVICE")).count(), 1, "drawn in place: {text}");
    terminal.press_ctrl_c();
    let pressed = Instant::now();
    assert_eq!(terminal.end(), 0, "{}", terminal.screen.text());
    assert!(pressed.elapsed() < PROMPTLY, "{:?}", pressed.elapsed());
    let text = terminal.screen.text();
    assert!(
        text.contains("✗ nextcloud") && !text.contains("^C"),
        "what was shown is left, and nothing else: {text}"
    );
    assert!(!terminal.screen.has_overflown, "{text}");
    terminal.assert_as_found();
}

#[test]
fn a_status_that_becomes_shorter_leaves_nothing_of_the_longer_one() {
    let agent = Agent::start();
    agent.up();
    let mut terminal = Terminal::run(&agent, "status -w");
    terminal.until("all is shown", |screen| screen.line("● nextcloud").is_some());
    agent.down();
    terminal.until("it is gone", |screen| screen.text() == "cloud   is not up; try: nixmoxctl up\n");
    terminal.press_ctrl_c();
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_watch_into_a_pipe_writes_nothing_while_nothing_happens() {
    let agent = Agent::start();
    agent.up();
    let mut terminal = Terminal::run(&agent, "status -w | cat");
    terminal.until("all is shown", |screen| screen.text().contains("3 healthy"));
    // Ages grow each second; that alone is no news.
    std::thread::sleep(Duration::from_millis(4500));
    terminal.press_ctrl_c();
    terminal.end();
    let text = terminal.written();
    // The agent may still have news of the start; one table a second would be five.
    assert!(text.matches("SERVICE").count() <= 3, "{text}");
}

#[test]
fn up_into_a_pipe_appends_plain_lines() {
    let agent = Agent::start();
    agent.behave("nextcloud", slow(200, 800));
    // Errors and notes still go to the terminal.
    let mut terminal = Terminal::run(&agent, "up | cat");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen.text());
    let text = terminal.written();
    assert!(!text.contains(['\x1b', '\u{8}']) && !text.replace("\r\n", "\n").contains('\r'), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines {
        let (time, _) = line.split_once(' ').expect("a time and a text");
        let digits = time.split(':').map(str::len).collect::<Vec<_>>();
        assert_eq!(digits, [2, 2, 2], "{line}");
    }
    let said = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert!(lines[0].contains("generation 1: ") && lines[0].contains("+nextcloud +postgres"), "{text}");
    // The plan, then for each: begun, started, healthy.
    assert_eq!([said(" nextcloud  "), said("  create"), said("started in")], [3, 3, 3], "{text}");
    assert!(lines.iter().any(|line| line.contains("waiting for health, limit 5min")), "{text}");
    assert!(lines.last().is_some_and(|line| line.contains("generation 1: 3 healthy in ")), "{text}");
}

#[test]
fn results_complaints_help_and_the_pager_are_coloured_alike() {
    let agent = Agent::start();
    agent.up();
    let pager = ("PAGER", "sed s/^/paged:/");
    for arguments in ["why nextcloud", "plan", "status", "status nextclout", "--help", "why --help", "up --nope"] {
        for (variables, option, colored) in [
            (&[][..], "", true),
            (&[("NO_COLOR", "1")], "", false),
            (&[("NO_COLOR", "")], "", true),
            (&[("TERM", "dumb")], "", false),
            (&[], "--color never", false),
            (&[], "--color=never", false),
            (&[("NO_COLOR", "1")], "--color always", true),
            (&[("TERM", "dumb")], "--color=always", true),
        ] {
            let environment: Vec<_> = variables.iter().copied().chain([pager]).collect();
            let line = format!("{option} {arguments}");
            let mut terminal = Terminal::run_with(&agent, &environment, &line);
            terminal.end();
            let text = terminal.written();
            assert!(text.len() > 20 && text.contains('\x1b') == colored, "{variables:?} {line}: {text:?}");
        }
    }
}

#[test]
fn no_color_takes_the_colours_and_not_the_drawing() {
    let agent = Agent::start();
    agent.behave("nextcloud", slow(200, 800));
    let mut up = Terminal::run_with(&agent, &[("NO_COLOR", "1")], "up");
    up.until("it waits for health", |screen| screen.text().contains("waiting: simulated"));
    assert_eq!(up.end(), 0, "{}", up.screen.text());
    assert!(!up.screen.is_colored && up.written().contains("\x1b["), "{:?}", up.written());
    for (variable, value, colored) in
        [("NO_COLOR", "1", false), ("NO_COLOR", "", true), ("TERM", "dumb", false), ("TERM", "xterm", true)]
    {
        let mut status = Terminal::run_with(&agent, &[(variable, value)], "status");
        assert_eq!(status.end(), 0);
        assert_eq!(status.written().contains('\x1b'), colored, "{variable}={value}: {:?}", status.written());
    }
}
