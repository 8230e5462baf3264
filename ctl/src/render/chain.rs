//! The critical chain as a chart: a line per service, with a bar for each stage on one scale of time.

use jiff::tz::TimeZone;

use super::quantity::{date_and_time, elapsed};
use super::style::{Paint, Style};
use super::text;
use crate::analyze::{Analysis, Course};

/// The widest name that makes its column wider.
const NAME_COLUMNS: usize = 20;
/// The width of a time, such as `5min 12s`.
const TIME_COLUMNS: usize = 9;
/// The narrowest bar that says something.
const BAR_COLUMNS: usize = 10;

/// What the head takes before the names of what is not ready, with a user's name of usual length.
const HEAD_COLUMNS: usize = 48;

/// The stages, each with its sign in a bar.
const WAITS: char = '·';
const BOOTS: char = '▒';
const CHECKS: char = '█';

/// Returns the chart.
pub(crate) fn chain(analysis: &Analysis, zone: &TimeZone, width: usize, style: Style) -> String {
    let all = || analysis.chain.iter().chain(&analysis.others);
    let end = all().filter_map(Course::last).max().unwrap_or(analysis.began);
    let names = all().map(|course| text::width(&course.name)).max().unwrap_or(0).clamp(7, NAME_COLUMNS);
    let used = 2 + names + 3 * (TIME_COLUMNS + 1) + 1;
    let chart = Chart {
        began: analysis.began,
        took: end.saturating_sub(analysis.began).max(1),
        names,
        bar: width.saturating_sub(used).max(BAR_COLUMNS),
        style,
    };
    let who = if analysis.by == "agent" { String::new() } else { format!(" by {}", text::clean(&analysis.by)) };
    let total = match analysis.ended {
        Some(ended) => format!("ready after {}", elapsed(milliseconds(ended.saturating_sub(analysis.began)))),
        None => format!("not ready: {}", text::cut(&unready(analysis), width.saturating_sub(HEAD_COLUMNS))),
    };
    let cause = style.paint(Paint::Bold, &analysis.cause);
    let mut told = format!("{cause}{who} at {}   {total}\n\n", date_and_time(analysis.began, zone));
    let head = |title: &str| text::right(title, TIME_COLUMNS);
    let heads =
        format!("  {} {} {} {}", text::left("SERVICE", names), head("WAITED"), head("BOOT"), head("HEALTH"));
    told.push_str(&style.paint(Paint::Dim, &heads));
    told.push('\n');
    for course in &analysis.chain {
        told.push_str(&chart.line(course, Paint::Busy));
    }
    if !analysis.others.is_empty() {
        told.push_str(&format_others(style));
        for course in &analysis.others {
            told.push_str(&chart.line(course, Paint::Plain));
        }
    }
    let legend = format!(
        "\n  {WAITS} waits for what it needs   {BOOTS} starts and boots   {CHECKS} until healthy or completed\n"
    );
    told.push_str(&style.paint(Paint::Dim, &legend));
    told
}

/// Returns the names of what was not ready, first that at which the chain ends.
fn unready(analysis: &Analysis) -> String {
    let all = analysis.chain.iter().rev().chain(&analysis.others);
    let names: Vec<String> =
        all.filter(|course| course.ready.is_none()).map(|course| text::clean(&course.name)).collect();
    names.join(", ")
}

fn format_others(style: Style) -> String {
    style.paint(Paint::Dim, "\n  not in the chain:") + "\n"
}

struct Chart {
    began: u64,
    took: u64,
    names: usize,
    bar: usize,
    style: Style,
}

impl Chart {
    fn line(&self, course: &Course, paint: Paint) -> String {
        let span = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) => text::right(&elapsed(milliseconds(to.saturating_sub(from))), TIME_COLUMNS),
            _ => text::right("-", TIME_COLUMNS),
        };
        let sign = match (course.ready, course.failed) {
            (None, _) => "✗",
            (Some(_), true) => "!",
            (Some(_), false) => " ",
        };
        let name = text::left(&text::cut(&text::clean(&course.name), self.names), self.names);
        let times = [
            span(Some(self.began), course.starting),
            span(course.starting, course.started),
            span(course.started.or(course.starting), course.ready),
        ];
        let bar = self.style.paint(paint, &self.bar(course));
        format!("{sign} {name} {} {}", times.join(" "), bar).trim_end().to_owned() + "\n"
    }

    /// Returns the bar up to where it came; a column belongs to the stage that was there at its middle.
    fn bar(&self, course: &Course) -> String {
        let columns = u64::try_from(self.bar).unwrap_or(1);
        let at = |column: u64| self.began + self.took * (2 * column + 1) / (2 * columns);
        let sign = |moment: u64| {
            let before = |end: Option<u64>| end.is_none_or(|end| moment < end);
            if before(course.starting) {
                WAITS
            } else if before(course.started) && before(course.ready) {
                BOOTS
            } else if before(course.ready) {
                CHECKS
            } else {
                ' '
            }
        };
        let bar: String = (0..columns).map(|column| sign(at(column))).collect();
        bar.trim_end().to_owned()
    }
}

