//! The stack file on disk: finding it, reading it with what it includes, and complaining about all of it at once.
//!
//! What the files mean is core's to say; this brings the texts in and shows the complaints beside them.

mod excerpt;
mod include;
mod read;
mod show;

use std::io;
use std::path::{Path, PathBuf};

use nixmox_core::manifest::{Declared, Diagnostic, SourceFile, Stack, parse_stack, resolve};
use nixmox_core::model::ContainerName;

pub(crate) use excerpt::Declaration;

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
            // What is wrong with the content is said above, with what to do.
            Self::Read { source, .. } if source.kind() == io::ErrorKind::InvalidData => report,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                report.row("try", "ls -l shows whose it is; you need to be able to read it, and what it includes")
            }
            Self::Read { .. } => report.row("try", "name a stack file, or the folder of one: -f FILE"),
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
    let mut document = parse_stack(read_stack_file(&file, context)?);
    let (included, complaints) = include::services(&document, &file, &context.folder);
    for complaint in complaints {
        document.report(complaint);
    }
    let findings = |diagnostics| {
        let included = included.iter().map(|file| file.source().clone());
        let sources = std::iter::once(document.source().clone()).chain(included).collect();
        Findings { file: document.source().name().to_owned(), diagnostics, sources }
    };
    match resolve(&document, &included) {
        Ok(stack) => {
            let warnings = findings(stack.warnings.clone());
            Ok(Loaded { stack, file, warnings })
        }
        Err(diagnostics) => Err(ManifestError::Invalid(findings(diagnostics))),
    }
}

/// Returns the name of the stack that is meant, whatever else is wrong with its file; `None` where there is none.
pub(crate) fn stack_name(context: &Context) -> Result<Option<String>, ManifestError> {
    let Some(file) = find(context)? else { return Ok(None) };
    let document = parse_stack(read_stack_file(&file, context)?);
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

/// Returns the names of the services of the stack that is meant, as far as they can be read; never complains.
pub(crate) fn service_names(file: Option<&Path>, folder: &Path) -> Vec<String> {
    let Ok(Some(file)) = find_in(file, folder) else { return Vec::new() };
    let Ok(source) = read::source(&file, folder) else { return Vec::new() };
    let document = parse_stack(source);
    let (included, _complaints) = include::services(&document, &file, folder);
    let here = document.content().services.get().into_iter().flat_map(|services| &services.0);
    let here = here.map(|(name, _)| name.value.clone());
    let folders = included.iter().filter_map(|file| file.source().folder().file_name());
    let mut names: Vec<String> = here.chain(folders.map(|name| name.to_string_lossy().into_owned())).collect();
    names.retain(|name| name.parse::<ContainerName>().is_ok());
    names
}

/// Returns the absolute path of the stack file that is named, else of the nearest one.
fn find(context: &Context) -> Result<Option<PathBuf>, ManifestError> {
    find_in(context.options.file.as_deref(), &context.folder)
}

fn find_in(file: Option<&Path>, folder: &Path) -> Result<Option<PathBuf>, ManifestError> {
    // An empty variable is as none: `NIXMOX_FILE= nixmoxctl up`.
    if let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) {
        let named = folder.join(file);
        // Compose users name the folder of a project.
        let named = if named.is_dir() { named.join(STACK_FILE) } else { named };
        let found = named.canonicalize();
        return found.map(Some).map_err(|source| ManifestError::Read { path: named, source });
    }
    let found = folder.ancestors().map(|folder| folder.join(STACK_FILE)).find(|file| file.is_file());
    Ok(found)
}

fn read_stack_file(file: &Path, context: &Context) -> Result<SourceFile, ManifestError> {
    read::source(file, &context.folder).map_err(|source| ManifestError::Read { path: file.to_owned(), source })
}
