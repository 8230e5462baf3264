//! `nixmoxctl why`: everything that is known about why a service is in the state it is in.

use clap::Args;
use nixmox_api::{GpusReply, OffloadsReply, ServiceStatus, Status};

use super::selection::known;
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::manifest::{self, Declaration};
use crate::render;
use crate::why::{Excerpt, Matter, Story, matter};

/// Say why a service is in the state it is in
#[derive(Debug, Args)]
#[command(after_help = "\
The unmet gate and, down the chain of waiting, its root; the last probe; how the last instance ended; the last \
lines of its log; drift; the line of the manifest that matters; what to try.

Examples:
  nixmoxctl why nextcloud
  nixmoxctl why nextcloud --json | jq .last_end")]
pub(crate) struct Why {
    /// The services
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Why {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let (status, usage, gpus, offloads) = block_on(async {
            let mut client = Client::connect(&context.options.socket).await?;
            let status = client.status().await?;
            let is_named = |service: &&ServiceStatus| self.names.contains(&service.name);
            let mut services = status.services.iter().filter(is_named);
            let with_gpu = services.any(|service| service.gpu.is_some());
            // Details: without them, all else is told.
            let usage = client.usage().await.unwrap_or_default();
            let gpus = if with_gpu { client.gpus().await.unwrap_or_default() } else { GpusReply::default() };
            let offloads =
                if with_gpu { client.offloads().await.unwrap_or_default() } else { OffloadsReply::default() };
            Ok((status, usage, gpus, offloads))
        })?;
        for name in &self.names {
            let there = status.services.iter().map(|service| service.name.as_str());
            known("service", name, there).map_err(|unknown| declared(name, context).unwrap_or(unknown))?;
        }
        context.output.page()?;
        let screen = context.output.screen();
        let mut is_first = true;
        for service in status.services.iter().filter(|service| self.names.contains(&service.name)) {
            if context.options.json {
                context.output.json(service)?;
                continue;
            }
            let mut story = Story::new(&status, service);
            story.excerpt = excerpt(&status, service);
            story.usage = usage.services.iter().find(|usage| usage.name == service.name);
            story.gpu = gpus.services.iter().find(|gpu| gpu.name == service.name);
            story.offload = offloads.services.iter().find(|offload| offload.name == service.name);
            story.root_excerpt = story.root().and_then(|root| excerpt(&status, root));
            let text = render::why(&story, &context.moment(), screen.width(), screen.style);
            let gap = if is_first { "" } else { "\n" };
            context.output.print(&format!("{gap}{text}"))?;
            is_first = false;
        }
        Ok(Exit::Done)
    }
}

/// Returns the complaint about a service that the stack file declares, and that nobody brought up yet.
fn declared(name: &str, context: &Context) -> Option<CtlError> {
    // What is wrong with the files is `check`'s to say.
    let loaded = manifest::load(context).ok()?;
    let service = &loaded.services().iter().find(|declared| declared.service.name.as_str() == name)?.service;
    let what = format!("{name} is declared at {}:{}, but it is not up", service.origin.file, service.origin.line);
    Some(CtlError::NotUp { what, hint: format!("nixmoxctl up {name}") })
}

/// Returns the line of the manifest that matters for a service, if this user can read it.
fn excerpt(status: &Status, service: &ServiceStatus) -> Option<Excerpt> {
    let stack = status.stacks.iter().find(|stack| stack.name == service.stack)?;
    let declaration = Declaration::read(&stack.file, &service.declared_at, &service.name)?;
    let health = || {
        let (_, line) = service.health_declared_at.rsplit_once(':')?;
        declaration.number(line.parse().ok()?)
    };
    let found = match matter(service) {
        Matter::Key(key) => declaration.key(&key),
        Matter::Health => health().or_else(|| declaration.key("health")),
        Matter::Heading => None,
    };
    let (place, text) = found.or_else(|| declaration.heading())?;
    Some(Excerpt { place, text: Some(text) })
}
