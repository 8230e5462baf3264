//! A large stack: 300 services declared of which 100 run, the others being jobs that are done. What everyday commands
//! cost on it.
//!
//! Not all of them run: every nspawn holds a connection to the bus, and dbus-daemon(1) gives a user 256.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nixmox_testbed::{Behaviour, Testbed};

use crate::figures::{Budget, Figure, pairs, quotients};
use crate::measure::{STACK, repeated, write_stack};

/// How many are declared.
const DECLARED: usize = 300;
/// How many of them run; the others are jobs.
const RUNNING: usize = 100;
/// How many a rolling change replaces at a time.
const CHANGED: usize = 20;
/// Longest time that one command may take.
const LIMIT: Duration = Duration::from_mins(5);

/// `status`, an `up` with nothing to do, a live change and a rolling one.
pub(crate) fn large(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    let units = write_stack(bed, RUNNING)?;
    let units: Vec<&str> = units.split(' ').collect();
    let job = bed.static_guest("job", &Behaviour::new().exit_at_once(0))?;
    let jobs = (RUNNING..DECLARED).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "[services.job-{index:03}]\nkind = \"job\"\nsystem = \"{job}\"");
        text
    });
    let services = bed.read_file(format!("{STACK}/nixmox.toml"))?;
    let declare = |extra: &dyn Fn(usize) -> String| {
        let mut manifest = String::new();
        for (index, table) in services.split_inclusive("system = ").enumerate() {
            // What is before a service's `system` belongs to its table.
            manifest.push_str(table.trim_end_matches("system = "));
            if table.ends_with("system = ") {
                let _ = write!(manifest, "{}system = ", extra(index));
            }
        }
        bed.write_file(format!("{STACK}/nixmox.toml"), manifest + &jobs, 0o644)
    };
    declare(&|_| String::new())?;
    timed(bed, "nixmoxctl up")?;
    let running = bed.succeed("systemctl list-units --plain --no-legend --state=active 'container@*' | wc -l")?;
    ensure!(running == RUNNING.to_string(), "{running} containers run, not {RUNNING}");

    let status = (0..count)
        .map(|_| Ok(1000.0 * (repeated(bed, "nixmoxctl status")? - repeated(bed, "/bin/true")?)))
        .collect::<Result<_>>()?;
    let nothing = milliseconds((0..count).map(|_| timed(bed, "nixmoxctl up")))?;
    let invocations = || bed.succeed(&format!("systemctl show -P InvocationID {}", units.join(" ")));
    let before = invocations()?;
    let live = milliseconds((0..count).map(|round| {
        declare(&|_| format!("limits = {{ tasks_max = {} }}\n", 1000 + round))?;
        timed(bed, "nixmoxctl up")
    }))?;
    ensure!(before == invocations()?, "a live change restarted containers");

    let some = units.get(..CHANGED).context("there are as many")?.join(" ");
    let mut round = 0;
    let rolling = pairs(
        count,
        || {
            round += 1;
            let changed = format!("environment = {{ ROUND = \"{round}\" }}\n");
            declare(&|index| if index < CHANGED { changed.clone() } else { String::new() })?;
            timed(bed, "nixmoxctl up")
        },
        || timed(bed, &format!("systemctl restart {some}")),
    )?;
    let figure = |what: String, samples: Vec<f64>, note: &str| Figure {
        name: format!("{DECLARED} services declared, {RUNNING} running: {what}"),
        budget: None,
        samples,
        note: note.to_owned(),
    };
    Ok(vec![
        Figure {
            budget: Some(Budget { limit: 15.0, unit: "ms" }),
            ..figure("nixmoxctl status".to_owned(), status, "the budget is that of 100 services")
        },
        figure("up with nothing to do, ms".to_owned(), nothing, "300 store paths are looked at"),
        figure(format!("another limit for {RUNNING}, live, ms"), live, "no container was restarted"),
        figure(
            format!("up that replaces {CHANGED} / systemctl restart of the same {CHANGED}"),
            quotients(rolling),
            "until the command ends, which also asks each guest whether it is up",
        ),
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
    ensure!(
        output.success(),
        "`{command}` failed: {output}\n{}",
        bed.journal(&["-u", "nixmox-agent", "-n", "40"])?
    );
    output.stdout.trim().parse().map(Duration::from_micros).context("no time")
}
