//! A guest that takes two minutes to boot. In a file whose name sorts first, so that the others run meanwhile.

use std::time::{Duration, Instant};

use nixmox_testbed::Behaviour;
use nixmox_tests::operator::Stack;

use crate::fault::host;

#[test]
fn a_first_boot_of_two_minutes_is_waited_for() {
    let host = host();
    let stack = Stack::new(&host, "slow");
    let system =
        host.guest("slow", &Behaviour::new().http(80).ready_after(Duration::from_mins(2))).expect("a system");
    stack
        .declare(&[&format!(
            "[services.slow]\nsystem = \"{system}\"\nhealth = {{ http = \"http://localhost/\", start_period = \"3min\" }}"
        )])
        .expect("a manifest");
    let begin = Instant::now();
    stack.succeed("up").expect("the first boot is not cut off");
    assert!(begin.elapsed() >= Duration::from_mins(2), "it took {:?}", begin.elapsed());
    stack.healthy("slow").expect("healthy");
    assert_eq!(stack.field("slow", "restarts").expect("a count"), "0");
    stack.succeed("down").expect("taken down");
}
