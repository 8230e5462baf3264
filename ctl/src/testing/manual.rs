//! Manual pages, made of the description of the command line: one for the program, one for each command.
//!
//! Sections that hold for every program are those of `clap_mangen`; examples, exit codes and the rest are set here. The pages are
//! shipped under `docs/man`, where packagers look for them; nothing of this is in the program.

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use crate::cli::Cli;

/// What the program looks at in its environment.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("NIXMOX_FILE", "The stack file, as with -f."),
    ("NIXMOX_SOCKET", "Where the agent listens, if not at its usual place."),
    ("NIXMOX_PAGER, PAGER", "What long results are read in on a terminal, else less. Empty or cat: nothing."),
    ("LC_ALL, LC_CTYPE, LANG", "The first that is set names no UTF-8, or none is set: what gpu draws is in ASCII."),
    ("NO_COLOR", "Not empty: no colours, unless --color always is given."),
    ("TERM", "dumb: nothing is drawn, coloured or paged."),
];

/// Returns every page with the name of its file, that of the program first.
pub(crate) fn pages() -> Vec<(String, String)> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages);
    pages
}

fn collect(command: &Command, pages: &mut Vec<(String, String)>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    pages.push((format!("{name}.1"), page(command, name)));
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        collect(below, pages);
    }
}

fn page(command: &Command, name: &str) -> String {
    // All options stand below; in front of them one word for them is enough.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let man = Man::new(command.clone().mut_args(with_values).override_usage(usage));
    // As the pages of systemd have it: no date, which says less than the version.
    let title = format!(".TH {} 1 \"\" \"NixMox {}\" \"NixMox\"\n", name.to_uppercase(), env!("CARGO_PKG_VERSION"));
    let mut sections: Vec<Vec<u8>> = Vec::new();
    let mut add = |render: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut section = Vec::new();
        render(&mut section).unwrap();
        sections.push(section);
    };
    add(&|to| man.render_name_section(to));
    add(&|to| man.render_synopsis_section(to));
    add(&|to| man.render_description_section(to));
    if command.has_subcommands() {
        add(&|to| man.render_subcommands_section(to));
    }
    add(&|to| man.render_options_section(to));
    add(&|to| rest(command, name).to_writer(to));
    let text: String = sections.into_iter().map(|section| String::from_utf8(section).unwrap()).collect();
    // Each part begins with the definition of an apostrophe; one is enough.
    let definition = Roff::new().render();
    let body = text.replace(&definition, "").replace(".SH SUBCOMMANDS", ".SH COMMANDS");
    let body: String = body.lines().map(str::trim_end).flat_map(|line| [line, "\n"]).collect();
    format!(".\\\" Made of the program's own help; see CONTRIBUTING.md.\n{definition}{title}{body}")
}

/// Returns an argument whose help names the values that there are: `clap_mangen` sets them as a list of its own, about
/// which formatters complain.
fn with_values(arg: Arg) -> Arg {
    let is_listed = arg.get_action().takes_values() && !arg.is_hide_possible_values_set();
    let values = if is_listed { arg.get_possible_values() } else { Vec::new() };
    if values.is_empty() {
        return arg;
    }
    let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = format!("{help}: {}", names.join(", "));
    arg.help(help).hide_possible_values(true)
}

/// Returns the sections behind the options.
fn rest(command: &Command, name: &str) -> Roff {
    let mut roff = Roff::new();
    let is_program = !name.contains('-');
    let texts = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    let texts = texts.unwrap_or_default();
    let mut notes = Vec::new();
    let mut examples = None;
    for paragraph in texts.split("\n\n") {
        match paragraph.strip_prefix("Examples:\n") {
            Some(lines) => examples = Some(lines),
            // The program's page has a section of its own for them.
            None if is_program && paragraph.starts_with("Exit codes:") => {}
            None => notes.push(paragraph),
        }
    }
    notes.retain(|note| !note.is_empty());
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
        for (index, note) in notes.iter().enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            roff.text(words(note));
        }
    }
    if let Some(examples) = examples {
        roff.control("SH", ["EXAMPLES"]);
        roff.control("EX", []);
        for line in examples.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        roff.control("EE", []);
    }
    if is_program {
        of_program(&mut roff);
    }
    roff.control("SH", ["SEE ALSO"]);
    let others: &[&str] = if is_program {
        &["nixmox-agent(8)", "nixos-container(8)", "systemd-nspawn(1)"]
    } else {
        &["nixmoxctl(1)", "nixmox-agent(8)"]
    };
    let mut line = Vec::new();
    for (index, page) in others.iter().enumerate() {
        let (page, section) = page.split_at(page.find('(').unwrap());
        let end = if index + 1 < others.len() { format!("{section}, ") } else { section.to_owned() };
        line.extend([bold(page), roman(end)]);
    }
    roff.text(line);
    roff
}

fn of_program(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit_codes() {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text(words(&meaning));
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in ENVIRONMENT {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["FILES"]);
    for (path, meaning) in [
        ("nixmox.toml", "The stack: in the working folder or the nearest one above."),
        ("/run/nixmox/io.nixmox.Agent", "Where the agent listens."),
    ] {
        roff.control("TP", []);
        roff.text([italic(path)]);
        roff.text([roman(meaning)]);
    }
}

/// Returns the exit codes with what they mean, as the page of the command line has them.
fn exit_codes() -> Vec<(String, String)> {
    let page = include_str!("../../../docs/cli.md");
    let rows = page.split("## Exit codes").nth(1).unwrap_or_default().lines();
    let rows = rows.filter_map(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let codes = rows.filter(|(code, _)| code.parse::<u8>().is_ok());
    codes.map(|(code, meaning)| (code.to_owned(), meaning.to_owned())).collect()
}

/// Returns a text in which what stands between backticks is bold.
fn words(text: &str) -> Vec<Inline> {
    let text = text.replace('\n', " ");
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
