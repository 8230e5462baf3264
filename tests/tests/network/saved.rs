//! A saved plan: carried out on the host that it was made for, and refused on any other.

use nixmox_testbed::Testbed;
use nixmox_tests::operator::Stack;

use crate::{web, whole_host};

const STALE: [&str; 3] =
    ["the plan was made for another state of the host", "nothing was done", "nixmoxctl plan -o FILE"];

#[test]
fn a_saved_plan_is_carried_out_or_refused_when_the_host_moved_on() {
    let (host, _held) = whole_host();
    let (stack, other) = (Stack::new(&host, "saved"), Stack::new(&host, "other"));
    let declare = |memory: &str| {
        let keys = format!("limits = {{ memory_max = \"{memory}\" }}");
        stack.declare(&[&web(&host, "saved", &keys)]).expect("a manifest");
    };
    declare("256M");
    stack.succeed("plan -o plan.json").expect("saved");
    // What is written, and not what the manifest says by then.
    declare("300M");
    stack.succeed("up --plan plan.json").expect("the host is as it was");
    let before = stack.healthy("saved").expect("healthy");
    assert_eq!(memory_max(&host), "268435456");
    stack.refuse("up --plan plan.json", 1, &STALE).expect("it has been carried out");

    // A person changes the container.
    declare("512M");
    stack.succeed("plan -o plan.json").expect("saved");
    host.succeed("systemctl set-property --runtime container@saved MemoryMax=64M").expect("changed");
    stack.refuse("up --plan plan.json", 1, &STALE).expect("the container is another");
    assert_eq!(memory_max(&host), "67108864", "nothing was done");
    stack.succeed("plan -o plan.json").expect("saved again");
    stack.succeed("up --plan plan.json").expect("it is the plan for this state");
    assert_eq!(memory_max(&host), "536870912");

    // Somebody brings another stack up.
    declare("128M");
    stack.succeed("plan -o plan.json").expect("saved");
    other.declare(&[&web(&host, "bystander", "")]).expect("a manifest");
    other.succeed("up").expect("it comes up");
    stack.refuse("up --plan plan.json", 1, &STALE).expect("there is a newer generation");
    assert_eq!(memory_max(&host), "536870912", "nothing was done");
    assert_eq!(stack.healthy("saved").expect("healthy"), before, "nothing was restarted");

    host.write_file("/srv/saved/broken.json", "{ \"format\": 1 }", 0o644).expect("written");
    let words = ["broken.json is not a plan that this nixmoxctl can read", "nixmoxctl plan -o FILE"];
    stack.refuse("up --plan broken.json", 1, &words).expect("it is no plan");
    stack.refuse("up --plan plan.json saved", 2, &["--plan"]).expect("a plan names its services itself");
    for stack in [stack, other] {
        stack.succeed("down").expect("taken down");
    }
}

fn memory_max(bed: &Testbed) -> String {
    bed.succeed("systemctl show -P MemoryMax container@saved").expect("loaded")
}
