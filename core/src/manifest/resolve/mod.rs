//! File form to model: what the keys mean together.
//!
//! Works on what could be read and gathers everything that is wrong with it; only a stack without an error
//! comes out. What is still to be built is left as a [`SystemRef`].

mod adopted;
mod flags;
mod health;
mod limits;
mod network;
mod offload;
mod service;
mod storage;

use std::path::PathBuf;

use super::check;
use super::diagnostic::{Diagnostic, Place};
use super::document::{ServiceDocument, StackDocument};
use super::form::{Located, Misfit};
use super::source::{SourceFile, Span};
use super::v1;
use crate::model::{AddressPool, ContainerName, Limits, Owner, Service, StackName, StorePath, System};

/// A stack without errors.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// The stack file, as the caller named it.
    pub file: String,
    /// Where private networks are numbered from.
    pub address_pool: AddressPool,
    /// What it may use as a whole.
    pub limits: Limits,
    /// Who declares it; `None`: a person.
    pub owner: Option<Owner>,
    /// Its services, those of the stack file first, in the order of the files; names are unique.
    pub services: Vec<Declared>,
    /// What hardly means what was written, in the order of the files.
    pub warnings: Vec<Diagnostic>,
}

/// A declared service whose system may still have to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// What is declared.
    pub service: Service<SystemRef>,
}

/// What a container's root runs, as far as it is known before anything is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemRef {
    /// An output to be built by `nix build`, in this folder: a reference such as `.` is relative to it.
    Flake {
        /// The flake reference with its output, such as `.#postgres`.
        installable: String,
        /// The absolute path of the folder of the file that says so.
        folder: PathBuf,
    },
    /// The absolute path of a file with a NixOS module.
    Module(PathBuf),
    /// The absolute path of something that leads into the store.
    Link(PathBuf),
    /// A store path, as written.
    StorePath(StorePath),
    /// The container is there already.
    Adopted,
}

impl Declared {
    /// Returns the service with the store path that its system was found to be; an adopted one stays adopted.
    #[must_use]
    pub fn with_system(&self, path: StorePath) -> Service {
        let system = match &self.service.system {
            SystemRef::Flake { .. } | SystemRef::Module(_) | SystemRef::Link(_) | SystemRef::StorePath(_) => {
                System::Store(path)
            }
            SystemRef::Adopted => System::Adopted,
        };
        self.service.clone().with_system(system)
    }

    /// Returns the service if there is nothing to build or to look up; else `None`.
    #[must_use]
    pub fn ready(&self) -> Option<Service> {
        let system = match &self.service.system {
            SystemRef::Flake { .. } | SystemRef::Module(_) | SystemRef::Link(_) => return None,
            SystemRef::StorePath(path) => System::Store(path.clone()),
            SystemRef::Adopted => System::Adopted,
        };
        Some(self.service.clone().with_system(system))
    }
}

/// A service on its way through the checks.
pub(super) struct Candidate<'a> {
    /// The file it is declared in.
    pub(super) source: &'a SourceFile,
    /// Where its name, or its file, stands.
    pub(super) span: Span,
    /// The file form, with the places of everything.
    pub(super) written: &'a v1::Service,
    /// What was made of it; holes are filled with defaults.
    pub(super) declared: Declared,
}

impl Candidate<'_> {
    pub(super) fn name(&self) -> &ContainerName {
        &self.declared.service.name
    }

    pub(super) fn place(&self, label: impl Into<String>) -> Place {
        Place::new(self.source, &self.span, label)
    }
}

/// Complaints about one file.
pub(super) struct Scope<'a> {
    pub(super) source: &'a SourceFile,
    pub(super) findings: Vec<Diagnostic>,
}

