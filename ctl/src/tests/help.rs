//! The help texts, 80 columns wide, of every command there is: what is added is held to the same.

use clap::{Command, CommandFactory};
use insta::assert_snapshot;

use super::examples::commands_in;
use crate::cli::Cli;
use crate::render::width;

/// Returns every command that can be typed, as the words behind `nixmoxctl`; the first is none.
fn every_command() -> Vec<Vec<String>> {
    fn below(command: &Command, path: &[String], all: &mut Vec<Vec<String>>) {
        all.push(path.to_vec());
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let path: Vec<String> = path.iter().cloned().chain([command.get_name().to_owned()]).collect();
            below(command, &path, all);
        }
    }
    let mut all = Vec::new();
    below(&Cli::command(), &[], &mut all);
    all
}

/// Returns the description of a command.
fn description(path: &[String]) -> Command {
    let find = |command: Command, name: &String| command.find_subcommand(name).unwrap().clone();
    path.iter().fold(Cli::command(), find)
}

/// Returns a help page as the program prints it on a terminal of 80 columns.
fn page(path: &[String], option: &str) -> String {
    let words = ["nixmoxctl"].into_iter().chain(path.iter().map(String::as_str)).chain([option]);
    let printed = Cli::command().term_width(80).try_get_matches_from(words).unwrap_err();
    assert_eq!(printed.kind(), clap::error::ErrorKind::DisplayHelp, "{path:?}: {printed}");
    printed.to_string()
}

/// Returns the texts below the options of a command.
fn after_help(command: &Command) -> Vec<String> {
    let texts = [command.get_after_help(), command.get_after_long_help()];
    texts.into_iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn every_command_explains_itself_in_80_columns() {
    let mut text = String::new();
    for path in every_command() {
        for option in ["-h", "--help"] {
            let page = page(&path, option);
            for line in page.lines() {
                assert!(width(line) <= 80, "{path:?} {option}: {} columns: {line}", width(line));
            }
            if option == "-h" {
                let line = if path.is_empty() { String::new() } else { format!("\n======== {}\n", path.join(" ")) };
                text += &(line + &page);
            }
        }
    }
    assert_snapshot!(text);
}

#[test]
fn no_example_is_broken_into_two_lines() {
    for path in every_command() {
        // What stands behind blanks is laid out by hand: a line that is wrapped there is no command any more.
        let texts = after_help(&description(&path));
        for line in texts.iter().flat_map(|text| text.lines()).filter(|line| line.starts_with(' ')) {
            assert!(width(line) <= 80, "{path:?}: {} columns: {line}", width(line));
        }
    }
}

#[test]
fn every_example_of_the_help_can_be_typed_and_every_command_has_one() {
    for path in every_command() {
        let command = description(&path);
        let mut is_shown = path.is_empty() || command.is_subcommand_required_set();
        for example in after_help(&command).iter().flat_map(|text| text.lines()).flat_map(commands_in) {
            if let Err(error) = crate::cli::parse(example.iter().map(Into::into)) {
                panic!("{path:?}: `{}` cannot be typed:\n{error}", example.join(" "));
            }
            // Options may stand in front of it.
            is_shown |= path.iter().all(|word| example.contains(word));
        }
        assert!(is_shown, "{path:?} has no example");
    }
}

#[test]
fn every_command_stands_in_the_page_and_in_the_changelog() {
    let page = include_str!("../../../docs/cli.md");
    let changelog = include_str!("../../../CHANGELOG.md");
    let commands: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let begins =
            |word: &str| word == format!("`{name}") || word == format!("`{name}`") || word == format!("`{name}`,");
        assert!(commands.iter().any(|row| row.split(' ').any(begins)), "docs/cli.md has no row for `{name}`");
        assert!(changelog.contains(&format!("`{name}`")), "CHANGELOG.md does not name `{name}`");
    }
    for code in [0, 1, 2, 3, 4, 5, 126, 127, 130, 141] {
        assert!(page.contains(&format!("\n| {code} |")), "docs/cli.md does not say what {code} means");
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_that_a_complaint_proposes_can_be_typed() {
    // The snapshots hold every complaint there is a test for.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/snapshots");
    let mut proposed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let rows = text.lines().filter_map(|line| line.trim().strip_prefix("try "));
        for example in rows.flat_map(commands_in) {
            proposed += 1;
            let parsed = crate::cli::parse(example.iter().map(Into::into));
            // Asking for the version is no command, and an answer too.
            let version = |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayVersion;
            assert!(
                parsed.is_ok() || parsed.is_err_and(|error| version(&error)),
                "{example:?}: {}",
                path.display()
            );
        }
    }
    assert!(proposed > 5, "{proposed}");
}
