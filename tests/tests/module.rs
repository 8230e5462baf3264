//! Stacks that a NixOS configuration declares, as its module hands them over: applied in an order that works out, changed by nobody
//! else, given up when they are declared no more.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

use std::fmt::Write as _;
use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Testbed};

const FOLDER: &str = "/etc/nixmox/stacks";
const LIMIT: Duration = Duration::from_mins(2);

/// Writes what the module makes of a stack: each service with what it needs.
fn declare(bed: &Testbed, stack: &str, services: &[(&str, &str)]) {
    let system = bed.static_guest("plain", &Behaviour::new()).expect("a system");
    let mut text = format!("format = 1\n[stack]\nname = \"{stack}\"\nowner = \"services.nixmox.stacks.{stack}\"\n");
    for (name, needs) in services {
        let _ = writeln!(text, "[services.{name}]\nsystem = \"{system}\"\n{needs}");
    }
    bed.write_file(format!("{FOLDER}/{stack}/nixmox.toml"), text, 0o644).expect("written");
}

fn services(bed: &Testbed) -> String {
    let told = "nixmoxctl status --all --json | jq -r '.services[] | \"\\(.stack)/\\(.name) \\(.state)\"'";
    bed.succeed(told).expect("told").trim().to_owned()
}

#[test]
fn what_a_configuration_declares_is_what_is_there() {
    let bed = Testbed::boot(&Options::new("module").without_homelab()).expect("the host boots");
    bed.wait_until("nixmoxctl --all status", LIMIT).expect("the agent answers");
    let up = format!("nixmoxctl module up {FOLDER}");
    let plan = format!("nixmoxctl module plan {FOLDER}");

    // `app` needs what only the stack after it has.
    let needs = "depends_on = { \"data/db\" = \"healthy\" }";
    declare(&bed, "app", &[("web", needs)]);
    declare(&bed, "data", &[("db", "")]);
    let planned = bed.shell(&plan).expect("it runs");
    assert!(planned.stdout.contains("+ db") && planned.stdout.contains("app: not known before"), "{planned}");
    bed.succeed(&up).expect("both are up");
    assert_eq!(services(&bed), "app/web healthy\ndata/db healthy");
    let again = bed.succeed(&up).expect("and stay so");
    assert_eq!(again, "app: as declared\ndata: as declared");

    // Nobody else changes them, and it is said where they are changed.
    let by_hand = format!(
        "cd {FOLDER}/data && sed /owner/d nixmox.toml > /srv/nixmox.toml; nixmoxctl -f /srv/nixmox.toml up"
    );
    for command in [by_hand.as_str(), "nixmoxctl -s data down", "nixmoxctl --all down web"] {
        let refused = bed.shell(command).expect("it runs");
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains("is declared by `services.nixmox.stacks."), "{refused}");
    }
    assert_eq!(services(&bed), "app/web healthy\ndata/db healthy");

    // A service moves to the stack of what it needs, and its old one is declared no more.
    bed.succeed(&format!("rm -r {FOLDER}/app")).expect("removed");
    declare(&bed, "data", &[("web", "depends_on = { db = \"healthy\" }"), ("db", "")]);
    bed.succeed(&up).expect("moved");
    assert_eq!(services(&bed), "data/db healthy\ndata/web healthy");
    assert_eq!(bed.succeed("nixmoxctl stacks --json | jq -r '.stacks[].name'").expect("told").trim(), "data");

    // What fails is said by the exit code, after all others were done; a fault in a file touches nothing.
    declare(&bed, "lost", &[("alone", "depends_on = { \"nowhere/x\" = \"healthy\" }")]);
    let failed = bed.shell(&up).expect("it runs");
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("not as declared: lost"), "{failed}");
    bed.write_file(format!("{FOLDER}/lost/nixmox.toml"), "format = 1\n[stack]\nname = \"lost\"\n", 0o644)
        .expect("written");
    let refused = bed.shell(&up).expect("it runs");
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("its stack.owner does not say one"), "{refused}");
    assert_eq!(services(&bed), "data/db healthy\ndata/web healthy");

    // What cannot be built is said, and neither given up nor in the way of others.
    let unbuilt =
        format!("rm -r {FOLDER}/lost; sed -i 's,^system = .*,system = \"./web.nix\",' {FOLDER}/data/nixmox.toml");
    bed.succeed(&unbuilt).expect("edited");
    declare(&bed, "more", &[("other", "")]);
    let failed = bed.shell(&up).expect("it runs");
    assert_eq!(failed.code, 1, "{failed}");
    assert!(failed.stderr.contains("not as declared: data"), "{failed}");
    assert_eq!(services(&bed), "data/db healthy\ndata/web healthy\nmore/other healthy");

    bed.succeed(&format!("rm -r {FOLDER}/data; {up}")).expect("given up");
    assert_eq!(services(&bed), "more/other healthy");
    // A configuration that has gone leaves stacks that it cannot give up.
    bed.succeed("nixmoxctl -s more down --disown").expect("taken down by a person");
    assert_eq!(services(&bed), "");
}
