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

use anyhow::{Context as _, Result, bail, ensure};
use nixmox_testbed::{NixRoot, workspace_root};

use super::evaluation::{Evaluated, Nixpkgs};
use super::reference;

/// The case that the others are told apart from.
const MINIMAL: &str = "minimal";

/// Hosts of NixOS tests that declare stacks, as cases.
const ON_NIXOS: &str = "../../vm-tests/nixos";

/// Says of every system that a path refers to how NixOS's template would find its init: a shell reads it there, and reads no program.
const INITS: &str = r#"for path in $(nix-store --query --requisites "$1"); do
    if [ ! -e "$path/init" ]; then
        if [ -h "$path/init" ]; then echo "$path/init leads nowhere"; fi
    elif grep -q '^# Stands for a program' "$path/init"; then
        echo "$path/init is a program"
    else
        echo is read
    fi
done"#;

/// How an expected message begins, and when it is expected.
const EXPECTED: &str = "# Expected: ";
const REFUSED: &str = "# Refused when built: ";

/// What comes of the good ones, by name.
pub(super) type Good = BTreeMap<String, Evaluated>;

/// Evaluates the good ones.
pub(super) fn good(root: &NixRoot, nixpkgs: &Nixpkgs) -> Result<Good> {
    let mut all = Good::new();
    for name in names("good", "nix")? {
        let case = format!("good/{name}");
        let evaluated = nixpkgs.case(root, &case).with_context(|| format!("{case}.nix"))?;
        all.insert(name, evaluated);
    }
    Ok(all)
}

/// Builds the manifests and settings of the good ones and of the hosts of NixOS tests, which has them checked by the real programs in
/// the folder `programs`; and looks whether NixOS's template can start what they name.
pub(super) fn built(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Path) -> Result<()> {
    if !nixpkgs.builds() {
        println!("left to the stand-in: nothing of nixpkgs is built here");
        return Ok(());
    }
    let mut inits = 0;
    for case in [cases("good")?, cases(ON_NIXOS)?].concat() {
        let built = match nixpkgs.build(root, &case, programs)? {
            Ok(built) => built,
            Err(refused) => bail!("{case}.nix: {refused}"),
        };
        // A stack without one belongs to whoever runs `nixmoxctl up`, and a switch refuses it.
        let owner = "^owner = \"services\\.nixmox\\.stacks\\.";
        let find = ["find", "-L", &built, "-name", "nixmox.toml"];
        let without =
            root.run(&[&find[..], &["-exec", "grep", "--files-without-match", owner, "{}", "+"]].concat())?;
        ensure!(without.stdout.is_empty(), "{case}.nix: stacks without an owner:\n{}", without.stdout);
        let told = root.run(&["sh", "-euc", INITS, "sh", &built])?;
        ensure!(told.success(), "{case}.nix: {}", told.stderr);
        let (read, wrong): (Vec<&str>, Vec<&str>) = told.stdout.lines().partition(|line| *line == "is read");
        ensure!(wrong.is_empty(), "{case}.nix: not for NixOS's template:\n{}", wrong.join("\n"));
        inits += read.len();
    }
    ensure!(inits > 0, "no system with an init was looked at");
    Ok(())
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
pub(super) fn bad(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Path) -> Result<()> {
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

fn bad_one(root: &NixRoot, nixpkgs: &Nixpkgs, programs: &Path, name: &str) -> Result<()> {
    let path = folder("bad").join(format!("{name}.nix"));
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let after = |prefix| text.lines().filter_map(move |line| line.strip_prefix(prefix));
    let expected: Vec<&str> = after(EXPECTED).collect();
    let refused: Vec<&str> = after(REFUSED).collect();
    let told = match nixpkgs.case(root, &format!("bad/{name}")) {
        Err(error) if refused.is_empty() => format!("{error:#}"),
        Err(error) => bail!("it is refused too early:\n{error:#}"),
        Ok(_) if !expected.is_empty() => bail!("it is taken for a good one"),
        Ok(_) if !nixpkgs.builds() => return Ok(()),
        Ok(_) => match nixpkgs.build(root, &format!("bad/{name}"), programs)? {
            Ok(_) => bail!("it is built, as a good one"),
            Err(refused) => refused,
        },
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

/// Returns the configurations of a folder.
fn cases(kind: &str) -> Result<Vec<String>> {
    Ok(names(kind, "nix")?.iter().map(|name| format!("{kind}/{name}")).collect())
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
