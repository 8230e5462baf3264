//! Events for people and for programs: `Nov 30 14:02:35  #117 web      healthy (anna: up)`.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::quantity::date_and_time;
use super::style::{Paint, Style};
use super::text;
use crate::journal::{Entry, Event};

/// The width of numbers, and of names, before which nothing moves.
const NUMBER_COLUMNS: usize = 6;
const NAME_COLUMNS: usize = 12;

/// An event as programs get it.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    at_usec: u64,
    service: &'a str,
    event: &'a str,
    message: &'a str,
    generation: u64,
    by: &'a str,
    cause: &'a str,
    request: u64,
}

/// Returns an event on a line for people.
pub(crate) fn event_line(entry: &Entry, event: &Event, zone: &TimeZone, style: Style) -> String {
    let time = style.paint(Paint::Dim, &date_and_time(entry.at_usec, zone));
    let number = text::right(&format!("#{}", event.number), NUMBER_COLUMNS);
    let subject = if event.service.is_empty() { "-" } else { &event.service };
    let name = text::left(&text::clean(subject), NAME_COLUMNS);
    let paint = match event.word.as_str() {
        "healthy" | "completed" => Paint::Good,
        "failed" | "unhealthy" | "oom" => Paint::Bad,
        "drift" => Paint::Busy,
        _ => Paint::Plain,
    };
    let message = style.paint(paint, &text::clean(message(entry, event)));
    let cause = if event.cause.is_empty() { event.by.clone() } else { format!("{}: {}", event.by, event.cause) };
    let cause = style.paint(Paint::Dim, &format!("({})", text::clean(&cause)));
    format!("{time} {number} {name} {message} {cause}\n")
}

/// Returns an event for programs, as a line of JSON.
pub(crate) fn event_json(entry: &Entry, event: &Event) -> String {
    let line = Line {
        number: event.number,
        at_usec: entry.at_usec,
        service: &event.service,
        event: &event.word,
        message: message(entry, event),
        generation: event.generation,
        by: &event.by,
        cause: &event.cause,
        request: event.request,
    };
    // A structure of texts and numbers can always be written.
    text::clean_json(&serde_json::to_string(&line).unwrap_or_default()) + "\n"
}

/// Returns what is said, without the name that stands before it in the journal.
fn message<'a>(entry: &'a Entry, event: &Event) -> &'a str {
    let said = entry.message.strip_prefix(event.service.as_str()).and_then(|said| said.strip_prefix(": "));
    said.unwrap_or(&entry.message)
}

#[cfg(test)]
mod tests {
    use nixmox_api::LogKind;

    use super::*;

    #[test]
    fn an_event_says_who_caused_it() {
        let event = |service: &str, word: &str, by: &str, cause: &str| Event {
            number: 117,
            service: service.to_owned(),
            word: word.to_owned(),
            by: by.to_owned(),
            cause: cause.to_owned(),
            ..Event::default()
        };
        let entry = |message: &str| Entry {
            service: String::new(),
            kind: LogKind::Agent,
            at_usec: 1_796_049_000_000_000,
            cursor: String::new(),
            speaker: String::new(),
            message: message.to_owned(),
            priority: None,
            pid: None,
            event: None,
        };
        let line =
            |message: &str, event: &Event| event_line(&entry(message), event, &TimeZone::UTC, Style::default());
        assert_eq!(
            line("web: unhealthy: 503\u{1b}[2J", &event("web", "unhealthy", "agent", "health")),
            "Nov 30 14:30:00   #117 web          unhealthy: 503 [2J (agent: health)\n"
        );
        assert_eq!(
            line("generation 3", &event("", "generation", "anna", "up")),
            "Nov 30 14:30:00   #117 -            generation 3 (anna: up)\n"
        );
        let json = event_json(&entry("web: healthy"), &event("web", "healthy", "agent", ""));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&read["number"], &read["message"]), (&117.into(), &"healthy".into()));
    }
}
