//! What `exec` and `shell` have in common: how a command is run in a container, and how its end becomes this program's.

use clap::Args;
use nixmox_api::{ExecFailure, ExecReply, ExecRequest};

use crate::attend::{self, Attended};
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render::clean;

/// Exit code where a program is there and could not be run, as a shell has it.
const NOT_RUN: u8 = 126;
/// Exit code where there is no such program, as a shell has it.
const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of a signal that ended a command.
const OF_SIGNAL: i32 = 128;

/// How a command is run.
#[derive(Debug, Args)]
pub(super) struct How {
    /// The user in the container, by name or number; else root
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Where to run it: an absolute path in the container
    #[arg(short = 'w', long = "workdir", value_name = "DIR")]
    directory: Option<String>,
    /// A variable of its environment; NAME alone takes the value from here
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Give it a terminal, also where input or output is none
    #[arg(short, long, conflicts_with = "no_tty")]
    tty: bool,
    /// Give it pipes, also on a terminal
    #[arg(short = 'T', long)]
    no_tty: bool,
}

impl How {
    /// Runs a command, or the user's shell where there is none, and returns its exit status.
    pub(super) fn run(
        &self,
        context: &mut Context,
        name: &str,
        command: &[String],
        login: bool,
    ) -> Result<Exit, CtlError> {
        if context.options.json {
            return Err(CtlError::Usage {
                what: "what a command writes is its own; --json means nothing here".to_owned(),
                hint: "the same without --json".to_owned(),
            });
        }
        let has_terminal = self.tty || !self.no_tty && attend::is_interactive();
        let request = ExecRequest {
            name: name.to_owned(),
            command: command.to_vec(),
            login,
            terminal: has_terminal.then(attend::terminal),
            user: self.user.clone(),
            working_directory: self.directory.clone(),
            environment: self.environment.iter().filter_map(|entry| variable(entry)).collect(),
        };
        let attended = block_on(async {
            let mut client = Client::connect(&context.options.socket).await?;
            let handed = client.exec(&request).await?;
            attend::attend(&mut client, handed).await
        })?;
        match attended {
            Attended::Ended(reply) => exit_of(reply),
            Attended::Signal(signal) => Ok(Exit::Of(of_signal(signal))),
            Attended::Unknown(source) => Err(CtlError::EndUnknown { source }),
        }
    }
}

/// Returns a variable as the wire has it; `None`: its value was to be taken from here, and there is none.
fn variable(entry: &str) -> Option<String> {
    if entry.contains('=') {
        return Some(entry.to_owned());
    }
    std::env::var(entry).ok().map(|value| format!("{entry}={value}"))
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(OF_SIGNAL.saturating_add(signal)).unwrap_or(u8::MAX)
}

/// Returns how this program ends when a command ended so.
fn exit_of(reply: ExecReply) -> Result<Exit, CtlError> {
    match reply {
        ExecReply { failure: Some(ExecFailure { kind, reason, hint }), .. } => {
            let code = if kind == "not_found" { NOT_FOUND } else { NOT_RUN };
            // Both may have words of the guest.
            Err(CtlError::NotRun { what: clean(&reason), hint: clean(&hint), code })
        }
        ExecReply { signal: Some(signal), .. } => Ok(Exit::Of(of_signal(signal))),
        // The kernel has eight bits for it (wait(2)).
        ExecReply { exit_status, .. } => {
            Ok(Exit::Of(exit_status.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_command_becomes_the_programs_as_in_a_shell() {
        let code = |reply: ExecReply| match exit_of(reply) {
            Ok(exit) => exit.code(),
            Err(error) => error.exit().code(),
        };
        assert_eq!(code(ExecReply { exit_status: Some(0), ..ExecReply::default() }), 0);
        assert_eq!(code(ExecReply { exit_status: Some(7), ..ExecReply::default() }), 7);
        assert_eq!(code(ExecReply { signal: Some(9), ..ExecReply::default() }), 137);
        assert_eq!(code(ExecReply::failed("not_found", "", "")), 127);
        for kind in ["not_executable", "user", "working_directory", "refused", "ended", "other", "a newer word"] {
            assert_eq!(code(ExecReply::failed(kind, "", "")), 126, "{kind}");
        }
        assert_eq!(code(ExecReply::default()), 1, "an agent that says nothing");
    }
}
