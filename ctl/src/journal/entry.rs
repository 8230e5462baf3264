//! One entry of a journal, as `journalctl --output=json` prints it.
//!
//! What a guest wrote may be anything: a field twice, bytes that are no text, none at all. Whose line it is, its source
//! says, or fields of the host's journal that no client of journald can choose.

use std::fmt;

use nixmox_api::{LogKind, LogSource};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Event;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The service that it is about; empty when it is about none.
    pub(crate) service: String,
    /// In which kind of journal it was.
    pub(crate) kind: LogKind,
    /// When journald took it in, in microseconds since 1970.
    pub(crate) at_usec: u64,
    /// Its place in its journal.
    pub(crate) cursor: String,
    /// Who says it: a unit of the guest, a program, `systemd`; empty for a container's console.
    pub(crate) speaker: String,
    /// What is said; may have several lines.
    pub(crate) message: String,
    /// How bad it is, from 0 to 7 (syslog(3)); `None`: it does not say.
    pub(crate) priority: Option<u8>,
    /// The process that said it, as its journal counts.
    pub(crate) pid: Option<u32>,
    /// What the agent told; `None` in other journals.
    pub(crate) event: Option<Event>,
}

/// What is read of an entry; a field that is not there is empty.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "SCREAMING_SNAKE_CASE")]
struct Fields {
    #[serde(rename = "__CURSOR")]
    cursor: Text,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    realtime: Text,
    message: Text,
    priority: Text,
    syslog_identifier: Text,
    #[serde(rename = "_COMM")]
    comm: Text,
    #[serde(rename = "_PID")]
    pid: Text,
    #[serde(rename = "_SYSTEMD_UNIT")]
    systemd_unit: Text,
    #[serde(rename = "_TRANSPORT")]
    transport: Text,
    unit: Text,
    object_systemd_unit: Text,
}

impl Entry {
    /// Reads a line of a source; `None`: it is no entry, or of none of the source's services.
    pub(crate) fn parse(line: &[u8], source: &LogSource) -> Option<Self> {
        let fields: Fields = serde_json::from_slice(line).ok()?;
        let (service, speaker) = match source.kind {
            LogKind::Host => of_host(&fields, &source.services)?,
            LogKind::Guest => (source.services.first()?.clone(), of_guest(&fields)),
            LogKind::Agent => (String::new(), String::new()),
        };
        let event = match source.kind {
            LogKind::Agent => Some(Event::parse(line)?),
            LogKind::Host | LogKind::Guest => None,
        };
        Some(Self {
            service,
            kind: source.kind,
            at_usec: fields.realtime.0.parse().ok()?,
            cursor: fields.cursor.0,
            speaker,
            message: fields.message.0,
            priority: fields.priority.0.parse().ok().filter(|priority| *priority < 8),
            pid: fields.pid.0.parse().ok(),
            event,
        })
    }

    /// Returns how much memory it takes, apart from what every entry takes.
    pub(crate) fn bytes(&self) -> usize {
        let Self { service, cursor, speaker, message, event, .. } = self;
        let event = event.as_ref().map_or(0, Event::bytes);
        [service, cursor, speaker, message].into_iter().map(String::len).sum::<usize>().saturating_add(event)
    }

    /// Returns what stands for a line of a source that is longer than anybody wants to read.
    pub(crate) fn left_out(source: &LogSource, at_usec: u64, bytes: usize) -> Self {
        let service = source.services.first().filter(|_| source.services.len() == 1);
        Self {
            service: service.cloned().unwrap_or_default(),
            kind: source.kind,
            at_usec,
            cursor: String::new(),
            speaker: String::new(),
            message: format!("[an entry of more than {} KiB is left out]", bytes / 1024),
            priority: None,
            pid: None,
            event: None,
        }
    }
}

/// Returns whose line it is and who says it: the unit that printed it, or the one that PID 1 or journald speaks of.
fn of_host(fields: &Fields, services: &[String]) -> Option<(String, String)> {
    let named = |unit: &str| {
        let name = unit.strip_prefix("container@")?.strip_suffix(".service")?;
        services.iter().find(|service| *service == name).cloned()
    };
    match named(&fields.systemd_unit.0) {
        Some(name) => Some((name, String::new())),
        None if fields.transport.0 == "driver" => {
            named(&fields.object_systemd_unit.0).map(|name| (name, "journald".to_owned()))
        }
        None if fields.pid.0 == "1" => named(&fields.unit.0).map(|name| (name, "systemd".to_owned())),
        None => None,
    }
}

