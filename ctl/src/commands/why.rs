//! `nixmoxctl why`: everything that is known about why a service is in the state it is in.

use clap::Args;

use super::selection::known;
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Say why a service is in the state it is in
#[derive(Debug, Args)]
#[command(after_help = "\
The unmet gate, the last probe, the last lines of its log, drift, and where it is declared.

Examples:
  nixmoxctl why nextcloud")]
pub(crate) struct Why {
    /// The services
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Why {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let status = block_on(async { Ok(Client::connect(&context.options.socket).await?.status().await?) })?;
        for name in &self.names {
            known("service", name, status.services.iter().map(|service| service.name.as_str()))?;
        }
        context.output.page()?;
        let screen = context.output.screen();
        for service in status.services.iter().filter(|service| self.names.contains(&service.name)) {
            if context.options.json {
                context.output.json(service)?;
            } else {
                let text = render::why(service, &context.moment(), screen.width(), screen.style);
                context.output.print(&text)?;
            }
        }
        Ok(Exit::Done)
    }
}
