//! What nix knows of store paths: whether they are there, and what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use nixmox_core::closure::{ClosureDifference, difference};
use nixmox_core::model::StorePath;
use serde::Deserialize;

use super::run::FEATURES;
use crate::machine::Machine;

/// What nix knows of a path.
#[derive(Debug, Deserialize)]
struct Info {
    /// Its own size, in bytes.
    #[serde(rename = "narSize", default)]
    size: u64,
}

/// What systems need, as nix was asked.
#[derive(Debug)]
pub(crate) struct Closures<'a> {
    machine: &'a Machine,
    /// Those that were asked for, each with its paths and their sizes; `None`: nix does not know it.
    known: BTreeMap<String, Option<BTreeMap<String, u64>>>,
}

impl<'a> Closures<'a> {
    pub(crate) fn new(machine: &'a Machine) -> Self {
        Self { machine, known: BTreeMap::new() }
    }

    /// Returns the size of a system with all that it needs, in bytes; `None`: nix does not know it.
    pub(crate) fn size(&mut self, system: &str) -> Option<u64> {
        Some(self.paths(system)?.values().fold(0, |sum: u64, size| sum.saturating_add(*size)))
    }

    /// Returns what differs inside; `None`: nix does not know one of both.
    pub(crate) fn difference(&mut self, from: &str, to: &str) -> Option<ClosureDifference> {
        self.paths(from)?;
        self.paths(to)?;
        let paths = |system: &str| self.known.get(system).and_then(Option::as_ref);
        let (from, to) = (paths(from)?, paths(to)?);
        Some(difference(lent(from), lent(to)))
    }

    fn paths(&mut self, system: &str) -> Option<&BTreeMap<String, u64>> {
        let machine = self.machine;
        let ask = || {
            let known = path_info(machine, &["--recursive"], std::iter::once(system))?;
            known.into_iter().map(|(path, info)| Some((path, info?.size))).collect()
        };
        self.known.entry(system.to_owned()).or_insert_with(ask).as_ref()
    }
}

fn lent(paths: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, u64)> {
    paths.iter().map(|(path, size)| (path.as_str(), *size))
}

/// Returns which of these paths are not valid: not in the store, or not known to nix. Where it cannot be asked, what is not
/// there at all.
pub(super) fn missing(machine: &Machine, paths: BTreeSet<&StorePath>) -> BTreeSet<StorePath> {
    let known = path_info(machine, &[], paths.iter().map(|path| path.as_str()));
    let is_missing = |path: &StorePath| match &known {
        Some(known) => known.get(path.as_str()).is_none_or(Option::is_none),
        None => !machine.file(path.as_str()).exists(),
    };
    paths.into_iter().filter(|path| is_missing(path)).cloned().collect()
}

/// Asks what nix knows of paths, by path; of one that is not valid nothing is known. `None`: there is no answer.
fn path_info<'a>(
    machine: &Machine,
    options: &[&str],
    paths: impl Iterator<Item = &'a str>,
) -> Option<BTreeMap<String, Option<Info>>> {
    let mut nix = machine.program("nix");
    // Caches are not asked: it is about this store.
    nix.args(FEATURES).args(["path-info", "--offline", "--json"]).args(options).arg("--").args(paths);
    let output = nix.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if output.status.success() { serde_json::from_slice(&output.stdout).ok() } else { None }
}
