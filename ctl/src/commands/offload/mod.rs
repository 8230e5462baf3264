//! `nixmoxctl offload`: what runs models, where they are, and what was decided about them.

mod estimate;

use clap::{Args, Subcommand};
use nixmox_api::OffloadsReply;

use super::selection::known;
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Show what runs models, where they are, and what was decided about them
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Of each service with a table offload: its engine and version, what places layers in it, its video memory, and its models: whether they \
are on the GPU, in part or not at all, their size, layers and context, which are to be kept and which are answering. Below \
stands what was decided last and why, and models that should be on the GPU and are not. Sizes of models are the engine's word; what \
is in use is the driver's.

Examples:
  nixmoxctl offload
  nixmoxctl offload ollama
  nixmoxctl offload --json | jq '.services[] | {name, budget, used}'
  nixmoxctl offload estimate ./llama-3.1-8b-q4_k_m.gguf --vram 8G
  nixmoxctl offload estimate ollama:llama3.1:8b --context 16384"
)]
pub(crate) struct OffloadOf {
    #[command(subcommand)]
    below: Option<Below>,
    /// The services [default: all that run models]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// What else can be asked about models.
#[derive(Debug, Subcommand)]
enum Below {
    Estimate(Box<estimate::EstimateOf>),
}

impl OffloadOf {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        match &self.below {
            None => self.overview(context),
            Some(Below::Estimate(estimate)) => estimate.run(context),
        }
    }

    fn overview(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let mut reply = block_on(async { Ok(Client::connect(&context.options.socket).await?.offloads().await?) })?;
        for name in &self.names {
            known("service with models", name, there(&reply))?;
        }
        if !self.names.is_empty() {
            reply.services.retain(|service| self.names.contains(&service.name));
        }
        if context.options.json {
            context.output.json(&reply)?;
            return Ok(Exit::Done);
        }
        context.output.page()?;
        let screen = context.output.screen();
        let text = render::offload::overview(&reply, screen.width(), screen.style);
        context.output.print(&screen.style.drawn(text))?;
        Ok(Exit::Done)
    }
}

/// Returns the services that run models.
fn there(reply: &OffloadsReply) -> impl Iterator<Item = &str> + Clone {
    reply.services.iter().map(|service| service.name.as_str())
}
