//! One file: text to file form, with every complaint about it.
//!
//! A syntax error does not end the reading: what could still be understood is read, and only what is not there
//! is not held against the file.

use std::ops::Range;

use toml::de::DeTable;

use super::diagnostic::{Diagnostic, Place};
use super::form::{Form as _, Reader};
use super::source::{SourceFile, Span};
use super::v1::{FORMAT, Format, Service, StackFile};

/// A stack file that was read, with holes where it could not be.
#[derive(Clone, Debug)]
pub struct StackDocument {
    pub(super) source: SourceFile,
    pub(super) content: StackFile,
    /// Whether its text is TOML and of our format; else something may be missing that is there.
    pub(super) complete: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// An included file that was read, with holes where it could not be.
#[derive(Clone, Debug)]
pub struct ServiceDocument {
    pub(super) source: SourceFile,
    pub(super) content: Service,
    /// As in [`StackDocument`].
    pub(super) complete: bool,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A pattern under `stack.include`.
#[derive(Clone, Copy, Debug)]
pub struct Include<'a> {
    /// The pattern, relative to the folder of the stack file.
    pub pattern: &'a str,
    /// Where it stands in the stack file.
    pub span: &'a Span,
}

/// Reads the stack file. Never fails: complaints are kept for [`super::resolve`].
#[must_use]
pub fn parse_stack(source: SourceFile) -> StackDocument {
    let (content, complete, diagnostics) =
        parse(&source, |table, reader| StackFile::from_table(table, &(0..0), reader));
    StackDocument { source, content, complete, diagnostics }
}

/// Reads an included file, one service. Never fails: complaints are kept for [`super::resolve`].
#[must_use]
pub fn parse_service(source: SourceFile) -> ServiceDocument {
    let (content, complete, diagnostics) = parse(&source, |table, reader| {
        // No key of a service in the stack file, which says the format for itself.
        let mut table = table.clone();
        if let Some(format) = table.remove("format") {
            Format::read(&format, reader);
        }
        Service::from_table(&table, &(0..0), reader)
    });
    ServiceDocument { source, content, complete, diagnostics }
}

impl StackDocument {
    /// Returns the patterns of files to include, in the order of the file; may be empty.
    pub fn includes(&self) -> impl Iterator<Item = Include<'_>> {
        let patterns = self.content.stack.get().and_then(|stack| stack.include.get());
        patterns.into_iter().flatten().map(|item| Include { pattern: &item.value, span: &item.span })
    }

    /// Adds a complaint about what the file includes.
    ///
    /// After an error some of it is unknown: a service that is not there is then not held against the stack.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.complete &= !diagnostic.is_error();
        self.diagnostics.push(diagnostic);
    }

    /// Returns the file.
    #[must_use]
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// Returns what the file says, with its holes.
    #[must_use]
    pub fn content(&self) -> &StackFile {
        &self.content
    }

    /// Returns the complaints about this file alone.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl ServiceDocument {
    /// Returns the file.
    #[must_use]
    pub fn source(&self) -> &SourceFile {
        &self.source
    }

    /// Returns what the file says, with its holes.
    #[must_use]
    pub fn content(&self) -> &Service {
        &self.content
    }

    /// Returns the complaints about this file alone.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

fn parse<T: Default>(
    source: &SourceFile,
    read: impl FnOnce(&DeTable<'_>, &mut Reader<'_>) -> T,
) -> (T, bool, Vec<Diagnostic>) {
    let (document, errors) = DeTable::parse_recoverable(source.text());
    let table = document.get_ref();
    // Nothing that is said about a file of another format could be trusted.
    if let Some(refused) = refuse_format(source, table) {
        return (T::default(), false, vec![refused]);
    }
    let lines: Vec<u32> =
        errors.iter().map(|error| source.line(source.clip(error.span().unwrap_or(0..0)).start)).collect();
    let adrift = adrift(source, &lines);
    let mut diagnostics = syntax_errors(source, &errors, &lines, &adrift);
    let mut reader = Reader::new(source, errors.is_empty());
    let content = read(table, &mut reader);
    // What the parser made of a broken line is not what was written there.
    let broken = |diagnostic: &Diagnostic| {
        let last = source.line(diagnostic.place.span.end);
        let of_broken_line = lines.iter().any(|line| (diagnostic.place.line..=last).contains(line));
        of_broken_line || adrift.iter().any(|section| section.contains(&diagnostic.place.line))
    };
    diagnostics.extend(reader.into_diagnostics().into_iter().filter(|diagnostic| !broken(diagnostic)));
    (content, errors.is_empty(), diagnostics)
}

