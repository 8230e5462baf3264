//! The module beside `systemd/`: what hosts that are not NixOS install, and what the module makes of the same.
//!
//! Both are read as settings without an order, and the difference is a file that is committed, `nixos-module/tests/units.diff`: what is
//! not in there may not differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use nixmox_testbed::workspace_root;

use super::cases::{Good, minimal};
use super::evaluation::{Evaluated, Nixpkgs};
use super::reference;

/// Keys whose value is a list of words, over one line or several.
const LISTS: [&str; 8] = [
    "After",
    "Documentation",
    "ReadWritePaths",
    "Requires",
    "RestrictAddressFamilies",
    "SystemCallFilter",
    "WantedBy",
    "Wants",
];

/// Compares the minimal case with `systemd/`.
pub(super) fn compare(good: &Good, nixpkgs: &Nixpkgs) -> Result<()> {
    if !nixpkgs.writes_as_stand_in() {
        println!("left to the stand-in: NixOS writes more into a unit than the module says");
        return Ok(());
    }
    let diff = difference(&installed()?, &made(minimal(good)?));
    reference::compare(&workspace_root().join("nixos-module/tests/units.diff"), &diff)
}

/// Returns the files of `systemd/` by name.
fn installed() -> Result<BTreeMap<String, String>> {
    let folder = workspace_root().join("systemd");
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("cannot list the units")?.path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

/// Returns what the module makes of them: its units, and the files beside them.
fn made(module: &Evaluated) -> BTreeMap<String, String> {
    let named = |place: &str| {
        let name = place.strip_prefix("units/").or_else(|| (place != "agent.toml").then_some(place))?;
        [".service", ".socket", ".network", ".conf"].iter().any(|end| name.ends_with(end)).then(|| name.to_owned())
    };
    module.texts.iter().filter_map(|(place, text)| Some((named(place)?, text.clone()))).collect()
}

/// Returns what differs, file by file: `-` stands in `systemd/` alone, `+` in the module.
fn difference(installed: &BTreeMap<String, String>, made: &BTreeMap<String, String>) -> String {
    let mut diff = String::new();
    let names: BTreeSet<&String> = installed.keys().chain(made.keys()).collect();
    for name in names {
        let lines: Vec<String> = match (installed.get(name), made.get(name)) {
            (Some(_), None) => vec!["- the file".to_owned()],
            (None, Some(_)) => vec!["+ the file".to_owned()],
            (installed, made) => {
                let (installed, made) = (settings(installed), settings(made));
                let only = |sign: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
                    one.difference(other).map(|line| format!("{sign} {line}")).collect()
                };
                [only("-", &installed, &made), only("+", &made, &installed)].concat()
            }
        };
        if !lines.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(diff, "{name}\n{}\n", lines.join("\n"));
        }
    }
    diff.truncate(diff.trim_end().len());
    diff + "\n"
}

/// Returns the settings of a unit, or the lines of another file, without their order and spelling.
fn settings(text: Option<&String>) -> BTreeSet<String> {
    let mut section = "";
    let mut settings = BTreeSet::new();
    for line in text.map(String::as_str).unwrap_or_default().lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            section = line;
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) if !section.is_empty() => {
                let words: Vec<&str> =
                    if LISTS.contains(&key) { value.split_whitespace().collect() } else { vec![value] };
                settings.extend(words.iter().map(|word| format!("{section} {key}={}", plain(word))));
            }
            _ => {
                settings.insert(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    settings
}

/// Writes a value in the one way of several that mean the same (systemd.syntax(7)).
fn plain(value: &str) -> &str {
    match value.trim_matches('"') {
        "true" => "yes",
        "false" => "no",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("a.service".to_owned(), text.to_owned())])
    }

    #[test]
    fn what_means_the_same_is_no_difference() {
        let ours = "# why\n[Unit]\nAfter=a b\n[Service]\nPrivateTmp=yes\nEnvironment=A=1\n";
        let theirs = "[Unit]\nAfter=b\nAfter=a\n\n[Service]\nEnvironment=\"A=1\"\nPrivateTmp=true\n";
        assert_eq!(difference(&files(ours), &files(theirs)), "\n");
    }

    #[test]
    fn every_setting_that_differs_is_told_with_its_side() {
        let ours = files("[Unit]\nAfter=a b\n[Service]\nUMask=0022\n");
        let theirs = files("[Unit]\nAfter=a\n[Service]\nUMask=0077\n");
        let told = "a.service\n- [Service] UMask=0022\n- [Unit] After=b\n+ [Service] UMask=0077\n";
        assert_eq!(difference(&ours, &theirs), told);
        assert_eq!(difference(&ours, &BTreeMap::new()), "a.service\n- the file\n");
    }
}
