//! `nixmoxctl diff`: what differs between two generations.

use clap::Args;

use crate::build::Closures;
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// Show what differs between two generations: services, limits, systems with their packages and sizes
#[derive(Debug, Args)]
#[command(after_help = "\
Sizes are those of a system with all that it needs, as nix knows them. Values of the environment are not shown.

Examples:
  nixmoxctl diff 41 42
  nixmoxctl diff 41              with the current generation")]
pub(crate) struct Diff {
    /// The first generation
    #[arg(value_name = "A")]
    from: u64,
    /// The second; none: the current one
    #[arg(value_name = "B")]
    to: Option<u64>,
}

impl Diff {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let (to, reply) = block_on(async {
            let mut client = Client::connect(&context.options.socket).await?;
            let to = match self.to {
                Some(to) => to,
                None => client.status().await?.host.generation,
            };
            Ok((to, client.diff(self.from, to).await?))
        })?;
        let screen = context.output.screen();
        if context.options.json {
            context.output.json(&reply)?;
        } else {
            let mut closures = Closures::new(&context.machine);
            let mut systems = render::Systems::default();
            for service in reply.services.iter().filter(|service| service.system_from != service.system_to) {
                for system in [&service.system_from, &service.system_to].into_iter().flatten() {
                    systems.sizes.extend(closures.size(system).map(|size| (system.clone(), size)));
                }
                if let (Some(from), Some(to)) = (&service.system_from, &service.system_to) {
                    let inside = closures.difference(from, to);
                    systems.inside.extend(inside.map(|inside| (service.name.clone(), inside)));
                }
            }
            let text = render::diff(&reply, (self.from, to), &systems, screen.width(), screen.style);
            context.output.page()?;
            context.output.print(&text)?;
        }
        Ok(Exit::Done)
    }
}
