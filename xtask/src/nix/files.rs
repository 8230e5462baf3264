//! The files themselves: whether they parse, how they are laid out, and what in them nobody uses.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::{NixRoot, tool, workspace_root};

/// Files that become Nix when their placeholders are filled in.
const NOT_YET_NIX: [&str; 1] = ["tests/testbed/assets/guests-flake.nix"];

/// Where the files are laid out by the formatter: what users read and copy.
const FORMATTED: [&str; 4] = ["flake.nix", "nixos-module", "examples", "vm-tests"];

/// Parses every `.nix` file of the working tree.
pub(super) fn parse(root: &NixRoot) -> Result<()> {
    let files = tracked(&["."])?;
    let files = files.iter().filter(|file| !NOT_YET_NIX.contains(&file.as_str()));
    let mut argv = vec!["nix-instantiate".to_owned(), "--parse".to_owned()];
    argv.extend(files.map(|file| format!("{}/{file}", NixRoot::SOURCE)));
    let output = root.run(&argv)?;
    ensure!(output.success(), "{}", output.stderr);
    Ok(())
}

/// Compares the layout with the formatter's.
pub(super) fn format() -> Result<()> {
    let program = tool("nixfmt_rs", "0.5.3", "nixfmt")?;
    silent(&program, &["--check"], "cargo xtask nix names them; the formatter is nixfmt")
}

/// Looks for names that nobody uses.
pub(super) fn dead_code() -> Result<()> {
    let program = tool("deadnix", "1.3.1", "deadnix")?;
    silent(&program, &["--fail"], "take them out")
}

/// Runs a program on the files; what it says is a fault.
fn silent(program: &Path, flags: &[&str], help: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.current_dir(workspace_root()).args(flags).args(tracked(&FORMATTED)?).env("NO_COLOR", "1");
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let told = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{}{help}", String::from_utf8_lossy(&told));
    Ok(())
}

/// Returns the `.nix` files below these places that git tracks or would track.
fn tracked(places: &[&str]) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace_root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "--"]);
    let output = git.args(places).output().context("cannot start git")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).context("the name of a file is not UTF-8")?;
    let there = |file: &&str| Path::new(file).extension().is_some_and(|extension| extension == "nix");
    Ok(list.lines().filter(there).filter(|file| workspace_root().join(file).exists()).map(str::to_owned).collect())
}
