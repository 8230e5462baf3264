//! `nixmoxctl up`: build, apply, and watch until every service is as declared.

use std::path::PathBuf;

use clap::Args;

use super::request::{PlanFile, Scope};
use crate::build::{Extent, NixOptions};
use crate::context::{Context, block_on, unless_stopped};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::render;

/// Make the services as declared: build, start in order, wait until all are healthy
#[derive(Debug, Args)]
#[command(after_help = "\
Names stand for these services and what they depend on. What differs from the declaration is changed live where that is possible, else the service is restarted; `plan` says which.

Examples:
  nixmoxctl up                       the whole stack
  nixmoxctl up nextcloud             one service and what it depends on
  nixmoxctl up --plan plan.json      what `plan -o plan.json` showed, or nothing
  nixmoxctl up --no-rollback         keep what fails, to look into it
  nixmoxctl up --override-input nixpkgs ~/nixpkgs

Should a service that changed not become healthy in its time, the services that changed go back to the last generation that was good; the exit code is then 1.

Ctrl-C stops watching; the deployment goes on.")]
pub(crate) struct Up {
    #[command(flatten)]
    scope: Scope,
    /// Carry out a plan that was saved, if the host is still as it was
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["names", "no_deps", "prune", "no_build", "offline", "override_input", "substituters"])]
    plan: Option<PathBuf>,
    /// Keep what does not become healthy, to look into it
    #[arg(long)]
    no_rollback: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    nix: NixOptions,
}

impl Up {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let (mut request, roots) = if let Some(path) = &self.plan {
            (PlanFile::read(&context.folder.join(path))?.into_request(), None)
        } else {
            let prepared = self.scope.prepare(context, &self.nix, Extent::Built)?;
            (prepared.request, prepared.roots)
        };
        request.no_rollback = self.no_rollback.then_some(true);
        block_on(async {
            let (opening, applied) = unless_stopped(async {
                let mut opening = Opening::begin(context).await?;
                let applied = opening.client.apply(&request).await?;
                Ok((opening, applied))
            })
            .await?;
            // The agent has roots of its own by now.
            drop(roots);
            let screen = context.output.screen();
            if context.options.json {
                context.output.json(&applied)?;
            } else {
                let notes = render::plan_notes(&applied.plan, screen.error_width, screen.error_style);
                context.output.note(&notes)?;
                if self.wait.detach {
                    let text = render::plan(
                        &request.stack,
                        &applied.plan,
                        &render::Inside::new(),
                        screen.width(),
                        screen.style,
                    );
                    context.output.print(&text)?;
                    return Ok(Exit::Done);
                }
            }
            opening.follow_up(context, request, &applied, self.wait).await
        })
    }
}
