//! `nixmoxctl restart`: another instance, now.

use clap::Args;

use super::selection::services;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::progress::Goal;

/// Restart services now
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixmoxctl restart nextcloud")]
pub(crate) struct Restart {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

impl Restart {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        block_on(async {
            let mut opening = Opening::begin(context).await?;
            let names = services(context, opening.status(), &self.names)?;
            let done = opening.client.restart(&names).await?;
            opening.follow_verb(context, Goal::Restarted, "restart", &done, self.wait).await
        })
    }
}
