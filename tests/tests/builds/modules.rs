//! NixOS modules as systems.

use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::operator::Stack;

use super::{boot, builds, calls};

fn module(bed: &Testbed, file: &str, behaviour: &Behaviour, more: &str) {
    let text = format!("{{ lib, ... }}: {{ guest.behaviour = ''\n{}''; {more} }}\n", behaviour.to_text());
    bed.write_file(file, text, 0o644).expect("a module");
}

#[test]
fn a_module_is_a_container_on_the_nixpkgs_of_the_host() {
    let bed = boot("builds-modules");
    let stack = Stack::new(&bed, "modules");
    let well = Behaviour::new().log("a module").http(80);
    module(&bed, "/srv/modules/my web.nix", &well, "");
    module(&bed, "/srv/modules/db.nix", &well, "networking.hostName = \"database\";");
    bed.static_guest_flake("/srv/modules", &[("cache", &well)]).expect("a flake");
    let tables = [
        "[services.web]\nsystem = \"./my web.nix\"\nhealth = { http = \"http://localhost/\" }",
        "[services.db]\nsystem = \"./db.nix\"",
        "[services.cache]\nsystem = \".#cache\"",
    ];
    stack.declare(&tables).expect("a manifest");

    let words = ["there is no nixpkgs to build", "/etc/nixmox/nixpkgs", "NIX_PATH=nixpkgs="];
    stack.refuse("up", 1, &words).expect("it is told");
    calls(&bed);

    // What NIX_PATH names will do.
    bed.stand_in_nixpkgs("/srv/pkgs").expect("nixpkgs");
    let planned = bed.succeed("cd /srv/modules && NIX_PATH=nixpkgs=/srv/pkgs nixmoxctl plan").expect("a plan");
    assert_eq!(planned.matches("effects inside unknown: not built").count(), 3, "{planned}");
    assert_eq!(builds(&calls(&bed)), 0, "a plan builds nothing");

    // The host's own comes first, through a link.
    bed.succeed("mkdir -p /etc/nixmox && ln -s /srv/pkgs /etc/nixmox/nixpkgs").expect("a link");
    let up = bed.shell("cd /srv/modules && NIX_PATH=nixpkgs=/nowhere nixmoxctl up").expect("it runs");
    assert!(up.success(), "{up}");
    let made = calls(&bed);
    assert_eq!(builds(&made), 1, "modules and flakes together: {made:#?}");
    let host_name = |name: &str| {
        let system = stack.field(name, "system").expect("it is known");
        bed.succeed(&format!("cat {system}/host-name")).expect("a name")
    };
    assert_eq!(host_name("web"), "web", "that of the service");
    assert_eq!(host_name("db"), "database", "the module may say otherwise");
    stack.healthy("web").expect("it answers");

    // A guest module of the host's is taken in place of ours.
    let guest = "{ lib, ... }: { boot.isContainer = true; networking.hostName = lib.mkForce \"of-the-host\"; }";
    bed.write_file("/etc/nixmox/guest.nix", guest, 0o644).expect("a guest module");
    stack.succeed("up").expect("it changes");
    assert_eq!(host_name("web"), "of-the-host");

    // What is wrong in a module is said in nix's words, with its place.
    bed.write_file("/srv/modules/db.nix", "{ networking.nonsense = 1; }", 0o644).expect("a module");
    stack
        .refuse("plan", 1, &["networking.nonsense", "nix eval failed", "in /srv/modules/db.nix, the system of db"])
        .expect("told");
}
