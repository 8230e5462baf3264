//! What is seen of a build.

use nixmox_testbed::Behaviour;
use nixmox_tests::agent;
use nixmox_tests::operator::Stack;

use super::boot;

#[test]
fn a_builder_that_fails_is_named_with_its_last_words() {
    let bed = boot("builds-progress");
    let stack = Stack::new(&bed, "progress");
    let broken = concat!(
        "      inner = shell \"inner-1.2\" \"echo compiling; echo no such header >&2; exit 3\" { };\n",
        "      web = guestWith { needs = inner; } \"web\" \"\";\n",
    );
    let fail = || {
        let db = [("db", &Behaviour::new())];
        bed.static_guest_flake_with("/srv/progress", &db, &[], broken).expect("a flake");
    };
    fail();
    stack.declare(&["[services.web]\nsystem = \".#web\"", "[services.db]\nsystem = \".#db\""]).expect("a manifest");
    let words =
        ["failed with exit code 3", "nix build failed", "of inner-1.2", "no such header", "nix log /nix/store/"];
    let failed = stack.refuse("up", 1, &words).expect("it is told");
    assert_eq!(failed.stderr.matches("no such header").count(), 1, "{failed}");
    let log =
        failed.stderr.lines().find_map(|line| line.split_once("all that it said: ")).expect("it is proposed").1;
    assert_eq!(bed.succeed(log).expect("what is proposed works"), "compiling\nno such header");

    // Somebody who stops it changes nothing, and leaves nothing behind.
    let slow = || {
        let (db, slow) = ([("db", &Behaviour::new())], "      web = shell \"slow\" \"$b sleep 60\" { };\n");
        bed.static_guest_flake_with("/srv/progress", &db, &[], slow).expect("a flake");
    };
    slow();
    let script = "cd /srv/progress && timeout --preserve-status -s INT 3 nixmoxctl up";
    let stopped = bed.shell(script).expect("it runs");
    assert_eq!(stopped.code, 130, "{stopped}");
    assert!(stopped.stderr.contains("the build was stopped; nothing was changed"), "{stopped}");
    bed.fail("ls -d /tmp/nixmox-build-*").expect("no links are left");
    assert_eq!(agent::status(&bed).expect("it answers").host.generation, 0);
    // Nor does it wait for an agent that does not answer, once it is built.
    bed.static_guest_flake("/srv/progress", &[("web", &Behaviour::new()), ("db", &Behaviour::new())])
        .expect("a flake");
    bed.succeed("systemctl kill --signal=STOP nixmox-agent.service").expect("it stands still");
    for command in ["up", "plan"] {
        let stopped = bed.shell(&script.replace("up", command)).expect("it runs");
        assert_eq!(stopped.code, 130, "{stopped}");
        assert!(stopped.stderr.contains("stopped before the agent has answered"), "{stopped}");
        bed.fail("ls -d /tmp/nixmox-build-*").expect("no links are left");
    }
    bed.succeed("systemctl kill --signal=CONT nixmox-agent.service").expect("it goes on");
    slow();

    // On a terminal it is seen what is built, and nothing of the log.
    let script = format!("script --quiet --return --command '{script}' /dev/null");
    let seen = bed.shell(&script).expect("it runs");
    assert!(seen.stdout.contains("building 0 of 1") || seen.stdout.contains("building 1 of 2"), "{seen}");
    assert!(seen.stdout.contains("  slow  ") && !seen.stdout.contains("@nix"), "{seen}");

    // As a user of nix's daemon, which tells the last lines by itself.
    fail();
    bed.add_user("olga", &["nix-users", "nixmox-operator"]).expect("a user");
    bed.succeed("chown -R olga /srv/progress").expect("hers");
    let failed = bed.shell_as("olga", "cd /srv/progress && nixmoxctl up").expect("it runs");
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("inner-1.2"), "{failed}");
    assert_eq!(failed.stderr.matches("no such header").count(), 1, "{failed}");
}
