//! From what is wanted to derivations, without building any of them.
//!
//! Few questions, since each reads a flake anew: one about the NixOS configurations of a flake, where a name alone is wanted
//! of it; one about the derivations of all that is wanted of a flake, which nix answers from its cache where nothing changed;
//! and one about all modules together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nixmox_core::manifest::{Declared, SystemRef};
use nixmox_core::model::{ContainerName, StorePath};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::BuildError;
use super::flake::{Flake, Output};
use super::module;
use super::run::{Call, Nix, words};

/// The names of a flake's NixOS configurations; nothing of them is evaluated.
const CONFIGURATIONS: &str = "flake: builtins.attrNames (flake.nixosConfigurations or { })";

/// What `doing` says of all this.
const DOING: &str = "evaluating";

/// A system that nix has to make. Services that name the same have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// An output of a flake.
    Output {
        /// The flake.
        flake: Flake,
        /// Which output.
        output: Output,
        /// As the manifest has it.
        written: String,
    },
    /// A NixOS module.
    Module {
        /// Its file.
        file: PathBuf,
        /// The service, after which the container is named.
        service: ContainerName,
    },
}

/// A system of which it is known what would be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evaluated {
    /// The store path of its derivation.
    pub(super) derivation: String,
    /// The output of that.
    pub(super) output: String,
    /// Where it will be; `None`: that is known once it is built.
    pub(super) path: Option<StorePath>,
}

/// What nix says of a derivation, evaluated or built.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(rename = "drvPath")]
    pub(super) derivation: String,
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, Option<String>>,
}

impl Source {
    /// Returns what a service needs of nix; `None`: nothing.
    pub(super) fn of(declared: &Declared) -> Option<Self> {
        match &declared.service.system {
            SystemRef::Flake { installable, folder } => {
                let (reference, attribute) = installable.split_once('#').unwrap_or((installable, ""));
                let (flake, output) = (Flake::of(folder, reference), Output::of(attribute));
                Some(Self::Output { flake, output, written: installable.clone() })
            }
            SystemRef::Module(file) => {
                Some(Self::Module { file: file.clone(), service: declared.service.name.clone() })
            }
            SystemRef::Link(_) | SystemRef::StorePath(_) | SystemRef::Adopted => None,
        }
    }

    /// Returns the flake that it is of.
    pub(super) fn flake(&self) -> Option<&Flake> {
        match self {
            Self::Output { flake, .. } => Some(flake),
            Self::Module { .. } => None,
        }
    }

    /// Returns how a person knows it.
    pub(super) fn written(&self) -> String {
        match self {
            Self::Output { written, .. } => written.clone(),
            Self::Module { file, .. } => file.display().to_string(),
        }
    }
}

impl Told {
    /// Returns its output `out`, else its only one.
    fn evaluated(&self, written: &str) -> Result<Evaluated, BuildError> {
        let not_one = || BuildError::NotOnePath { installable: written.to_owned() };
        let only = || self.outputs.iter().next().filter(|_| self.outputs.len() == 1);
        let (output, path) = self.outputs.get_key_value("out").or_else(only).ok_or_else(not_one)?;
        let path = path.as_ref().map(|path| path.parse().map_err(|_| not_one())).transpose()?;
        Ok(Evaluated { derivation: self.derivation.clone(), output: output.clone(), path })
    }
}

