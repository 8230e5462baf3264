//! What docs/nixos-containers.md says: a row for each of nixpkgs' tests of containers, and the tests of ours that hold it.

use std::collections::BTreeSet;
use std::fs;

use super::{map, root, sources};

/// nixpkgs' `nixos/tests/containers-NAME.nix`.
const THEIRS: [&str; 19] = [
    "bridge",
    "custom-pkgs",
    "ephemeral",
    "extra_veth",
    "gateway",
    "hosts",
    "imperative",
    "imperative-no-daemon",
    "ip",
    "macvlans",
    "names",
    "nested",
    "physical_interfaces",
    "portforward",
    "reloadable",
    "require-bind-mounts",
    "restart_networking",
    "tmpfs",
    "unified-hierarchy",
];
/// Those for which there is nothing of ours to hold.
const NOT_OURS: [&str; 1] = ["restart_networking"];
const HEADING: &str = "What nixpkgs' tests of containers assert";

fn page() -> String {
    fs::read_to_string(root().join("docs/nixos-containers.md")).unwrap()
}

#[test]
fn every_test_of_theirs_has_a_row_and_what_it_names_exists() {
    let page = page();
    let rows = page.split(HEADING).nth(1).expect("the table").lines().filter(|line| line.starts_with("| "));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" |").collect()).collect();
    for name in THEIRS {
        let of: Vec<_> = rows.iter().filter(|row| row[0] == format!("| {name}")).collect();
        assert!(!of.is_empty(), "no row for {name}");
        let is_held = of.iter().all(|row| row[3].contains('`'));
        assert_eq!(is_held, !NOT_OURS.contains(&name), "{name}: {of:?}");
    }
    let files = sources();
    for name in map::tests(&page, HEADING) {
        let is_there = if name.contains('/') { root().join(&name).is_file() } else { map::exists(&name, &files) };
        assert!(is_there, "named as a holder, and not there: {name}");
    }
}

#[test]
fn every_case_of_ours_stands_in_the_table() {
    let named = map::tests(&page(), HEADING);
    let mut cases = BTreeSet::new();
    for (file, text) in sources() {
        let Some(module) = file.strip_prefix("tests/tests/matrix/").and_then(|file| file.strip_suffix(".rs"))
        else {
            continue;
        };
        for test in text.split("#[test]\nfn ").skip(1) {
            let test = test.split('(').next().unwrap_or_default();
            cases.insert(format!("matrix::{module}::{test}"));
        }
    }
    assert!(cases.len() > 15, "{cases:?}");
    let missing: Vec<_> = cases.difference(&named).collect();
    assert!(missing.is_empty(), "in no row: {missing:?}");
    let scripts = fs::read_dir(root().join("vm-tests/nixos")).unwrap().flatten().map(|entry| entry.path());
    let scripts = scripts.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
    let scripts = scripts.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    let page = page();
    let missing: Vec<_> = scripts.filter(|name| !page.contains(&format!("`vm-tests/nixos/{name}`"))).collect();
    assert!(missing.is_empty(), "named nowhere: {missing:?}");
}
