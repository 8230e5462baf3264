//! `nixmoxctl down`: stop services and no longer desire them.

use clap::Args;
use nixmox_api::{AgentError, Applied, Status};

use super::module::given_up;
use super::selection::{Selection, known};
use crate::client::ClientError;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::progress::{Goal, Task};

/// Stop services and forget them; their data stays
#[derive(Debug, Args)]
#[command(after_help = "\
Makes a new generation without them. They stop in the reverse of the order in which they start.

Examples:
  nixmoxctl down                 the whole stack
  nixmoxctl down wiki            one service
  nixmoxctl down -s cloud        a stack whose file is not here
  nixmoxctl down -s cloud --disown    one of a NixOS configuration that has gone")]
pub(crate) struct Down {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Take down also what an option of NixOS declares, where that is not there any more
    #[arg(long, conflicts_with = "names")]
    disown: bool,
    #[command(flatten)]
    wait: Wait,
}

impl Down {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::require(context)?;
        block_on(async {
            let mut opening = Opening::begin(context).await?;
            let stacks: Vec<String> = match &selection {
                Selection::All => opening.status().stacks.iter().map(|stack| stack.name.clone()).collect(),
                Selection::Named(stack) => {
                    known("stack", stack, opening.status().stacks.iter().map(|stack| stack.name.as_str()))?;
                    vec![stack.clone()]
                }
                Selection::OfFile(stack) => vec![stack.clone()],
            };
            if selection == Selection::All {
                for name in &self.names {
                    known("service", name, opening.status().services.iter().map(|service| service.name.as_str()))?;
                }
            }
            let mut replies: Vec<(String, Applied)> = Vec::new();
            for stack in stacks {
                let names = names_in(&stack, &selection, opening.status(), &self.names);
                if names.is_empty() && !self.names.is_empty() {
                    continue;
                }
                // Asked for also where it is not seen: an agent that touches nothing knows no stack, and says so.
                let owned = opening.status().stacks.iter().find(|up| up.name == stack && up.owner.is_some());
                let given_up = owned.filter(|_| self.disown).map(given_up);
                let answer = match given_up {
                    Some(request) => opening.client.apply(&request).await,
                    None => opening.client.down(&stack, &names).await,
                };
                match answer {
                    Ok(applied) => replies.push((stack, applied)),
                    Err(ClientError::Agent(AgentError::UnknownStack { .. })) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let Some((_, first)) = replies.first() else {
                if !self.names.is_empty() {
                    return Err(selection.not_up());
                }
                context.output.note("nothing to do: the stack is not up\n")?;
                return Ok(Exit::Done);
            };
            let number = first.number;
            let concerned = |service: &&nixmox_api::ServiceStatus| {
                let of_stack = replies.iter().any(|(stack, _)| *stack == service.stack);
                of_stack && (self.names.is_empty() || self.names.contains(&service.name))
            };
            let tasks = opening.status().services.iter().filter(concerned);
            let tasks = tasks.map(|service| Task::of_verb("down", &service.name, Some(service))).collect();
            if context.options.json {
                for (_, applied) in &replies {
                    context.output.json(applied)?;
                }
            }
            opening.follow(context, Goal::Gone, tasks, number, self.wait).await
        })
    }
}

/// Returns the names that are for a stack: of several stacks, each gets its own.
fn names_in(stack: &str, selection: &Selection, status: &Status, names: &[String]) -> Vec<String> {
    match selection {
        Selection::Named(_) | Selection::OfFile(_) => names.to_vec(),
        Selection::All => {
            let here =
                |name: &&String| status.services.iter().any(|there| there.stack == stack && there.name == **name);
            names.iter().filter(here).cloned().collect()
        }
    }
}
