//! One call for lines: its sources, each on a pipe, and what the readers complain of.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nixmox_api::{LogKind, LogSource};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::Receiver;

use super::Entry;
use crate::client::{Attending, ClientError, LinesOf};

/// How much is read from a pipe at once: as much as a pipe holds (pipe(7)).
const CHUNK: usize = 64 << 10;
/// Longest line that is read; a longer one is left out. A message of 64 KiB takes four times that where it is no text.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How much of what readers complain is kept.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;

/// A call under way.
#[derive(Debug)]
pub(super) struct Session {
    /// `None` once the call has ended.
    attending: Option<Attending>,
    sources: Vec<Source>,
    complaints: Complaints,
}

/// What the readers complain of. All share one pipe, and who finds it full waits: so it is read while they are.
#[derive(Debug)]
struct Complaints {
    pipe: Pipe,
    lines: Vec<String>,
    bytes: usize,
    ended: bool,
}

/// A source, and what was read of it.
#[derive(Debug)]
struct Source {
    what: LogSource,
    pipe: Pipe,
    /// The entry after which it goes on. journalctl leaves it out, unless the journal's file has changed meanwhile: it then begins
    /// with it (`sd_journal_seek_cursor(3)`, "or the next closest").
    after: Option<String>,
    /// The cursor of the last entry; empty before the first.
    cursor: String,
    /// The moment of the last entry, in microseconds since 1970.
    at_usec: u64,
    ended: bool,
}

/// A pipe that is read by lines.
#[derive(Debug)]
struct Pipe {
    receiver: Receiver,
    /// Where is read to.
    chunk: Vec<u8>,
    /// What was read and has no end yet.
    rest: Vec<u8>,
    /// What was left out of the line that is being read, as it is too long.
    skipped: usize,
}

/// What a session brings.
#[derive(Debug)]
pub(super) enum News {
    /// A source says this.
    Entries(usize, Vec<Entry>),
    /// A source has ended.
    Ended(usize),
    /// The call has ended, with how many readers failed; what is left in the pipes is still to come.
    Over(Result<u64, ClientError>),
    /// All sources have ended.
    Exhausted,
}

impl Session {
    /// Begins a call.
    pub(super) async fn begin(socket: &Path, lines: LinesOf) -> Result<Self, ClientError> {
        let foreign = || ClientError::Foreign { source: zlink::Error::MissingParameters };
        let asked = lines.clone();
        let (attending, sources, mut descriptors) = Attending::begin(socket, lines).await?;
        let complaints = descriptors.pop().ok_or_else(foreign)?;
        if descriptors.len() != sources.sources.len() {
            return Err(foreign());
        }
        let pipe = |descriptor: OwnedFd| Pipe::new(descriptor).map_err(|_| foreign());
        let source = |(what, descriptor)| {
            let after = last_of(&asked, &what);
            Ok(Source { what, pipe: pipe(descriptor)?, after, cursor: String::new(), at_usec: 0, ended: false })
        };
        let sources = sources.sources.into_iter().zip(descriptors).map(source).collect::<Result<_, _>>()?;
        Ok(Self { attending: Some(attending), sources, complaints: Complaints::new(pipe(complaints)?) })
    }

    /// Returns how many sources there are.
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Ends the call. What its readers have written already is still to come, and then the end of each source.
    pub(super) fn leave(&mut self) {
        self.attending = None;
    }

    /// Returns the sources with the cursor of the last entry of each; that is empty before the first.
    pub(super) fn cursors(&self) -> impl Iterator<Item = (&LogSource, &str)> {
        self.sources.iter().map(|source| (&source.what, source.cursor.as_str()))
    }

