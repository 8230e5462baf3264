//! The garbage collector, at the moments at which it could take something away.

use std::process::Stdio;
use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use super::boot;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn what_is_built_is_kept_until_the_agent_has_it() {
    let bed = boot("builds-kept");
    let stack = Stack::new(&bed, "kept");
    bed.static_guest_flake("/srv/kept", &[("web", &Behaviour::new()), ("loose", &Behaviour::new())])
        .expect("a flake");
    stack.declare(&["[services.web]\nsystem = \".#web\""]).expect("a manifest");
    // The user that builds is not root: its links are made known by nix's daemon.
    bed.add_user("olga", &["nix-users", "nixmox-operator"]).expect("a user");
    bed.succeed("chown -R olga /srv/kept").expect("hers");

    // An agent that does not answer, between the build and the answer.
    bed.succeed("systemctl kill --signal=STOP nixmox-agent.service").expect("it stands still");
    let mut up = bed.command("runuser");
    up.args(["-u", "olga", "--", "bash", "-c", "cd /srv/kept && exec nixmoxctl up"]);
    let up = up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it begins");
    let link = bed.wait_until("ls -d /tmp/nixmox-build-*/result", LIMIT).expect("it is built, and kept");
    let folder = link.trim_end_matches("/result");
    assert_eq!(bed.succeed(&format!("stat --format='%U %a' {folder}")).expect("it is there"), "olga 700");
    let system = bed.succeed(&format!("readlink {link}")).expect("a link");
    let loose =
        bed.succeed("cd /srv/kept && nix build --no-link --print-out-paths path:.#loose").expect("it is built");
    bed.succeed("nix-collect-garbage").expect("it collects");
    bed.fail(&format!("test -e {loose}")).expect("what nothing keeps is gone");
    bed.succeed(&format!("test -x {system}/init")).expect("what was built is there");

    bed.succeed("systemctl kill --signal=CONT nixmox-agent.service").expect("it goes on");
    let output = up.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    bed.fail(&format!("ls -d {folder}")).expect("the links are gone");
    bed.succeed("nix-collect-garbage").expect("it collects");
    bed.succeed(&format!("test -x {system}/init")).expect("the agent keeps it");
    assert_eq!(stack.field("web", "system").expect("it is known"), system);
}

#[test]
fn after_everything_old_was_deleted_a_rollback_still_finds_its_systems() {
    let bed = boot("builds-rollback");
    let stack = Stack::new(&bed, "back");
    stack
        .declare(&["[services.web]\nsystem = \".#web\"\nhealth = { http = \"http://localhost/\" }"])
        .expect("a stack");
    let declare = |word: &str| {
        let behaviour = Behaviour::new().log(word).http(80);
        bed.static_guest_flake("/srv/back", &[("web", &behaviour)]).expect("a flake");
    };
    declare("first");
    stack.succeed("up").expect("the first");
    let first = stack.field("web", "system").expect("it is known");
    declare("second");
    stack.succeed("up").expect("the second");
    let second = stack.field("web", "system").expect("it is known");
    assert_ne!(first, second);
    bed.succeed("nix-collect-garbage -d").expect("it collects");
    stack.succeed("rollback").expect("it goes back");
    assert_eq!(stack.field("web", "system").expect("it is known"), first);
    stack.healthy("web").expect("it runs");
    bed.succeed(&format!("nix path-info {first} {second}")).expect("both are valid");
}
