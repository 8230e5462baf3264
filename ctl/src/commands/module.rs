//! `nixmoxctl module`: the stacks that a NixOS configuration declares, as its module calls it. Not for people, who change the
//! configuration.
//!
//! A stack of a folder is `FOLDER/STACK/nixmox.toml` and says in `stack.owner` which option it comes from. What is up with an
//! owner of this kind and is not in the folder any more is given up.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nixmox_api::{AgentError, Request, StackStatus};
use nixmox_core::model::AddressPool;

use super::request::{Prepared, Scope};
use crate::build::{Extent, NixOptions, Roots};
use crate::cli::complain;
use crate::client::{Client, ClientError};
use crate::context::{Context, block_on, unless_stopped};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::render;

/// What the names of all options begin with that declare a stack.
const OPTION: &str = "services.nixmox.stacks.";

/// Apply the stacks of a NixOS configuration
#[derive(Debug, Args)]
pub(crate) struct Module {
    #[command(subcommand)]
    verb: Verb,
}

/// What is done with them.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Show what `up` would do
    #[command(after_help = "\
Example:
  nixmoxctl module plan /etc/nixmox/stacks")]
    Plan(Folder),
    /// Make all stacks as declared, and take down those that are declared no more
    #[command(after_help = "\
A stack that is refused is tried again after the others: it may need one of them.

Example:
  nixmoxctl module up /etc/nixmox/stacks")]
    Up(Folder),
}

#[derive(Debug, Args)]
struct Folder {
    /// The folder of the stacks
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Module {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        match &self.verb {
            Verb::Plan(Folder { folder }) => plan(context, folder),
            Verb::Up(Folder { folder }) => up(context, folder),
        }
    }
}

