//! `nixmoxctl rollback`: a stack, or services of it, as an earlier generation has them.

use clap::Args;

use super::selection::{Selection, known};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::{Opening, Wait};
use crate::render;

/// Bring back a stack, or services of it, as they were
#[derive(Debug, Args)]
#[command(after_help = "\
Makes a new generation with the services of an earlier one: without --to, of the last one before in which they were others and that was not rolled back. Services that it does not have are stopped and forgotten. Data stays as it is, and what `stop` holds stays held.

Examples:
  nixmoxctl rollback                 the whole stack, one change back
  nixmoxctl rollback --to 41         the whole stack as in generation 41
  nixmoxctl rollback nextcloud       one service
  nixmoxctl rollback -s cloud        a stack whose file is not here")]
pub(crate) struct Rollback {
    /// The services; none: all of the stack
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The generation; none: the last one before that differs
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    #[command(flatten)]
    wait: Wait,
}

impl Rollback {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let stack = match Selection::require(context)? {
            Selection::Named(stack) | Selection::OfFile(stack) => stack,
            Selection::All => {
                return Err(CtlError::Usage {
                    what: "one stack at a time goes back".to_owned(),
                    hint: "-s STACK".to_owned(),
                });
            }
        };
        block_on(async {
            let mut opening = Opening::begin(context).await?;
            if let (Some(named), None) = (&context.options.stack, self.to) {
                known("stack", named, opening.status().stacks.iter().map(|stack| stack.name.as_str()))?;
            }
            let before = opening.status().host.generation;
            let applied = opening.client.rollback(&stack, self.to, &self.names).await?;
            let screen = context.output.screen();
            if context.options.json {
                context.output.json(&applied)?;
            } else {
                let notes = render::plan_notes(&applied.plan, screen.error_width, screen.error_style);
                context.output.note(&notes)?;
            }
            if applied.generation == before {
                context.output.note("nothing to do: it is as it was then\n")?;
                return Ok(Exit::Done);
            }
            opening.follow_back(context, &stack, &applied, self.wait).await
        })
    }
}
