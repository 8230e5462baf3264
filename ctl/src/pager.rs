//! The pager: what a long text on a terminal is read in, chosen and run as git does it (git(1), `GIT_PAGER`).
//!
//! Owns which program that is and how long it is waited for; what is long, and whether a terminal is there, is
//! [`crate::output`]'s to know.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};

/// How `less` is run: at once done with what fits the screen (F), colours shown (R), the text left there (X).
const LESS: &str = "FRX";

/// The program that a person reads long texts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The command, as a shell has it; never empty.
    command: String,
    /// The variable that says so; `None`: nobody said anything.
    variable: Option<&'static str>,
}

/// A running pager.
#[derive(Debug)]
pub(crate) struct Pager {
    child: Child,
    /// `None` once everything is written.
    text: Option<ChildStdin>,
}

impl Choice {
    /// Returns what the environment says; `None`: no pager is wanted, as with `NIXMOX_PAGER=` or `PAGER=cat`.
    pub(crate) fn of(environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let said =
            ["NIXMOX_PAGER", "PAGER"].into_iter().find_map(|variable| Some((variable, environment(variable)?)));
        let Some((variable, command)) = said else {
            return Some(Self { command: "less".to_owned(), variable: None });
        };
        let command = command.to_string_lossy().trim().to_owned();
        let is_wanted = !command.is_empty() && command != "cat";
        is_wanted.then_some(Self { command, variable: Some(variable) })
    }

    /// Returns what to say when it cannot be run; `None` where nobody chose it.
    pub(crate) fn complaint(&self, why: &io::Error) -> Option<String> {
        let variable = self.variable?;
        Some(format!("note: cannot run `{}`, the pager of {variable}: {why}\n", self.command))
    }

    fn program(&self) -> Command {
        // What only a shell understands is left to one; the rest is run directly, so that its absence is noticed.
        if self.command.contains(|c| "|&;<>()$`\\\"'*?[#~=%".contains(c)) {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(&self.command);
            return shell;
        }
        let mut words = self.command.split_whitespace();
        let mut program = Command::new(words.next().unwrap_or_default());
        program.args(words);
        if self.variable.is_none() {
            program.arg(format!("-{LESS}"));
        }
        program
    }
}

impl Pager {
    /// Runs a pager on the terminal.
    pub(crate) fn begin(choice: &Choice) -> io::Result<Self> {
        let mut program = choice.program();
        if std::env::var_os("LESS").is_none() {
            program.env("LESS", LESS);
        }
        // Whoever may run this as root need not be allowed to run anything else (less(1), "SECURITY").
        if std::env::var_os("SUDO_UID").is_some() {
            program.env("LESSSECURE", "1");
        }
        leave_ctrl_c_to_the_pager()?;
        let mut child = program.stdin(Stdio::piped()).spawn()?;
        let text = child.stdin.take();
        Ok(Self { child, text })
    }

    /// Gives it a text. Waits for the reader; fails with `BrokenPipe` when that one has seen enough.
    pub(crate) fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.text {
            Some(pipe) => pipe.write_all(text.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until the person leaves it. How it ends is its own affair.
    pub(crate) fn wait(mut self) {
        drop(self.text.take());
        // It fails only for a child that was waited for already.
        let _ended = self.child.wait();
    }
}

/// From now on Ctrl-C is the pager's: `less` ends a search with it. The terminal sends it to all that run on it, and
/// with its writer gone a pager would fight with the prompt over the keys.
fn leave_ctrl_c_to_the_pager() -> io::Result<()> {
    // tokio's handler stays until the process ends, also without its runtime.
    let caught = || signal(SignalKind::interrupt()).map(drop);
    if Handle::try_current().is_ok() {
        return caught();
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    caught()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Option<(String, Option<&'static str>)> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Choice::of(value).map(|choice| (choice.command, choice.variable))
    }

    #[test]
    fn the_own_variable_comes_before_the_common_one_and_none_means_less() {
        assert_eq!(chosen(&[]), Some(("less".to_owned(), None)));
        assert_eq!(chosen(&[("PAGER", "most")]), Some(("most".to_owned(), Some("PAGER"))));
        let both = [("PAGER", "most"), ("NIXMOX_PAGER", "bat -p")];
        assert_eq!(chosen(&both), Some(("bat -p".to_owned(), Some("NIXMOX_PAGER"))));
        for refused in ["", " ", "cat"] {
            assert_eq!(chosen(&[("NIXMOX_PAGER", refused), ("PAGER", "less")]), None, "{refused:?}");
            assert_eq!(chosen(&[("PAGER", refused)]), None, "{refused:?}");
        }
    }

    #[test]
    fn only_a_pager_that_somebody_named_is_missed() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let choice = |variable| Choice { command: "most".to_owned(), variable };
        assert_eq!(choice(None).complaint(&missing), None);
        let complaint = choice(Some("PAGER")).complaint(&missing).unwrap();
        assert!(complaint.starts_with("note: cannot run `most`, the pager of PAGER: "), "{complaint}");
    }

    #[test]
    fn only_what_needs_a_shell_gets_one() {
        let run = |command: &str, variable| {
            let program = Choice { command: command.to_owned(), variable }.program();
            let words = [program.get_program()].into_iter().chain(program.get_args());
            words.map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(run("less", None), ["less", "-FRX"]);
        assert_eq!(run("less  -S", Some("PAGER")), ["less", "-S"]);
        assert_eq!(run("col -b | less", Some("PAGER")), ["sh", "-c", "col -b | less"]);
        assert_eq!(run("LESS=R less", Some("PAGER")), ["sh", "-c", "LESS=R less"]);
    }
}
