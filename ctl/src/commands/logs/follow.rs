//! `logs -f`: reads, and begins anew when what is read may be another journal, or the agent went away.
//!
//! ```text
//!          ┌────────── a container started or came, a source ended ──────────┐
//!          ▼                                                                 │
//! begin ─▶ read, after the last line of each source ─▶ leave, take what is still in the pipes
//!          ▲                                                │
//!          └──────────────── the agent is away ─────────────┘
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nixmox_api::{LogsOf, LogsRequest, ServiceState, Status};
use tokio::time::{Instant, sleep_until};

use super::{Shown, finish, print};
use crate::client::{LinesOf, Message, Mirror, Watch};
use crate::context::Context;
use crate::error::{CtlError, Exit};
use crate::journal::{End, Reader, Step};
use crate::render::Lines;

/// Shortest time between two beginnings: a stack that comes up changes often.
const PAUSE: Duration = Duration::from_secs(1);

/// What decides which journals there are: the services, the instance of each, and whether that has come up.
type Sight = BTreeMap<String, (Option<String>, bool)>;

/// Lines that are followed.
pub(super) struct Follower<'a> {
    shown: Shown<'a>,
    socket: PathBuf,
    watch: Watch,
    mirror: Mirror,
    /// As of when the mirror is, in microseconds since 1970: what it lacks has come later.
    seen_usec: u64,
}

impl<'a> Follower<'a> {
    /// Begins to watch what services there are.
    pub(super) async fn new(shown: Shown<'a>, socket: PathBuf) -> Result<Self, CtlError> {
        let watch = Watch::begin(socket.clone()).await?;
        let mut follower = Self { shown, socket, watch, mirror: Mirror::default(), seen_usec: 0 };
        while follower.mirror.number().is_none() {
            let message = follower.watch.next().await?;
            follower.take(&message);
        }
        Ok(follower)
    }

    fn take(&mut self, message: &Message) {
        if let Message::Update(update) = message {
            self.mirror.take(update);
            self.seen_usec = update.at_usec;
        }
    }

    /// Returns the services as they are.
    pub(super) fn status(&self) -> &Status {
        self.mirror.status()
    }

    /// Shows lines until Ctrl-C, or until the readers complain.
    pub(super) async fn run(
        mut self,
        mut request: LogsRequest,
        mut lines: Lines,
        context: &mut Context,
    ) -> Result<Exit, CtlError> {
        request.follow = true;
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            let absent_usec = self.seen_usec;
            // Both arms are cancel-safe: a reader that is not taken ends.
            let end = tokio::select! {
                _ = &mut interrupt => return Ok(Exit::Done),
                end = self.read(&request, &lines, context) => end?,
            };
            match end.lost {
                Some(lost) if !lost.may_pass() => return Err(lost.into()),
                Some(_) => context.output.note("the agent is away; waiting for it\n")?,
                None if end.failed => return finish(end, context),
                None => {}
            }
            let LinesOf::Services { request: rest } = end.rest else { return Ok(Exit::Done) };
            request = rest;
            request.services = self.go_on(request.services, absent_usec);
            lines = Shown::lines(request.services.iter().map(|of| of.name.as_str()), context);
        }
    }

    /// Reads until it should begin anew. When it is given up, what was not printed is lost.
    async fn read(&mut self, request: &LogsRequest, lines: &Lines, context: &mut Context) -> Result<End, CtlError> {
        let begun = Instant::now();
        let mut sight = self.sight();
        let mut reader =
            Reader::begin_patiently(&self.socket, &LinesOf::Services { request: request.clone() }).await?;
        let mut again: Option<Instant> = None;
        let end = loop {
            // Every arm is cancel-safe, and only the chosen one's value is used.
            let step = tokio::select! {
                step = reader.next() => step,
                message = self.watch.next() => {
                    self.take(&message?);
                    let now = self.sight();
                    if now != sight {
                        sight = now;
                        again = again.or(Some((begun + PAUSE).max(Instant::now())));
                    }
                    continue;
                }
                () = sleep_until(again.unwrap_or(begun)), if again.is_some() && !reader.leaves() => {
                    reader.leave();
                    continue;
                }
            };
            match step {
                Step::Entries(entries) => print(&entries, lines, self.shown.form, &mut context.output)?,
                // Its files may have been removed under it.
                Step::SourceEnded => again = again.or(Some(Instant::now() + PAUSE)),
                Step::End(end) => break end,
            }
        };
        // Readers that ended by themselves had nothing to read, and an agent that accepts and hangs up is not hurried.
        sleep_until(begun + PAUSE).await;
        Ok(end)
    }

    /// Returns what decides which journals there are.
    fn sight(&self) -> Sight {
        let services = self.mirror.status().services.iter();
        let meant = services.filter(|service| self.shown.means(service));
        meant
            .map(|service| {
                let is_up = matches!(service.state, ServiceState::Healthy | ServiceState::Unhealthy);
                (service.name.clone(), (service.invocation.clone(), is_up))
            })
            .collect()
    }

    /// Returns the services that are there now, each with where it goes on; a new one begins when it was not there yet.
    fn go_on(&self, read: Vec<LogsOf>, absent_usec: u64) -> Vec<LogsOf> {
        let since_usec = self.shown.since.max(Some(absent_usec));
        let mut read: BTreeMap<String, LogsOf> = read.into_iter().map(|of| (of.name.clone(), of)).collect();
        let new = |name: String| LogsOf { name, since_usec, ..LogsOf::default() };
        self.sight().into_keys().map(|name| read.remove(&name).unwrap_or_else(|| new(name))).collect()
    }
}
