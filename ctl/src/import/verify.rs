//! The manifest's own checks, before anything is written: an import never leaves files that `check` refuses.

use std::path::Path;

use nixmox_core::manifest::{SourceFile, parse_service, parse_stack, resolve};

use super::assemble::Made;
use super::manifest;

/// Returns the services whose manifests are refused, each with the first reason; never all of a stack that has none to
/// blame.
pub(super) fn refused(stack: &str, made: &[Made]) -> Vec<(String, String)> {
    let folder = Path::new("/stack");
    let stack_file =
        parse_stack(SourceFile::new("nixmox.toml", folder, manifest::stack_file(stack, "compose.yml")));
    let documents: Vec<_> = made
        .iter()
        .map(|made| {
            let folder = folder.join("services").join(&made.written.name);
            parse_service(SourceFile::new(made.written.name.as_str(), folder, made.service_file.as_str()))
        })
        .collect();
    let Err(diagnostics) = resolve(&stack_file, &documents) else { return Vec::new() };
    let mut refused: Vec<(String, String)> = Vec::new();
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
        let name = &diagnostic.place.file;
        if !refused.iter().any(|(known, _)| known == name) && made.iter().any(|made| made.written.name == *name) {
            refused.push((name.clone(), diagnostic.message.clone()));
        }
    }
    refused
}

/// Fails where `check` would refuse what an import writes.
#[cfg(test)]
pub(super) fn accepts(import: &super::Import) {
    let text = |path: &Path| import.files.iter().find(|(known, _)| known == path).map(|(_, text)| text.clone());
    let Some(stack_file) = text(Path::new("nixmox.toml")) else { return };
    let folder = Path::new("/stack");
    let stack_file = parse_stack(SourceFile::new("nixmox.toml", folder, stack_file));
    let document = |service: &super::Written| {
        let folder = Path::new("services").join(&service.name);
        let text = text(&folder.join("service.toml")).unwrap_or_default();
        parse_service(SourceFile::new(service.name.as_str(), Path::new("/stack").join(folder), text))
    };
    let documents: Vec<_> = import.services.iter().map(document).collect();
    let resolved = resolve(&stack_file, &documents);
    assert!(resolved.is_ok(), "{:#?}", resolved.err());
}
