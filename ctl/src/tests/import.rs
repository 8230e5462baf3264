//! `import compose` as a command: where it writes, what it refuses, what it says.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::testing::Place;

const FILE: &str = "\
name: cloud
services:
  db:
    image: redis:7
    command: redis-server --requirepass canary
    volumes: [data:/data]
  home:
    image: example/homepage
    depends_on: [db]
";

fn folder(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("compose.yml"), text).unwrap();
    folder
}

/// The files below a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let pattern = folder.join("**/*");
    let paths = glob::glob(pattern.to_str().unwrap()).unwrap().map(Result::unwrap).filter(|path| path.is_file());
    paths.map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
}

#[test]
fn a_stack_is_written_beside_and_everything_else_is_said() {
    let folder = folder(FILE);
    let ran = Place::in_folder(folder.path()).on_terminal(80).run("import compose compose.yml");
    assert_snapshot!(ran.told(folder.path()));
    let expected = [
        "cloud/flake.nix",
        "cloud/guest.nix",
        "cloud/nixmox.toml",
        "cloud/services/db/service.nix",
        "cloud/services/db/service.toml",
        "compose.yml",
    ];
    assert_eq!(files(folder.path()), expected);
    let checked = Place::in_folder(folder.path()).run("check -f cloud");
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
}

#[test]
fn the_file_is_found_by_its_usual_names() {
    let folder = folder(FILE);
    let ran = Place::in_folder(folder.path()).run("import compose -o there");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(folder.path().join("there/nixmox.toml").is_file());
    let empty = tempfile::tempdir().unwrap();
    let ran = Place::in_folder(empty.path()).run("import compose");
    assert_snapshot!(ran.told(empty.path()));
}

#[test]
fn nothing_is_replaced_unasked() {
    let folder = folder(FILE);
    let place = Place::in_folder(folder.path());
    assert_eq!(place.run("import compose").code, 0);
    let module = folder.path().join("cloud/services/db/service.nix");
    fs::write(&module, "mine").unwrap();
    let ran = place.run("import compose");
    assert_snapshot!(ran.told(folder.path()));
    assert_eq!(fs::read_to_string(&module).unwrap(), "mine");
    assert_eq!(place.run("import compose --force").code, 0);
    assert!(fs::read_to_string(&module).unwrap().contains("services.redis"));
}

#[test]
fn a_file_of_which_nothing_is_known_writes_nothing_and_fails() {
    let folder = folder("services:\n  a: {build: .}\n");
    let ran = Place::in_folder(folder.path()).run("import compose compose.yml");
    let told = ran.told(folder.path());
    assert_eq!(files(folder.path()), ["compose.yml"]);
    assert_snapshot!(told);
}

#[test]
fn a_broken_file_is_told_with_its_line() {
    let folder = folder("services:\n  a:\n    image: ${X\n");
    let mut told = Place::in_folder(folder.path()).run("import compose compose.yml").told(folder.path());
    told += &Place::in_folder(folder.path()).run("import compose gone.yml").told(folder.path());
    fs::write(folder.path().join("compose.yml"), b"services:\n  a: \xff\n").unwrap();
    told += &Place::in_folder(folder.path()).run("import compose compose.yml").told(folder.path());
    fs::write(folder.path().join("compose.yml"), "#".repeat(2 << 20)).unwrap();
    told += &Place::in_folder(folder.path()).run("import compose compose.yml").told(folder.path());
    assert_snapshot!(told);
}

#[test]
fn programs_are_told_everything_in_one_object() {
    let folder = folder(FILE);
    let ran = Place::in_folder(folder.path()).run("import compose --json compose.yml");
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (0, "", 1));
    assert_snapshot!(serde_json::to_string_pretty(&told).unwrap());
}

#[test]
fn the_help_of_compose_fits_and_can_be_typed() {
    let mut root = crate::cli::Cli::command().term_width(80);
    root.build();
    let import = root.find_subcommand("import").unwrap();
    let help = import.find_subcommand("compose").unwrap().clone().term_width(80).render_help().to_string();
    assert!(help.lines().all(|line| crate::render::width(line) <= 80), "{help}");
    let lines = help.lines().filter(|line| !line.starts_with("Usage"));
    let examples: Vec<&str> =
        lines.filter_map(|line| line.split_once("nixmoxctl ")).map(|(_, rest)| rest).collect();
    assert!(examples.len() >= 4, "{help}");
    for example in examples {
        let words = example.split(['|', '#']).next().unwrap_or_default().split_whitespace();
        let arguments = ["nixmoxctl"].into_iter().chain(words).map(Into::into);
        assert!(crate::cli::parse(arguments).is_ok(), "{example}");
    }
    assert_snapshot!(help);
}
