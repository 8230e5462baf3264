//! The documentation, done: every block between fences is typed in on a real host, evaluated, or compared with what is printed.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expected")]

mod homelab;
mod install;
mod modules;
mod quickstart;

use std::time::Duration;

use nixmox_testbed::{Block, Options, Testbed, blocks, pages};

/// Longest time until an agent that was just started answers.
const LIMIT: Duration = Duration::from_mins(2);

/// Who reads the blocks of a page; each fails at a block that it does not know.
const READERS: [(&str, &str); 9] = [
    ("README.md", "here: homelab"),
    ("docs/builds.md", "here: modules"),
    ("docs/import.md", "the test target import"),
    ("docs/install.md", "here: install, and its guest in modules"),
    ("docs/manifest.md", "what it is made from is read in nixmox-core, its files below"),
    ("docs/metrics.md", "here: homelab"),
    ("docs/module.md", "cargo xtask nix"),
    ("docs/operations.md", "here: homelab"),
    ("docs/quickstart.md", "here: quickstart"),
];

/// Returns the blocks of a page.
fn read(page: &str) -> Vec<Block> {
    let blocks = blocks(page).expect("a page with fences in pairs");
    assert!(!blocks.is_empty(), "{page} has no blocks any more");
    blocks
}

/// Boots a host that finds nixpkgs where NixOS's module of NixMox puts it.
fn host_with_nixpkgs(name: &str) -> Testbed {
    let bed = Testbed::boot(&Options::new(name).without_homelab()).expect("the host boots");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    bed.stand_in_nixpkgs("/srv/nixpkgs").expect("nixpkgs");
    bed.succeed("mkdir -p /etc/nixmox && ln -s /srv/nixpkgs /etc/nixmox/nixpkgs").expect("linked");
    bed
}

#[test]
fn every_page_with_blocks_has_a_reader() {
    let with_blocks =
        pages().expect("pages").into_iter().filter(|page| !blocks(page).expect("readable").is_empty());
    let with_blocks: Vec<String> = with_blocks.collect();
    assert_eq!(with_blocks, READERS.map(|(page, _)| page));
}

#[test]
fn the_files_in_the_reference_of_the_manifest_are_taken() {
    let bed = Testbed::boot(&Options::new("reference").without_homelab()).expect("the host boots");
    let folder = "/srv/reference";
    let blocks = read("docs/manifest.md");
    let (files, keys): (Vec<Block>, Vec<Block>) =
        blocks.into_iter().partition(|block| block.text.starts_with("# "));
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let name = file.first_line().trim_start_matches("# ");
        let name = name.split(':').next().expect("a first part");
        bed.write_file(format!("{folder}/{name}"), &file.text, 0o644).expect("written");
    }
    bed.succeed(&format!("nixmoxctl check -f {folder}")).expect("both are right");
    // Each of the others is the example of one key, which nixmox-core reads in a stack.
    assert!(keys.iter().all(|block| block.heading.starts_with('`')), "{keys:?}");
}
