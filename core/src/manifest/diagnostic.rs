//! What is wrong with a manifest, where, and the way out.
//!
//! Holds positions, not texts: a renderer brings the files' texts along.

use std::fmt;

use super::source::{SourceFile, Span};

/// One complaint about one place of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the manifest is refused for it.
    pub severity: Severity,
    /// The sentence, without a full stop.
    pub message: String,
    /// The place.
    pub place: Place,
    /// What to do about it; `None` when the message says it all.
    pub help: Option<String>,
    /// Other places that take part, in the order in which they are to be read.
    pub related: Vec<Place>,
}

/// Whether the manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It is refused.
    Error,
    /// It is taken, though it hardly means what was written.
    Warning,
}

/// A place in a file with a word about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as [`SourceFile::name`] has it.
    pub file: String,
    /// The bytes in question; may be empty.
    pub span: Span,
    /// The line of the first byte, counted from 1.
    pub line: u32,
    /// The column of the first byte, in characters, counted from 1.
    pub column: u32,
    /// What stands there; may be empty.
    pub label: String,
}

impl Place {
    /// Returns a place in a file; a span that leaves the text is cut.
    #[must_use]
    pub fn new(source: &SourceFile, span: &Span, label: impl Into<String>) -> Self {
        let span = source.clip(span.clone());
        let (line, column) = (source.line(span.start), source.column(span.start));
        Self { file: source.name().to_owned(), span, line, column, label: label.into() }
    }
}

impl Diagnostic {
    /// Returns an error at a place.
    #[must_use]
    pub fn error(source: &SourceFile, span: &Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: Place::new(source, span, ""),
            help: None,
            related: Vec::new(),
        }
    }

    /// Returns a warning at a place.
    #[must_use]
    pub fn warning(source: &SourceFile, span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(source, span, message) }
    }

    /// Says what stands at the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.place.label = label.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what to do, if something is known.
    #[must_use]
    pub fn help_if(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }

    /// Adds another place that takes part.
    #[must_use]
    pub fn related(mut self, place: Place) -> Self {
        self.related.push(place);
        self
    }

    /// Returns whether the manifest is refused for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Diagnostic {
    /// Writes one line, as compilers do: `file:line:column: error: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, line, column, .. } = &self.place;
        write!(f, "{file}:{line}:{column}: {}: {}", self.severity, self.message)
    }
}

/// Returns the word of `known` that `text` was probably meant to be.
///
/// A third of the letters may be wrong, at least one; the nearest wins, the first of equals.
pub(super) fn did_you_mean<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).max(1);
    // Names may be as long as the file: comparing costs the product of the lengths.
    let near = |word: &&str| word.len().abs_diff(text.len()) <= allowed * 4;
    let text = text.to_lowercase();
    known
        .into_iter()
        .filter(near)
        .map(|word| (strsim::damerau_levenshtein(&text, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}
