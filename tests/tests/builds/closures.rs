//! What differs inside a system.

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use super::{boot, builds, calls};

#[test]
fn a_plan_tells_packages_versions_and_sizes_of_what_is_built() {
    let bed = boot("builds-closures");
    let stack = Stack::new(&bed, "closures");
    stack.declare(&["[services.web]\nsystem = \".#web\"", "[services.db]\nsystem = \".#db\""]).expect("a manifest");
    let declare = |version: &str, kibibytes: u32, extra: &str| {
        let more = format!(
            "      tool = shell \"tool-{version}\" \"$b mkdir $out; $b dd if=/dev/zero of=$out/x bs=1024 count={kibibytes} status=none{extra}\" {{ }};\n      \
             helper = shell \"helper-7\" \"$b touch $out\" {{ }};\n      \
             web = guestWith {{ needs = tool; }} \"web\" \"\";\n"
        );
        bed.static_guest_flake_with("/srv/closures", &[("db", &Behaviour::new())], &[], &more).expect("a flake");
    };
    declare("1.0", 100, "");
    stack.succeed("up").expect("it comes up");
    calls(&bed);

    declare("1.1", 2148, "; $b ln -s ${helper} $out/helper");
    let plan = stack.succeed("plan").expect("a plan");
    assert!(plan.stdout.contains("effects inside unknown: not built"), "{plan}");
    assert_eq!(builds(&calls(&bed)), 0, "a plan builds nothing");
    let plan = stack.succeed("plan --build").expect("a plan");
    for line in ["~ tool 1.0 -> 1.1 (+2M)", "+ helper 7", "inside: "] {
        assert!(plan.stdout.contains(line), "`{line}` is not said: {plan}");
    }
    assert!(!plan.stdout.contains("unknown"), "{plan}");
    // It is in the store by now.
    let again = stack.succeed("plan").expect("a plan");
    assert_eq!(again.stdout, plan.stdout);

    stack.succeed("up").expect("it changes");
    let diff = stack.succeed("diff 1 2").expect("a difference");
    for line in ["~ tool 1.0 -> 1.1 (+2M)", "+ helper 7"] {
        assert!(diff.stdout.contains(line), "`{line}` is not said: {diff}");
    }
    let back = stack.succeed("diff 2 1").expect("a difference");
    assert!(back.stdout.contains("- helper 7"), "{back}");
}