    /// Waits for news, of sources that are wanted. Cancel-safe.
    pub(super) async fn next(&mut self, wanted: impl Fn(usize) -> bool) -> News {
        if self.sources.iter().all(|source| source.ended) && self.attending.is_none() {
            return News::Exhausted;
        }
        let Self { attending, sources, complaints } = self;
        let over = async {
            match attending {
                Some(attending) => attending.ended().await,
                None => std::future::pending().await,
            }
        };
        let lines = poll_fn(|context| {
            // Its end is waited for elsewhere.
            let _ended = complaints.poll(context);
            for (index, source) in sources.iter_mut().enumerate() {
                if !source.ended
                    && wanted(index)
                    && let Poll::Ready(entries) = source.poll(context)
                {
                    return Poll::Ready((index, entries));
                }
            }
            Poll::Pending
        });
        // Both arms are cancel-safe, and only the chosen one's value is used.
        let news = tokio::select! {
            (index, entries) = lines => match entries {
                Some(entries) => News::Entries(index, entries),
                None => News::Ended(index),
            },
            over = over => News::Over(over),
        };
        if let News::Over(_) = news {
            self.attending = None;
        }
        news
    }

    /// Returns what the readers complained of, in lines; to be asked when all sources have ended: it waits for the last of them.
    pub(super) async fn complaints(&mut self) -> Vec<String> {
        poll_fn(|context| self.complaints.poll(context)).await;
        std::mem::take(&mut self.complaints.lines)
    }
}

impl Complaints {
    fn new(pipe: Pipe) -> Self {
        Self { pipe, lines: Vec::new(), bytes: 0, ended: false }
    }

    /// Takes what there is, and keeps the beginning; ready when there can be no more.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.ended {
            let Ok(Some(lines)) = ready!(self.pipe.poll(context)) else {
                self.ended = true;
                break;
            };
            for line in lines {
                if self.bytes < COMPLAINT_BYTES_MAX {
                    let line = String::from_utf8_lossy(&line.unwrap_or_default()).into_owned();
                    self.bytes = self.bytes.saturating_add(line.len());
                    self.lines.push(line);
                }
            }
        }
        Poll::Ready(())
    }
}

impl Source {
    /// Reads what there is; `None`: the end.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<Entry>>> {
        // A pipe that cannot be read has ended.
        let Some(lines) = ready!(self.pipe.poll(context)).unwrap_or_default() else {
            self.ended = true;
            return Poll::Ready(None);
        };
        let mut entries = Vec::with_capacity(lines.len());
        for line in lines {
            let entry = match line {
                Ok(line) => Entry::parse(&line, &self.what),
                Err(TooLong) => Some(Entry::left_out(&self.what, self.at_usec, LINE_BYTES_MAX)),
            };
            let Some(entry) = entry else { continue };
            // One that follows may tell its last entry again where the journal begins a new file meanwhile. An entry that journald
            // itself has stored twice there, under two numbers, is told twice: nothing tells it from a line that was written twice.
            let is_told = self.after.as_ref() == Some(&entry.cursor)
                || (!entry.cursor.is_empty() && self.cursor == entry.cursor);
            if is_told {
                continue;
            }
            self.at_usec = entry.at_usec;
            if !entry.cursor.is_empty() {
                self.cursor.clone_from(&entry.cursor);
            }
            entries.push(entry);
        }
        Poll::Ready(Some(entries))
    }
}

/// Returns the cursor of the entry after which a source goes on.
fn last_of(asked: &LinesOf, source: &LogSource) -> Option<String> {
    match asked {
        LinesOf::Events { request } => request.cursor.clone(),
        LinesOf::Services { request } => {
            let of = request.services.iter().find(|of| source.services.contains(&of.name))?;
            match source.kind {
                LogKind::Host => of.host_cursor.clone(),
                LogKind::Guest => of.guest_cursor.clone(),
                LogKind::Agent => None,
            }
        }
    }
}

/// A line that is too long to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TooLong;

/// A line, without its end.
type Line = Result<Vec<u8>, TooLong>;

