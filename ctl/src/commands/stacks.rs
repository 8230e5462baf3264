//! `nixmoxctl stacks`: which stacks the host holds.

use clap::Args;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// List the stacks of the host
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nixmoxctl stacks
  nixmoxctl stacks --json | jq -r '.stacks[].name'")]
pub(crate) struct Stacks {}

impl Stacks {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let reply = block_on(async { Ok(Client::connect(&context.options.socket).await?.stacks().await?) })?;
        let screen = context.output.screen();
        if context.options.json {
            context.output.json(&reply)?;
        } else {
            let text = render::stacks(&reply, context.moment().now(), screen.width(), screen.style);
            context.output.print(&text)?;
        }
        Ok(Exit::Done)
    }
}
