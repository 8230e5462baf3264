//! The floors: imports go down only. Also that every file says what it owns, and that the map is true.
//!
//! `rules` is the table; `source` reads the paths that a file uses; `map` reads ARCHITECTURE.md, `matrix` a page, `sandbox` the unit.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

mod map;
mod matrix;
mod package;
mod rules;
mod sandbox;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::{CRATES, FLOORS, is_below};
use source::{module_of, used_paths};

/// The folders whose Rust files are read.
const FOLDERS: [&str; 8] = ["core", "tree", "api", "agent", "ctl", "tests", "xtask", "fuzz"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

/// Returns every Rust file of the workspace, relative to its root.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    files.sort();
    assert!(files.len() > 50, "the workspace is found");
    files
}

/// Returns the text of every Rust file of the workspace.
fn sources() -> BTreeMap<String, String> {
    let read = |file: PathBuf| (file.to_str().unwrap().to_owned(), fs::read_to_string(root().join(&file)).unwrap());
    rust_files().into_iter().map(read).collect()
}

/// Returns what a file of the workspace uses and may not, one line each.
fn violations(file: &str, text: &str) -> Vec<String> {
    let Some(module) = module_of(file) else { return Vec::new() };
    let mut found = Vec::new();
    for path in used_paths(text, &module) {
        for floor in FLOORS.iter().filter(|floor| is_below(&module, floor.module)) {
            let banned = floor.never.iter().any(|never| is_below(&path, never));
            let excepted = floor.except.iter().any(|except| is_below(&path, except))
                || floor.except_in.iter().any(|except| is_below(&module, except));
            if banned && !excepted {
                found.push(format!("{file}: {module} uses {path}: {}", floor.why));
            }
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let found: Vec<String> = rust_files()
        .iter()
        .flat_map(|file| violations(file.to_str().unwrap(), &fs::read_to_string(root().join(file)).unwrap()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_import_is_found() {
    for (file, text, used) in [
        ("core/src/plan/mod.rs", "use std::fs;", "std::fs"),
        ("core/src/lib.rs", "use std::{fmt, fs::File};", "std::fs::File"),
        ("core/src/health.rs", "fn now() -> u64 { std::time::Instant::now() }", "std::time::Instant::now"),
        ("core/src/health.rs", "use std::time;\nfn f() { time::SystemTime::now(); }", "std::time::SystemTime::now"),
        (
            "core/src/health.rs",
            "use std::time::{self, Duration};\nfn f() { time::Instant::now(); }",
            "std::time::Instant::now",
        ),
        ("core/src/network/mod.rs", "use std::net::{IpAddr, TcpStream as Stream};", "std::net::TcpStream"),
        ("core/src/status.rs", "async fn f() { tokio::spawn(g()); }", "tokio::spawn"),
        ("core/src/status.rs", "use ::zbus::Connection;", "zbus::Connection"),
        ("api/src/request.rs", "use nixmox_agent::host;", "nixmox_agent::host"),
        ("api/src/request.rs", "fn f() { std::env::var(\"X\"); }", "std::env::var"),
        ("agent/src/host/cgroup.rs", "use crate::reconcile::Reconciler;", "nixmox_agent::reconcile::Reconciler"),
        ("agent/src/host/live/mod.rs", "use super::super::server;", "nixmox_agent::server"),
        ("agent/src/server/session.rs", "use super::super::host::Host;", "nixmox_agent::host::Host"),
        ("agent/src/server/mod.rs", "pub use crate::{host::StepError, server};", "nixmox_agent::host::StepError"),
        ("agent/src/reconcile/mod.rs", "use crate::host::live::Live;", "nixmox_agent::host::live::Live"),
        ("agent/src/reconcile/mod.rs", "use crate::host::*;", "nixmox_agent::host::*"),
        ("agent/src/app.rs", "fn f() { crate::host::live::Live::new(); }", "nixmox_agent::host::live::Live::new"),
        ("ctl/src/commands/up.rs", "use nixmox_agent::server;", "nixmox_agent::server"),
        ("ctl/src/render/plan.rs", "use crate::commands::up;", "nixmoxctl::commands::up"),
        ("xtask/src/main.rs", "use nixmox_core::model;", "nixmox_core::model"),
    ] {
        let found = violations(file, text);
        assert!(!found.is_empty(), "{file}: {text}");
        let used = format!(" uses {used}: ");
        assert!(found.iter().all(|found| found.contains(&used)), "{text}: {found:?}");
    }
}

#[test]
fn what_only_looks_like_an_import_is_not_taken_for_one() {
    for text in [
        "// use std::fs;\n/* use std::fs; /* nested */ std::fs::read() */",
        "/// Returns what `std::fs::read` would.\nfn f() {}",
        "const TEXT: &str = \"use std::fs;\"; const RAW: &str = r#\"std::fs::read(\"x\")\"#;",
        "const QUOTE: char = '\"'; fn f<'a>(x: &'a str) {} // std::fs::read",
        "#[cfg(test)]\nmod tests {\n    use std::fs;\n    fn f() { if true { std::fs::read(\"{\"); } }\n}\n",
        "use std::net::IpAddr; use std::time::Duration;",
        "struct Fs; impl Fs { fn read() {} } fn f() { Fs::read(); fs::read(); }",
    ] {
        assert_eq!(violations("core/src/lib.rs", text), Vec::<String>::new(), "{text}");
    }
    let after = "#[cfg(test)]\nmod tests { fn f() {} }\nuse std::fs;";
    assert_eq!(violations("core/src/lib.rs", after).len(), 1, "what follows the tests is read");
}

#[test]
fn crates_depend_on_what_their_floor_allows() {
    for (folder, allowed) in CRATES {
        let path = root().join(folder).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap();
        for name in dependencies(&text) {
            let known = allowed.contains(&name);
            assert!(known, "{}: `{name}` is not among {allowed:?}", path.display());
        }
    }
    assert_eq!(
        dependencies("[dependencies]\na.workspace = true\nb = \"1\"\n[dev-dependencies]\nc = 1"),
        ["a", "b"]
    );
}

/// Returns what a crate is built with, without what only its tests need.
fn dependencies(text: &str) -> Vec<&str> {
    let lines = text.lines().skip_while(|line| line.trim() != "[dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split(['=', '.']).next()).map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_file_begins_with_what_it_owns() {
    let silent: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| !fs::read_to_string(root().join(file)).unwrap().starts_with("//! "))
        .collect();
    assert!(silent.is_empty(), "without `//!`: {silent:?}");
}

#[test]
fn the_map_names_every_folder() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = map::folders(&map);
    let tracked: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        // Hidden folders and what a build leaves are not of the project.
        .filter(|name| !name.starts_with('.') && name != "target" && !name.starts_with("result"))
        .collect();
    let missing: Vec<_> = tracked.iter().filter(|folder| !named.contains(*folder)).collect();
    assert!(missing.is_empty(), "not in the table of folders: {missing:?}");
}

#[test]
fn every_test_that_the_map_names_exists() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = map::tests(&map, "Invariants");
    assert!(named.len() >= 5, "the table of invariants is found: {named:?}");
    let files = sources();
    let missing: Vec<_> = named.iter().filter(|name| !map::exists(name, &files)).collect();
    let unexpected: Vec<_> = missing.iter().filter(|name| !map::NOT_YET.contains(&name.as_str())).collect();
    assert!(unexpected.is_empty(), "named as the holder of an invariant, and not there: {unexpected:?}");
    let done: Vec<_> = map::NOT_YET.iter().filter(|name| !missing.iter().any(|missing| missing == *name)).collect();
    assert!(done.is_empty(), "no longer missing, so no longer to be excused: {done:?}");
}

#[test]
fn memory_that_runs_out_ends_a_child_and_not_the_agent() {
    let unit = fs::read_to_string(root().join("systemd/nixmox-agent.service")).unwrap();
    // The default is `stop` (systemd.service(5)): the end of one reader of a journal would be that of the whole agent.
    assert!(unit.lines().any(|line| line == "OOMPolicy=continue"));
}

#[test]
fn every_opening_of_the_sandbox_is_explained() {
    let unit = fs::read_to_string(root().join("systemd/nixmox-agent.service")).unwrap();
    let explained = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let openings = sandbox::openings(&unit);
    for known in ["/srv", "AF_NETLINK", "PrivateDevices", "DevicePolicy", "ProcSubset", "PrivateMounts"] {
        assert!(openings.iter().any(|opening| opening == known), "{known} in {openings:?}");
    }
    let silent: Vec<_> = openings.iter().filter(|opening| !explained.contains(&format!("`{opening}`"))).collect();
    assert!(silent.is_empty(), "docs/security.md says nothing about {silent:?}");
}
