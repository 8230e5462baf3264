//! The manual pages that are shipped: as the program is, and without a fault that a formatter finds.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::testing::manual;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/man")
}

/// Returns the pages that are shipped and made, sorted.
fn shipped() -> Vec<String> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(".1")).collect();
    names.sort();
    names
}

#[test]
fn the_manual_pages_are_those_of_this_program() {
    let pages = manual::pages();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        for name in shipped() {
            fs::remove_file(folder().join(name)).unwrap();
        }
        for (name, page) in &pages {
            fs::write(folder().join(name), page).unwrap();
        }
    }
    let mut made: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
    made.sort();
    let anew = "UPDATE_REFERENCE=1 cargo test -p nixmoxctl the_manual_pages makes them anew";
    assert!(shipped().iter().eq(made), "other pages are shipped than there are commands: {anew}");
    for (name, page) in &pages {
        assert!(fs::read_to_string(folder().join(name)).unwrap() == *page, "docs/man/{name} is old: {anew}");
    }
}

#[test]
fn every_page_has_the_sections_that_readers_look_for() {
    for (name, page) in manual::pages() {
        let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let wanted: &[&str] = match name.as_str() {
            "nixmoxctl.1" => {
                &["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "\"EXIT STATUS\"", "ENVIRONMENT", "FILES"]
            }
            _ => &["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "\"SEE ALSO\""],
        };
        let missing: Vec<_> = wanted.iter().filter(|wanted| !sections.contains(wanted)).collect();
        assert!(missing.is_empty(), "{name} has {sections:?}, and not {missing:?}");
    }
    let program = &manual::pages()[0].1;
    for code in ["0", "5", "130"] {
        assert!(program.contains(&format!("\n\\fB{code}\\fR\n")), "{code}");
    }
}

#[test]
fn formatters_have_nothing_to_say_about_the_pages() {
    let made = tempfile::tempdir().unwrap();
    let write = |(name, page): (String, String)| {
        fs::write(made.path().join(&name), page).unwrap();
        made.path().join(name)
    };
    let pages = manual::pages().into_iter().map(write);
    for page in pages.chain([folder().join("nixmox-agent.8")]) {
        for (formatter, arguments) in [
            ("groff", &["-man", "-Tutf8", "-ww", "-rLL=80n", "-z"][..]),
            ("mandoc", &["-T", "lint", "-W", "warning"]),
        ] {
            // Neither is needed to build or to run anything here.
            let Ok(output) = Command::new(formatter).args(arguments).arg(&page).output() else { continue };
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            // They have the version instead, as those of systemd.
            let faults: Vec<&str> = said.lines().filter(|line| !line.contains("missing date")).collect();
            assert!(faults.is_empty(), "{formatter}: {faults:#?}");
        }
    }
}
