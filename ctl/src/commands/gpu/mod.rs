//! `nixmoxctl gpu`: the GPUs, who has their memory, what would fit, and what is wrong with them.

mod doctor;
mod fit;

use clap::{Args, Subcommand};

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Show the GPUs, whose their memory is, and what waits for it
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
A bar shows whose the memory of a GPU is: services, others of the host by unit, what nobody claims (unknown), what was \
promised and is not in use, what the driver keeps (reserved), what is left free on purpose (headroom). Below stand \
services that wait, yield or give memory back, and why; and what of the GPUs is not known.

Examples:
  nixmoxctl gpu
  nixmoxctl gpu --json | jq '.inventory.gpus[] | {id, memory_used}'
  nixmoxctl gpu fit whisper
  nixmoxctl gpu doctor jellyfin"
)]
pub(crate) struct GpuOf {
    #[command(subcommand)]
    below: Option<Below>,
}

/// What else can be asked of GPUs.
#[derive(Debug, Subcommand)]
enum Below {
    Fit(fit::Fit),
    Doctor(doctor::Doctor),
}

impl GpuOf {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        match &self.below {
            None => overview(context),
            Some(Below::Fit(fit)) => fit.run(context),
            Some(Below::Doctor(doctor)) => doctor.run(context),
        }
    }
}

fn overview(context: &mut Context) -> Result<Exit, CtlError> {
    let reply = block_on(async { Ok(Client::connect(&context.options.socket).await?.gpus().await?) })?;
    if context.options.json {
        context.output.json(&reply)?;
        return Ok(Exit::Done);
    }
    context.output.page()?;
    let screen = context.output.screen();
    let text = render::gpu::overview(&reply, &context.moment(), screen.width(), screen.style);
    context.output.print(&screen.style.drawn(text))?;
    Ok(Exit::Done)
}
