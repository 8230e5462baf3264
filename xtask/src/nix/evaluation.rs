//! Evaluating one configuration: a case in, texts by the place where they end up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nixmox_testbed::NixRoot;
use serde::Deserialize;

/// The nixpkgs that is evaluated with.
pub(crate) enum Nixpkgs {
    /// Ours.
    StandIn,
    /// Ours, but for its `lib`.
    Lib(PathBuf),
    /// A whole one.
    Whole(PathBuf),
}

/// What comes of a configuration; see `nixos-module/tests/evaluate.nix`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Evaluated {
    /// Every text by its place.
    pub(super) texts: BTreeMap<String, String>,
}

impl Nixpkgs {
    /// Looks at what was given.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::StandIn) };
        let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
        match (path.join("nixos/lib/eval-config.nix").exists(), path.join("lib/default.nix").exists()) {
            (true, _) => Ok(Self::Whole(path)),
            (false, true) => Ok(Self::Lib(path)),
            (false, false) => {
                bail!(
                    "{} is no nixpkgs: it has neither nixos/lib/eval-config.nix nor lib/default.nix",
                    path.display()
                )
            }
        }
    }

    /// Returns what is to be bound at [`NixRoot::NIXPKGS`].
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::StandIn => None,
            Self::Lib(path) | Self::Whole(path) => Some(path),
        }
    }

    /// Returns whether texts are those of the stand-in: NixOS itself writes more into a unit.
    pub(super) fn writes_as_stand_in(&self) -> bool {
        match self {
            Self::StandIn | Self::Lib(_) => true,
            Self::Whole(_) => false,
        }
    }

    /// Returns where commands find the nixpkgs whose NixOS is evaluated.
    pub(super) fn folder(&self) -> String {
        match self {
            Self::StandIn | Self::Lib(_) => format!("{}/nixos-module/tests/stand-in", NixRoot::SOURCE),
            Self::Whole(_) => NixRoot::NIXPKGS.to_owned(),
        }
    }

    /// Evaluates a file of `nixos-module/tests` to JSON.
    ///
    /// # Errors
    /// When it cannot be evaluated: the message is Nix's.
    pub(super) fn evaluate(&self, root: &NixRoot, file: &str, arguments: &[(&str, String)]) -> Result<String> {
        let flags = ["nix-instantiate", "--eval", "--strict", "--json"];
        let output = root.run(&self.command(&flags, file, arguments))?;
        if !output.success() {
            bail!("{}", output.stderr);
        }
        Ok(output.stdout)
    }

    fn command(&self, flags: &[&str], file: &str, arguments: &[(&str, String)]) -> Vec<String> {
        let mut argv: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        argv.push(format!("{}/nixos-module/tests/{file}", NixRoot::SOURCE));
        let mut give = |name: &str, value: String| argv.extend(["--arg".to_owned(), name.to_owned(), value]);
        give("nixpkgs", self.folder());
        if matches!(self, Self::Lib(_)) {
            give("lib", format!("import {}/lib", NixRoot::NIXPKGS));
        }
        for (name, value) in arguments {
            give(name, value.clone());
        }
        argv
    }

    /// Evaluates the host of one case, `good/NAME` or `bad/NAME`.
    ///
    /// # Errors
    /// When it cannot be evaluated: the message is Nix's.
    pub(super) fn case(&self, root: &NixRoot, case: &str) -> Result<Evaluated> {
        let json = self.evaluate(root, "evaluate.nix", &[("case", path(case))])?;
        let mut evaluated: Evaluated =
            serde_json::from_str(&json).context("evaluate.nix returned something else")?;
        evaluated.texts.values_mut().for_each(|text| *text = without_hashes(text));
        Ok(evaluated)
    }

    /// Builds what our programs check of one case; returns where commands find it, or what was refused.
    ///
    /// `programs` is the folder in which commands find them.
    pub(super) fn build(&self, root: &NixRoot, case: &str, programs: &Path) -> Result<Result<String, String>> {
        let arguments = [("case", path(case)), ("programs", programs.display().to_string())];
        // Whole, and after the others too.
        let flags =
            ["nix-build", "--no-out-link", "--keep-going", "--attr", "built", "--option", "log-lines", "1000"];
        let output = root.run(&self.command(&flags, "evaluate.nix", &arguments))?;
        Ok(if output.success() { Ok(output.stdout.trim().to_owned()) } else { Err(output.stderr) })
    }

    /// Returns whether things can be built: those of nixpkgs itself cannot, without a network.
    pub(super) fn builds(&self) -> bool {
        match self {
            Self::StandIn | Self::Lib(_) => true,
            Self::Whole(_) => false,
        }
    }
}

fn path(case: &str) -> String {
    format!("{}/nixos-module/tests/{case}.nix", NixRoot::SOURCE)
}

/// Replaces the hashes of store paths: each depends on all that a thing is made of.
fn without_hashes(text: &str) -> String {
    const STORE: &str = "/nix/store/";
    const HASH: usize = 32;
    let mut rest = text;
    let mut result = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once(STORE) {
        result.push_str(before);
        result.push_str(STORE);
        rest = match after.get(..HASH) {
            Some(hash) if hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                result.push_str("HASH");
                after.get(HASH..).unwrap_or_default()
            }
            _ => after,
        };
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::without_hashes;

    #[test]
    fn hashes_of_store_paths_are_left_out() {
        let path = "a /nix/store/kld8bi4hnk8sis1yl92p6hd62nq0x7m8-nixos/init /nix/store/short b";
        assert_eq!(without_hashes(path), "a /nix/store/HASH-nixos/init /nix/store/short b");
    }
}
