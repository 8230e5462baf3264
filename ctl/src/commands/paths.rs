//! `nixmoxctl paths`: where everything of a service lies.

use clap::Args;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Show where everything of a service lies: unit, files, state, system, mounts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixmoxctl paths postgres
  nixmoxctl paths postgres --json | jq -r '.paths[].path'")]
pub(crate) struct Paths {
    /// The service
    #[arg(value_name = "NAME")]
    name: String,
}

impl Paths {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let reply =
            block_on(async { Ok(Client::connect(&context.options.socket).await?.paths(&self.name).await?) })?;
        let style = context.output.screen().style;
        if context.options.json {
            context.output.json(&reply)?;
        } else {
            context.output.print(&render::paths(&reply, style))?;
        }
        Ok(Exit::Done)
    }
}
