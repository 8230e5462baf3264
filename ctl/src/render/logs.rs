//! Lines of journals for people and for programs: `Nov 30 14:02:35 web      | nginx: ready`.

use jiff::tz::TimeZone;
use nixmox_api::LogKind;
use serde::Serialize;

use super::quantity::date_and_time;
use super::style::{Paint, Style};
use super::text;
use crate::journal::Entry;

/// The widest name that makes the column wider.
const NAME_COLUMNS: usize = 24;
/// The colours of names: those of ECMA-48 that are neither a state's nor hard to read.
const HUES: [Paint; 4] = [Paint::Cyan, Paint::Magenta, Paint::Blue, Paint::Busy];
/// `err` and worse (syslog(3)).
const ERROR: u8 = 3;

/// How lines are laid out.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// The width of the column of names.
    columns: usize,
    zone: TimeZone,
    style: Style,
}

/// A line as programs get it.
#[derive(Serialize)]
struct Line<'a> {
    service: &'a str,
    source: LogKind,
    at_usec: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    speaker: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    message: &'a str,
}

impl Lines {
    /// Returns a layout for lines of these services.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>, zone: TimeZone, style: Style) -> Self {
        let columns = names.map(text::width).max().unwrap_or(0).min(NAME_COLUMNS);
        Self { columns, zone, style }
    }

    /// Returns an entry for people; further lines of a message stand below its first.
    pub(crate) fn line(&self, entry: &Entry) -> String {
        let time = date_and_time(entry.at_usec, &self.zone);
        let name = text::left(&entry.service, self.columns);
        let margin = format!("{} {} | ", " ".repeat(text::width(&time)), " ".repeat(text::width(&name)));
        let head =
            format!("{} {} | ", self.style.paint(Paint::Dim, &time), self.style.paint(hue(&entry.service), &name));
        let speaker = if entry.speaker.is_empty() { String::new() } else { text::clean(&entry.speaker) + ": " };
        let paint =
            if entry.priority.is_some_and(|priority| priority <= ERROR) { Paint::Bad } else { Paint::Plain };
        let mut told = String::new();
        for (number, line) in lines(&entry.message).enumerate() {
            let line = self.style.paint(paint, &text::clean(line));
            let (before, said) = if number == 0 { (&head, speaker.as_str()) } else { (&margin, "  ") };
            told.extend([before.as_str(), said, line.as_str(), "\n"]);
        }
        told
    }

    /// Returns the message alone.
    pub(crate) fn message(entry: &Entry) -> String {
        lines(&entry.message).map(|line| text::clean(line) + "\n").collect()
    }

    /// Returns an entry for programs, as a line of JSON.
    pub(crate) fn json(entry: &Entry) -> String {
        let line = Line {
            service: &entry.service,
            source: entry.kind,
            at_usec: entry.at_usec,
            speaker: &entry.speaker,
            pid: entry.pid,
            priority: entry.priority,
            message: &entry.message,
        };
        // A structure of texts and numbers can always be written.
        text::clean_json(&serde_json::to_string(&line).unwrap_or_default()) + "\n"
    }
}

/// Returns the lines of a message, at least one.
fn lines(message: &str) -> impl Iterator<Item = &str> {
    message.trim_end_matches(['\n', '\r']).split('\n')
}

/// Returns the colour of a name: always the same for the same name (FNV-1a).
fn hue(name: &str) -> Paint {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let index = usize::try_from(hash % HUES.len() as u64).unwrap_or_default();
    HUES.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(service: &str, speaker: &str, message: &str) -> Entry {
        Entry {
            service: service.to_owned(),
            kind: LogKind::Guest,
            at_usec: 1_796_049_000_000_000,
            cursor: String::new(),
            speaker: speaker.to_owned(),
            message: message.to_owned(),
            priority: None,
            pid: None,
            event: None,
        }
    }

    fn plain() -> Lines {
        Lines::new(["db", "caddy"].into_iter(), TimeZone::UTC, Style::default())
    }

    #[test]
    fn a_message_of_several_lines_stands_below_its_first() {
        let told = plain().line(&entry("db", "postgresql", "ERROR:  no\n\tdetail\u{1b}[2J\n"));
        assert_eq!(told, "Nov 30 14:30:00 db    | postgresql: ERROR:  no\n                      |    detail [2J\n");
        assert_eq!(plain().line(&entry("caddy", "", "")), "Nov 30 14:30:00 caddy | \n");
    }

    #[test]
    fn what_a_guest_says_cannot_steer_the_terminal_in_any_form() {
        let hostile = entry("db", "a\u{1b}]0;x\u{7}b", "\u{9b}2J\u{202e}x\r\u{85}y");
        for told in [plain().line(&hostile), Lines::message(&hostile), Lines::json(&hostile)] {
            let bad = told.chars().find(|c| (c.is_control() && *c != '\n') || matches!(c, '\u{202e}'));
            assert_eq!(bad, None, "{told:?}");
            assert_eq!(told.matches('\n').count(), 1, "{told:?}");
        }
        let read: serde_json::Value = serde_json::from_str(&Lines::json(&hostile)).unwrap();
        assert_eq!(read["message"], hostile.message, "programs get it as it was");
    }

    #[test]
    fn a_name_has_its_colour_and_is_read_without_one() {
        let colored = Lines::new(["db"].into_iter(), TimeZone::UTC, Style::new(true));
        let line = colored.line(&entry("db", "", "x"));
        assert_eq!(line, colored.line(&entry("db", "", "x")));
        assert!(line.contains("\u{1b}[") && line.contains("mdb\u{1b}[0m | x"), "{line:?}");
        let names = ["postgres", "caddy", "miniflux", "hello", "nextcloud", "redis"].map(hue);
        assert!(HUES.iter().filter(|hue| names.contains(hue)).count() > 2, "{names:?}");
    }
}
