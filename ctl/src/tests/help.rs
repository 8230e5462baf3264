//! The help texts, 80 columns wide.

use clap::CommandFactory;
use insta::assert_snapshot;

use crate::cli::Cli;

#[test]
fn every_command_explains_itself_in_80_columns() {
    let mut root = Cli::command().term_width(80);
    root.build();
    let mut text = root.render_help().to_string();
    for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
        let name = command.get_name().to_owned();
        let help = command.clone().term_width(80).render_help();
        let line = format!("\n======== {name}\n{help}");
        text.push_str(&line);
    }
    let widest = text.lines().map(crate::render::width).max().unwrap_or(0);
    assert!(widest <= 80, "{widest}");
    assert_snapshot!(text);
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
    for code in [0, 1, 2, 3, 4, 5, 130, 141] {
        assert!(page.contains(&format!("\n| {code} |")), "docs/cli.md does not say what {code} means");
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// The commands in a text: what follows `nixmoxctl` up to a pipe, a redirection, or the words that explain it.
fn commands_in(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("nixmoxctl "));
    let parts = lines.flat_map(|line| line.split("&&"));
    let bare = |part: &str| part.split(['|', '>', '#']).next().unwrap_or_default().trim().to_owned();
    // An explanation stands behind at least two blanks.
    parts.map(|part| bare(part.trim().split("  ").next().unwrap_or_default())).collect()
}

#[test]
fn every_example_of_the_help_can_be_typed() {
    let mut root = Cli::command();
    root.build();
    let mut examples = Vec::new();
    for command in root.get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        examples.extend(commands_in(&help));
    }
    assert!(examples.len() > 20, "{examples:#?}");
    for example in examples {
        let arguments = example.split_whitespace().map(Into::into);
        assert!(crate::cli::parse(arguments).is_ok(), "`{example}` is no command");
    }
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
        for example in rows.flat_map(|row| commands_in(row.trim())) {
            proposed += 1;
            let arguments = example.split_whitespace().map(Into::into);
            let parsed = crate::cli::parse(arguments);
            // Asking for the version is no command, and an answer too.
            let version = |error: &clap::Error| error.kind() == clap::error::ErrorKind::DisplayVersion;
            assert!(parsed.is_ok() || parsed.is_err_and(|error| version(&error)), "{example}: {}", path.display());
        }
    }
    assert!(proposed > 5, "{proposed}");
}
