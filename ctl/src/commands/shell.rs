//! `nixmoxctl shell`: a person in a container.

use clap::Args;

use super::run::How;
use crate::context::Context;
use crate::error::{CtlError, Exit};

/// Open a shell in a running container
#[derive(Debug, Args)]
#[command(after_help = "\
The user is logged in (PAM), gets the shell that the container's users file
says, and starts in the home directory. Exit codes, and the way out of one that
hangs (^] three times within a second), are as with exec.

Examples:
  nixmoxctl shell nextcloud
  nixmoxctl shell -u postgres postgres
  nixmoxctl shell -u anna web -- systemctl --user status")]
pub(crate) struct Shell {
    #[command(flatten)]
    how: How,
    /// The service
    #[arg(value_name = "NAME")]
    name: String,
    /// Run this instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Shell {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        self.how.run(context, &self.name, &self.command, true)
    }
}
