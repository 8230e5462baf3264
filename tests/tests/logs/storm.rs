//! Twenty containers that write 500 lines a second each for 30 s, followed: nothing is lost, turned around, or doubled that the
//! journal has once, and the agent has nothing to do with it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use nixmox_testbed::{Behaviour, Options, Testbed};
use nixmox_tests::operator::Stack;
use serde_json::Value;

const RATE: u32 = 500;
const SECONDS: u32 = 30;
const COUNT: u32 = RATE * SECONDS;
/// Guests that write to their console.
const STATIC: usize = 16;
/// Guests that write to a journal of their own.
const BOOTED: usize = 4;
/// A busy machine writes slower.
const LIMIT: Duration = Duration::from_mins(10);

/// CPU time of the agent's process, and of all of its unit, in microseconds.
struct Used {
    agent: u64,
    unit: u64,
    at: Duration,
}

fn used(bed: &Testbed) -> Used {
    let script = "pid=$(systemctl show -P MainPID nixmox-agent); group=$(systemctl show -P ControlGroup nixmox-agent)
                  read -r -a stat < /proc/$pid/stat; echo $(( (stat[13] + stat[14]) * 1000000 / $(getconf CLK_TCK) ))
                  sed -n 's/^usage_usec //p' /sys/fs/cgroup$group/cpu.stat; cut -d' ' -f1 /proc/uptime";
    let figures = bed.succeed(script).expect("the kernel says");
    let figures: Vec<f64> = figures.lines().map(|line| line.parse().expect("a figure")).collect();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds of a test")]
    Used { agent: figures[0] as u64, unit: figures[1] as u64, at: Duration::from_secs_f64(figures[2]) }
}

/// Returns how often a line is in a service's journal.
fn stored(bed: &Testbed, service: &str, message: &str) -> String {
    let of =
        if service.starts_with("static") { format!("-u container@{service}") } else { format!("-M {service}") };
    bed.succeed(&format!("journalctl -q -o cat {of} --grep '^{message}$' | wc -l")).expect("read")
}

#[test]
fn every_line_of_a_storm_is_shown_once_and_in_order() {
    let bed = Testbed::boot(&Options::new("log-storm")).expect("the host boots");
    bed.add_user("anna", &["nixmox"]).expect("an observer");
    let stack = Stack::new(&bed, "storm");
    let names: Vec<String> = (0..STATIC).map(|number| format!("static{number}")).collect();
    // They begin to write when they are started: they are held until somebody looks.
    let system = bed.static_guest("writer", &Behaviour::new().writes(RATE, COUNT)).expect("a system");
    let debian = bed.homelab_systems().expect("systems")["caddy"].clone();
    let booted: Vec<String> = (0..BOOTED).map(|number| format!("booted{number}")).collect();
    let declare = |name: &String, system: &str| format!("[services.{name}]\nsystem = \"{system}\"");
    let services: Vec<String> = names
        .iter()
        .map(|name| declare(name, &system))
        .chain(booted.iter().map(|name| declare(name, &debian)))
        .collect();
    stack.declare(&services.iter().map(String::as_str).collect::<Vec<_>>()).expect("a manifest");
    stack.succeed(&format!("up {}", booted.join(" "))).expect("the booted ones are up");

    bed.succeed(
        "systemd-run -q --unit=reader -p User=anna -p KillSignal=SIGINT -p StandardError=journal -p StandardOutput=file:/tmp/lines \
         nixmoxctl --all logs -f -o json --since now",
    )
    .expect("somebody reads");
    bed.wait_until("test $(pgrep -c journalctl) -gt 4", LIMIT).expect("it reads");
    let before = used(&bed);
    stack.succeed("up").expect("all are up");
    for name in &booted {
        // Ten times a second, as an interpreter can.
        let burst = RATE / 10;
        let script = format!(
            "n=0; while ((n < {COUNT})); do for ((i = 0; i < {burst}; i++)); do echo \"line $((++n)) of {COUNT}\"; done; sleep 0.1; done"
        );
        let unit = "systemd-run -q --unit=writer -p LogRateLimitIntervalSec=0";
        bed.succeed(&format!("{unit} -M {name} /bin/bash -c '{script}'")).expect("it writes");
    }
    // They come in order, so that the last one of each is the last of all.
    let ended = format!(
        "grep 'line {COUNT} of {COUNT}\"' /tmp/lines | grep -o '^{{\"service\":\"[^\"]*' | sort -u | wc -l"
    );
    bed.wait_until(&format!("test $({ended}) = {}", STATIC + BOOTED), LIMIT).expect("the last line of each comes");
    let after = used(&bed);
    bed.succeed("systemctl stop reader").expect("Ctrl-C ends it");

    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    let mut again: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut dropped = Vec::new();
    let file = std::fs::File::open(bed.path("/tmp/lines")).expect("what was shown");
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let (service, message) = (super::text(&line, "service"), super::text(&line, "message"));
        // It says of itself, too, when memory is short or a file is full, and that is no loss.
        if super::text(&line, "speaker") == "journald" && message.starts_with("Suppressed") {
            dropped.push(format!("{service}: {message}"));
        }
        let of = format!(" of {COUNT}");
        let Some(number) = message.strip_prefix("line ").and_then(|rest| rest.strip_suffix(&of)) else { continue };
        let number: u32 = number.parse().expect("a number");
        let source = if service.starts_with("static") { "host" } else { "guest" };
        assert_eq!(super::text(&line, "source"), source, "{line}");
        let expected = next.entry(service.to_owned()).or_insert(1);
        if number + 1 == *expected {
            *again.entry((service.to_owned(), message.to_owned())).or_default() += 1;
            continue;
        }
        if number != *expected {
            // Whose fault it is: was it stored, and is it shown later?
            let message = format!("line {expected}{of}");
            let stored = stored(&bed, service, &message);
            let shown = bed.succeed(&format!("grep -c '\"{message}\"' /tmp/lines || true")).expect("read");
            panic!(
                "{service}: `{message}` is not shown before {number}: {stored} times in its journal, {shown} times among what is shown; \
                 journald says {dropped:?}"
            );
        }
        *expected += 1;
    }
    assert_eq!(next.len(), STATIC + BOOTED, "{:?}", next.keys());
    assert!(next.values().all(|next| *next == COUNT + 1), "{next:?}; journald says {dropped:?}");
    assert!(dropped.is_empty(), "{dropped:?}");
    // journald stores a line a second time, as another entry, when its file is full in the middle of it
    // (https://github.com/systemd/systemd/issues/29016). That is a line like any other, and nothing else is shown twice.
    for ((service, message), more) in &again {
        let stored = stored(&bed, service, message);
        assert_eq!(stored, (1 + more).to_string(), "`{message}` of {service} is in its journal");
    }

    let took = after.at.saturating_sub(before.at);
    let share = |usec: u64| {
        let wall = took.as_micros().max(1);
        format!("{}.{:02} %", u128::from(usec) * 100 / wall, u128::from(usec) * 10_000 / wall % 100)
    };
    let (agent, unit) = (after.agent.saturating_sub(before.agent), after.unit.saturating_sub(before.unit));
    nixmox_tests::say(&format!(
        "{} lines in {took:?}, {} of them stored twice: the agent took {} of a core, its readers {}",
        COUNT as usize * (STATIC + BOOTED),
        again.len(),
        share(agent),
        share(unit.saturating_sub(agent))
    ));
}
