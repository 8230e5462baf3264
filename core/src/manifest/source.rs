//! A manifest file as the caller read it, and where an offset in it stands.

use std::ops::Range;
use std::path::PathBuf;

/// A range of bytes in a file's text, on character boundaries.
pub type Span = Range<usize>;

/// A manifest file: its name, the folder its paths are relative to, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    name: String,
    folder: PathBuf,
    text: String,
    /// The offset of the first byte of each line; never empty.
    lines: Vec<usize>,
}

impl SourceFile {
    /// Takes a file as it was read.
    ///
    /// `name` is what messages call it; `folder` is the absolute path of the folder that holds it.
    #[must_use]
    pub fn new(name: impl Into<String>, folder: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.into(), folder: folder.into(), text, lines }
    }

    /// Returns what messages call the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the folder that its paths are relative to.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line of a byte, counted from 1; that of the last line for an offset behind the end.
    #[must_use]
    pub fn line(&self, offset: usize) -> u32 {
        let before = self.lines.partition_point(|start| *start <= offset);
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Returns the column of a byte in its line, in characters, counted from 1.
    #[must_use]
    pub fn column(&self, offset: usize) -> u32 {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        u32::try_from(before).map_or(u32::MAX, |before| before.saturating_add(1))
    }

    /// Returns the text of a line counted from 1, without its end; `None` behind the last one.
    #[must_use]
    pub fn line_text(&self, line: u32) -> Option<&str> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        let rest = self.text.get(*self.lines.get(index)?..)?;
        Some(rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r'))
    }

    /// Returns where a part of a string value stands, or the whole value if that cannot be told.
    pub(super) fn inside(&self, value: &Span, text: &str, part: Span) -> Span {
        // A string without escapes stands in the file as it is, behind one quote.
        let start = value.start.saturating_add(1);
        let verbatim = self.text.get(start..start.saturating_add(text.len())) == Some(text);
        if verbatim && part.end <= text.len() { start + part.start..start + part.end } else { value.clone() }
    }

    /// Returns `span` cut to the text and widened to character boundaries.
    pub(super) fn clip(&self, span: Span) -> Span {
        let mut start = span.start.min(self.text.len());
        let mut end = span.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_stands_at_a_line_and_a_column_of_characters() {
        let file = SourceFile::new("a.toml", "/", "a = 1\r\nb = \"ä\" # x\n");
        let x = file.text().find('x').unwrap();
        assert_eq!((file.line(x), file.column(x)), (2, 11));
        assert_eq!((file.line(0), file.column(0)), (1, 1));
        assert_eq!(file.line_text(1), Some("a = 1"));
        assert_eq!((file.line(1000), file.line_text(4)), (3, None));
    }

    #[test]
    fn a_span_is_cut_to_the_text_and_to_whole_characters() {
        let file = SourceFile::new("a.toml", "/", "ä");
        assert_eq!(file.clip(1..1), 0..2);
        assert_eq!(file.clip(5..9), 2..2);
    }
}
