//! `nixmoxctl logs`: what services say, merged in the order of time.

mod follow;

use std::collections::{BTreeSet, VecDeque};

use clap::{Args, ValueEnum};
use nixmox_api::{AgentError, LogsOf, LogsRequest, ServiceStatus, Status};

use follow::Follower;

use super::selection::{Selection, known};
use super::stack_file::StackFile;
use crate::client::{Client, ClientError, LinesOf};
use crate::context::{Context, block_on};
use crate::error::{CtlError, Exit};
use crate::journal::{End, Entry, Reader, Step};
use crate::moment::{self, NoMoment};
use crate::output::Output;
use crate::render::{self, Lines};

/// Show what services say, in the order of time
#[derive(Debug, Args)]
#[command(after_help = "\
The guests' own journals, what containers print on their console, and what the host's systemd says of them; also of \
services that are stopped, that crashed, that never came up, or that were taken away and are named.

Moments: `10min ago`, `-1h`, `today`, `14:00`, `2026-11-30 14:00`, RFC 3339.

Examples:
  nixmoxctl logs                           the stack of this folder
  nixmoxctl logs -f postgres miniflux      two services, as they speak
  nixmoxctl logs -n 100 --since -1h
  nixmoxctl logs -u nginx.service web      one unit inside a guest
  nixmoxctl logs --grep ERROR -o json      for programs")]
pub(crate) struct Logs {
    /// Only these services
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Go on showing, until Ctrl-C
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only the last so many lines, of all services together
    #[arg(short = 'n', long, visible_alias = "tail", value_name = "LINES")]
    lines: Option<usize>,
    /// Only lines from this moment on
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only lines until this moment
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true, conflicts_with = "follow")]
    until: Option<String>,
    /// Only what this unit inside the guests says
    #[arg(short = 'u', long, value_name = "UNIT")]
    unit: Option<String>,
    /// Only messages that match this regular expression
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    grep: Option<String>,
    /// How lines are shown: short, json, or cat (messages alone)
    #[arg(short = 'o', long, value_name = "FORM", value_enum, default_value_t, hide_possible_values = true)]
    output: Form,
    #[command(flatten)]
    _file: StackFile,
}

/// How lines are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Short,
    /// For programs
    Json,
    /// Messages alone
    Cat,
}

impl Logs {
    pub(crate) fn run(&self, context: &mut Context) -> Result<Exit, CtlError> {
        let selection = Selection::find(context)?.unwrap_or(Selection::All);
        let since = Self::moment(self.since.as_deref(), context)?;
        let until = Self::moment(self.until.as_deref(), context)?;
        let form = if context.options.json { Form::Json } else { self.output };
        let request = LogsRequest {
            services: Vec::new(),
            follow: false,
            lines: None,
            until_usec: until,
            unit: self.unit.clone(),
            grep: self.grep.clone(),
        };
        let shown = Shown { names: &self.names, selection: &selection, since, form };
        block_on(async {
            if self.follow {
                self.follow(shown, request, context).await
            } else {
                self.once(&shown, request, context).await
            }
        })
    }

    fn moment(text: Option<&str>, context: &Context) -> Result<Option<u64>, CtlError> {
        let parsed = text.map(|text| moment::parse(text, &context.moment())).transpose();
        parsed.map_err(|error| CtlError::Usage { what: error.to_string(), hint: NoMoment::hint() })
    }

    /// Shows the lines that there are.
    async fn once(&self, shown: &Shown<'_>, request: LogsRequest, context: &mut Context) -> Result<Exit, CtlError> {
        let status = Client::connect(&context.options.socket).await?.status().await?;
        let services = shown.services(&status)?;
        let lines = Shown::lines(services.iter().map(|of| of.name.as_str()), context);
        let request = LogsRequest { services, ..request };
        let end = self.past(request, &lines, shown.form, context).await;
        finish(end.map_err(|error| nearest(error, &status))?, context)
    }

    /// Shows the lines that there are, or the last of them; returns what goes on after them.
    async fn past(
        &self,
        request: LogsRequest,
        lines: &Lines,
        form: Form,
        context: &mut Context,
    ) -> Result<End, CtlError> {
        // The last of all are among the last of each.
        let last = self.lines.map(|lines| u64::try_from(lines).unwrap_or(u64::MAX));
        let asked = LinesOf::Services { request: LogsRequest { lines: last, ..request } };
        let mut kept = VecDeque::new();
        let mut reader = Reader::begin(&context.options.socket, asked).await?;
        loop {
            match reader.next().await {
                Step::Entries(entries) => match self.lines {
                    None => print(&entries, lines, form, &mut context.output)?,
                    Some(count) => {
                        kept.extend(entries);
                        kept.drain(..kept.len().saturating_sub(count));
                    }
                },
                Step::SourceEnded => {}
                Step::End(end) => {
                    print(kept.make_contiguous(), lines, form, &mut context.output)?;
                    return Ok(end);
                }
            }
        }
    }

