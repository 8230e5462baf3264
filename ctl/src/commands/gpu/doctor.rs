//! `nixmoxctl gpu doctor`: layer by layer from the machine to the process, and the first that fails.

use clap::Args;

use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Look at every layer between the GPUs and a service
#[derive(Debug, Args)]
#[command(after_help = "\
On the host: the kernel module, device nodes and their numbers, user space and its version, NVML, CDI. In the guest: device \
rules, bound nodes, opening them, user space and version, environment, the process. Without NAME, the host \
and every service that has a GPU. The last line names the first layer that fails, and what to do. Exit codes: 0 nothing fails, 1 \
a layer fails, or it could not be looked at.

Examples:
  nixmoxctl gpu doctor
  nixmoxctl gpu doctor jellyfin
  nixmoxctl gpu doctor --json | jq '.layers[] | {layer, outcome}'")]
pub(crate) struct Doctor {
    /// The service
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

impl Doctor {
    pub(super) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let name = self.name.as_deref();
        let reply =
            block_on(async { Ok(Client::connect(&context.options.socket).await?.gpu_doctor(name).await?) })?;
        let fails = reply.layers.iter().any(|layer| layer.outcome == "failed");
        let exit = if fails { Exit::Failed } else { Exit::Done };
        if context.options.json {
            context.output.json(&reply)?;
            return Ok(exit);
        }
        let screen = context.output.screen();
        let text = render::gpu::doctor(&reply.layers, screen.width(), screen.style);
        context.output.print(&screen.style.drawn(text))?;
        Ok(exit)
    }
}
