//! `nixmoxctl plan`: what `up` would do, and why.

use std::path::PathBuf;

use clap::Args;
use nixmox_core::model::ContainerName;

use super::request::{PlanFile, Scope};
use crate::build::{Extent, NixOptions};
use crate::client::Client;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::render;

/// What is said of a system that is only evaluated.
const NOT_BUILT: &str = "effects inside unknown: not built";

/// Show what `up` would do, and why
#[derive(Debug, Args)]
#[command(after_help = "\
`+` starts what does not run, `~` changes it while it runs, `!` restarts it, `-` stops it and forgets it.

Examples:
  nixmoxctl plan
  nixmoxctl plan -o plan.json && nixmoxctl up --plan plan.json
  nixmoxctl plan --exit-code         exits with 3 when something would change")]
pub(crate) struct Plan {
    #[command(flatten)]
    scope: Scope,
    /// Build what is not in the store yet, to see what differs inside; else it is only said what would be started
    #[arg(long, conflicts_with = "no_build")]
    build: bool,
    /// Save the plan for `up --plan`, with all built that it is about
    #[arg(short, long, value_name = "PLAN")]
    output: Option<PathBuf>,
    /// Exit with 3 when something would change
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    nix: NixOptions,
}

impl Plan {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        // `up --plan` builds nothing.
        let is_built = self.build || self.output.is_some();
        let extent = if is_built { Extent::Built } else { Extent::Evaluated };
        let prepared = self.scope.prepare(context, &self.nix, extent)?;
        let (request, unbuilt) = (prepared.request, prepared.unbuilt);
        let plan = block_on(async { Ok(Client::connect(&context.options.socket).await?.plan(&request).await?) })?;
        // Before it is shown: a saved plan is there, however early its reader leaves.
        let file = PlanFile::new(request, plan);
        if let Some(path) = &self.output {
            file.write(&context.folder.join(path))?;
        }
        let (stack, plan) = (file.stack(), file.plan());
        let not_built = |name: &ContainerName| (name.to_string(), vec![NOT_BUILT.to_owned()]);
        let inside: render::Inside = unbuilt.iter().map(not_built).collect();
        // Whoever asks for the exit code does not sit and read.
        if !self.exit_code {
            context.output.page()?;
        }
        let screen = context.output.screen();
        if context.options.json {
            context.output.json(plan)?;
        } else {
            let text = render::plan(stack, plan, &inside, screen.width(), screen.style);
            let notes = render::plan_notes(plan, screen.width(), screen.style);
            context.output.print(&(text + &notes))?;
        }
        let changes = plan.services.iter().any(|planned| planned.change != "unchanged");
        let would_change = changes || plan.limits.is_some();
        Ok(if would_change && self.exit_code { Exit::WouldChange } else { Exit::Done })
    }
}
