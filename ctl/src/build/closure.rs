//! What nix knows of store paths: whether they are there, and what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use nixmox_core::model::StorePath;
use serde::de::IgnoredAny;

use super::run::FEATURES;
use crate::machine::Machine;

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
) -> Option<BTreeMap<String, Option<IgnoredAny>>> {
    let mut nix = machine.program("nix");
    // Caches are not asked: it is about this store.
    nix.args(FEATURES).args(["path-info", "--offline", "--json"]).args(options).arg("--").args(paths);
    let output = nix.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    if output.status.success() { serde_json::from_slice(&output.stdout).ok() } else { None }
}
