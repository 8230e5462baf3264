//! docs/quickstart.md: every block in its order, as an operator types it.

use nixmox_testbed::{Block, Testbed};

use crate::{host_with_nixpkgs, read};

const FOLDER: &str = "/srv/quickstart";
/// What is typed on NixOS alone. The testbed is none; what it would leave is there.
const NIXOS: &str = "sudo nixos-rebuild switch";

/// Types what a block says.
fn follow(bed: &Testbed, block: &Block) {
    let Block { language, text, .. } = block;
    let title = block.first_line().strip_prefix("# ").unwrap_or_default();
    match (language.as_str(), title.strip_suffix(", in part")) {
        // What NixOS alone evaluates: `cargo xtask nix` does that with the host's configuration.
        ("nix", Some(_)) => {
            bed.write_file("/tmp/part.nix", text, 0o644).expect("written");
            bed.succeed("nix-instantiate --parse /tmp/part.nix").expect("it is Nix");
        }
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
        _ => panic!("nobody knows what to do with this: {block:?}"),
    }
}

#[test]
fn whoever_follows_the_quickstart_gets_there() {
    let bed = host_with_nixpkgs("quickstart");
    bed.add_user("anna", &["nixmox-operator", "nix-users"]).expect("an operator");
    bed.succeed(&format!("mkdir -p {FOLDER}")).expect("made");
    let blocks = read("docs/quickstart.md");

    // What it promises of its first service: six commands, fifteen lines of one's own.
    let first: Vec<&Block> = blocks.iter().take_while(|block| block.first_line() != "# db.nix").collect();
    let typed = first.iter().filter(|block| block.language == "console").flat_map(|block| block.text.lines());
    assert!(typed.count() <= 6);
    let own = first.iter().filter(|block| block.language != "console" && !block.text.starts_with("# flake.nix"));
    let own = own
        .flat_map(|block| block.text.lines())
        .filter(|line| !line.trim().is_empty() && !line.starts_with(['#', '{', '}']));
    let own: Vec<&str> = own.collect();
    assert!(own.len() <= 15, "{own:#?}");

    for block in &blocks {
        follow(&bed, block);
    }
    bed.fail("systemctl is-active container@web container@db").expect("all is down at the end");
}
