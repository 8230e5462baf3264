//! Long results in a pager: when there is one, which, and that leaving it early is no fault.

use std::fmt::Write as _;

use crate::agent::Agent;
use crate::terminal::Terminal;

/// A pager that shows that it was there.
const MARKING: &str = "sed s/^/paged:/";

/// Runs a command to its end and returns what is on the terminal.
fn shown(agent: &Agent, environment: &[(&str, &str)], arguments: &str) -> String {
    let mut terminal = Terminal::run_with(agent, environment, arguments);
    assert_eq!(terminal.end(), 0, "{arguments}: {}", terminal.screen.text());
    terminal.assert_as_found();
    terminal.written().replace("\r\n", "\n")
}

#[test]
fn what_may_be_long_is_read_in_the_pager_that_is_named() {
    let agent = Agent::start();
    agent.up();
    for arguments in ["schema service", "config", "why nextcloud", "plan"] {
        let text = shown(&agent, &[("NIXMOX_PAGER", MARKING), ("PAGER", "false")], arguments);
        assert!(text.lines().all(|line| line.starts_with("paged:")) && text.lines().count() > 0, "{text}");
    }
    let text = shown(&agent, &[("PAGER", MARKING)], "config");
    assert!(text.lines().all(|line| line.starts_with("paged:{")), "{text}");
    let colored = shown(&agent, &[("PAGER", MARKING)], "why nextcloud");
    assert!(colored.contains("\x1b[32m"), "{colored:?}");
    let plain = shown(&agent, &[("PAGER", MARKING), ("NO_COLOR", "1")], "why nextcloud");
    assert!(plain.starts_with("paged:● nextcloud   healthy"), "{plain}");
}

#[test]
fn nothing_is_paged_for_programs_or_where_nobody_wants_it() {
    let agent = Agent::start();
    agent.up();
    let marking = ("PAGER", MARKING);
    for (environment, arguments) in [
        (&[marking][..], "why nextcloud --no-pager"),
        (&[marking], "why nextcloud --json"),
        (&[marking], "plan --json"),
        (&[marking], "plan --exit-code"),
        (&[marking], "schema | cat"),
        (&[marking], "status"),
        (&[marking, ("NIXMOX_PAGER", "")], "why nextcloud"),
        (&[marking, ("NIXMOX_PAGER", "cat")], "why nextcloud"),
        (&[marking, ("TERM", "dumb")], "why nextcloud"),
    ] {
        let text = shown(&agent, environment, arguments);
        assert!(!text.contains("paged:") && text.len() > 20, "{environment:?} {arguments}: {text}");
    }
}

#[test]
fn a_pager_that_is_not_there_is_told_and_the_text_is_shown() {
    let agent = Agent::start();
    let text = shown(&agent, &[("PAGER", "nowhere --fast")], "config");
    let (note, rest) = text.split_once('\n').unwrap();
    assert!(note.starts_with("note: cannot run `nowhere --fast`, the pager of PAGER: No such file"), "{text}");
    assert_eq!(rest.lines().count(), 3, "{text}");
}

#[test]
fn whoever_leaves_the_pager_early_has_what_was_wanted() {
    let agent = Agent::start();
    let mut stack = "format = 1\n[stack]\nname = \"many\"\n".to_owned();
    for number in 0..300 {
        let system = "/nix/store/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-postgres";
        writeln!(stack, "[services.s{number}]\nsystem = \"{system}\"").unwrap();
    }
    std::fs::write(agent.folder().join("many.toml"), stack).unwrap();
    assert!(shown(&agent, &[], "-f many.toml config --no-pager").len() > 128 << 10, "more than a pipe holds");
    let text = shown(&agent, &[("PAGER", "head -n 1 | cut -c 1-12")], "-f many.toml config");
    assert_eq!(text, "{\"name\":\"s0\"\n");
}

#[test]
fn less_shows_the_text_keeps_ctrl_c_and_leaves_the_terminal_as_it_was() {
    if !std::path::Path::new("/usr/bin/less").exists() {
        return;
    }
    let agent = Agent::start();
    // What fits the screen does not wait for a key.
    assert!(shown(&agent, &[], "plan").contains("nextcloud"));
    let mut terminal = Terminal::run(&agent, "schema service");
    terminal.until_seen("the first page is there", |screen| screen.text().ends_with("\n:\n"));
    terminal.press_ctrl_c();
    terminal.until_seen("it is told", |screen| screen.has_rung && screen.text().ends_with("\n:\n"));
    terminal.type_text("G");
    terminal.until_seen("the last page is there", |screen| screen.text().ends_with("}\n(END)\n"));
    terminal.type_text("q");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen.text());
    terminal.assert_as_found();
}