    /// Shows the lines that there are, and those to come.
    async fn follow(
        &self,
        shown: Shown<'_>,
        request: LogsRequest,
        context: &mut Context,
    ) -> Result<Exit, CtlError> {
        let (form, follower) = (shown.form, Follower::new(shown.clone(), context.options.socket.clone()).await?);
        let services = shown.services(follower.status())?;
        let lines = Shown::lines(services.iter().map(|of| of.name.as_str()), context);
        let mut request = LogsRequest { services, ..request };
        if self.lines == Some(0) {
            // What comes from now on.
            request.services.iter_mut().for_each(|of| of.since_usec = Some(context.clock.now_usec()));
        } else {
            // Readers that follow know this boot alone.
            let end = self.past(request, &lines, form, context).await;
            let end = end.map_err(|error| nearest(error, follower.status()))?;
            if end.failed || end.lost.is_some() {
                return finish(end, context);
            }
            // It goes on as it began.
            let LinesOf::Services { request: rest } = end.rest else { return Ok(Exit::Done) };
            request = LogsRequest { lines: None, ..rest };
        }
        follower.run(request, lines, context).await
    }
}

/// What is shown, and how.
#[derive(Clone)]
struct Shown<'a> {
    names: &'a [String],
    selection: &'a Selection,
    since: Option<u64>,
    form: Form,
}

impl Shown<'_> {
    /// Returns the services that are meant, each from its beginning.
    ///
    /// A name that is not there is the agent's to know: that of a service that was taken away still has a journal.
    fn services(&self, status: &Status) -> Result<Vec<LogsOf>, CtlError> {
        let is_there = |name: &String| status.services.iter().any(|service| service.name == *name);
        let (there, mut meant): (Vec<String>, Vec<String>) = self.names.iter().cloned().partition(is_there);
        if meant.is_empty() || !there.is_empty() {
            let narrowed = self.selection.narrow(status.clone(), &there)?;
            meant.extend(narrowed.services.into_iter().map(|service| service.name));
        }
        if meant.is_empty() {
            return Err(self.selection.not_up());
        }
        let of = |name: String| LogsOf { name, since_usec: self.since, ..LogsOf::default() };
        Ok(meant.into_iter().map(of).collect())
    }

    /// Returns whether a service is meant.
    fn means(&self, service: &ServiceStatus) -> bool {
        match self.names {
            [] => self.selection.has(&service.stack),
            names => names.contains(&service.name),
        }
    }

    fn lines<'n>(names: impl Iterator<Item = &'n str>, context: &Context) -> Lines {
        Lines::new(names, context.zone.clone(), context.output.screen().style)
    }
}

fn print(entries: &[Entry], lines: &Lines, form: Form, output: &mut Output) -> Result<(), CtlError> {
    let text: String = match form {
        Form::Short => entries.iter().map(|entry| lines.line(entry)).collect(),
        Form::Json => entries.iter().map(Lines::json).collect(),
        Form::Cat => entries.iter().map(Lines::message).collect(),
    };
    Ok(output.print(&text)?)
}

/// Returns the complaint about a name that the agent does not know with the nearest of those there are.
fn nearest(error: CtlError, status: &Status) -> CtlError {
    let CtlError::Client(ClientError::Agent(AgentError::UnknownService { name, .. })) = &error else {
        return error;
    };
    let there = status.services.iter().map(|service| service.name.as_str());
    known("service", name, there).err().unwrap_or(error)
}

/// Says what readers complained of.
pub(super) fn finish(end: End, context: &mut Context) -> Result<Exit, CtlError> {
    if let Some(lost) = end.lost {
        return Err(lost.into());
    }
    // A pattern that is none is one for every reader.
    let distinct: BTreeSet<&String> = end.complaints.iter().collect();
    for complaint in distinct {
        context.output.note(&format!("{}\n", render::clean(complaint)))?;
    }
    Ok(if end.failed { Exit::Failed } else { Exit::Done })
}
