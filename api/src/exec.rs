//! A command in a container: what is asked for, how it ended.

use std::path::Path;

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

use crate::rule;

/// Longest command with its arguments, in bytes: a request, and what the guest's systemd is told, stay small.
const COMMAND_LENGTH_MAX: usize = 64 * 1024;
/// Most variables.
const VARIABLES_MAX: usize = 256;

/// A command to be run in a container, by its own systemd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The service.
    pub name: String,
    /// The program and its arguments; a program without `/` is looked up in the container. Empty: the user's shell.
    pub command: Vec<String>,
    /// Whether the user is logged in for it: with a session (PAM), and in the home directory.
    pub login: bool,
    /// The terminal that it runs on; absent: three pipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<ExecTerminal>,
    /// The user in the container, by name or number; absent: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// An absolute path in the container; absent: `/`, and with `login` the home directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Variables of its environment beside those that a service gets, each as `NAME=VALUE`.
    pub environment: Vec<String>,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct ExecTerminal {
    /// Its kind, which is the value of `TERM`.
    pub kind: String,
    /// How high it is, in characters; 0: not known.
    pub rows: u16,
    /// How wide it is, in characters; 0: not known.
    pub columns: u16,
}

/// The replies to `Exec`. In the first, which comes with the descriptors, everything is absent; in the last, one is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct ExecReply {
    /// The exit status of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The number of the signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it did not run, or why nobody knows how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ExecFailure>,
}

/// Why a command did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct ExecFailure {
    /// `not_found`, `not_executable`, `user`, `working_directory`, `refused` (the guest's systemd would not), `ended` (the
    /// container ended meanwhile) or `other`.
    pub kind: String,
    /// What happened, in one sentence.
    pub reason: String,
    /// The way out; may be empty.
    pub hint: String,
}

impl ExecReply {
    /// Returns the reply of a command that did not run.
    #[must_use]
    pub fn failed(kind: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        let failure = ExecFailure { kind: kind.to_owned(), reason: reason.into(), hint: hint.into() };
        Self { failure: Some(failure), ..Self::default() }
    }
}

impl ExecRequest {
    /// Returns every fault of the request; empty when a process can be started so. What the container makes of it is
    /// seen there.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut note = |checked: Result<(), String>| problems.extend(checked.err());
        note(command(&self.command));
        note(self.user.as_deref().map_or(Ok(()), rule::user));
        note(self.working_directory.as_deref().map_or(Ok(()), |path| rule::path(path).map(drop)));
        note(self.terminal.as_ref().map_or(Ok(()), |terminal| rule::terminal_kind(&terminal.kind)));
        if self.environment.len() > VARIABLES_MAX {
            note(Err(format!("more than {VARIABLES_MAX} variables")));
        }
        self.environment.iter().take(VARIABLES_MAX).for_each(|entry| note(variable(entry)));
        problems
    }
}

fn command(words: &[String]) -> Result<(), String> {
    match words.first() {
        Some(program) if program.is_empty() => Err("the program's name is empty".to_owned()),
        // systemd.exec(5): a path, or a name that is looked up. `..` is resolved in the container, like all of it.
        Some(program) if program.ends_with('/') => {
            Err(format!("{} is a directory, not a program", rule::quoted(program)))
        }
        Some(program) if Path::new(program).file_name().is_none() => {
            Err(format!("{} is not the name of a program", rule::quoted(program)))
        }
        Some(_) if words.iter().map(String::len).sum::<usize>() > COMMAND_LENGTH_MAX => {
            Err(format!("the command is longer than {} KiB", COMMAND_LENGTH_MAX / 1024))
        }
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err("it contains a zero byte".to_owned()),
        Some(_) | None => Ok(()),
    }
}

fn variable(entry: &str) -> Result<(), String> {
    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
    rule::variable_name(name)?;
    rule::variable_value(value).map_err(|problem| format!("{name}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &[&str]) -> ExecRequest {
        ExecRequest {
            name: "web".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            login: false,
            terminal: None,
            user: None,
            working_directory: None,
            environment: Vec::new(),
        }
    }

    #[test]
    fn what_can_be_run_has_no_problems() {
        let terminal = ExecTerminal { kind: "xterm-256color".to_owned(), rows: 24, columns: 80 };
        let request = ExecRequest {
            terminal: Some(terminal),
            user: Some("www-data".to_owned()),
            working_directory: Some("/srv".to_owned()),
            environment: vec!["A=b=c".to_owned(), "EMPTY=".to_owned()],
            ..asked(&["sh", "-c", "echo \"$HOME\"\nexit 3", ""])
        };
        assert_eq!(request.problems(), Vec::<String>::new());
        assert_eq!(asked(&[]).problems(), Vec::<String>::new(), "the user's shell");
        assert_eq!(asked(&["./run"]).problems(), Vec::<String>::new());
    }

    #[test]
    fn what_no_process_can_have_is_named() {
        let long = "x".repeat(COMMAND_LENGTH_MAX);
        for command in [&[""] as &[&str], &["/"], &["bin/"], &[".."], &["a", "b\0c"], &["a", &long]] {
            assert_eq!(asked(command).problems().len(), 1, "{command:?}");
        }
        let request = ExecRequest {
            terminal: Some(ExecTerminal { kind: "x\u{1b}[2J".to_owned(), rows: 0, columns: 0 }),
            user: Some("-rf".to_owned()),
            working_directory: Some("srv".to_owned()),
            environment: vec!["1A=b".to_owned(), "A=\u{1b}".to_owned(), "=c".to_owned()],
            ..asked(&["true"])
        };
        assert_eq!(request.problems().len(), 6, "{:?}", request.problems());
        let many = ExecRequest { environment: vec!["A=b".to_owned(); VARIABLES_MAX + 1], ..asked(&["true"]) };
        assert_eq!(many.problems().len(), 1);
    }
}