impl Pipe {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let receiver = Receiver::from_owned_fd(descriptor)?;
        Ok(Self { receiver, chunk: vec![0; CHUNK], rest: Vec::new(), skipped: 0 })
    }

    /// Reads what there is: the lines that have an end by now, perhaps none. `None`: nothing more comes.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Vec<Line>>>> {
        let mut buffer = ReadBuf::new(&mut self.chunk);
        ready!(Pin::new(&mut self.receiver).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            // A line without an end is one that its reader did not come to write.
            return Poll::Ready(Ok(None));
        }
        let mut lines = Vec::new();
        for part in buffer.filled().split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if self.skipped > 0 || self.rest.len() + text.len() > LINE_BYTES_MAX {
                self.skipped += std::mem::take(&mut self.rest).len() + text.len();
            } else {
                self.rest.extend_from_slice(text);
            }
            if ends {
                let line = std::mem::take(&mut self.rest);
                lines.push(if std::mem::take(&mut self.skipped) > 0 { Err(TooLong) } else { Ok(line) });
            }
        }
        Poll::Ready(Ok(Some(lines)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn lines_are_whole_whatever_pieces_they_come_in() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader.into()).unwrap();
        let mut next = async || poll_fn(|context| pipe.poll(context)).await.unwrap();
        writer.write_all(b"one\ntw").unwrap();
        assert_eq!(next().await, Some(vec![Ok(b"one".to_vec())]));
        writer.write_all(b"o\n\nthr").unwrap();
        assert_eq!(next().await, Some(vec![Ok(b"two".to_vec()), Ok(Vec::new())]));
        drop(writer);
        assert_eq!(next().await, None, "a line without an end is none");
    }

    #[tokio::test]
    async fn no_entry_is_told_twice() {
        let (reader, mut writer) = io::pipe().unwrap();
        for (cursor, message) in [("c1", "old"), ("c2", "new"), ("c2", "new"), ("c3", "newer")] {
            let line = serde_json::json!({
                "__CURSOR": cursor, "__REALTIME_TIMESTAMP": "1", "MESSAGE": message,
                "UNIT": "container@web.service", "_SYSTEMD_UNIT": "container@web.service"
            });
            writeln!(writer, "{line}").unwrap();
        }
        let what = LogSource { kind: LogKind::Host, services: vec!["web".to_owned()] };
        let of =
            nixmox_api::LogsOf { name: "web".to_owned(), host_cursor: Some("c1".to_owned()), ..Default::default() };
        let asked =
            LinesOf::Services { request: nixmox_api::LogsRequest { services: vec![of], ..Default::default() } };
        let pipe = Pipe::new(reader.into()).unwrap();
        let after = last_of(&asked, &what);
        let mut source = Source { what, pipe, after, cursor: String::new(), at_usec: 0, ended: false };
        let entries = poll_fn(|context| source.poll(context)).await.unwrap();
        let told: Vec<&str> = entries.iter().map(|entry| entry.message.as_str()).collect();
        assert_eq!(told, ["new", "newer"]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_left_out_and_the_next_is_read() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut pipe = Pipe::new(reader.into()).unwrap();
        let written = std::thread::spawn(move || {
            writer.write_all(&vec![b'x'; LINE_BYTES_MAX + 1]).unwrap();
            writer.write_all(b"\nnext\n").unwrap();
        });
        let mut lines = Vec::new();
        while let Some(more) = poll_fn(|context| pipe.poll(context)).await.unwrap() {
            lines.extend(more);
        }
        written.join().unwrap();
        assert_eq!(lines, [Err(TooLong), Ok(b"next".to_vec())]);
    }

    #[tokio::test]
    async fn complaints_never_keep_a_reader_waiting_and_the_first_are_kept() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut complaints = Complaints::new(Pipe::new(reader.into()).unwrap());
        // Far more than a pipe holds.
        let written = std::thread::spawn(move || {
            for number in 0..50_000 {
                writeln!(writer, "complaint {number}").unwrap();
            }
        });
        poll_fn(|context| complaints.poll(context)).await;
        written.join().unwrap();
        assert_eq!(complaints.lines.first().map(String::as_str), Some("complaint 0"));
        let bytes: usize = complaints.lines.iter().map(String::len).sum();
        assert!((COMPLAINT_BYTES_MAX..COMPLAINT_BYTES_MAX + 100).contains(&bytes), "{bytes}");
    }
}
