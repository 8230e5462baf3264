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
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}
