//! `top` takes the whole screen, listens to single keys, and leaves everything as it was.

use std::time::Instant;

use nix::sys::signal::Signal;
use nixmox_agent::host::fake::{Behaviour, HealthBehaviour};

use super::PROMPTLY;
use super::agent::{Agent, LONG};
use super::terminal::Terminal;

/// The heading of the table.
const HEADING: &str = "SERVICE ";

/// The names in the table, from the top.
fn names(text: &str) -> Vec<&str> {
    let rows = text.lines().skip_while(|line| !line.contains(HEADING)).skip(1);
    rows.take_while(|line| line.len() > 4)
        .filter_map(|line| line.split_whitespace().find(|word| word.len() > 3))
        .collect()
}

#[test]
fn top_is_drawn_steered_by_keys_and_follows_the_size_of_the_terminal() {
    let agent = Agent::start();
    agent.up();
    let mut top = Terminal::run(&agent, "top -d 0.2");
    // The simulated containers use a tenth of a CPU, from the second sample on.
    top.until("rates are there", |screen| screen.line("postgres").is_some_and(|line| line.contains(" 10%")));
    let text = top.screen.text();
    assert!(top.screen.is_other() && top.screen.is_cursor_hidden && top.screen.is_colored, "{text}");
    assert!(text.starts_with("3 healthy") && text.contains("every 200ms") && text.contains("q quit"), "{text}");
    let time = |screen: &super::screen::Screen| screen.text().lines().next().map(str::to_owned);
    let before = time(&top.screen);
    top.until("time passes", |screen| time(screen) != before);

    top.press("N");
    top.until("it is sorted by name", |screen| screen.text().contains("by name"));
    assert_eq!(names(&top.screen.text())[1..], ["nextcloud", "postgres"], "{}", top.screen.text());
    top.press("r");
    top.until("it is reversed", |screen| names(&screen.text()).first() == Some(&"postgres"));
    top.press("rj\r");
    top.until("details are shown", |screen| {
        let text = screen.text();
        text.starts_with("3 healthy") && text.contains("● nextcloud   healthy") && text.contains("tasks     3")
    });
    top.press("\x1b");
    top.until("the table is back", |screen| screen.text().contains(HEADING));
    top.press("/post");
    top.until("it is filtered", |screen| {
        screen.text().contains("filter: post_") && names(&screen.text()) == ["postgres"]
    });
    top.press("\x1b?");
    top.until("the keys are explained", |screen| screen.text().contains("reverse the order"));
    top.press("x");
    top.until("the table is back", |screen| screen.text().contains(HEADING));

    top.resize(40, 10);
    top.until("it is drawn anew", |screen| {
        let lines: Vec<String> = screen.text().lines().map(str::to_owned).collect();
        lines.len() == 10 && lines[9].starts_with("q quit") && lines[2].contains(HEADING)
    });
    assert!(!top.screen.has_overflown, "{}", top.screen.text());
    top.resize(130, 30);
    top.until("it is drawn anew", |screen| screen.text().lines().count() == 30 && screen.text().contains("STATE"));
    assert!(top.screen.text().contains(&LONG[..10]), "{}", top.screen.text());

    top.press("q");
    assert_eq!(top.end(), 0, "{}", top.screen.text());
    assert!(!top.screen.is_other() && !top.screen.has_overflown, "{}", top.screen.text());
    top.assert_as_found();
}

#[test]
fn ctrl_c_and_signals_leave_the_terminal_as_it_was() {
    let agent = Agent::start();
    agent.up();
    for signal in [None, Some(Signal::SIGINT), Some(Signal::SIGTERM), Some(Signal::SIGHUP)] {
        let mut top = Terminal::run(&agent, "top");
        top.until("it is drawn", |screen| screen.text().contains("postgres"));
        match signal {
            None => top.press("\x03"),
            Some(signal) => top.signal(signal),
        }
        let pressed = Instant::now();
        let code = top.end();
        assert!(pressed.elapsed() < PROMPTLY, "{signal:?}: {:?}", pressed.elapsed());
        // A shell that waits for it may end by the same signal.
        assert!(code == 0 || signal.is_some_and(|signal| code == 128 + signal as i32), "{signal:?}: {code}");
        assert!(!top.screen.is_other(), "{signal:?}: {}", top.screen.text());
        top.assert_as_found();
    }
}

#[test]
fn an_agent_that_goes_away_is_told_and_found_again() {
    let mut agent = Agent::start();
    agent.up();
    let mut top = Terminal::run(&agent, "top -d 0.2");
    top.until("rates are there", |screen| screen.line("postgres").is_some_and(|line| line.contains(" 10%")));
    agent.end();
    top.until("it is away", |screen| screen.text().contains("the agent is away; waiting for it"));
    assert!(top.screen.text().contains("postgres"), "what was known is still shown: {}", top.screen.text());
    agent.begin();
    top.until("it is back", |screen| screen.text().contains("by cpu") && screen.text().contains("3 healthy"));
    agent.kill("nextcloud");
    top.until("what happens is shown again", |screen| screen.text().contains("2 healthy, 1 failed"));
    top.press("q");
    assert_eq!(top.end(), 0);
    top.assert_as_found();
}

#[test]
fn no_color_takes_the_colours_and_a_pipe_gets_one_table() {
    let agent = Agent::start();
    agent.behave("nextcloud", Behaviour { health: HealthBehaviour::Never, ..Behaviour::default() });
    let mut up = Terminal::run(&agent, "up -d");
    assert_eq!(up.end(), 0);
    agent.until_state("nextcloud", "starting");
    let mut top = Terminal::run_with(&agent, &[("NO_COLOR", "1")], "top");
    top.until("it is drawn", |screen| screen.line("nextcloud").is_some_and(|line| line.contains("… nextcloud")));
    top.press("q");
    assert_eq!(top.end(), 0);
    assert!(!top.screen.is_colored, "{:?}", top.written());
    let mut pipe = Terminal::run(&agent, "top -d 0.1 | cat");
    assert_eq!(pipe.end(), 0);
    assert!(!pipe.written().contains('\x1b') && pipe.written().contains("postgres"), "{:?}", pipe.written());
}

#[test]
fn a_name_that_is_not_there_is_told_without_taking_the_screen() {
    let agent = Agent::start();
    agent.up();
    let mut top = Terminal::run(&agent, "top postgras");
    assert_eq!(top.end(), 1);
    assert!(top.screen.text().contains("did you mean `postgres`?"), "{}", top.screen.text());
    assert!(!top.written().contains("1049"), "{:?}", top.written());
    top.assert_as_found();
}