fn plan(context: &mut Context, folder: &Path) -> Result<Exit, CtlError> {
    let declared = Declared::read(context, folder, Extent::Evaluated)?;
    let planned = block_on(unless_stopped(async {
        let mut client = Client::connect(&context.options.socket).await?;
        let mut planned = Vec::new();
        for request in declared.requests(&client.status().await?.stacks) {
            planned.push((request.stack.clone(), client.plan(&request).await));
        }
        Ok(planned)
    }))?;
    let screen = context.output.screen();
    for (stack, answer) in planned {
        match answer {
            Ok(plan) => {
                let text = render::plan(&stack, &plan, &render::Inside::new(), screen.width(), screen.style);
                let notes = render::plan_notes(&plan, screen.width(), screen.style);
                context.output.print(&(text + &notes))?;
            }
            // It may need another stack, which is not up yet.
            Err(ClientError::Agent(refused)) => {
                context.output.print(&format!("{stack}: not known before the others are up\n"))?;
                complain(&ClientError::Agent(refused).into(), context);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Exit::Done)
}

/// Applies one stack after the other. One that is refused is tried again as long as others succeed: what it needs may be theirs.
fn up(context: &mut Context, folder: &Path) -> Result<Exit, CtlError> {
    let declared = Declared::read(context, folder, Extent::Built)?;
    block_on(async {
        let status = Client::connect(&context.options.socket).await?.status().await?;
        let mut open = declared.requests(&status.stacks);
        let mut failed = declared.unbuilt;
        loop {
            let mut refused = Vec::new();
            let before = open.len();
            for request in open {
                let stack = request.stack.clone();
                match up_one(context, &request).await {
                    Ok(Exit::Done) => {}
                    Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
                    Ok(_not_well) => failed.push(stack),
                    Err(CtlError::Client(ClientError::Agent(
                        error @ (AgentError::Refused { .. }
                        | AgentError::Invalid { .. }
                        | AgentError::HasDependents { .. }),
                    ))) => refused.push((request, error)),
                    Err(CtlError::Stopped) => return Err(CtlError::Stopped),
                    Err(error) => {
                        complain(&error, context);
                        failed.push(stack);
                    }
                }
            }
            if refused.is_empty() || refused.len() == before {
                for (request, error) in refused {
                    complain(&ClientError::Agent(error).into(), context);
                    failed.push(request.stack);
                }
                break;
            }
            open = refused.into_iter().map(|(request, _)| request).collect();
        }
        drop(declared.roots);
        if failed.is_empty() { Ok(Exit::Done) } else { Err(CtlError::NotAsDeclared { stacks: failed }) }
    })
}

/// Applies a stack, and watches it where that changed anything: at a boot the agent brings up what it knows already.
async fn up_one(context: &mut Context, request: &Request) -> Result<Exit, CtlError> {
    let (opening, generation, applied) = unless_stopped(async {
        let mut opening = Opening::begin(context).await?;
        let generation = opening.status().host.generation;
        let applied = opening.client.apply(request).await?;
        Ok((opening, generation, applied))
    })
    .await?;
    // What is adopted can be out of date though nothing else is declared.
    let is_replaced = applied.plan.services.iter().any(|planned| planned.change == "restart");
    if applied.generation == generation && !is_replaced {
        context.output.print(&format!("{}: as declared\n", request.stack))?;
        return Ok(Exit::Done);
    }
    let screen = context.output.screen();
    let text = render::plan(&request.stack, &applied.plan, &render::Inside::new(), screen.width(), screen.style);
    let notes = render::plan_notes(&applied.plan, screen.width(), screen.style);
    context.output.print(&(text + &notes))?;
    opening.follow_up(context, request.clone(), &applied, Wait::default()).await
}

/// The stacks of a folder.
struct Declared {
    /// What to ask for, in the order of their names.
    requests: Vec<Request>,
    /// Those whose systems could not be built, which was said.
    unbuilt: Vec<String>,
    /// What was built is kept until the agent has all of it.
    roots: Vec<Roots>,
}

impl Declared {
    /// Reads them; nothing is applied where one of them has a fault. One that cannot be built stays as it is.
    fn read(context: &mut Context, folder: &Path, extent: Extent) -> Result<Self, CtlError> {
        let failed = |source| CtlError::File { action: "read", path: folder.to_owned(), source };
        let entries: Vec<_> = std::fs::read_dir(folder).and_then(Iterator::collect).map_err(failed)?;
        let mut stacks: Vec<(String, PathBuf)> = entries
            .iter()
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().join("nixmox.toml")))
            .collect();
        stacks.sort();
        let mut declared = Self { requests: Vec::new(), unbuilt: Vec::new(), roots: Vec::new() };
        for (stack, file) in stacks {
            context.options.file = Some(file.clone());
            let prepared = match Scope::whole().prepare(context, &NixOptions::default(), extent) {
                Ok(prepared) => prepared,
                Err(error @ CtlError::Build(_)) => {
                    complain(&error, context);
                    declared.unbuilt.push(stack);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Prepared { request, roots, .. } = prepared;
            let is_of_option = request.owner.as_deref().is_some_and(|owner| owner.starts_with(OPTION));
            if !is_of_option || request.stack != stack {
                let what = if is_of_option {
                    format!(
                        "{} is of the stack `{}`, and stands in the folder of another",
                        file.display(),
                        request.stack
                    )
                } else {
                    format!("{} comes from no option of NixOS: its stack.owner does not say one", file.display())
                };
                return Err(CtlError::Usage { what, hint: format!("nixmoxctl -f {} up", file.display()) });
            }
            declared.requests.push(request);
            declared.roots.extend(roots);
        }
        Ok(declared)
    }

    /// Returns what to ask for, first to give up what is declared no more: what moves to another stack is free then.
    fn requests(&self, up: &[StackStatus]) -> Vec<Request> {
        let is_ours = |stack: &&StackStatus| stack.owner.as_deref().is_some_and(|owner| owner.starts_with(OPTION));
        let is_declared = |stack: &&StackStatus| {
            self.unbuilt.contains(&stack.name) || self.requests.iter().any(|request| request.stack == stack.name)
        };
        let gone = up.iter().filter(is_ours).filter(|stack| !is_declared(stack)).map(given_up);
        gone.chain(self.requests.iter().cloned()).collect()
    }
}

/// Returns the request by which the owner of a stack gives it up.
pub(super) fn given_up(stack: &StackStatus) -> Request {
    Request {
        stack: stack.name.clone(),
        file: stack.file.clone(),
        address_pool: AddressPool::default().to_string(),
        services: Vec::new(),
        only: Vec::new(),
        prune: true,
        base: None,
        no_rollback: None,
        limits: None,
        owner: stack.owner.clone(),
        look_inside: None,
    }
}
