//! The two text formats: Prometheus' own (0.0.4) and OpenMetrics 1.0, which differ in a few lines.
//!
//! In OpenMetrics a counter's family goes without the `_total` that its sample has, a unit has a line of its own, and the
//! page ends with `# EOF`, so that a page that was cut off is noticed. Bounds of histograms are written alike in both, as
//! OpenMetrics wants them (`1.0`, not `1`): what is scraped in one format is then the same series in the other.

use std::fmt::Write as _;

use super::histogram::Histogram;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Prometheus' text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows, until whoever counts begins anew; its samples end in `_total`.
    Counter,
    /// Counts by bounds.
    Histogram,
}

/// Samples of one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its name; of a counter without `_total`.
    pub(super) name: &'static str,
    /// Its kind.
    pub(super) kind: Kind,
    /// One sentence, without line breaks and backslashes.
    pub(super) help: &'static str,
}

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// A count, or bytes.
    Whole(u64),
    /// A time in microseconds, written in seconds.
    Usec(u64),
    /// A number in thousandths, written as a whole with digits after the point.
    Milli(u64),
}

/// The page as far as it is written.
#[derive(Debug)]
pub(super) struct Text {
    form: Form,
    out: String,
}

impl Form {
    /// Returns what `Content-Type` says.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Kind {
    /// Returns its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

impl Family {
    /// Returns what its samples are called; those of a histogram begin with it.
    pub(super) fn sample_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }

    /// Returns its unit, which a name ends with; `None`: a count, or a name that others chose without.
    pub(super) fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes", "celsius", "watts", "ratio"].into_iter().find(|unit| self.name.ends_with(unit))
    }
}

impl Text {
    pub(super) fn new(form: Form) -> Self {
        Self { form, out: String::new() }
    }

    /// Begins a family: its samples follow.
    pub(super) fn family(&mut self, family: &Family) {
        let name = match self.form {
            Form::Prometheus => family.sample_name(),
            Form::OpenMetrics => family.name.to_owned(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind.word());
        if let (Form::OpenMetrics, Some(unit)) = (self.form, family.unit()) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
    }

    /// Writes a sample of a gauge or a counter.
    pub(super) fn sample(&mut self, family: &Family, labels: &[(&str, &str)], value: Value) {
        let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
        self.line(family.name, suffix, labels, value);
    }

    /// Writes the samples of a histogram.
    pub(super) fn histogram(&mut self, family: &Family, labels: &[(&str, &str)], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), seconds);
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line(family.name, "_bucket", &with_bound, Value::Whole(count));
        }
        self.line(family.name, "_sum", labels, Value::Usec(histogram.sum_usec()));
        self.line(family.name, "_count", labels, Value::Whole(histogram.count()));
    }

    /// Returns the whole page.
    pub(super) fn end(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: Value) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        for (at, (label, of)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            for character in of.chars() {
                match character {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    plain => self.out.push(plain),
                }
            }
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        // Writing to a string does not fail.
        let _ = match value {
            Value::Whole(number) => writeln!(self.out, " {number}"),
            Value::Usec(usec) => writeln!(self.out, " {}", seconds(usec)),
            Value::Milli(thousandths) => {
                writeln!(self.out, " {}", parts(thousandths / 1000, thousandths % 1000 * 1000))
            }
        };
    }
}

/// Returns microseconds as seconds, with one digit after the point at least.
fn seconds(usec: u64) -> String {
    parts(usec / 1_000_000, usec % 1_000_000)
}

/// Returns a whole and its millionths with one digit after the point at least.
fn parts(whole: u64, millionths: u64) -> String {
    let text = format!("{whole}.{millionths:06}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        let written = [0, 1, 500, 1_000_000, 1_500_000, 60_000_000, u64::MAX].map(seconds);
        assert_eq!(written, ["0.0", "0.000001", "0.0005", "1.0", "1.5", "60.0", "18446744073709.551615"]);
    }

    #[test]
    fn thousandths_are_exact() {
        let mut text = Text::new(Form::Prometheus);
        let family = Family { name: "a", kind: Kind::Gauge, help: "" };
        for value in [0, 10, 870, 118_500] {
            text.sample(&family, &[], Value::Milli(value));
        }
        assert_eq!(text.end(), "a 0.0\na 0.01\na 0.87\na 118.5\n");
    }

    #[test]
    fn what_a_label_says_cannot_end_it() {
        let mut text = Text::new(Form::Prometheus);
        let family = Family { name: "a", kind: Kind::Gauge, help: "" };
        text.sample(&family, &[("x", "1\"} 2\n\\")], Value::Whole(3));
        assert_eq!(text.end(), "a{x=\"1\\\"} 2\\n\\\\\"} 3\n");
    }
}
