//! Completion of a command line that is still being typed: what a shell asks on Tab, and what it is answered.
//!
//! ```text
//! Tab ─script of the shell─▶ NIXMOXCTL_COMPLETE=SHELL nixmoxctl -- WORD... ─engine─▶ candidates, one a line
//!                                                                           names ◀─ agent, else the stack file
//! ```
//!
//! The scripts and the protocol are ours, so that a script that was installed once goes on working with a newer program.
//! What may stand where is read off the command line's own description: an argument whose value is called `NAME` is a
//! service, `STACK` a stack, and a path is left to the shell, which knows quotes and `~`. A command that is added needs
//! nothing here.

mod names;
mod shell;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Arg, Command, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use crate::render::clean;
use names::{Lookup, Source};

pub(crate) use shell::Shell;

/// The variable with which a script asks; its value is the shell's name.
const VARIABLE: &str = "NIXMOXCTL_COMPLETE";

/// The exit code that asks the shell to complete the name of a file itself.
const FILES: u8 = 3;

/// What may stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One of these; may be empty.
    Words(Vec<Candidate>),
    /// The name of a file.
    Files,
}

/// A word that may stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The whole word.
    pub(crate) word: String,
    /// What it is, on one line; may be empty.
    pub(crate) about: String,
}

/// Answers a shell that asks by the environment, and returns the exit code; `None`: no shell asks.
///
/// Nothing is ever complained about: a complaint would be written over the line that is being typed.
pub(crate) fn answer_if_asked(command: impl FnOnce() -> Command) -> Option<u8> {
    let shell = Shell::named(&std::env::var_os(VARIABLE)?)?;
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let folder = std::env::current_dir().unwrap_or_else(|_deleted| PathBuf::from("/"));
    let (words, typed) = shell.words(words);
    Some(match complete(command(), words, &folder) {
        Answer::Files => FILES,
        Answer::Words(candidates) => {
            // With the shell gone there is nobody left to tell.
            let _unheard = std::io::stdout().write_all(shell.text(&candidates, &typed).as_bytes());
            0
        }
    })
}

/// Returns what may stand in place of the last word, which may be empty; the first is the program's name.
pub(crate) fn complete(command: Command, mut words: Vec<OsString>, folder: &Path) -> Answer {
    let before = words.len().saturating_sub(1);
    let Some(current) = words.last_mut() else { return Answer::Words(Vec::new()) };
    // Of an option's two names the engine tells the short one, which says little to whoever looks for one.
    if current == "-" {
        current.push("-");
    }
    let is_begun = !current.is_empty();
    let lookup = Arc::new(Lookup::of(&command, &words[..before], folder));
    let wants_files = Arc::new(AtomicBool::new(false));
    let mut command = with_completers(command, "", &lookup, &wants_files);
    // It fails where no word is left, which cannot be: the last one is.
    let found = clap_complete::engine::complete(&mut command, words, before, Some(folder)).unwrap_or_default();
    let is_option = |candidate: &CompletionCandidate| candidate.get_value().as_encoded_bytes().starts_with(b"-");
    // The engine tells of every option wherever one could stand; whoever wants one begins it with `-`.
    let found: Vec<_> = found.into_iter().filter(|candidate| is_begun || !is_option(candidate)).collect();
    if found.is_empty() && wants_files.load(Ordering::Relaxed) {
        return Answer::Files;
    }
    Answer::Words(found.iter().map(Candidate::of).collect())
}

impl Candidate {
    fn of(found: &CompletionCandidate) -> Self {
        let about = found.get_help().map(ToString::to_string).unwrap_or_default();
        Self {
            word: found.get_value().to_string_lossy().into_owned(),
            about: clean(about.lines().next().unwrap_or_default()),
        }
    }
}

/// Returns the command with a completer at every argument whose values are not fixed, and so all commands below it.
fn with_completers(command: Command, path: &str, lookup: &Arc<Lookup>, files: &Arc<AtomicBool>) -> Command {
    let source = Source::of(path);
    let command = command.mut_args(|arg| with_completer(arg, source, lookup, files));
    command.mut_subcommands(|below| {
        let name = below.get_name().to_owned();
        with_completers(below, if path.is_empty() { &name } else { path }, lookup, files)
    })
}

fn with_completer(arg: Arg, source: Source, lookup: &Arc<Lookup>, files: &Arc<AtomicBool>) -> Arg {
    let lookup = Arc::clone(lookup);
    let value = arg.get_value_names().and_then(<[_]>::first).map(|name| name.as_str().to_owned());
    match (value.as_deref(), arg.get_value_hint()) {
        (Some("NAME"), _) => arg.add(ArgValueCompleter::new(move |begun: &std::ffi::OsStr| {
            lookup.services(source).into_iter().filter_map(|it| it.candidate(begun)).collect()
        })),
        (Some("STACK"), _) => arg.add(ArgValueCompleter::new(move |begun: &std::ffi::OsStr| {
            lookup.stacks().into_iter().filter_map(|it| it.candidate(begun)).collect()
        })),
        (_, ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath) => {
            let files = Arc::clone(files);
            arg.add(ArgValueCompleter::new(move |_begun: &std::ffi::OsStr| {
                files.store(true, Ordering::Relaxed);
                Vec::new()
            }))
        }
        (_, _) => arg,
    }
}
