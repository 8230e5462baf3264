//! `nixmoxctl events`: what happened, in numbers, and who caused it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use clap::Args;
use nixmox_api::EventsRequest;

use super::logs::finish;
use super::selection::known;
use super::stack_file::StackFile;
use crate::client::{Client, LinesOf};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::journal::{End, Entry, Event, Reader, Step};
use crate::moment::{self, NoMoment};
use crate::render;

/// The wait between the end of a reader and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Show what happened to services, and who caused it
#[derive(Debug, Args)]
#[command(after_help = "\
Events are numbered, and each is told once: --since with the last number that was seen goes on after it, also after a \
restart of the agent. They are in the host's journal for as long as that keeps them.

Examples:
  nixmoxctl events -n 20             the last events
  nixmoxctl events -f postgres       what happens to a service from now on
  nixmoxctl events --since 4711 -f --json
  nixmoxctl events --since today")]
pub(crate) struct Events {
    /// Only these services
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Go on showing, until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only the last so many events
    #[arg(short = 'n', long, value_name = "EVENTS")]
    lines: Option<usize>,
    /// Only events after this number, or from this moment on
    #[arg(long, value_name = "NUMBER|MOMENT", allow_hyphen_values = true)]
    since: Option<String>,
    #[command(flatten)]
    _file: StackFile,
}

/// Where events begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// With the first after this one.
    Number(u64),
    /// At this moment, in microseconds since 1970; `None`: with the first that there is.
    Moment(Option<u64>),
}

impl Events {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let since = self.since(context)?;
        let request = EventsRequest {
            follow: false,
            since_usec: match since {
                Since::Moment(moment) => moment,
                Since::Number(_) => None,
            },
            cursor: None,
        };
        block_on(async {
            let mut told = BTreeSet::new();
            let end = self.past(LinesOf::Events { request }, since, &mut told, context).await?;
            if self.follow && !end.failed && end.lost.is_none() {
                return self.follow(end.rest, since, context).await;
            }
            if !end.failed && end.lost.is_none() {
                self.complain_of_unknown(&told, context).await?;
            }
            finish(end, context)
        })
    }

    fn since(&self, context: &Context) -> Result<Since, CtlError> {
        let Some(text) = &self.since else { return Ok(Since::Moment(None)) };
        if let Ok(number) = text.trim_start_matches('#').parse() {
            return Ok(Since::Number(number));
        }
        let moment = moment::parse(text, &context.moment());
        let usage = |error: NoMoment| CtlError::Usage {
            what: error.to_string(),
            hint: format!("the number of an event, or a moment {}", NoMoment::hint()),
        };
        moment.map(|moment| Since::Moment(Some(moment))).map_err(usage)
    }

    /// Complains of a name of which nothing was told, and that no service has.
    async fn complain_of_unknown(&self, told: &BTreeSet<String>, context: &Context) -> Result<(), CtlError> {
        let untold: Vec<&String> = self.names.iter().filter(|name| !told.contains(*name)).collect();
        if untold.is_empty() {
            return Ok(());
        }
        let status = Client::connect(&context.options.socket).await?.status().await?;
        let there = status.services.iter().map(|service| service.name.as_str());
        untold.into_iter().try_for_each(|name| known("service", name, there.clone()))
    }

    /// Shows the events that there are, or the last of them; returns what goes on after them. `told`: of which services
    /// there are any.
    async fn past(
        &self,
        asked: LinesOf,
        since: Since,
        told: &mut BTreeSet<String>,
        context: &mut Context,
    ) -> Result<End, CtlError> {
        let mut kept = VecDeque::new();
        let mut reader = Reader::begin(&context.options.socket, asked).await?;
        loop {
            match reader.next().await {
                Step::Entries(entries) => {
                    let mut meant = entries;
                    meant.retain(|entry| self.means(entry, since));
                    told.extend(meant.iter().filter_map(|entry| Some(entry.event.as_ref()?.service.clone())));
                    match self.lines {
                        None => print(meant, context)?,
                        Some(count) => {
                            kept.extend(meant);
                            kept.drain(..kept.len().saturating_sub(count));
                        }
                    }
                }
                Step::SourceEnded => {}
                Step::End(end) => {
                    print(kept, context)?;
                    return Ok(end);
                }
            }
        }
    }

    /// Shows events until Ctrl-C.
    async fn follow(&self, mut asked: LinesOf, since: Since, context: &mut Context) -> Result<Exit, CtlError> {
        let socket = context.options.socket.clone();
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            if let LinesOf::Events { request } = &mut asked {
                request.follow = true;
            }
            // Both arms are cancel-safe: a reader that is not taken ends.
            let mut reader = tokio::select! {
                _ = &mut interrupt => return Ok(Exit::Done),
                reader = Reader::begin_patiently(&socket, &asked) => reader?,
            };
            let end = loop {
                // Both arms are cancel-safe, and only the chosen one's value is used.
                let step = tokio::select! {
                    _ = &mut interrupt => return Ok(Exit::Done),
                    step = reader.next() => step,
                };
                match step {
                    Step::Entries(entries) => {
                        print(entries.into_iter().filter(|entry| self.means(entry, since)), context)?;
                    }
                    Step::SourceEnded => {}
                    Step::End(end) => break end,
                }
            };
            match end.lost {
                Some(lost) if !lost.may_pass() => return Err(lost.into()),
                Some(_) => context.output.note("the agent is away; waiting for it\n")?,
                // An agent that is told to end has its reader end first.
                None if !end.failed => tokio::time::sleep(PAUSE).await,
                None => return finish(end, context),
            }
            asked = end.rest;
        }
    }

    fn means(&self, entry: &Entry, since: Since) -> bool {
        let Some(event) = &entry.event else { return false };
        let later = match since {
            Since::Number(number) => event.number > number,
            Since::Moment(_) => true,
        };
        // What is about no service is for everybody who did not name any.
        later && (self.names.is_empty() || self.names.contains(&event.service))
    }
}

fn print(entries: impl IntoIterator<Item = Entry>, context: &mut Context) -> Result<(), CtlError> {
    let (json, style) = (context.options.json, context.output.screen().style);
    let line = |entry: &Entry, event: &Event| {
        if json { render::event_json(entry, event) } else { render::event_line(entry, event, &context.zone, style) }
    };
    let lines = entries.into_iter().filter_map(|entry| Some(line(&entry, entry.event.as_ref()?)));
    let text: String = lines.collect();
    Ok(context.output.print(&text)?)
}
