//! `nixmoxctl generations`: what was desired when, by whom, and what became of it.

use clap::Args;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// List the generations of the host, with what became of each
#[derive(Debug, Args)]
#[command(after_help = "\
A generation is everything that was desired on the host at a time. It is good once all that it changed became healthy, and bad when it was rolled back for want of that.

Examples:
  nixmoxctl generations
  nixmoxctl generations --json")]
pub(crate) struct Generations {}

impl Generations {
    #[expect(clippy::unused_self, reason = "every command runs the same way")]
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let reply = block_on(async { Ok(Client::connect(&context.options.socket).await?.generations().await?) })?;
        let screen = context.output.screen();
        if context.options.json {
            context.output.json(&reply)?;
        } else {
            let text = render::generations(&reply, &context.moment(), screen.width(), screen.style);
            context.output.page()?;
            context.output.print(&text)?;
        }
        Ok(Exit::Done)
    }
}
