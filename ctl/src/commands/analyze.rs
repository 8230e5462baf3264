//! `nixmoxctl analyze`: where the time of the last `up` or boot went.

use clap::Args;
use nixmox_api::EventsRequest;

use super::logs::finish;
use crate::analyze::analyze;
use crate::client::LinesOf;
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::journal::{Reader, Step};
use crate::output::WIDTH;
use crate::render;

/// Show the critical chain of the last `up` or boot
#[derive(Debug, Args)]
#[command(after_help = "\
The services that the last one to be ready waited for, each with the time that it waited, that its guest took to boot, \
and that it took to be healthy; then the others. From the events in the host's journal.

Examples:
  nixmoxctl analyze
  nixmoxctl analyze --json")]
pub(crate) struct Analyze {}

impl Analyze {
    #[allow(clippy::unused_self, reason = "as every command")]
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        block_on(async {
            let asked = LinesOf::Events { request: EventsRequest::default() };
            let mut reader = Reader::begin(&context.options.socket, asked).await?;
            let mut events = Vec::new();
            let end = loop {
                match reader.next().await {
                    Step::Entries(entries) => events.extend(entries),
                    Step::SourceEnded => {}
                    Step::End(end) => break end,
                }
            };
            if end.lost.is_some() || end.failed {
                return finish(end, context);
            }
            let Some(analysis) = analyze(&events) else {
                return Err(CtlError::NotUp {
                    what: "the journal has no start of a service".to_owned(),
                    hint: "nixmoxctl up".to_owned(),
                });
            };
            if context.options.json {
                context.output.json(&analysis)?;
            } else {
                let screen = context.output.screen();
                let width = screen.width().unwrap_or(WIDTH).min(WIDTH);
                context.output.print(&render::chain(&analysis, &context.zone, width, screen.style))?;
            }
            Ok(Exit::Done)
        })
    }
}
