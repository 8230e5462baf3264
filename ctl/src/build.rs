//! From what a manifest names to store paths: links are followed, flake outputs are built by `nix build` as the
//! user. Nothing here runs as root or decides what a system contains.

mod git;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nixmox_core::manifest::{Declared, SystemRef};
use nixmox_core::model::{Service, StorePath};
use serde::Deserialize;

use crate::machine::Machine;
use crate::render::Report;
use git::Hidden;

/// Why a system has no store path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A link cannot be followed.
    #[error("cannot follow {link}, the system of {service}", link = link.display())]
    Link {
        /// The service.
        service: String,
        /// The link.
        link: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link leads elsewhere.
    #[error("{link}, the system of {service}, leads to {target}", link = link.display(), target = target.display())]
    NotInStore {
        /// The service.
        service: String,
        /// The link.
        link: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A NixOS module, which this version cannot build.
    #[error("{module}, the system of {service}, is a NixOS module", module = module.display())]
    Module {
        /// The service.
        service: String,
        /// The module.
        module: PathBuf,
    },
    /// There is no nix.
    #[error("there is no nix to build {installables} with", installables = installables.join(", "))]
    NoNix {
        /// What was to be built.
        installables: Vec<String>,
    },
    /// nix cannot be started.
    #[error("cannot run nix")]
    Nix(#[source] io::Error),
    /// nix failed, and has said why on stderr.
    #[error("nix build failed: {status}", status = .status)]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What was to be built.
        installables: Vec<String>,
        /// What git kept from it; `None`: nothing that is known.
        hidden: Option<Hidden>,
    },
    /// nix said something that is not understood.
    #[error("nix build said something that nixmoxctl does not understand")]
    Answer(#[source] serde_json::Error),
    /// nix built something that is not one store path.
    #[error("{installable} is not one store path")]
    NotOnePath {
        /// What was built.
        installable: String,
    },
}

impl BuildError {
    /// Returns the complaint.
    pub(crate) fn report(&self, machine: &Machine) -> Report {
        let report = Report::new(self.to_string()).causes(self);
        match self {
            Self::Link { link, .. } => {
                let lost = link.read_link().ok().filter(|target| target.starts_with("/nix/store"));
                let lost = lost.map(
                    |_| "what it leads to is not in the store any more: nix keeps it for a link that stays where it was made",
                );
                report
                    .row("", lost.unwrap_or_default())
                    .row("try", format!("nix build -o {} INSTALLABLE makes it", link.display()))
            }
            Self::NotInStore { .. } => report
                .row("why", "a system is a store path: /nix/store/<hash>-<name>, with its init at the top")
                .row("try", "point `system` to the result of nix build"),
            Self::Module { .. } => report
                .row("why", "modules cannot be built by this version yet")
                .row("try", "make it an output of a flake and write system = \".#NAME\"")
                .row("", "or build it with nix build, and write system = \"./result\""),
            Self::NoNix { .. } => match machine.nix() {
                Some(folder) => report
                    .row("why", format!("it is installed in {}, which PATH does not name", folder.display()))
                    .row("try", format!("export PATH={}:$PATH, then the same again", folder.display())),
                None => report
                    .row("why", "systems of a flake are built by whoever runs nixmoxctl, and nix is not installed")
                    .row("try", "install nix: https://nixos.org/download")
                    .row("", "or build elsewhere, and write the path: system = \"/nix/store/...\""),
            },
            Self::Nix(_) => report.row("try", "nix --version, which has to work for you"),
            Self::Failed { installables, hidden, .. } => {
                let report = report.rows("for", installables);
                let report = match hidden {
                    Some(hidden) if hidden.is_the_cause() => return hidden.told(report),
                    Some(hidden) => hidden.told(report),
                    None => report,
                };
                let key = if hidden.is_some() { "" } else { "try" };
                report.row(key, "see what nix said above")
            }
            Self::Answer(_) => report.row("try", "nix --version; 2.4 or newer is needed"),
            Self::NotOnePath { .. } => report.row("try", "name an output that is one derivation"),
        }
    }
}

/// Returns every service with its system's store path, in order. Builds what is to be built, all at once; nix
/// reports on stderr.
pub(crate) fn build(machine: &Machine, declared: &[Declared]) -> Result<Vec<Service>, BuildError> {
    let mut flakes: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for declared in declared {
        if let SystemRef::Flake { installable, folder } = &declared.service.system {
            let installables = flakes.entry(folder).or_default();
            if !installables.contains(&installable.as_str()) {
                installables.push(installable);
            }
        }
    }
    // Faults that need no nix are told before it is run.
    let known: Vec<Option<Service>> = declared.iter().map(without_nix).collect::<Result<_, _>>()?;
    let mut built: BTreeMap<(&Path, &str), StorePath> = BTreeMap::new();
    for (folder, installables) in flakes {
        let paths = nix_build(machine, folder, &installables)?;
        built.extend(installables.iter().map(|installable| (folder, *installable)).zip(paths));
    }
    let with_path = |(declared, known): (&Declared, Option<Service>)| match (&declared.service.system, known) {
        (_, Some(service)) => Some(service),
        (SystemRef::Flake { installable, folder }, None) => {
            Some(declared.with_system(built.get(&(folder.as_path(), installable.as_str()))?.clone()))
        }
        (SystemRef::Module(_) | SystemRef::Link(_) | SystemRef::StorePath(_) | SystemRef::Adopted, None) => None,
    };
    Ok(declared.iter().zip(known).filter_map(with_path).collect())
}

/// Returns a service whose system needs no build; `None`: it does.
fn without_nix(declared: &Declared) -> Result<Option<Service>, BuildError> {
    if let Some(ready) = declared.ready() {
        return Ok(Some(ready));
    }
    let service = || declared.service.name.to_string();
    match &declared.service.system {
        SystemRef::Link(link) => {
            let target = link.canonicalize().map_err(|source| BuildError::Link {
                service: service(),
                link: link.clone(),
                source,
            })?;
            match target.to_str().and_then(|target| target.parse::<StorePath>().ok()) {
                Some(path) => Ok(Some(declared.with_system(path))),
                None => Err(BuildError::NotInStore { service: service(), link: link.clone(), target }),
            }
        }
        SystemRef::Module(module) => Err(BuildError::Module { service: service(), module: module.clone() }),
        SystemRef::Flake { .. } | SystemRef::StorePath(_) | SystemRef::Adopted => Ok(None),
    }
}

/// What `nix build --json` says of one thing it built.
#[derive(Debug, Deserialize)]
struct Built {
    #[serde(default)]
    outputs: BTreeMap<String, Option<String>>,
}

/// Builds flake outputs and returns their store paths, in order.
fn nix_build(machine: &Machine, folder: &Path, installables: &[&str]) -> Result<Vec<StorePath>, BuildError> {
    let all = run_nix(machine, folder, installables)?;
    if all.len() == installables.len() {
        return installables.iter().zip(&all).map(|(installable, built)| path_of(installable, built)).collect();
    }
    // Names that lead to the same derivation are told together: which is which is asked one by one. All is built.
    let one = |installable: &&str| match run_nix(machine, folder, &[installable])?.as_slice() {
        [built] => path_of(installable, built),
        _ => Err(BuildError::NotOnePath { installable: (*installable).to_owned() }),
    };
    installables.iter().map(one).collect()
}

fn run_nix(machine: &Machine, folder: &Path, installables: &[&str]) -> Result<Vec<Built>, BuildError> {
    let names = || installables.iter().map(|installable| (*installable).to_owned()).collect();
    let output = machine
        .program("nix")
        // A host may not have switched flakes on; they are what was asked for here.
        .args(["--extra-experimental-features", "nix-command flakes", "build", "--no-link", "--json", "--"])
        .args(installables)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BuildError::NoNix { installables: names() },
            _ => BuildError::Nix(source),
        })?;
    if !output.status.success() {
        let hidden = installables.iter().find_map(|installable| Hidden::find(machine, folder, installable));
        return Err(BuildError::Failed { status: output.status, installables: names(), hidden });
    }
    serde_json::from_slice(&output.stdout).map_err(BuildError::Answer)
}

