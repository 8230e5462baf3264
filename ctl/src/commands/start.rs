//! `nixmoxctl start`: release services that `stop` holds.

use clap::Args;

use super::selection::services;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::progress::Goal;

/// Start services that were stopped
#[derive(Debug, Args)]
#[command(after_help = "\
Makes no new generation: the services are declared already.

Examples:
  nixmoxctl start paperless")]
pub(crate) struct Start {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

impl Start {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        block_on(async {
            let mut opening = Opening::begin(context).await?;
            let names = services(context, opening.status(), &self.names)?;
            let done = opening.client.start(&names).await?;
            opening.follow_verb(context, Goal::Released, "start", &done, self.wait).await
        })
    }
}
