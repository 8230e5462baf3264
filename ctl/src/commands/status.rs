//! `nixmoxctl status`: what the services do, and what is wrong with those that are not well.

use clap::Args;
use nixmox_api::Status;

use super::selection::Selection;
use crate::client::{Client, Message, Mirror, Watch};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::follow::Block;
use crate::render;

/// Show what the services do
#[derive(Debug, Args)]
#[command(after_help = "\
Outside a stack, all stacks of the host are shown.

Examples:
  nixmoxctl status               the stack of this folder
  nixmoxctl status postgres      one service
  nixmoxctl status -w --all      everything on the host, as it changes")]
pub(crate) struct StatusOf {
    /// Only these services
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Go on showing, as it changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

impl StatusOf {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::find(context)?.unwrap_or(Selection::All);
        block_on(async {
            if self.watch {
                return self.follow(&selection, context).await;
            }
            let mut client = Client::connect(&context.options.socket).await?;
            let status = selection.narrow(client.status().await?, &self.names)?;
            let text = text(&status, &selection, context);
            if context.options.json {
                context.output.json(&status)?;
            } else {
                context.output.print(&text)?;
            }
            Ok(Exit::Done)
        })
    }

    async fn follow(&self, selection: &Selection, context: &mut Context) -> Result<Exit, CtlError> {
        let mut watch = Watch::begin(context.options.socket.clone()).await?;
        let mut mirror = Mirror::default();
        let mut block = Block::default();
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        // Ages go on even where nothing happens.
        let mut clock = tokio::time::interval(std::time::Duration::from_secs(1));
        loop {
            // Every arm is cancel-safe.
            let message = tokio::select! {
                _ = &mut stop => {
                    block.leave(&mut context.output)?;
                    return Ok(Exit::Done);
                }
                message = watch.next() => Some(message?),
                _ = clock.tick() => None,
            };
            match message {
                Some(Message::Update(update)) => {
                    mirror.take(&update);
                    if context.options.json {
                        context.output.json(&update)?;
                        continue;
                    }
                }
                Some(Message::Lost) => {
                    block.forget();
                    context.output.note("the agent is away; waiting for it\n")?;
                    continue;
                }
                None => {}
            }
            if mirror.number().is_none() || context.options.json {
                continue;
            }
            let text = text(&selection.narrow(mirror.status().clone(), &self.names)?, selection, context);
            block.draw(&mut context.output, text.lines().map(str::to_owned).collect())?;
        }
    }
}

fn text(status: &Status, selection: &Selection, context: &Context) -> String {
    let screen = context.output.screen();
    if status.stacks.is_empty() {
        return match selection {
            Selection::OfFile(stack) | Selection::Named(stack) => {
                format!("{stack}   is not up; try: nixmoxctl up\n")
            }
            Selection::All => "no stacks yet; try: nixmoxctl up\n".to_owned(),
        };
    }
    render::status(status, &context.moment(), screen.width(), screen.style)
}
