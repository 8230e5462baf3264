//! Configurations that are right, each with what comes of it, and configurations that are wrong, each with what is said about it.
//!
//! `good/NAME.nix` has beside it `NAME.txt`: its texts, without those that are the same as in `good/minimal.nix`. What is expected
//! of `bad/NAME.nix` stands at its top, one line for each message:
//!
//! ```text
//! # Expected: refused when it is evaluated, with this in the message
//! # Refused when built: evaluated, and then refused by nixmoxctl or the agent, with this in the message
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nixmox_testbed::{NixRoot, Programs, workspace_root};

use super::evaluation::{Evaluated, Nixpkgs};
use super::reference;

/// The case that the others are told apart from.
const MINIMAL: &str = "minimal";

/// How an expected message begins, and when it is expected.
const EXPECTED: &str = "# Expected: ";
const REFUSED: &str = "# Refused when built: ";

/// What comes of the good ones, by name.
pub(super) type Good = BTreeMap<String, Evaluated>;

/// Evaluates the good ones, and has what comes of them checked by the real programs.
pub(super) fn good(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Programs) -> Result<Good> {
    let mut all = Good::new();
    for name in names("good", "nix")? {
        let case = format!("good/{name}");
        let evaluated = nixpkgs.case(root, &case).with_context(|| format!("{case}.nix"))?;
        let complaints = complaints(root, &evaluated, programs)?;
        ensure!(complaints.is_empty(), "{case}.nix: what it makes is refused:\n{complaints}");
        all.insert(name, evaluated);
    }
    Ok(all)
}

/// Compares the texts of the good ones.
pub(super) fn texts(good: &Good, nixpkgs: &Nixpkgs) -> Result<()> {
    for name in names("good", "txt")? {
        ensure!(good.contains_key(&name), "good/{name}.txt is about no case: there is no good/{name}.nix");
    }
    if !nixpkgs.writes_as_stand_in() {
        println!("left to the stand-in: NixOS writes more into a unit than the module says");
        return Ok(());
    }
    let minimal = minimal(good)?;
    let mut wrong = String::new();
    for (name, evaluated) in good {
        let beside = (name != MINIMAL).then_some(minimal);
        if let Err(error) =
            reference::compare(&folder("good").join(format!("{name}.txt")), &page(evaluated, beside))
        {
            writeln!(wrong, "{error:#}")?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// Returns the case that the others are told apart from.
pub(super) fn minimal(good: &Good) -> Result<&Evaluated> {
    good.get(MINIMAL).context("there is no good/minimal.nix")
}

/// Evaluates the bad ones and looks for what is expected in what is said; nothing beyond it may be wrong.
pub(super) fn bad(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Programs) -> Result<()> {
    let names = names("bad", "nix")?;
    ensure!(!names.is_empty(), "there are no bad configurations");
    let mut wrong = String::new();
    for name in names {
        if let Err(error) = bad_one(root, nixpkgs, programs, &name) {
            writeln!(wrong, "bad/{name}.nix: {error:#}")?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

fn bad_one(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Programs, name: &str) -> Result<()> {
    let path = folder("bad").join(format!("{name}.nix"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let after = |prefix| text.lines().filter_map(move |line| line.strip_prefix(prefix));
    let expected: Vec<&str> = after(EXPECTED).collect();
    let refused: Vec<&str> = after(REFUSED).collect();
    let told = match nixpkgs.case(root, &format!("bad/{name}")) {
        Err(error) if refused.is_empty() => format!("{error:#}"),
        Err(error) => bail!("it is refused too early:\n{error:#}"),
        Ok(_) if !expected.is_empty() => bail!("it is taken for a good one"),
        Ok(evaluated) => complaints(root, &evaluated, programs)?,
    };
    ensure!(!expected.is_empty() || !refused.is_empty(), "it does not say what is expected");
    for message in expected.iter().chain(&refused) {
        ensure!(told.contains(message), "`{message}` is not said, but:\n{told}");
    }
    // Each failed assertion begins a line of its own.
    let assertions = told.split_once("Failed assertions:").map_or("", |(_, assertions)| assertions);
    let assertions = assertions.lines().filter(|line| line.trim_start().starts_with("- ")).count();
    ensure!(assertions == 0 || assertions == expected.len(), "more is said than expected:\n{told}");
    Ok(())
}

/// Returns what the real programs say about the manifests and the settings; nothing when all is right.
fn complaints(root: &NixRoot, evaluated: &Evaluated, programs: &Programs) -> Result<String> {
    let (mut told, mut refusals) = (String::new(), String::new());
    let mut ask = |program: &Path, arguments: &[&str], file: &Path| -> Result<()> {
        let output = Command::new(program).args(arguments).arg(root.outside(file)).output();
        let output = output.with_context(|| format!("cannot start {}", program.display()))?;
        if !output.status.success() {
            told.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    for (stack, text) in &evaluated.manifests {
        ask(&programs.ctl, &["check", "--file"], &root.put(&format!("checked/{stack}/nixmox.toml"), text)?)?;
    }
    for (stack, file) in &evaluated.files {
        match take_over(root, stack, file)? {
            Ok(manifest) => ask(&programs.ctl, &["check", "--file"], &manifest)?,
            Err(refusal) => refusals.push_str(&refusal),
        }
    }
    ask(&programs.agent, &["--check-settings"], &root.put("checked/agent.toml", &evaluated.settings)?)?;
    Ok(told + &refusals)
}

/// Does with a manifest that was written by hand what is done with it when the system is built; returns the manifest to be, or why
/// there is none.
fn take_over(root: &NixRoot, stack: &str, file: &Path) -> Result<Result<PathBuf, String>> {
    let option = format!("services.nixmox.stacks.{stack}");
    let about = root.put(&format!("taken-over/{stack}/about"), &format!("{}\n", file.display()))?;
    let target = about.with_file_name("stack");
    let script = Path::new(NixRoot::SOURCE).join("nixos-module/manifest/take-over.sh");
    let (folder, name) = (file.parent().unwrap_or(file), file.file_name().unwrap_or_default());
    let _ = std::fs::remove_dir_all(root.outside(&target));
    let argv = ["bash".as_ref(), script.as_os_str(), folder.as_os_str(), name, option.as_ref(), target.as_os_str()];
    let output = root.run(&argv)?;
    if !output.success() {
        return Ok(Err(output.stderr));
    }
    let manifest = target.join("nixmox.toml");
    let text = std::fs::read_to_string(root.outside(&manifest)).context("take-over.sh left no manifest")?;
    ensure!(text.contains(&format!("owner = \"{option}\"\n")), "take-over.sh wrote no owner:\n{text}");
    Ok(Ok(manifest))
}

/// Returns the texts of a case as one page, without those that `beside` has too.
fn page(evaluated: &Evaluated, beside: Option<&Evaluated>) -> String {
    let mut page = String::new();
    for (place, text) in &evaluated.texts {
        let known = beside.and_then(|other| other.texts.get(place));
        if known == Some(text) || (known.is_none() && text.is_empty()) {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = write!(page, "==> {place} <==\n{text}");
        if !text.ends_with('\n') && !text.is_empty() {
            page.push('\n');
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

fn folder(kind: &str) -> PathBuf {
    workspace_root().join("nixos-module/tests").join(kind)
}

/// Returns the names of the files of a folder that end so, sorted.
fn names(kind: &str, extension: &str) -> Result<Vec<String>> {
    let folder = folder(kind);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == extension));
    let mut names: Vec<String> = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}
