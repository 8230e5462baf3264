//! A Compose file to a stack: what is in it as a manifest and NixOS modules, and what is not as findings.
//!
//! ```text
//! text ─yaml─▶ tree ─interpolate─▶ tree ─compose─▶ Services ─catalog, draft─▶ modules ┐
//!                                                     └──────────manifest─────▶ TOML ┴─▶ Import ─write─▶ files
//! ```
//!
//! Nothing here asks the agent or nix. Only `write` touches the disk; files that a Compose file names are read
//! through [`Surroundings`]. No secret gets into a file or a message: values of secrets are compared, never shown.

mod assemble;
mod catalog;
mod compose;
mod dotenv;
mod draft;
mod finding;
mod image;
mod interpolate;
mod manifest;
mod nix;
mod secret;
mod secrets;
#[cfg(test)]
mod tests;
mod toml;
mod verify;
mod write;
mod yaml;

use std::path::{Path, PathBuf};

use finding::Findings;
use interpolate::Variables;
use yaml::Fault;

pub(crate) use compose::Surroundings;
pub(crate) use finding::{Finding, SecretFile, Weight};
pub(crate) use write::{WriteError, write};

/// A Compose file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What messages call it.
    pub(crate) name: String,
    /// The folder that its paths are relative to; absolute.
    pub(crate) folder: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

impl Source {
    /// Returns the name of the file without its folder, for the files that are written.
    fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Why a Compose file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{line}: {what}", file = .file, line = .fault.line, what = .fault.what)]
pub(crate) struct ImportError {
    /// The file, as messages call it.
    file: String,
    fault: Fault,
}

impl ImportError {
    /// Returns what to do; may be empty.
    pub(crate) fn hint(&self) -> &str {
        &self.fault.hint
    }
}

/// What comes of a Compose file.
#[derive(Debug)]
pub(crate) struct Import {
    /// The stack's name.
    pub(crate) stack: String,
    /// The services of the file that are written, in its order.
    pub(crate) services: Vec<Written>,
    /// How many services the file has.
    pub(crate) services_count: usize,
    /// What is to be written: path in the stack's folder, and text. Empty where no service is written.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// What is said about the file, in its order.
    pub(crate) findings: Vec<Finding>,
    /// Files that a person has to put secrets into.
    pub(crate) secrets: Vec<SecretFile>,
    /// Whether folders take the place of volumes, whose content stays where it is.
    pub(crate) has_volumes: bool,
}

/// A service that is written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// What the Compose file calls it.
    pub(crate) compose_name: String,
    /// What the stack calls it.
    pub(crate) name: String,
    /// Its image.
    pub(crate) image: String,
    /// Where the NixOS module's options are.
    pub(crate) option: &'static str,
}

/// Reads a Compose file and makes a stack of it.
pub(crate) fn compose(source: &Source, surroundings: &Surroundings<'_>) -> Result<Import, ImportError> {
    let error = |fault| ImportError { file: source.name.clone(), fault };
    let env_file = env_file(&source.folder, surroundings)?;
    let lookup = |name: &str| {
        let in_file = || env_file.iter().rev().find(|variable| variable.name == name);
        (surroundings.variable)(name).or_else(|| Some(in_file()?.value.clone()))
    };
    let mut variables = Variables::new(&lookup);
    let nothing = || Fault::new(1, "the file is empty", "a Compose file begins with `services:`");
    let mut root = yaml::parse(&source.text).and_then(|root| root.ok_or_else(nothing)).map_err(error)?;
    variables.put_into(&mut root).map_err(error)?;
    let mut findings = Findings::new(&source.name);
    let project = compose::read(&root, &source.folder, &variables, surroundings, &mut findings).map_err(error)?;
    for (name, line) in variables.unset() {
        let reason = format!("the variable `{name}` is not set, so that nothing stands in its place");
        findings.changed(
            None,
            ("variables", line),
            &reason,
            &format!("set it in the environment or in .env: {name}=..."),
        );
    }
    Ok(assemble::assemble(project, source, findings))
}

/// Returns the variables of `.env` beside the file.
fn env_file(folder: &Path, surroundings: &Surroundings<'_>) -> Result<Vec<dotenv::Variable>, ImportError> {
    match (surroundings.read)(&folder.join(".env")) {
        Ok(text) => dotenv::parse(&text).map_err(|fault| ImportError { file: ".env".to_owned(), fault }),
        // Without one there are no variables; one that cannot be read has none to give either.
        Err(_missing) => Ok(Vec::new()),
    }
}
