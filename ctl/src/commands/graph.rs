//! `nixmoxctl graph`: who needs whom, and how far each of them is.

use clap::Args;
use nixmox_api::ServiceStatus;

use super::selection::Selection;
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::graph::Graph;
use crate::render;

/// Show what depends on what, and which gates are met
#[derive(Debug, Args)]
#[command(after_help = "\
Below each service stands what it needs, with how far that has to be and whether it is. With names: \
these services and what they need, of other stacks too. Outside a stack, all stacks are shown.

Examples:
  nixmoxctl graph
  nixmoxctl graph nextcloud              why does it wait?
  nixmoxctl graph --all --dot | dot -Tsvg > stacks.svg")]
pub(crate) struct Drawn {
    /// Only these services, and what they need
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Graphviz's language: states as colours, gates that are not met dashed
    #[arg(long, conflicts_with = "json")]
    dot: bool,
}

impl Drawn {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::find(context)?.unwrap_or(Selection::All);
        let status = block_on(async { Ok(Client::connect(&context.options.socket).await?.status().await?) })?;
        let meant = selection.narrow(status.clone(), &self.names)?;
        let is_meant = |service: &ServiceStatus| meant.services.iter().any(|meant| meant.name == service.name);
        let graph = Graph::new(&status, is_meant);
        let screen = context.output.screen();
        if context.options.json {
            context.output.json(&graph)?;
        } else if self.dot {
            context.output.print(&render::dot(&graph))?;
        } else if graph.services.is_empty() {
            return Err(selection.not_up());
        } else {
            context.output.print(&render::graph(&graph, screen.width(), screen.style))?;
        }
        Ok(Exit::Done)
    }
}