/// Returns the lines below each broken heading, up to the next one: what the parser took them for is not what they are.
fn adrift(source: &SourceFile, broken: &[u32]) -> Vec<Range<u32>> {
    let is_heading = |line: u32| source.line_text(line).map(|text| text.trim_start().starts_with('['));
    let headings = broken.iter().filter(|line| is_heading(**line) == Some(true));
    let end = |line: u32| (line..u32::MAX).find(|line| is_heading(*line) != Some(false)).unwrap_or(u32::MAX);
    headings.map(|line| line + 1..end(line + 1)).collect()
}

/// Refuses a file that says it has another format.
fn refuse_format(source: &SourceFile, table: &DeTable<'_>) -> Option<Diagnostic> {
    let value = table.get("format")?;
    let number = super::form::unsigned(value)?.ok();
    if number == Some(u64::from(FORMAT)) {
        return None;
    }
    let error = Diagnostic::error(
        source,
        &value.span(),
        format!("this is not format {FORMAT}, the one that is known here"),
    );
    Some(match number {
        Some(2..) => error.help("a newer nixmoxctl is needed to read it"),
        Some(_) | None => error.help(format!("write `format = {FORMAT}`")),
    })
}

/// Returns at most one error for each line, without those that only follow from an earlier one.
fn syntax_errors(
    source: &SourceFile,
    errors: &[toml::de::Error],
    lines: &[u32],
    adrift: &[Range<u32>],
) -> Vec<Diagnostic> {
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut last_line = None;
    // An array that is not closed swallows the lines below it and complains about each.
    let mut in_array = false;
    let mut ordered: Vec<_> = errors.iter().zip(lines).collect();
    ordered.sort_by_key(|(error, line)| (**line, error.span().map_or(0, |span| span.start)));
    for (error, line) in ordered {
        let follows = in_array && last_line.is_some_and(|last| *line <= last + 1);
        in_array = follows || error.message().contains("array") || error.message().contains("inline table");
        let doubled = last_line == Some(*line);
        last_line = Some(*line);
        // A key is there twice because its heading was not understood; other errors are of the line itself.
        let twice = error.message() == "duplicate key" && adrift.iter().any(|section| section.contains(line));
        if follows || doubled || twice {
            continue;
        }
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        diagnostics.push(match message {
            "duplicate key" => duplicate_key(source, &span),
            "string values must be quoted, expected literal string" => {
                Diagnostic::error(source, &span, "a value is expected here")
                    .help("strings are written in quotes: \"text\"")
            }
            message if message.starts_with("missing comma between array elements") => {
                Diagnostic::error(source, &span, "a `,` or a `]` is missing before this")
            }
            // Of a path the parser takes the first character for the beginning of a number.
            message if is_bare(source, &span, message) => {
                Diagnostic::error(source, &span, "a value is expected here")
                    .help("strings are written in quotes: \"text\"")
            }
            message => Diagnostic::error(source, &span, message),
        });
    }
    diagnostics
}

/// Returns whether the value in which an error is begins as a path does, without quotes.
fn is_bare(source: &SourceFile, span: &Span, message: &str) -> bool {
    let text = source.text();
    let before = text.get(..source.clip(span.clone()).start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    // Inside quotes, or where a key belongs, a path means something else.
    if message.contains("key") || ['"', '\''].iter().any(|quote| line.matches(*quote).count() % 2 == 1) {
        return false;
    }
    let begin = before.rfind(['=', '[', ',', '\n']).map_or(0, |at| at + 1);
    text.get(begin..).is_some_and(|value| value.trim_start_matches([' ', '\t']).starts_with(['.', '/', '~']))
}

/// Returns the error about a key or heading that is there twice, with the first place of a heading.
fn duplicate_key(source: &SourceFile, span: &Span) -> Diagnostic {
    let span = source.clip(span.clone());
    let key = source.text().get(span.clone()).unwrap_or_default();
    let error = Diagnostic::error(source, &span, format!("`{key}` is there twice")).label("again here");
    let heading = source.line_text(source.line(span.start)).map(str::trim).filter(|line| line.starts_with('['));
    let first = heading.and_then(|heading| {
        let at = source.text().find(heading)?;
        (source.line(at) != source.line(span.start))
            .then(|| Place::new(source, &(at..at + heading.len()), "first here"))
    });
    match first {
        Some(first) => error.related(first),
        None => error,
    }
}
