//! The one form of every complaint: what happened, then rows that say why and what to do.
//!
//! ```text
//! error: nextcloud did not become healthy within 5min
//!   gate  http://localhost/status.php -> 503 (61 tries)
//!   try   nixmoxctl why nextcloud
//! ```

use super::style::{Paint, Style};
use super::text;

/// A complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// What happened, in one sentence without a full stop.
    what: String,
    /// Key and text, in reading order; an empty key goes on with the row before.
    rows: Vec<(&'static str, String)>,
}

/// The least width of a key and the blanks behind it: keys have four letters where they can.
const KEY: usize = 6;

impl Report {
    /// Returns a complaint without rows.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), rows: Vec::new() }
    }

    /// Adds a row; an empty text adds nothing.
    pub(crate) fn row(mut self, key: &'static str, text: impl AsRef<str>) -> Self {
        let text = text::clean(text.as_ref());
        if !text.is_empty() {
            self.rows.push((key, text));
        }
        self
    }

    /// Adds several lines under one key; none adds nothing.
    pub(crate) fn rows<T: AsRef<str>>(self, key: &'static str, texts: impl IntoIterator<Item = T>) -> Self {
        // Before the key is given away: a blank line would take it along.
        let texts = texts.into_iter().map(|text| text::clean(text.as_ref())).filter(|text| !text.is_empty());
        let keys = std::iter::once(key).chain(std::iter::repeat(""));
        texts.zip(keys).fold(self, |report, (text, key)| report.row(key, text))
    }

    /// Adds the causes of an error, each as a row.
    pub(crate) fn causes(self, error: &dyn std::error::Error) -> Self {
        let mut causes: Vec<String> = Vec::new();
        for cause in std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string) {
            // Errors of some libraries repeat their cause in their own text.
            if !causes.last().is_some_and(|last| last.contains(&cause)) {
                causes.push(cause);
            }
        }
        self.rows("why", causes)
    }

    /// Returns the text; lines end with a newline and are wrapped at `width`.
    pub(crate) fn text(&self, width: Option<usize>, style: Style) -> String {
        let head = format!("{} {}\n", style.paint(Paint::Bad, "error:"), text::clean(&self.what));
        head + &self.rows_text(width, style)
    }

    /// Returns the text of the rows alone.
    pub(crate) fn rows_text(&self, width: Option<usize>, style: Style) -> String {
        let longest = self.rows.iter().map(|(key, _)| text::width(key) + 2).max();
        let key_width = longest.unwrap_or(KEY).max(KEY);
        let mut out = String::new();
        for (key, row) in &self.rows {
            let room = width.map(|width| width.saturating_sub(key_width + 2));
            for (index, line) in text::wrap(row, room).into_iter().enumerate() {
                let key = text::left(if index == 0 { key } else { "" }, key_width);
                let line = format!("  {}{line}\n", style.paint(Paint::Dim, &key));
                out.push_str(&line);
            }
        }
        out
    }
}
