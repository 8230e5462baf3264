//! `logs -f` while the agent is killed, containers start again, and services come.

use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::operator::Stack;
use serde_json::Value;

use super::text;

const LIMIT: Duration = Duration::from_mins(2);
const COUNT: u32 = 1500;

#[test]
fn what_is_followed_goes_on_after_the_agent_the_containers_and_the_services() {
    let bed = Testbed::boot(&Options::new("log-follow").without_homelab()).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    let system = bed.static_guest("writer", &Behaviour::new().writes(100, COUNT)).expect("a system");
    let declare = |name: &str| format!("[services.{name}]\nsystem = \"{system}\"");
    let (web, late) = (declare("web"), declare("late"));
    let stack = Stack::new(&bed, "follow");
    stack.declare(&[&web]).expect("a manifest");
    stack.succeed("up").expect("it is up");
    bed.succeed(
        "systemd-run -q --unit=reader -p User=anna -p KillSignal=SIGINT -p StandardError=journal -p StandardOutput=file:/tmp/lines \
         nixmoxctl --all logs -f -o json",
    )
    .expect("somebody reads");
    let shows = |what: &str| {
        bed.wait_until(&format!("grep -q '{what}' /tmp/lines"), LIMIT).expect("it is shown");
    };
    shows(r#""service":"web".*line 10 of"#);
    // The agent dies in the middle of it, twice; a reader that outlived it would tell lines twice.
    for line in ["line 300 of", "line 700 of"] {
        bed.succeed("kill -9 $(systemctl show -P MainPID nixmox-agent)").expect("killed");
        shows(line);
    }
    stack.declare(&[&web, &late]).expect("a manifest");
    stack.succeed("up").expect("another one comes");
    shows(&format!(r#""service":"late".*line {COUNT} of"#));
    shows(&format!(r#""service":"web".*line {COUNT} of"#));
    stack.succeed("restart web").expect("it starts again");
    bed.wait_until(&format!("test $(grep -c '\"service\":\"web\".*line {COUNT} of' /tmp/lines) = 2"), LIMIT)
        .expect("its second life is shown");
    bed.succeed("systemctl stop reader").expect("Ctrl-C ends it");
    let result = bed.succeed("systemctl show -P Result reader || true").expect("it says");
    assert!(matches!(result.as_str(), "" | "success"), "{result}");

    let told = bed.read_file("/tmp/lines").expect("lines");
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |name: &str| -> Vec<u32> {
        let of_it = lines.iter().filter(|line| text(line, "service") == name);
        let numbers =
            of_it.filter_map(|line| text(line, "message").strip_prefix("line ")?.split(' ').next()?.parse().ok());
        numbers.collect()
    };
    let life: Vec<u32> = (1..=COUNT).collect();
    assert_eq!(of("late"), life);
    assert_eq!(of("web"), [life.clone(), life].concat());
    let moments: Vec<u64> = lines.iter().filter_map(|line| line["at_usec"].as_u64()).collect();
    assert!(moments.len() > 4 * COUNT as usize / 2);
    bed.wait_until("! pgrep journalctl", LIMIT).expect("no reader stays behind");
}
