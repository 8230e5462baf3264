//! Reads lines in one order, and knows where to go on when it is begun anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nixmox_api::{EventsRequest, LogKind, LogSource, LogsOf, LogsRequest};
use tokio::time::{Instant, sleep, sleep_until};

use super::Entry;
use super::merge::Merge;
use super::session::{News, Session};
use crate::client::{ClientError, LinesOf};

/// How long a line waits for an earlier one of another source. journald and `journalctl` take a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long readers that are not wanted any more are given to end; they are killed at once.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
/// The wait between attempts to reach an agent that is away.
const RETRY: Duration = Duration::from_millis(200);
/// How long it is waited for.
const AWAY_LIMIT: Duration = Duration::from_secs(30);

/// A reader.
#[derive(Debug)]
pub(crate) struct Reader {
    asked: LinesOf,
    session: Session,
    merge: Merge<Entry>,
    /// The sources that have said something.
    spoke: Vec<bool>,
    /// Until when the end is waited for; `None`: it is not wanted yet.
    leaves: Option<Instant>,
    lost: Option<ClientError>,
    failed: bool,
    over: bool,
}

/// What a reader brings.
#[derive(Debug)]
pub(crate) enum Step {
    /// These come next.
    Entries(Vec<Entry>),
    /// A source that had something to say has ended: it may have more when it is read anew.
    SourceEnded,
    /// Nothing more comes.
    End(End),
}

/// How reading ended.
#[derive(Debug)]
pub(crate) struct End {
    /// What the readers complained of, in lines.
    pub(crate) complaints: Vec<String>,
    /// Whether a reader failed; another may complain of a file that it left out.
    pub(crate) failed: bool,
    /// Why the agent did not come to end the call itself; `None`: it did, or the call was left.
    pub(crate) lost: Option<ClientError>,
    /// What goes on after the last line of each source.
    pub(crate) rest: LinesOf,
}

impl Reader {
    /// Begins to read, and waits for an agent that is away.
    pub(crate) async fn begin_patiently(socket: &Path, asked: &LinesOf) -> Result<Self, ClientError> {
        let since = Instant::now();
        loop {
            match Self::begin(socket, asked.clone()).await {
                Err(error) if error.may_pass() && since.elapsed() < AWAY_LIMIT => sleep(RETRY).await,
                begun => return begun,
            }
        }
    }

    /// Begins to read.
    pub(crate) async fn begin(socket: &Path, asked: LinesOf) -> Result<Self, ClientError> {
        let session = Session::begin(socket, asked.clone()).await?;
        let follow = match &asked {
            LinesOf::Services { request } => request.follow,
            LinesOf::Events { request } => request.follow,
        };
        let patience = follow.then_some(PATIENCE);
        let (merge, spoke) = (Merge::new(session.len(), patience), vec![false; session.len()]);
        Ok(Self { asked, session, merge, spoke, leaves: None, lost: None, failed: false, over: false })
    }

    /// Lets reading end; what was written for this reader already still comes.
    pub(crate) fn leave(&mut self) {
        self.leaves.get_or_insert_with(|| Instant::now() + LEAVE_LIMIT);
        self.session.leave();
    }

    /// Returns whether the end is near.
    pub(crate) fn leaves(&self) -> bool {
        self.leaves.is_some()
    }

    /// Waits for what comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Step {
        loop {
            let now = Instant::now();
            let entries: Vec<Entry> = std::iter::from_fn(|| self.merge.pop(now)).collect();
            if !entries.is_empty() {
                return Step::Entries(entries);
            }
            if self.over {
                return Step::End(self.end().await);
            }
            let due = self.merge.due().into_iter().chain(self.leaves).min();
            let merge = &self.merge;
            // Both arms are cancel-safe, and only the chosen one's value is used.
            let news = tokio::select! {
                news = self.session.next(|source| merge.has_room(source)) => Some(news),
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => None,
            };
            match news {
                None if self.leaves.is_some_and(|end| end <= Instant::now()) => self.over = true,
                None => {}
                Some(News::Entries(source, entries)) => {
                    if let Some(spoke) = self.spoke.get_mut(source) {
                        *spoke |= !entries.is_empty();
                    }
                    let arrived = Instant::now();
                    for entry in entries {
                        self.merge.push(source, entry.at_usec, arrived, entry.bytes(), entry);
                    }
                }
                Some(News::Ended(source)) => {
                    self.merge.end(source);
                    if self.spoke.get(source).copied().unwrap_or_default() && !self.leaves() {
                        return Step::SourceEnded;
                    }
                }
                Some(News::Over(Ok(failed))) => self.failed = failed > 0,
                Some(News::Over(Err(lost))) => self.lost = Some(lost),
                Some(News::Exhausted) => self.over = true,
            }
        }
    }

    async fn end(&mut self) -> End {
        let complaints = tokio::time::timeout(LEAVE_LIMIT, self.session.complaints()).await.unwrap_or_default();
        // One that found nothing says nothing.
        let failed = self.failed && !complaints.is_empty();
        End { complaints, failed, lost: self.lost.take(), rest: self.rest() }
    }

    /// Returns the request that goes on after the last line of each source.
    fn rest(&self) -> LinesOf {
        let cursors = self.session.cursors().filter(|(_, cursor)| !cursor.is_empty());
        match self.asked.clone() {
            LinesOf::Services { request } => LinesOf::Services { request: after(request, cursors) },
            LinesOf::Events { request } => {
                let last = cursors.map(|(_, cursor)| cursor.to_owned()).next();
                LinesOf::Events { request: EventsRequest { cursor: last.or(request.cursor.clone()), ..request } }
            }
        }
    }
}

fn after<'a>(request: LogsRequest, cursors: impl Iterator<Item = (&'a LogSource, &'a str)>) -> LogsRequest {
    let mut services: BTreeMap<String, LogsOf> =
        request.services.into_iter().map(|of| (of.name.clone(), of)).collect();
    for (source, cursor) in cursors {
        for name in &source.services {
            let Some(of) = services.get_mut(name) else { continue };
            match source.kind {
                LogKind::Host => of.host_cursor = Some(cursor.to_owned()),
                LogKind::Guest => of.guest_cursor = Some(cursor.to_owned()),
                LogKind::Agent => {}
            }
        }
    }
    LogsRequest { services: services.into_values().collect(), ..request }
}
