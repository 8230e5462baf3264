//! Complaints about manifest files, each beside the lines it is about.

use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity as Level, SourceCode};
use nixmox_core::manifest::{Diagnostic, Place, Severity, SourceFile};
use serde_json::json;

use super::Findings;
use crate::output::WIDTH;
use crate::render::{Style, clean, clean_in_place, counted};

impl Findings {
    /// Returns the complaints as text, each ended by an empty line.
    pub(crate) fn text(&self, width: Option<usize>, style: Style) -> String {
        let theme = if style.has_color() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width.unwrap_or(WIDTH))
            .with_links(false)
            .with_context_lines(1);
        let mut text = String::new();
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let warnings = self.diagnostics.iter().filter(|diagnostic| !diagnostic.is_error());
        // Errors go first only where not all can be shown.
        let is_cut = self.diagnostics.len() > SHOWN_MAX;
        let shown: Vec<&Diagnostic> = if is_cut {
            errors.chain(warnings).take(SHOWN_MAX).collect()
        } else {
            self.diagnostics.iter().collect()
        };
        for diagnostic in &shown {
            // Writing to a string cannot fail; a complaint that could not be drawn is still told in one line.
            if handler.render_report(&mut text, &Shown::new(diagnostic, &self.sources)).is_err() {
                text.push_str(&clean(&diagnostic.to_string()));
            }
            text.push('\n');
        }
        if is_cut {
            let line = format!("and {} more\n\n", self.diagnostics.len() - shown.len());
            text.push_str(&line);
        }
        text
    }

    /// Returns all of it as a document for programs; `services` are those of a stack without errors.
    pub(crate) fn json(&self, services: usize) -> serde_json::Value {
        let place = |place: &Place| json!({ "file": place.file, "line": place.line, "column": place.column, "label": place.label });
        let diagnostics = self.diagnostics.iter().map(|diagnostic| {
            json!({
                "severity": diagnostic.severity.to_string(),
                "message": diagnostic.message,
                "help": diagnostic.help,
                "place": place(&diagnostic.place),
                "related": diagnostic.related.iter().map(place).collect::<Vec<_>>(),
            })
        });
        json!({ "file": self.file, "services": services, "diagnostics": diagnostics.collect::<Vec<_>>() })
    }

    /// Returns `2 errors, 1 warning`, or `no problems`.
    pub(crate) fn counts(&self) -> String {
        let errors = self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
        let warnings = self.diagnostics.len() - errors;
        match (errors, warnings) {
            (0, 0) => "no problems".to_owned(),
            (0, warnings) => counted(warnings, "warning"),
            (errors, 0) => counted(errors, "error"),
            (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
        }
    }
}

/// How many complaints are shown. Nobody reads more at once, and drawing one scans its file from the start.
const SHOWN_MAX: usize = 50;

/// A complaint as miette draws it.
#[derive(Debug)]
struct Shown {
    message: String,
    help: Option<String>,
    level: Level,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    /// Places in other files.
    related: Vec<Self>,
}

impl Shown {
    fn new(diagnostic: &Diagnostic, sources: &[SourceFile]) -> Self {
        let home = &diagnostic.place.file;
        let here = diagnostic.related.iter().filter(|place| place.file == *home);
        let elsewhere = diagnostic.related.iter().filter(|place| place.file != *home);
        Self {
            message: clean(&diagnostic.message),
            help: diagnostic.help.as_deref().map(clean),
            level: match diagnostic.severity {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
            },
            source: source_of(home, sources),
            labels: std::iter::once(&diagnostic.place).chain(here).map(label).collect(),
            related: elsewhere.map(|place| Self::elsewhere(place, sources)).collect(),
        }
    }

    fn elsewhere(place: &Place, sources: &[SourceFile]) -> Self {
        Self {
            message: clean(&place.label),
            help: None,
            level: Level::Advice,
            source: source_of(&place.file, sources),
            labels: vec![LabeledSpan::new(None, place.span.start, place.span.len())],
            related: Vec::new(),
        }
    }
}

fn source_of(name: &str, sources: &[SourceFile]) -> Option<NamedSource<String>> {
    let source = sources.iter().find(|source| source.name() == name)?;
    Some(NamedSource::new(clean(name), clean_in_place(source.text())))
}

fn label(place: &Place) -> LabeledSpan {
    let text = (!place.label.is_empty()).then(|| clean(&place.label));
    LabeledSpan::new(text, place.span.start, place.span.len())
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl miette::Diagnostic for Shown {
    fn severity(&self) -> Option<Level> {
        Some(self.level)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        let related = self.related.iter().map(|shown| shown as &dyn miette::Diagnostic);
        if self.related.is_empty() { None } else { Some(Box::new(related)) }
    }
}
