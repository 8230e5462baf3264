//! The flake and the template, as Nix itself checks them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::NixRoot;

use super::evaluation::Nixpkgs;

/// Experimental for ever, and needed for `nix flake`.
const NIX: [&str; 4] = ["nix", "--extra-experimental-features", "nix-command flakes", "--offline"];

/// What the flake has outputs for.
pub(super) const SYSTEMS: [&str; 2] = ["x86_64-linux", "aarch64-linux"];

/// Asks whether the lock file is for these inputs: one that is not would be written anew, for which there is no network.
pub(super) fn lock(root: &NixRoot) -> Result<()> {
    let source = format!("path:{}", NixRoot::SOURCE);
    nix(root, &["metadata", &source, "--no-update-lock-file"], &[])
}

/// Evaluates every output for every system.
pub(super) fn flake(root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<()> {
    check(root, NixRoot::SOURCE, &[("nixpkgs", nixpkgs.folder())])
}

/// Returns the scripts of the NixOS tests among the checks of a system, by the name of the check.
pub(super) fn test_scripts(root: &NixRoot, nixpkgs: &Nixpkgs, system: &str) -> Result<BTreeMap<String, String>> {
    const SCRIPTS: &str = "checks: builtins.mapAttrs (_: check: check.testScript) \
        (removeAttrs checks (builtins.filter (name: !(checks.${name} ? testScript)) (builtins.attrNames checks)))";
    let checks = format!("path:{}#checks.{system}", NixRoot::SOURCE);
    let arguments = ["eval", &checks, "--json", "--apply", SCRIPTS, "--no-write-lock-file"];
    let json = nix_command(root, &arguments, &[("nixpkgs", nixpkgs.folder())])?;
    serde_json::from_str(&json).context("nix eval returned something else than scripts")
}

/// Evaluates what `nix flake init` copies, with this flake as it is here.
pub(super) fn template(root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<()> {
    let template = format!("{}/nixos-module/template", NixRoot::SOURCE);
    check(root, &template, &[("nixpkgs", nixpkgs.folder()), ("nixmox", NixRoot::SOURCE.to_owned())])
}

fn check(root: &NixRoot, flake: &str, inputs: &[(&str, String)]) -> Result<()> {
    let flake = format!("path:{flake}");
    nix(root, &["check", &flake, "--no-build", "--all-systems", "--no-write-lock-file"], inputs)
}

fn nix(root: &NixRoot, arguments: &[&str], inputs: &[(&str, String)]) -> Result<()> {
    nix_command(root, &[&["flake"], arguments].concat(), inputs).map(|_| ())
}

fn nix_command(root: &NixRoot, arguments: &[&str], inputs: &[(&str, String)]) -> Result<String> {
    let mut argv: Vec<String> = NIX.iter().chain(arguments).map(|&word| word.to_owned()).collect();
    for (input, place) in inputs {
        argv.extend(["--override-input".to_owned(), (*input).to_owned(), format!("path:{place}")]);
    }
    let output = root.run(&argv)?;
    ensure!(output.success(), "{}", output.stderr);
    Ok(output.stdout)
}
