//! What is seen of a build.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use super::boot;

#[test]
fn a_builder_that_fails_is_named_with_its_last_words() {
    let bed = boot("builds-progress");
    let stack = Stack::new(&bed, "progress");
    let more = concat!(
        "      inner = shell \"inner-1.2\" \"echo compiling; echo no such header >&2; exit 3\" { };\n",
        "      web = guestWith { needs = inner; } \"web\" \"\";\n",
    );
    bed.static_guest_flake_with("/srv/progress", &[("db", &Behaviour::new())], &[], more).expect("a flake");
    stack.declare(&["[services.web]\nsystem = \".#web\"", "[services.db]\nsystem = \".#db\""]).expect("a manifest");
    let words =
        ["failed with exit code 3", "nix build failed", "of inner-1.2", "no such header", "nix log /nix/store/"];
    let failed = stack.refuse("up", 1, &words).expect("it is told");
    assert_eq!(failed.stderr.matches("no such header").count(), 1, "{failed}");
    let log =
        failed.stderr.lines().find_map(|line| line.split_once("all that it said: ")).expect("it is proposed").1;
    assert_eq!(bed.succeed(log).expect("what is proposed works"), "compiling\nno such header");

    // As a user of nix's daemon, which tells the last lines by itself.
    bed.add_user("olga", &["nix-users", "nixmox-operator"]).expect("a user");
    bed.succeed("chown -R olga /srv/progress").expect("hers");
    let failed = bed.shell_as("olga", "cd /srv/progress && nixmoxctl up").expect("it runs");
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("inner-1.2"), "{failed}");
    assert_eq!(failed.stderr.matches("no such header").count(), 1, "{failed}");
}
