//! A large stack: 300 services declared of which 100 run. What everyday commands cost on it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nixmox_testbed::Testbed;

use crate::figures::{Budget, Figure, pairs, quotients};
use crate::measure::{STACK, repeated, write_stack};

/// How many are declared.
const DECLARED: usize = 300;
/// How many of them run; the others are stopped and held.
const RUNNING: usize = 100;
/// How many a rolling change replaces at a time.
const CHANGED: usize = 20;
/// Longest time that one command may take.
const LIMIT: Duration = Duration::from_mins(5);

/// `status`, an `up` with nothing to do, a live change and a rolling one.
pub(crate) fn large(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    let units = write_stack(bed, DECLARED)?;
    let units: Vec<&str> = units.split(' ').collect();
    let held: Vec<String> = (RUNNING..DECLARED).map(|index| format!("bench-{index:03}")).collect();
    timed(bed, "nixmoxctl up")?;
    timed(bed, &format!("nixmoxctl stop {}", held.join(" ")))?;
    let running = bed.succeed("systemctl list-units --plain --no-legend --state=active 'container@*' | wc -l")?;
    ensure!(running == RUNNING.to_string(), "{running} containers run, not {RUNNING}");
    bed.succeed(&format!("cp {STACK}/nixmox.toml {STACK}/plain"))?;

    let status = (0..count)
        .map(|_| Ok(1000.0 * (repeated(bed, "nixmoxctl status")? - repeated(bed, "/bin/true")?)))
        .collect::<Result<_>>()?;
    let nothing = milliseconds((0..count).map(|_| timed(bed, "nixmoxctl up")))?;
    let invocations = || bed.succeed(&format!("systemctl show -P InvocationID {}", units[..RUNNING].join(" ")));
    let before = invocations()?;
    let live = milliseconds((0..count).map(|round| {
        // Every service gets another limit.
        let limit = 1000 + round;
        bed.succeed(&format!(
            "sed 's/^system.*/&\\nlimits = {{ tasks_max = {limit} }}/' {STACK}/plain > {STACK}/nixmox.toml"
        ))?;
        timed(bed, "nixmoxctl up")
    }))?;
    ensure!(before == invocations()?, "a live change restarted containers");

    let some = units[..CHANGED].join(" ");
    let mut round = 0;
    let rolling = pairs(
        count,
        || {
            round += 1;
            let last = CHANGED - 1;
            bed.succeed(&format!(
                "awk -v round={round} '/^\\[services/ {{ n++ }} {{ print }} /^system/ && n <= {last} + 1 {{ print \"environment = {{ ROUND = \\\"\" round \"\\\" }}\" }}' \
                 {STACK}/plain > {STACK}/nixmox.toml"
            ))?;
            timed(bed, "nixmoxctl up")
        },
        || timed(bed, &format!("systemctl restart {some}")),
    )?;
    Ok(vec![
        Figure {
            name: format!("nixmoxctl status, {DECLARED} services declared, {RUNNING} running"),
            budget: Some(Budget { limit: 15.0, unit: "ms" }),
            samples: status,
            note: "as with 100 services".to_owned(),
        },
        Figure {
            name: "the same: an up with nothing to do".to_owned(),
            budget: None,
            samples: nothing,
            note: "ms; reads the manifest, checks 300 store paths, plans".to_owned(),
        },
        Figure {
            name: format!("the same: another limit for all {DECLARED}, live"),
            budget: None,
            samples: live,
            note: "ms, until the command ends; no container was restarted".to_owned(),
        },
        Figure {
            name: format!("the same: {CHANGED} services replaced / systemctl restart of the same {CHANGED}"),
            budget: None,
            samples: quotients(rolling),
            note: "until the command ends, which also asks each guest whether it is up".to_owned(),
        },
    ])
}

fn milliseconds(samples: impl Iterator<Item = Result<Duration>>) -> Result<Vec<f64>> {
    samples.map(|sample| sample.map(|time| 1000.0 * time.as_secs_f64())).collect()
}

/// Runs a command in the stack's folder and takes its time, without that of getting into the host.
fn timed(bed: &Testbed, command: &str) -> Result<Duration> {
    let script = format!(
        "cd {STACK} && begin=$(date +%s%6N) && {command} > /dev/null && echo $(( $(date +%s%6N) - begin ))"
    );
    let output = bed.exec_within(LIMIT, &["bash", "-c", &script])?;
    ensure!(output.success(), "`{command}` failed: {output}");
    output.stdout.trim().parse().map(Duration::from_micros).context("no time")
}