impl Scope<'_> {
    /// Returns an error to be completed and reported.
    pub(super) fn error(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, span, message)
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.findings.push(diagnostic);
    }

    /// Takes a value out of a text, or complains at the part of it that does not fit.
    pub(super) fn fit<T>(&mut self, text: &Located<String>, result: Result<T, Misfit>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Misfit { part, message, help }) => {
                // The span of a part of a short form covers the text itself, that of a value its quotes too.
                let bare = text.span.len() == text.value.len();
                let span = match part {
                    Some(part) if bare => text.span.start + part.start..text.span.start + part.end,
                    Some(part) => self.source.inside(&text.span, &text.value, part),
                    None => text.span.clone(),
                };
                let error = self.error(&span, message);
                self.report(error.help_if(help));
                None
            }
        }
    }
}

/// Makes a stack of a stack file and the files it includes, or says everything that is wrong with them.
///
/// `included` is what the caller found for [`StackDocument::includes`], in the order of the patterns.
///
/// # Errors
///
/// Returns every complaint about every file, errors and warnings, in the order of the files; at least one is an
/// error.
pub fn resolve(stack: &StackDocument, included: &[ServiceDocument]) -> Result<Stack, Vec<Diagnostic>> {
    // Two patterns may match the same file.
    let mut names = std::collections::BTreeSet::new();
    let included: Vec<_> = included.iter().filter(|file| names.insert(file.source.name())).collect();
    let mut findings = stack.diagnostics.clone();
    findings.extend(included.iter().flat_map(|file| file.diagnostics.iter().cloned()));

    let written = stack.content.stack.get();
    let name = written.and_then(|written| written.name.get()).cloned();
    let address_pool = written.and_then(|written| written.address_pool.get()).copied().unwrap_or_default();
    let limits = written.and_then(|written| written.limits.get());
    let mut scope = Scope { source: &stack.source, findings: Vec::new() };
    let limits = limits.map(|limits| limits::resolve(&mut scope, limits)).unwrap_or_default();
    findings.append(&mut scope.findings);
    let complete = stack.complete && included.iter().all(|file| file.complete);

    let mut candidates = candidates(stack, &included, name.as_ref(), &mut findings);
    if candidates.is_empty() && complete && findings.iter().all(|finding| !finding.is_error()) {
        let warning = Diagnostic::warning(&stack.source, &(0..0), "the stack has no services");
        findings.push(warning.help("declare one as `[services.NAME]`, or name files under `stack.include`"));
    }
    check::names(&candidates, &mut findings);
    check::dependencies(&mut candidates, name.as_ref(), complete, &mut findings);
    check::ports(&candidates, &mut findings);
    check::addresses(&candidates, address_pool, &mut findings);

    let order: Vec<&str> =
        std::iter::once(stack.source.name()).chain(included.iter().map(|file| file.source.name())).collect();
    let rank = |file: &str| order.iter().position(|name| *name == file);
    findings.sort_by_cached_key(|finding| (rank(&finding.place.file), finding.place.span.start));

    // A stack without a name has an error; so has one that is not complete.
    let (Some(name), false) = (name, findings.iter().any(Diagnostic::is_error)) else { return Err(findings) };
    Ok(Stack {
        name,
        file: stack.source.name().to_owned(),
        address_pool,
        limits,
        owner: written.and_then(|written| written.owner.get()).cloned(),
        services: candidates.into_iter().map(|candidate| candidate.declared).collect(),
        warnings: findings,
    })
}

fn candidates<'a>(
    stack: &'a StackDocument,
    included: &[&'a ServiceDocument],
    name: Option<&StackName>,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    let mut add = |source: &'a SourceFile, key: &Located<String>, written: &'a v1::Service| {
        let mut scope = Scope { source, findings: Vec::new() };
        candidates.extend(service::resolve(&mut scope, key, written, name));
        findings.append(&mut scope.findings);
    };
    for (key, written) in stack.content.services.get().iter().flat_map(|services| &services.0) {
        add(&stack.source, key, &written.value);
    }
    for file in included {
        let folder = file.source.folder().file_name().unwrap_or_default().to_string_lossy().into_owned();
        add(&file.source, &Located { value: folder, span: 0..0 }, &file.content);
    }
    candidates
}
