//! `nixmoxctl stop`: hold services stopped, without a new generation.

use clap::Args;

use super::selection::services;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::progress::Goal;

/// Stop services, and hold them until `start` or `up`
#[derive(Debug, Args)]
#[command(after_help = "\
Makes no new generation. A service that others depend on is refused, unless they are to be stopped too.

Examples:
  nixmoxctl stop paperless
  nixmoxctl stop postgres --with-dependents")]
pub(crate) struct Stop {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Stop the running services that depend on them too
    #[arg(long)]
    with_dependents: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Stop {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        block_on(async {
            let mut opening = Opening::begin(context).await?;
            let names = services(context, opening.status(), &self.names)?;
            let done = opening.client.stop(&names, self.with_dependents).await?;
            opening.follow_verb(context, Goal::Held, "stop", &done, self.wait).await
        })
    }
}
