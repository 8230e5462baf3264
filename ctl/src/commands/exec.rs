//! `nixmoxctl exec`: a command in a container.

use clap::Args;

use super::run::How;
use crate::context::Context;
use crate::error::{CtlError, Exit};

/// Run a command in a running container
#[derive(Debug, Args)]
#[command(after_help = "\
The container's own systemd runs it. On a terminal it gets a terminal, else three
pipes. It ends with this program: Ctrl-C, a closed window, and so does what it
left running in the background. On a terminal, ^] three times within a second
leaves it (129), also where nothing else is answered.

Exit codes: that of the command; 128 and the number of the signal that ended it;
127 there is no such program; 126 it could not be run.

Examples:
  nixmoxctl exec postgres psql -U postgres
  nixmoxctl exec -u www-data -w /srv web -- ls -l
  nixmoxctl exec -T postgres -- pg_dump cloud > cloud.sql
  nixmoxctl exec -e LANG=C web env")]
pub(crate) struct Exec {
    #[command(flatten)]
    how: How,
    /// The service
    #[arg(value_name = "NAME")]
    name: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        self.how.run(context, &self.name, &self.command, false)
    }
}
