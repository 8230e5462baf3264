//! The pages in docs/, typed in: every block of docs/quickstart.md in its order on a real host, with a stand-in for nixpkgs, and those of
//! the other pages as far as they are code that can be read.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expected")]

use std::time::Duration;

use nixmox_testbed::{Options, Testbed, workspace_root};

const LIMIT: Duration = Duration::from_secs(30);
const FOLDER: &str = "/srv/quickstart";
/// What is typed on NixOS alone. The testbed is none; what it would leave is there.
const NIXOS: &str = "sudo nixos-rebuild switch";

/// A block between fences: its language, and its text.
type Block = (String, String);

/// Returns the blocks of a page, those in lists too.
fn blocks(page: &str) -> Vec<Block> {
    let (mut found, mut open): (Vec<Block>, bool) = (Vec::new(), false);
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(language), false) => found.push((language.trim().to_owned(), String::new())),
            (Some(_), true) => {}
            (None, true) => {
                let (_, text) = found.last_mut().expect("it is open");
                text.push_str(line);
                text.push('\n');
                continue;
            }
            (None, false) => continue,
        }
        open = !open;
    }
    assert!(!open, "the last block has no end");
    found
}

fn page(name: &str) -> String {
    std::fs::read_to_string(workspace_root().join(name)).expect("the page is there")
}

/// Types what a block says.
fn follow(bed: &Testbed, (language, text): &Block) {
    let title = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    match (language.as_str(), title.strip_suffix(", in part")) {
        ("nix", Some(_)) => {}
        ("nix" | "toml", None) => {
            assert!(title.contains('.') && !title.contains(['/', ' ']), "it names no file: {text}");
            bed.write_file(format!("{FOLDER}/{title}"), text, 0o644).expect("written");
        }
        ("console", _) => {
            for line in text.lines() {
                let command = line.strip_prefix("$ ").expect("a command");
                if command != NIXOS {
                    let done = bed.shell_as("anna", &format!("cd {FOLDER} && {command}")).expect("it runs");
                    assert!(done.success(), "{command}: {done}");
                }
            }
        }
        _ => panic!("nobody knows what to do with a block of `{language}`: {text}"),
    }
}

#[test]
fn whoever_follows_the_quickstart_gets_there() {
    let bed = Testbed::boot(&Options::new("quickstart").without_homelab()).expect("the host boots");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    bed.add_user("anna", &["nixmox-operator", "nix-users"]).expect("an operator");
    bed.stand_in_nixpkgs("/srv/nixpkgs").expect("nixpkgs");
    bed.succeed(&format!("mkdir -p /etc/nixmox {FOLDER} && ln -s /srv/nixpkgs /etc/nixmox/nixpkgs"))
        .expect("linked");
    let blocks = blocks(&page("docs/quickstart.md"));

    // What it promises of its first service: six commands, fifteen lines of one's own.
    let first: Vec<&Block> = blocks.iter().take_while(|(_, text)| !text.starts_with("# db.nix")).collect();
    let typed = first.iter().filter(|(language, _)| language == "console").flat_map(|(_, text)| text.lines());
    assert!(typed.count() <= 6);
    let own = first.iter().filter(|(language, text)| language != "console" && !text.starts_with("# flake.nix"));
    let own = own
        .flat_map(|(_, text)| text.lines())
        .filter(|line| !line.trim().is_empty() && !line.starts_with(['#', '{', '}']));
    let own: Vec<&str> = own.collect();
    assert!(own.len() <= 15, "{own:#?}");

    for block in &blocks {
        follow(&bed, block);
    }
    bed.fail("systemctl is-active container@web container@db").expect("all is down at the end");
}

#[test]
fn what_the_pages_show_can_be_read_by_those_it_is_for() {
    let bed = Testbed::boot(&Options::new("pages").without_homelab()).expect("the host boots");
    let docs = std::fs::read_dir(workspace_root().join("docs")).expect("docs").flatten();
    let mut pages: Vec<String> = docs
        .filter_map(|entry| Some(format!("docs/{}", entry.file_name().to_str()?)))
        .filter(|name| std::path::Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push("README.md".to_owned());
    let mut read = 0;
    for name in &pages {
        for (number, (language, text)) in blocks(&page(name)).into_iter().enumerate() {
            let place = format!("{name}, block {}:\n{text}", number + 1);
            let program = match language.as_str() {
                "toml" => {
                    assert!(toml::de::DeTable::parse(&text).is_ok(), "{place}");
                    read += 1;
                    continue;
                }
                "nix" => "nix-instantiate --parse -",
                "sh" => "bash -n",
                "console" => {
                    assert!(text.lines().any(|line| line.starts_with("$ ")), "{place}");
                    continue;
                }
                // For people, or for programs that are not here.
                "" | "text" | "json" | "xml" | "yaml" | "ini" => continue,
                _ => panic!("nobody knows what `{language}` is: {place}"),
            };
            bed.write_file("/tmp/block", &text, 0o644).expect("written");
            // A list of options is part of a set.
            let braced = format!("{program} < /tmp/block || (echo '{{'; cat /tmp/block; echo '}}') | {program}");
            let done = bed.shell(&format!("({braced}) > /dev/null")).expect("it runs");
            assert!(done.success(), "{place}\n{done}");
            read += 1;
        }
    }
    assert!(read > 50, "{read}");
}