/// Returns the derivation of every source; the sources are unique.
pub(super) async fn evaluate<'a>(
    nix: &mut Nix<'_>,
    sources: &[&'a Source],
) -> Result<BTreeMap<&'a Source, Evaluated>, BuildError> {
    let mut flakes: BTreeMap<&Flake, Vec<(&'a Source, &Output)>> = BTreeMap::new();
    let mut modules: Vec<(&'a Source, &Path, &ContainerName)> = Vec::new();
    for source in sources {
        match source {
            Source::Output { flake, output, .. } => flakes.entry(flake).or_default().push((source, output)),
            Source::Module { file, service } => modules.push((source, file, service)),
        }
    }
    let mut all = BTreeMap::new();
    for (flake, wanted) in flakes {
        let names: Vec<String> = wanted.iter().map(|(source, _)| source.written()).collect();
        let outputs: Vec<&Output> = wanted.iter().map(|(_, output)| *output).collect();
        let told = outputs_of(nix, flake, &outputs, &names)
            .await
            .map_err(|error| error.with_hidden(&nix.context.machine, std::iter::once(flake)))?;
        for ((source, _), told) in wanted.into_iter().zip(told) {
            all.insert(source, told.evaluated(&source.written())?);
        }
    }
    if !modules.is_empty() {
        let told = modules_of(nix, &modules).await?;
        for ((source, ..), told) in modules.into_iter().zip(told) {
            all.insert(source, told.evaluated(&source.written())?);
        }
    }
    Ok(all)
}

/// Asks for outputs of a flake; the answers are in their order.
async fn outputs_of(
    nix: &mut Nix<'_>,
    flake: &Flake,
    outputs: &[&Output],
    names: &[String],
) -> Result<Vec<Told>, BuildError> {
    let overrides = nix.options.of_flakes(&nix.context.folder);
    let is_named = outputs.iter().any(|output| matches!(output, Output::Named(_)));
    let configurations: BTreeSet<String> = if is_named {
        // The flake itself, where nix would look for a package.
        let root = format!("{}#.", flake.reference);
        let arguments = [overrides.clone(), words(["--json", "--apply", CONFIGURATIONS, "--", &root])].concat();
        ask(nix, Call { command: "eval", doing: DOING, arguments, folder: &flake.folder, about: names }).await?
    } else {
        BTreeSet::new()
    };
    let installables: Vec<String> =
        outputs.iter().map(|output| flake.installable(output, &configurations)).collect();
    let told = derivations(nix, flake, &installables, names).await?;
    if told.len() == installables.len() {
        return Ok(told);
    }
    // Told together where they are the same: which is which is asked one by one, and answered from nix's cache.
    let mut one_by_one = Vec::new();
    for (installable, name) in installables.iter().zip(names) {
        let told = derivations(nix, flake, std::slice::from_ref(installable), std::slice::from_ref(name)).await?;
        let [told] =
            <[Told; 1]>::try_from(told).map_err(|_| BuildError::NotOnePath { installable: name.clone() })?;
        one_by_one.push(told);
    }
    Ok(one_by_one)
}

/// Asks what would be built.
async fn derivations(
    nix: &mut Nix<'_>,
    flake: &Flake,
    installables: &[String],
    names: &[String],
) -> Result<Vec<Told>, BuildError> {
    let overrides = nix.options.of_flakes(&nix.context.folder);
    let arguments = [overrides, words(["--dry-run", "--json", "--"]), words(installables)].concat();
    ask(nix, Call { command: "build", doing: DOING, arguments, folder: &flake.folder, about: names }).await
}

/// Asks for the systems of modules; the answers are in their order.
async fn modules_of(
    nix: &mut Nix<'_>,
    modules: &[(&Source, &Path, &ContainerName)],
) -> Result<Vec<Told>, BuildError> {
    let names: Vec<String> = modules.iter().map(|(source, ..)| source.written()).collect();
    if !module::is_nixpkgs_there(&nix.context.machine) && !expression(nix, module::IS_NIXPKGS_FOUND, &names).await?
    {
        let module = modules.first().map(|(_, file, _)| (*file).to_owned()).unwrap_or_default();
        return Err(BuildError::NoNixpkgs { module });
    }
    let files = modules.iter().map(|(_, file, service)| (*file, *service));
    let systems = module::expression(&nix.context.machine, files);
    expression(nix, &systems, &names).await
}

/// Asks for the value of an expression.
async fn expression<T: DeserializeOwned>(nix: &mut Nix<'_>, text: &str, names: &[String]) -> Result<T, BuildError> {
    let folder = nix.context.folder.clone();
    let arguments = words(["--impure", "--json", "--expr", text]);
    ask(nix, Call { command: "eval", doing: DOING, arguments, folder: &folder, about: names }).await
}

/// Asks nix.
async fn ask<T: DeserializeOwned>(nix: &mut Nix<'_>, call: Call<'_>) -> Result<T, BuildError> {
    let command = call.command;
    let answer = nix.run(call).await?;
    serde_json::from_slice(&answer).map_err(|source| BuildError::Answer { command, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_is_its_output_out_or_its_only_one() {
        let told = |outputs: &str| {
            let told: Told = serde_json::from_str(&format!(r#"{{"drvPath":"/d","outputs":{outputs}}}"#)).unwrap();
            told.evaluated(".#x")
        };
        let path = format!("/nix/store/{}-x", "a".repeat(32));
        let found = |outputs: &str| {
            let found = told(outputs).unwrap();
            (found.output, found.path.map(|path| path.to_string()))
        };
        assert_eq!(found(&format!(r#"{{"dev":"/x","out":"{path}"}}"#)), ("out".to_owned(), Some(path.clone())));
        assert_eq!(found(&format!(r#"{{"lib":"{path}"}}"#)), ("lib".to_owned(), Some(path)));
        // Of a derivation that is addressed by its content.
        assert_eq!(found(r#"{"out":null}"#), ("out".to_owned(), None));
        assert!(told(r#"{"a":"/a","b":"/b"}"#).is_err());
        assert!(told(r#"{"out":"/a"}"#).is_err());
    }
}