/// Returns who says a line inside a guest.
fn of_guest(fields: &Fields) -> String {
    let unit = fields.systemd_unit.0.strip_suffix(".service").unwrap_or_default();
    let program =
        || [&fields.syslog_identifier.0, &fields.comm.0].into_iter().find(|name| !name.is_empty()).cloned();
    if fields.transport.0 == "kernel" {
        "kernel".to_owned()
    } else if unit.is_empty() {
        program().unwrap_or_default()
    } else {
        unit.to_owned()
    }
}

/// A field as text: its first value, where it has several; bytes that are no UTF-8 are replaced.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field of a journal entry")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    /// Bytes as numbers, or several values, each of them text or bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        let mut bytes = Vec::new();
        let mut first = None;
        while let Some(value) = seq.next_element::<Value>()? {
            match value {
                Value::Number(byte) => bytes.extend(byte.as_u64().and_then(|byte| u8::try_from(byte).ok())),
                Value::String(text) => first = first.or(Some(text)),
                Value::Array(values) => {
                    let bytes = values.iter().filter_map(|value| u8::try_from(value.as_u64()?).ok());
                    first =
                        first.or_else(|| Some(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()));
                }
                Value::Null | Value::Bool(_) | Value::Object(_) => {}
            }
        }
        Ok(first.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: LogKind, services: &[&str]) -> LogSource {
        LogSource { kind, services: services.iter().map(|name| (*name).to_owned()).collect() }
    }

    fn parse(fields: &str, source: &LogSource) -> Option<Entry> {
        let line = format!(r#"{{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"7",{fields}}}"#);
        Entry::parse(line.as_bytes(), source)
    }

    #[test]
    fn a_message_may_be_text_or_bytes_or_several_or_nothing() {
        let guest = source(LogKind::Guest, &["web"]);
        let message = |text: &str| parse(&format!(r#""MESSAGE":{text}"#), &guest).unwrap().message;
        assert_eq!(message(r#""hello\nyou""#), "hello\nyou");
        assert_eq!(message("[104,105,255]"), "hi\u{fffd}");
        assert_eq!(message(r#"["first","second"]"#), "first");
        assert_eq!(message("[[104,105],[106]]"), "hi");
        assert_eq!(message("null"), "");
        assert_eq!(parse(r#""PRIORITY":"3""#, &guest).unwrap().message, "");
        assert_eq!(parse(r#""PRIORITY":"9""#, &guest).unwrap().priority, None);
    }

    #[test]
    fn whose_line_it_is_a_guest_does_not_say() {
        let guest = source(LogKind::Guest, &["web"]);
        let lie = r#""MESSAGE":"x","_SYSTEMD_UNIT":"container@db.service","UNIT":"container@db.service""#;
        assert_eq!(parse(lie, &guest).unwrap().service, "web");
        let host = source(LogKind::Host, &["db", "web"]);
        assert_eq!(parse(lie, &host).unwrap().service, "db");
        let of_another = r#""MESSAGE":"x","_SYSTEMD_UNIT":"container@other.service""#;
        assert_eq!(parse(of_another, &host), None);
        // Anybody may log with a field `UNIT`; only PID 1 is believed.
        let claim = r#""MESSAGE":"x","_SYSTEMD_UNIT":"evil.service","UNIT":"container@db.service","_PID":"7""#;
        assert_eq!(parse(claim, &host), None);
        let dropped = r#""MESSAGE":"x","_TRANSPORT":"driver","OBJECT_SYSTEMD_UNIT":"container@db.service""#;
        assert_eq!(parse(dropped, &host).unwrap().speaker, "journald");
        let systemd = parse(r#""MESSAGE":"x","UNIT":"container@db.service","_PID":"1""#, &host).unwrap();
        assert_eq!((systemd.service.as_str(), systemd.speaker.as_str()), ("db", "systemd"));
    }

    #[test]
    fn a_guests_unit_speaks_or_else_the_program() {
        let guest = source(LogKind::Guest, &["web"]);
        let speaker = |fields: &str| parse(fields, &guest).unwrap().speaker;
        assert_eq!(speaker(r#""_SYSTEMD_UNIT":"nginx.service","SYSLOG_IDENTIFIER":"nginx[7]""#), "nginx");
        assert_eq!(speaker(r#""_SYSTEMD_UNIT":"init.scope","SYSLOG_IDENTIFIER":"systemd""#), "systemd");
        assert_eq!(speaker(r#""_COMM":"sh""#), "sh");
        assert_eq!(speaker(r#""_TRANSPORT":"kernel","SYSLOG_IDENTIFIER":"x""#), "kernel");
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let guest = source(LogKind::Guest, &["web"]);
        for bad in ["", "{", "[]", r#"{"__CURSOR":"s=1"}"#, r#"{"__REALTIME_TIMESTAMP":"x"}"#] {
            assert_eq!(Entry::parse(bad.as_bytes(), &guest), None, "{bad}");
        }
    }
}
