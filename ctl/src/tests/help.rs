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
