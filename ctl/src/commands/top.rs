//! `nixmoxctl top`: what the services use.

use std::time::Duration;

use clap::Args;
use nixmox_api::Status;
use tokio::time::{Instant, sleep};

use super::selection::Selection;
use crate::client::{Client, ClientError};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::top::{self, Interval, Sample, Sampler, Sort};

/// The longest time between the two samples that a single table is made of.
const ONE_LOOK: Duration = Duration::from_secs(1);
/// How long an agent that is away is waited for, and the wait between two attempts.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// Show what the services use: CPU, memory, pressure, IO, network, tasks
#[derive(Debug, Args)]
#[command(after_help = "\
Outside a stack, all stacks of the host are shown. On a terminal it goes on until q; ? there shows \
the keys. Into a pipe, or with -b, it is one table. What the kernel has no figure for is shown as -.

Examples:
  nixmoxctl top
  nixmoxctl top nextcloud postgres -d 5    every 5 seconds
  nixmoxctl top -b --sort memory | head -4
  nixmoxctl top --json --follow | jq -c '.services[] | {name, cpu_percent}'")]
pub(crate) struct Top {
    /// Only these services
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The time from one look to the next: seconds, or such as 500ms or 1min
    #[arg(short = 'd', long, value_name = "TIME", default_value = "2")]
    interval: Interval,
    /// What to sort by
    #[arg(long, value_name = "KEY", value_enum, default_value_t)]
    sort: Sort,
    /// One table and no more, also on a terminal
    #[arg(short, long)]
    batch: bool,
    /// With --json: a document each time, until Ctrl-C
    #[arg(long, requires = "json")]
    follow: bool,
}

impl Top {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::find(context)?.unwrap_or(Selection::All);
        block_on(async {
            if context.options.json && self.follow {
                return self.documents(&selection, context).await;
            }
            if context.options.json || self.batch || context.output.screen().size.is_none() {
                return self.once(&selection, context).await;
            }
            let narrow = |status: Status| selection.narrow(status, &self.names);
            top::live(context, self.interval.0, self.sort, narrow).await?;
            Ok(Exit::Done)
        })
    }

    /// Prints one table, or one document.
    async fn once(&self, selection: &Selection, context: &mut Context) -> Result<Exit, CtlError> {
        let mut client = Client::connect(&context.options.socket).await?;
        let status = selection.narrow(client.status().await?, &self.names)?;
        let mut sampler = Sampler::default();
        sampler.take(client.usage().await?);
        sleep(self.interval.0.min(ONE_LOOK)).await;
        let sample = only(sampler.take(client.usage().await?), &status);
        if context.options.json {
            context.output.json(&sample)?;
            return Ok(Exit::Done);
        }
        let screen = context.output.screen();
        let rows = top::rows(&status, Some(&sample));
        let shown = top::View { sort: self.sort, ..top::View::default() }.order(&rows);
        context.output.print(&top::table(&shown, None, screen.width(), screen.style))?;
        Ok(Exit::Done)
    }

    /// Prints a document each time.
    async fn documents(&self, selection: &Selection, context: &mut Context) -> Result<Exit, CtlError> {
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        let mut ticks = tokio::time::interval(self.interval.0);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut sampler = Sampler::default();
        let mut away_since = None;
        loop {
            // Every arm is cancel-safe: a look that is given up changed nothing.
            let looked = tokio::select! {
                _ = &mut stop => return Ok(Exit::Done),
                looked = async {
                    ticks.tick().await;
                    self.look(selection, context).await
                } => looked,
            };
            match looked {
                Ok((status, reply)) => {
                    away_since = None;
                    let sample = only(sampler.take(reply), &status);
                    context.output.json(&sample)?;
                }
                Err(CtlError::Client(error)) if error.may_pass() => {
                    if away_since.is_none() {
                        context.output.note("the agent is away; waiting for it\n")?;
                    }
                    if away_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        return Err(error.into());
                    }
                    sleep(RETRY).await;
                    ticks.reset_immediately();
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn look(
        &self,
        selection: &Selection,
        context: &Context,
    ) -> Result<(Status, nixmox_api::UsageReply), CtlError> {
        let asked = async {
            let mut client = Client::connect(&context.options.socket).await?;
            Ok::<_, ClientError>((client.status().await?, client.usage().await?))
        };
        let (status, reply) = asked.await?;
        Ok((selection.narrow(status, &self.names)?, reply))
    }
}

/// Returns a sample of those services alone that a status has.
fn only(sample: Sample, status: &Status) -> Sample {
    let meant = |name: &str| status.services.iter().any(|service| service.name == name);
    let services = sample.services.into_iter().filter(|measured| meant(&measured.usage.name)).collect();
    Sample { services, ..sample }
}
