//! The stack file on disk: finding it, reading it with what it includes, and complaining about all of it at once.
//!
//! What the files mean is core's to say; this brings the texts in and shows the complaints beside them.

mod show;

use std::io;
use std::path::{Path, PathBuf};

use nixmox_core::manifest::{
    Declared, Diagnostic, ServiceDocument, SourceFile, Stack, StackDocument, parse_service, parse_stack, resolve,
};

use crate::context::Context;
use crate::render::{Report, Style};

/// The name of a stack file.
const STACK_FILE: &str = "nixmox.toml";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// There is no stack file.
    #[error("there is no {STACK_FILE} in {folder} or above", folder = folder.display())]
    NotFound {
        /// Where the search began.
        folder: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is wrong with what the files say.
    #[error("{file} cannot be used", file = .0.file)]
    Invalid(Findings),
}

/// What is said about the files of a stack, with their texts.
#[derive(Debug)]
pub(crate) struct Findings {
    /// The stack file, as messages call it.
    pub(crate) file: String,
    /// Errors and warnings, in the order of the files.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// The files that they are about.
    pub(crate) sources: Vec<SourceFile>,
}

/// A stack without errors.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What the files say.
    pub(crate) stack: Stack,
    /// The stack file: an absolute path.
    pub(crate) file: PathBuf,
    /// What hardly means what was written.
    pub(crate) warnings: Findings,
}

impl ManifestError {
    /// Returns the complaint without the places in the files.
    pub(crate) fn report(&self) -> Report {
        let report = Report::new(self.to_string()).causes(self);
        match self {
            Self::NotFound { .. } => report.row("try", "go to the stack's folder, or name its file: -f FILE"),
            Self::Read { .. } => report,
            Self::Invalid(findings) => Report::new(format!("{}: {}", findings.file, findings.counts())),
        }
    }

    /// Returns the whole text: every complaint with the lines it is about, then how many there are.
    pub(crate) fn text(&self, width: Option<usize>, style: Style) -> String {
        let places = match self {
            Self::NotFound { .. } | Self::Read { .. } => String::new(),
            Self::Invalid(findings) => findings.text(width, style),
        };
        places + &self.report().text(width, style)
    }
}

impl Loaded {
    /// Returns the services by name, in the order of the files.
    pub(crate) fn services(&self) -> &[Declared] {
        &self.stack.services
    }
}

/// Reads the stack that is meant and everything it includes.
pub(crate) fn load(context: &Context) -> Result<Loaded, ManifestError> {
    let file = find(context)?.ok_or_else(|| ManifestError::NotFound { folder: context.folder.clone() })?;
    let document = parse_stack(read(&file, &context.folder)?);
    let (included, missing) = include(&document, &context.folder)?;
    let sources = || {
        let included = included.iter().map(|file| file.source().clone());
        std::iter::once(document.source().clone()).chain(included).collect()
    };
    let findings =
        |diagnostics| Findings { file: document.source().name().to_owned(), diagnostics, sources: sources() };
    let with_missing = |mut diagnostics: Vec<Diagnostic>| {
        diagnostics.extend(missing.iter().cloned());
        diagnostics
    };
    match resolve(&document, &included) {
        Ok(stack) if missing.iter().all(|missing| !missing.is_error()) => {
            let warnings = findings(with_missing(stack.warnings.clone()));
            Ok(Loaded { stack, file, warnings })
        }
        Ok(stack) => Err(ManifestError::Invalid(findings(with_missing(stack.warnings)))),
        Err(diagnostics) => Err(ManifestError::Invalid(findings(with_missing(diagnostics)))),
    }
}

/// Returns the name of the stack that is meant, whatever else is wrong with its file; `None` where there is none.
pub(crate) fn stack_name(context: &Context) -> Result<Option<String>, ManifestError> {
    let Some(file) = find(context)? else { return Ok(None) };
    let document = parse_stack(read(&file, &context.folder)?);
    let name = document.content().stack.get().and_then(|stack| stack.name.get());
    match name {
        Some(name) => Ok(Some(name.to_string())),
        None => Err(ManifestError::Invalid(Findings {
            file: document.source().name().to_owned(),
            diagnostics: document.diagnostics().to_vec(),
            sources: vec![document.source().clone()],
        })),
    }
}

/// Returns the absolute path of the stack file that is named, else of the nearest one.
fn find(context: &Context) -> Result<Option<PathBuf>, ManifestError> {
    if let Some(file) = &context.options.file {
        let path = context.folder.join(file);
        let found = path.canonicalize();
        return found.map(Some).map_err(|source| ManifestError::Read { path: file.clone(), source });
    }
    let found = context.folder.ancestors().map(|folder| folder.join(STACK_FILE)).find(|file| file.is_file());
    Ok(found)
}

/// Reads a file under the name that messages call it: relative to the working folder where it lies below it.
fn read(path: &Path, working: &Path) -> Result<SourceFile, ManifestError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    let name = path.strip_prefix(working).unwrap_or(path).display().to_string();
    Ok(SourceFile::new(name, path.parent().unwrap_or(Path::new("/")), text))
}

/// Reads what a stack file includes; returns also the complaints about patterns that match nothing.
fn include(
    document: &StackDocument,
    working: &Path,
) -> Result<(Vec<ServiceDocument>, Vec<Diagnostic>), ManifestError> {
    // Like a shell: `*` stops at a slash and does not match hidden files.
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let source = document.source();
    let folder = glob::Pattern::escape(&source.folder().display().to_string());
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    for include in document.includes() {
        let pattern = include.pattern;
        let matches = match glob::glob_with(&format!("{folder}/{pattern}"), options) {
            Ok(matches) => matches,
            Err(error) => {
                let complaint = format!("`{pattern}` is not a pattern of file names: {}", error.msg);
                complaints.push(Diagnostic::error(source, include.span, complaint));
                continue;
            }
        };
        let before = files.len();
        for found in matches {
            let path = found
                .map_err(|error| ManifestError::Read { path: error.path().to_owned(), source: error.into() })?;
            files.push(parse_service(read(&path, working)?));
        }
        if files.len() == before {
            let complaint = format!("`{pattern}` matches no file");
            // A pattern may wait for its first file; a name that is not there is a mistake.
            complaints.push(if pattern.contains(['*', '?', '[']) {
                Diagnostic::warning(source, include.span, complaint)
            } else {
                Diagnostic::error(source, include.span, complaint)
            });
        }
    }
    Ok((files, complaints))
}