/// Returns the sizes of systems with all that they need, in bytes; those that nix does not know are left out.
pub(crate) fn closure_sizes<'a>(
    machine: &Machine,
    systems: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, u64> {
    let mut systems: Vec<&str> = systems.collect();
    systems.sort_unstable();
    systems.dedup();
    let size = |system: &str| {
        let output = machine
            .program("nix")
            .args(["--extra-experimental-features", "nix-command", "path-info", "--closure-size", "--", system])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        // The path, blanks, the size.
        let text = String::from_utf8(output.stdout).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    systems.into_iter().filter_map(|system| Some((system.to_owned(), size(system)?))).collect()
}

/// Returns the path of what was built: its output `out`, else its only one.
fn path_of(installable: &str, built: &Built) -> Result<StorePath, BuildError> {
    let only = || built.outputs.values().next().filter(|_| built.outputs.len() == 1);
    let path = built.outputs.get("out").or_else(only).and_then(Option::as_ref);
    path.and_then(|path| path.parse().ok())
        .ok_or_else(|| BuildError::NotOnePath { installable: installable.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_built_is_its_output_out_or_its_only_one() {
        let built = |text: &str| path_of(".#x", &serde_json::from_str::<Built>(text).unwrap());
        let path = format!("/nix/store/{}-x", "a".repeat(32));
        assert_eq!(built(&format!(r#"{{"outputs":{{"dev":"/x","out":"{path}"}}}}"#)).unwrap().as_str(), path);
        assert_eq!(built(&format!(r#"{{"drvPath":"/d","outputs":{{"lib":"{path}"}}}}"#)).unwrap().as_str(), path);
        assert!(built(r#"{"outputs":{"a":"/a","b":"/b"}}"#).is_err());
        assert!(built(r#"{"outputs":{"out":null}}"#).is_err());
    }
}
