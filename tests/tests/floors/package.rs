//! What the NixOS package is built from: everything that a program or a test of it includes has to lie in there, where cargo alone sees
//! the whole tree, and so have the settings of the tools that check it there.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{root, rust_files};

/// Returns what the package's file set names, relative to the root of the workspace.
fn file_set() -> Vec<PathBuf> {
    let text = fs::read_to_string(root().join("nixos-module/package.nix")).unwrap();
    let (_, set) = text.split_once("fileset.unions [").expect("a file set");
    let (set, _) = set.split_once(']').expect("its end");
    set.lines().filter_map(|line| line.trim().strip_prefix("../")).map(PathBuf::from).collect()
}

/// Returns a path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn what_is_included_is_there_when_the_package_is_built() {
    let set = file_set();
    assert!(set.len() > 10, "{set:?}");
    let mut seen = 0;
    for file in rust_files().iter().filter(|file| !file.starts_with("fuzz")) {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for begin in ["include_str!(\"", "include_bytes!(\""] {
            for part in text.split(begin).skip(1) {
                let included = part.split('"').next().unwrap_or_default();
                let path = plain(&file.parent().unwrap().join(included));
                assert!(set.iter().any(|named| path.starts_with(named)), "{} includes {included}", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn tools_find_their_settings_when_they_check_the_package() {
    let set = file_set();
    let mut seen = 0;
    for entry in fs::read_dir(root()).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        // Without them rustfmt and clippy would go by their own.
        if name.extension().is_some_and(|extension| extension == "toml") {
            assert!(set.contains(&name), "{} is not there", name.display());
            seen += 1;
        }
    }
    assert!(seen > 2, "{seen}");
}
