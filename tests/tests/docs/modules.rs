//! The NixOS modules that pages show: each is the system of a service that comes up.

use nixmox_testbed::Block;
use nixmox_tests::agent;

use crate::{host_with_nixpkgs, read};

#[test]
fn modules_that_the_pages_show_make_systems() {
    let bed = host_with_nixpkgs("modules");
    let ours = |block: &Block| block.language == "nix";
    let shown = ["docs/builds.md", "docs/install.md"].map(read).concat();
    let shown: Vec<Block> = shown.into_iter().filter(ours).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    let mut manifest = vec!["format = 1\nstack.name = \"shown\"\n".to_owned()];
    for (number, block) in shown.iter().enumerate() {
        bed.write_file(format!("/srv/shown/{number}.nix"), &block.text, 0o644).expect("written");
        manifest.push(format!("[services.shown-{number}]\nsystem = \"./{number}.nix\"\n"));
    }
    bed.write_file("/srv/shown/nixmox.toml", manifest.concat(), 0o644).expect("written");
    bed.succeed("cd /srv/shown && nixmoxctl up").expect("built, and up");
    let status = bed.succeed("cd /srv/shown && nixmoxctl status").expect("told");
    assert!(status.contains("2 healthy"), "{status}");
    // Both take the names of the other services from where the agent keeps them.
    for service in agent::status(&bed).expect("it answers").services {
        let system = service.system.expect("a system");
        assert_eq!(bed.succeed(&format!("cat {system}/hosts")).expect("it is there"), "/run/host/nixmox/hosts");
    }
}
