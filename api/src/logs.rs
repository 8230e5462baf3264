//! Lines of journals: what is asked for, and where each of them comes from.
//!
//! The lines themselves never pass through the agent: a client is handed the read end of a pipe for every source, and
//! on it comes what `journalctl --output=json` prints, an entry a line.

use serde::{Deserialize, Serialize};
use zlink::introspect::CustomType;

/// Which lines of services are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// The services, each once.
    pub services: Vec<LogsOf>,
    /// Whether new lines are waited for, until the client leaves. Of the host's journal there are then only lines of this
    /// boot.
    pub follow: bool,
    /// The newest so many of every source; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Lines until this moment, in microseconds since 1970; not together with `follow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_usec: Option<u64>,
    /// Only lines of this unit inside the guests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Only lines whose message matches this regular expression (`journalctl --grep`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
}

/// Where the lines of one service begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct LogsOf {
    /// The service.
    pub name: String,
    /// Lines from this moment on, in microseconds since 1970; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_usec: Option<u64>,
    /// Lines of the host's journal after this cursor, whatever `since_usec` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cursor: Option<String>,
    /// Lines of the guest's journal after this cursor, whatever `since_usec` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_cursor: Option<String>,
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    /// Whether new events are waited for, until the client leaves. There are then only events of this boot.
    pub follow: bool,
    /// Events from this moment on, in microseconds since 1970; absent: from the first that the journal has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_usec: Option<u64>,
    /// Events after this cursor, whatever `since_usec` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What kind of journal a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, CustomType)]
#[serde(rename_all = "snake_case")]
#[zlink(rename_all = "snake_case")]
pub enum LogKind {
    /// The host's: what units of containers print (the guest's console among it), and what systemd says of them. An
    /// entry's trusted fields tell which service it is about.
    Host,
    /// A guest's own. No field of it is to be trusted.
    Guest,
    /// The host's, narrowed to what the agent told of events.
    Agent,
}

/// A source of lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct LogSource {
    /// What it is.
    pub kind: LogKind,
    /// The services that its lines are about; exactly one for a guest's journal, none for the agent's.
    pub services: Vec<String>,
}

/// The answer to `Logs` and `Events`.
///
/// The first reply hands over a descriptor for each source, in their order, and a last one on which the readers complain
/// in text. The last reply comes when all readers have ended, and names no sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, CustomType)]
pub struct LogSources {
    /// The sources.
    pub sources: Vec<LogSource>,
    /// In the last reply: how many readers failed; with `grep`, those that found nothing count.
    pub failed: u64,
}
