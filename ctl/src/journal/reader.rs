//! Reads lines in one order, and knows where to go on when it is begun anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nixmox_api::{LogKind, LogsOf, LogsRequest};
use tokio::time::{Instant, sleep_until};

use super::Entry;
use super::merge::Merge;
use super::session::{News, Session};
use crate::client::{ClientError, LinesOf};

/// How long a line waits for an earlier one of another source. journald and `journalctl` take a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(150);
/// How long readers that are not wanted any more are given to end; they are killed at once.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// A reader.
#[derive(Debug)]
pub(crate) struct Reader {
    request: LogsRequest,
    session: Session,
    merge: Merge<Entry>,
    /// The sources that have said something.
    spoke: Vec<bool>,
    /// Until when the end is waited for; `None`: it is not wanted yet.
    leaves: Option<Instant>,
    lost: Option<ClientError>,
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
    /// Why the agent did not come to end the call itself; `None`: it did, or the call was left.
    pub(crate) lost: Option<ClientError>,
    /// What goes on after the last line of each source.
    pub(crate) rest: LogsRequest,
}

impl Reader {
    /// Begins to read.
    pub(crate) async fn begin(socket: &Path, request: LogsRequest) -> Result<Self, ClientError> {
        let session = Session::begin(socket, LinesOf::Services { request: request.clone() }).await?;
        let patience = request.follow.then_some(PATIENCE);
        let (merge, spoke) = (Merge::new(session.len(), patience), vec![false; session.len()]);
        Ok(Self { request, session, merge, spoke, leaves: None, lost: None, over: false })
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
                        self.merge.push(source, entry.at_usec, arrived, entry);
                    }
                }
                Some(News::Ended(source)) => {
                    self.merge.end(source);
                    if self.spoke.get(source).copied().unwrap_or_default() && !self.leaves() {
                        return Step::SourceEnded;
                    }
                }
                Some(News::Over(ended)) => self.lost = ended.err(),
                Some(News::Exhausted) => self.over = true,
            }
        }
    }

    async fn end(&mut self) -> End {
        let complaints = tokio::time::timeout(LEAVE_LIMIT, self.session.complaints()).await.unwrap_or_default();
        End { complaints, lost: self.lost.take(), rest: self.rest() }
    }

    /// Returns the request that goes on after the last line of each source.
    fn rest(&self) -> LogsRequest {
        let services = self.request.services.iter().cloned();
        let mut services: BTreeMap<String, LogsOf> = services.map(|of| (of.name.clone(), of)).collect();
        for (source, cursor) in self.session.cursors().filter(|(_, cursor)| !cursor.is_empty()) {
            for name in &source.services {
                let Some(of) = services.get_mut(name) else { continue };
                match source.kind {
                    LogKind::Host => of.host_cursor = Some(cursor.to_owned()),
                    LogKind::Guest => of.guest_cursor = Some(cursor.to_owned()),
                    LogKind::Agent => {}
                }
            }
        }
        LogsRequest { services: services.into_values().collect(), ..self.request.clone() }
    }
}
