//! Whose lines are there: of what runs, rests, crashed, never came up, or keeps nothing.

use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::operator::Stack;

use super::{lines_of, text};

const LIMIT: Duration = Duration::from_mins(2);

/// Returns whether one of the lines is from this source and has these words.
fn has(lines: &[serde_json::Value], source: &str, words: &str) -> bool {
    lines.iter().any(|line| text(line, "source") == source && text(line, "message").contains(words))
}

#[test]
fn an_observer_reads_what_every_kind_of_service_said() {
    let bed = Testbed::boot(&Options::new("log-sources")).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    bed.add_user("mallory", &[]).expect("somebody");
    let debian = bed.homelab_systems().expect("systems")["caddy"].clone();
    let guest = |name: &str, behaviour: &Behaviour| bed.static_guest(name, behaviour).expect("a system");
    let hello = guest("hello", &Behaviour::new().log("hello from the console"));
    let dying = guest("crashes", &Behaviour::new().log("last words").exit(3, Duration::from_secs(1)));
    let never = guest("never", &Behaviour::new().log("before the end").exit_at_once(7));
    let declare =
        |name: &str, system: &str, more: &str| format!("[services.{name}]\nsystem = \"{system}\"\n{more}");
    let stack = Stack::new(&bed, "sources");
    stack
        .declare(&[
            &declare("hello", &hello, ""),
            &declare("debian", &debian, ""),
            &declare("gone", &debian, "ephemeral = true"),
            &declare("mapped", &debian, "ephemeral = true\nprivate_users = \"pick\""),
            &declare("crashes", &dying, "restart = { policy = \"no\" }"),
            &declare("never", &never, "restart = { policy = \"no\" }"),
        ])
        .expect("a manifest");
    // Two of them cannot come up.
    stack.ctl("up").expect("it runs");
    for name in ["hello", "debian", "gone", "mapped"] {
        stack.becomes_healthy(name).expect("it is up");
    }
    for name in ["debian", "gone", "mapped"] {
        bed.succeed(&format!(
            "systemd-run -M {name} -q --wait -u says --property=SyslogIdentifier=says echo inside {name}"
        ))
        .expect("it says something");
        bed.succeed(&format!("systemd-run -M {name} -q --wait journalctl --sync")).expect("it is written");
    }
    bed.wait_until("nixmoxctl --all status --json | jq -e '.services[] | select(.name == \"crashes\" and .state == \"failed\")'", LIMIT)
        .expect("it crashed");

    let check = |when: &str| {
        let lines = |name: &str| lines_of(&bed, name).expect("lines");
        assert!(has(&lines("hello"), "host", "hello from the console"), "{when}");
        for name in ["debian", "gone", "mapped"] {
            assert!(has(&lines(name), "guest", &format!("inside {name}")), "{name} {when}: {:?}", lines(name));
        }
        let crashed = lines("crashes");
        assert!(has(&crashed, "host", "last words") && has(&crashed, "host", "Failed with result"), "{crashed:?}");
        assert!(crashed.iter().any(|line| text(line, "speaker") == "systemd"), "{crashed:?}");
        assert!(has(&lines("never"), "host", "before the end"), "{when}");
    };
    check("while they run");
    let one = lines_of(&bed, "-u says.service debian").expect("lines");
    let said: Vec<&str> =
        one.iter().filter(|line| text(line, "speaker") == "says").map(|line| text(line, "message")).collect();
    assert_eq!(said, ["inside debian"], "{one:?}");
    let two = lines_of(&bed, "--grep 'inside (debian|gone)'").expect("lines");
    assert_eq!(two.iter().filter(|line| text(line, "source") == "guest").count() % 2, 0, "{two:?}");
    assert_eq!(lines_of(&bed, "-n 3").expect("lines").len(), 3);
    assert!(lines_of(&bed, "--since soon hello").is_err(), "`soon` is no moment");
    assert!(lines_of(&bed, "--until -1h hello").expect("lines").is_empty());

    stack.succeed("stop").expect("all are stopped");
    check("while they rest");

    let denied = bed.shell_as("mallory", "nixmoxctl --all logs").expect("it runs");
    assert_eq!(denied.code, 5, "{denied}");
    let quiet = bed.shell_as("anna", "nixmoxctl --all logs | head -n 1").expect("it runs");
    assert!(quiet.success() && quiet.stderr.is_empty() && quiet.stdout.lines().count() == 1, "{quiet}");
    bed.wait_until("! pgrep journalctl", LIMIT).expect("no reader stays behind");

    for verb in ["logs", "events"] {
        let near = bed.shell_as("anna", &format!("nixmoxctl --all {verb} debain")).expect("it runs");
        assert!(near.code == 1 && near.stderr.contains("did you mean `debian`?"), "{near}");
    }

    // What an ephemeral container said is data, and goes with it; it is read for as long as it is there.
    stack.succeed("down gone").expect("down");
    let after = lines_of(&bed, "gone debian").expect("a service that was taken away still has its journal");
    for name in ["gone", "debian"] {
        assert!(has(&after, "guest", &format!("inside {name}")), "{name}: {after:?}");
    }
    bed.fail("nixmoxctl -s sources exec gone -- true").expect("nothing runs there");
    stack.succeed("rm gone --data --yes").expect("removed");
    let after = lines_of(&bed, "gone").expect("what the host's journal has of it");
    assert!(!after.is_empty() && !has(&after, "guest", ""), "{after:?}");
    bed.fail("test -e /var/lib/nixos-containers/.journal/gone").expect("nothing is left");
}
