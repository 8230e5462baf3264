//! Commands on stack files: check, config, schema, and what a system that is no store path leads to.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::testing::{Place, sample};

fn stack(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nixmox.toml"), text).unwrap();
    folder
}

fn run(folder: &Path, arguments: &str) -> String {
    Place::in_folder(folder).run(arguments).told(folder)
}

#[test]
fn check_counts_services_and_needs_no_agent() {
    let folder = stack(sample::STACK);
    assert_snapshot!(run(folder.path(), "check"));
}

#[test]
fn check_shows_every_mistake_of_every_file() {
    let text = sample::STACK
        .replace("name = \"cloud\"", "name = \"cloud\"\ninclude = [\"services/*/service.toml\", \"wiki.toml\"]");
    let folder = stack(&text.replace("health]", "helth]"));
    let included = folder.path().join("services/ollama");
    fs::create_dir_all(&included).unwrap();
    fs::write(included.join("service.toml"), "sytem = \"./result\"\n").unwrap();
    assert_snapshot!(run(folder.path(), "check"));
}

#[test]
fn included_files_are_services_named_after_their_folder() {
    let folder = stack("format = 1\n[stack]\nname = \"cloud\"\ninclude = [\"services/*/service.toml\"]\n");
    for name in ["b", "a", ".hidden"] {
        let included = folder.path().join("services").join(name);
        fs::create_dir_all(&included).unwrap();
        fs::write(included.join("service.toml"), "system = \".#x\"\n").unwrap();
    }
    let ran = Place::in_folder(folder.path()).run("config");
    let names: Vec<String> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str::<nixmox_api::Service>(line).unwrap())
        .map(|service| format!("{} {} {}", service.name, service.origin.file, service.system.unwrap()))
        .collect();
    assert_eq!(names, ["a services/a/service.toml .#x", "b services/b/service.toml .#x"]);
}

#[test]
fn a_pattern_that_matches_nothing_yet_is_only_a_warning() {
    let text =
        sample::STACK.replace("name = \"cloud\"", "name = \"cloud\"\ninclude = [\"services/*/service.toml\"]");
    assert_snapshot!(run(stack(&text).path(), "check"));
}

#[test]
fn every_example_is_a_stack_without_a_complaint() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut names = Vec::new();
    let entries = fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    for folder in entries.filter(|path| path.is_dir()) {
        let ran = Place::in_folder(&folder).run("check");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", folder.display());
        names.push(folder.file_name().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["homelab", "nixos"]);
}

#[test]
fn a_stack_file_is_found_above_and_by_name() {
    let folder = stack(sample::STACK);
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let ran = Place::in_folder(&below).run("check");
    assert!(ran.out.ends_with("/nixmox.toml: 3 services, no problems\n"), "{ran:?}");
    fs::rename(folder.path().join("nixmox.toml"), folder.path().join("other.toml")).unwrap();
    assert_snapshot!(run(&below, "check"));
}

#[test]
fn a_module_or_a_broken_link_is_refused_with_the_way_out() {
    let module = sample::STACK.replace("/nix/store/cccccccccccccccccccccccccccccccc-caddy", "./caddy.nix");
    let link = sample::STACK.replace("/nix/store/cccccccccccccccccccccccccccccccc-caddy", "./result");
    let folder = stack(&module);
    let mut text = run(folder.path(), "plan");
    let folder = stack(&link);
    text += &run(folder.path(), "plan");
    let result = folder.path().join("result");
    std::os::unix::fs::symlink("/nix/store/cccccccccccccccccccccccccccccccc-caddy", &result).unwrap();
    text += &run(folder.path(), "plan");
    fs::remove_file(&result).unwrap();
    std::os::unix::fs::symlink("/", &result).unwrap();
    text += &run(folder.path(), "plan");
    assert_snapshot!(text);
}

#[test]
fn the_schema_is_json_for_both_kinds_of_files() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in ["schema", "schema service"] {
        let ran = Place::in_folder(folder.path()).run(arguments);
        let schema: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    }
}

#[test]
fn check_tells_programs_every_diagnostic_with_its_place() {
    let folder = stack(&sample::STACK.replace("health]", "helth]"));
    let place = Place::in_folder(folder.path());
    let ran = place.run("check --json");
    let told: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, ran.err.as_str(), ran.out.lines().count()), (1, "", 1), "{ran:?}");
    let first = &told["diagnostics"][0];
    assert_eq!((&first["severity"], &first["message"]), (&"error".into(), &"unknown key `helth`".into()));
    assert_eq!(first["place"], serde_json::json!({ "file": "nixmox.toml", "line": 12, "column": 21, "label": "" }));
    fs::write(folder.path().join("nixmox.toml"), sample::STACK).unwrap();
    let ran = place.run("check --json");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, "{\"diagnostics\":[],\"file\":\"nixmox.toml\",\"services\":3}\n");
}

/// The blocks of a page that begin with this line.
fn blocks<'a>(page: &'a str, begin: &str) -> Vec<&'a str> {
    page.split(begin).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
}

#[test]
fn the_manifest_of_the_readme_is_a_stack_without_a_complaint() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let manifests = blocks(&readme, "\n```toml\n");
    assert_eq!(manifests.len(), 1);
    let ran = Place::in_folder(stack(manifests[0]).path()).run("check");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.ends_with("3 services, no problems\n"), "{}", ran.out);
}

#[test]
fn what_a_manifest_holds_does_not_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "format = 1\n[stack]\nname = \"cloud\"\n[\"serv\\u001b[31mices\".web]\n\
                    # \u{1b}]0;owned\u{7}\nsystem = \"./web\"\nmuonts = [] # \u{202e}\n";
    std::fs::write(folder.path().join("nixmox.toml"), manifest).unwrap();
    let ran = Place::in_folder(folder.path()).run("check");
    assert_eq!(ran.code, 1, "{}", ran.err);
    let told = format!("{}{}", ran.out, ran.err);
    assert!(told.contains("ices") && told.contains("web"), "{told}");
    assert!(!told.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{told:?}");
}