fn milliseconds(usec: u64) -> u64 {
    usec / 1000
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::analyze::analyze;
    use crate::journal::{Entry, Event};
    use crate::testing::sample;

    fn entry(after_ms: u64, service: &str, word: &str, needs: &[(&str, &str)]) -> Entry {
        let event = Event {
            number: after_ms,
            service: service.to_owned(),
            word: word.to_owned(),
            by: "anna".to_owned(),
            cause: "up".to_owned(),
            request: 7,
            needs: needs.iter().map(|(name, on)| ((*name).to_owned(), (*on).to_owned())).collect(),
            ..Event::default()
        };
        sample::told(sample::NOW * 1_000_000 + after_ms * 1000, event)
    }

    /// As the homelab comes up.
    fn homelab() -> Vec<Entry> {
        let database = [("postgres", "healthy")];
        let both = [("postgres", "healthy"), ("miniflux-db", "completed")];
        let reader = [("miniflux", "healthy")];
        vec![
            entry(0, "hello", "starting", &[]),
            entry(0, "postgres", "starting", &[]),
            entry(0, "miniflux-db", "waiting", &database),
            entry(0, "miniflux", "waiting", &both),
            entry(0, "caddy", "waiting", &reader),
            entry(400, "hello", "started", &[]),
            entry(450, "hello", "healthy", &[]),
            entry(3700, "postgres", "started", &[]),
            entry(3750, "postgres", "healthy", &[]),
            entry(3760, "miniflux-db", "starting", &database),
            entry(5100, "miniflux-db", "started", &[]),
            entry(6200, "miniflux-db", "completed", &database),
            entry(6210, "miniflux", "starting", &both),
            entry(11_000, "miniflux", "started", &[]),
            entry(14_400, "miniflux", "healthy", &both),
            entry(14_410, "caddy", "starting", &reader),
            entry(16_300, "caddy", "started", &[]),
            entry(16_320, "caddy", "healthy", &reader),
        ]
    }

    fn told(entries: &[Entry], width: usize) -> String {
        let text = chain(&analyze(entries).unwrap(), &TimeZone::UTC, width, Style::default());
        let widest = text.lines().map(text::width).max().unwrap_or(0);
        assert!(widest <= width, "{widest}:\n{text}");
        text
    }

    #[test]
    fn the_chain_leads_from_the_last_that_was_ready_to_the_first() {
        assert_snapshot!(told(&homelab(), 80));
    }

    #[test]
    fn what_is_not_ready_ends_the_chain() {
        let mut entries = homelab();
        entries.truncate(14);
        entries.push(entry(60_000, "miniflux", "unhealthy", &[]));
        assert_snapshot!(told(&entries, 80));
    }

    #[test]
    fn only_the_newest_request_counts() {
        let mut entries = homelab();
        for (after, word) in [(90_000, "stopping"), (90_100, "starting"), (90_600, "started"), (90_700, "healthy")]
        {
            let mut later = entry(after, "hello", word, &[]);
            if let Some(event) = &mut later.event {
                (event.request, event.cause) = (99, "up".to_owned());
            }
            entries.push(later);
        }
        let analysis = analyze(&entries).unwrap();
        assert_eq!((analysis.cause.as_str(), analysis.chain.len(), analysis.others.len()), ("up", 1, 0));
        for entry in entries.iter_mut().rev().take(4) {
            if let Some(event) = &mut entry.event {
                event.cause = "restart".to_owned();
            }
        }
        assert_eq!(analyze(&entries).unwrap().chain.len(), 4, "a restart is no `up`");
        assert_eq!(analysis.ended.map(|ended| ended - analysis.began), Some(700_000));
        assert_eq!(analyze(&[]), None);
    }
}
