//! `nixmoxctl completions`: the script with which a shell completes commands, options and names of services.

use clap::Args;

use crate::completion::Shell;
use crate::context::Context;
use crate::error::{CtlError, Exit};

/// Print the script with which a shell completes commands and names
#[derive(Debug, Args)]
#[command(after_help = "\
Names of services and stacks come from the agent, or from the stack file.

Examples:
  nixmoxctl completions bash > /usr/share/bash-completion/completions/nixmoxctl
  nixmoxctl completions zsh > /usr/share/zsh/site-functions/_nixmoxctl
  nixmoxctl completions fish > /etc/fish/completions/nixmoxctl.fish

For yourself alone, in ~/.bashrc: source <(nixmoxctl completions bash)")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        context.output.print(self.shell.script())?;
        Ok(Exit::Done)
    }
}
