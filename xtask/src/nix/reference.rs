//! Files that are made from others and committed: compared, and with `UPDATE_REFERENCE` in the environment written anew.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nixmox_testbed::{Block, NixRoot, Programs, blocks, workspace_root};

use super::evaluation::Nixpkgs;

/// The page about the options.
const PAGE: &str = "docs/module.md";
/// The page whose host is one that a newcomer has.
const QUICKSTART: &str = "docs/quickstart.md";
/// How its block begins.
const HOST: &str = "# configuration.nix";
/// What makes them anew.
const ANEW: &str = "UPDATE_REFERENCE=1 cargo xtask nix";

/// Compares docs/module.md with the options.
pub(super) fn page(root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<()> {
    let page = nixpkgs.evaluate(root, "page.nix", &[])?;
    let page: String = serde_json::from_str(&page).context("page.nix returned something else than a text")?;
    match nixpkgs {
        Nixpkgs::StandIn => compare(&workspace_root().join(PAGE), &page),
        // Types have other descriptions there.
        Nixpkgs::Lib(_) | Nixpkgs::Whole(_) => Ok(()),
    }
}

/// Evaluates the hosts that pages show: those of docs/module.md, where a block below the name of an option is a value of it, and the
/// configuration in docs/quickstart.md.
pub(super) fn shown(root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<()> {
    let of_quickstart = blocks(QUICKSTART)?.into_iter().filter(|block| block.first_line().starts_with(HOST));
    let blocks: Vec<Block> = blocks(PAGE)?.into_iter().chain(of_quickstart).collect();
    ensure!(blocks.iter().any(|block| block.page == QUICKSTART), "{QUICKSTART} shows no host any more");
    ensure!(blocks.len() > 2, "{PAGE} shows no examples any more");
    for (number, block) in blocks.iter().enumerate() {
        let option = block.heading.strip_prefix('`').and_then(|heading| heading.strip_suffix('`'));
        let host = match option.filter(|_| block.page == PAGE) {
            Some(option) => format!("{{ {option} = {}; }}", block.text),
            None => block.text.clone(),
        };
        let host = root.put(&format!("shown-{number}.nix"), &host)?;
        nixpkgs.evaluate(root, "evaluate.nix", &[("case", host.display().to_string())]).with_context(|| {
            format!("{}, under {}: it cannot be evaluated:\n{}", block.page, block.heading, block.text)
        })?;
    }
    Ok(())
}

/// Compares the keys that options are made of with those that `nixmoxctl` knows.
pub(super) fn schema(programs: &Programs) -> Result<()> {
    let program = &programs.ctl;
    let output = Command::new(program).arg("schema").output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "nixmoxctl schema: {}", String::from_utf8_lossy(&output.stderr));
    let schema = String::from_utf8(output.stdout).context("the schema is not UTF-8")?;
    compare(&workspace_root().join("nixos-module/manifest/schema.json"), &schema)
}

/// Compares a committed file with what it should be, or writes it.
pub(super) fn compare(path: &Path, text: &str) -> Result<()> {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        return std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()));
    }
    let committed =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}; run: {ANEW}", path.display()))?;
    if committed == text {
        return Ok(());
    }
    let name = path.strip_prefix(workspace_root()).unwrap_or(path).display();
    let (old, new): (Vec<&str>, Vec<&str>) = (committed.lines().collect(), text.lines().collect());
    let at = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let line = |lines: &[&str]| lines.get(at).copied().unwrap_or("(its end)").to_owned();
    bail!(
        "{name} is not up to date, from line {}:\n- {}\n+ {}\nIf the new one is meant, run: {ANEW}",
        at + 1,
        line(&old),
        line(&new)
    )
}
