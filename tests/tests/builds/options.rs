//! What a person says about builds.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use super::{boot, builds, calls};

#[test]
fn without_a_build_what_is_missing_is_named() {
    let bed = boot("builds-none");
    let stack = Stack::new(&bed, "none");
    bed.static_guest_flake("/srv/none", &[("web", &Behaviour::new()), ("db", &Behaviour::new())]).expect("a flake");
    stack.declare(&["[services.web]\nsystem = \".#web\"", "[services.db]\nsystem = \".#db\""]).expect("a manifest");
    let words = ["not in the store yet: .#web, .#db", "nixmoxctl plan --build"];
    stack.refuse("up --no-build", 1, &words).expect("it is told");
    stack.refuse("plan --no-build", 1, &words).expect("it is told");
    assert_eq!(builds(&calls(&bed)), 0);
    let plan = stack.succeed("plan").expect("a plan");
    assert_eq!(plan.stdout.matches("effects inside unknown: not built").count(), 2, "{plan}");
    // What is proposed helps.
    let plan = stack.succeed("plan --build").expect("a plan");
    assert!(!plan.stdout.contains("unknown"), "{plan}");
    stack.succeed("up --no-build --offline").expect("all is there");
    stack.succeed("up --no-build").expect("nothing is to be done");

    // A saved plan is carried out without nix.
    bed.static_guest_flake("/srv/none", &[("web", &Behaviour::new().log("new")), ("db", &Behaviour::new())])
        .expect("a flake");
    stack.succeed("plan -o plan.json").expect("a plan");
    calls(&bed);
    stack.succeed("up --plan plan.json").expect("it is carried out");
    bed.fail("test -e /tmp/nix-calls").expect("nix is not called");
}

#[test]
fn inputs_are_overridden_and_caches_are_asked() {
    let bed = boot("builds-options");
    let stack = Stack::new(&bed, "options");
    bed.static_guest_flake("/srv/pkgs", &[("web", &Behaviour::new().log("first"))]).expect("a flake");
    bed.static_guest_flake("/home/pkgs", &[("web", &Behaviour::new().log("second"))]).expect("a flake");
    let flake = "{ inputs.pkgs.url = \"path:/srv/pkgs\"; outputs = { pkgs, ... }: { inherit (pkgs) packages; }; }";
    bed.write_file("/srv/options/flake.nix", flake, 0o644).expect("a flake");
    stack.declare(&["[services.web]\nsystem = \".#web\""]).expect("a manifest");
    stack.succeed("up").expect("it comes up");
    let system = || stack.field("web", "system").expect("it is known");
    let behaviour = || bed.succeed(&format!("cat {}/behaviour", system())).expect("a behaviour");
    assert!(behaviour().contains("first"));
    // A path is one from where it was typed.
    let overridden = "cd /home && nixmoxctl -f /srv/options/nixmox.toml up --override-input pkgs ./pkgs";
    bed.succeed(overridden).expect("it changes");
    assert!(behaviour().contains("second"));

    // Out of a cache, and not built: what the cache has is not what a build gives.
    let path = system();
    bed.succeed(&format!("nix copy --to file:///srv/cache {path}")).expect("it is copied");
    stack.succeed("down").expect("it stops");
    bed.succeed("rm -rf /nix/var/nix/gcroots/nixmox /nix/var/nix/profiles/per-container && nix-collect-garbage")
        .expect("it is gone");
    bed.fail(&format!("test -e {path}")).expect("it is gone");
    bed.succeed("echo 'require-sigs = false' >> /etc/nix/nix.conf").expect("set");
    let up = bed.shell(&format!("{overridden} --substituters file:///srv/cache")).expect("it runs");
    assert!(up.success() && up.stderr.contains("fetched ") && !up.stderr.contains("built "), "{up}");
    assert_eq!(system(), path);
}
