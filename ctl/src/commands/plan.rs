//! `nixmoxctl plan`: what `up` would do, and why.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use nixmox_api::{AgentError, PlanReply, Planned, Request, Status};
use nixmox_core::model::ContainerName;

use super::request::{PlanFile, Scope};
use crate::build::{Closures, Extent, NixOptions};
use crate::client::{Client, ClientError};
use crate::context::{Context, block_on, unless_stopped};
use crate::error::{CtlError, Exit};
use crate::machine::Machine;
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
        let (plan, before) = block_on(unless_stopped(async {
            let mut client = Client::connect(&context.options.socket).await?;
            let curious = Request { look_inside: Some(true), ..request.clone() };
            let plan = match client.plan(&curious).await {
                // An agent of before knows no such key.
                Err(ClientError::Agent(AgentError::Invalid { .. })) => client.plan(&request).await?,
                answer => answer?,
            };
            // What ran before is asked for where it matters alone.
            let before = if plan.services.iter().any(is_other_system) { client.status().await.ok() } else { None };
            Ok((plan, before))
        }))?;
        let inside = inside(&context.machine, &plan, &request, &unbuilt, before.as_ref());
        // Before it is shown: a saved plan is there, however early its reader leaves.
        let file = PlanFile::new(request, plan);
        if let Some(path) = &self.output {
            file.write(&context.folder.join(path))?;
        }
        let (stack, plan) = (file.stack(), file.plan());
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

/// Whether a service gets another system than it has.
fn is_other_system(planned: &Planned) -> bool {
    planned.reasons.iter().any(|reason| reason.text.starts_with("system "))
}

/// Returns what is said of what happens inside the services that change.
fn inside(
    machine: &Machine,
    plan: &PlanReply,
    request: &Request,
    unbuilt: &BTreeSet<ContainerName>,
    before: Option<&Status>,
) -> render::Inside {
    let mut closures = Closures::new(machine);
    let mut inside = render::Inside::new();
    for planned in plan.services.iter().filter(|planned| planned.change != "unchanged") {
        if unbuilt.iter().any(|name| name.as_str() == planned.name) {
            inside.insert(planned.name.clone(), vec![NOT_BUILT.to_owned()]);
            continue;
        }
        let new = request.services.iter().find(|service| service.name == planned.name);
        let old = before.and_then(|before| before.services.iter().find(|service| service.name == planned.name));
        let systems = old.and_then(|old| old.system.as_ref()).zip(new.and_then(|new| new.system.as_ref()));
        if let Some((old, new)) = systems.filter(|(old, new)| old != new) {
            let difference = closures.difference(old, new);
            inside.extend(difference.map(|difference| (planned.name.clone(), render::closure(&difference))));
        }
    }
    inside
}
