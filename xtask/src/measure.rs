//! How each figure is measured, on a booted host with the release build.
//!
//! Containers are static guests without a health check of their own: what is measured is NixMox, not a service.

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nixmox_testbed::{Behaviour, Testbed};

use crate::figures::{Budget, Figure, pairs, quotients};
use crate::step::cargo;

/// Longest time one bring-up may take.
const UP_LIMIT: Duration = Duration::from_mins(3);
/// How long an idle agent is watched.
const IDLE: Duration = Duration::from_mins(1);
/// Repetitions inside one sample of something that takes milliseconds.
const REPEAT: u32 = 20;
/// Where the stack lies inside.
pub(crate) const STACK: &str = "/root/bench";

/// `nixmoxctl up` of 20 independent containers, divided by one `systemctl start` of the same units.
pub(crate) fn bring_up(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    let units = write_stack(bed, 20)?;
    let down = format!("cd {STACK} && nixmoxctl down");
    bed.succeed(&format!("cd {STACK} && nixmoxctl up"))?;
    // Both sides start the same conf files and drop-ins; the other side without an agent.
    bed.succeed("mkdir /run/kept && cp -a /etc/nixos-containers /run/kept/conf && cp -a /run/systemd/system /run/kept/units")?;
    let measured = pairs(
        count,
        || {
            bed.succeed(&down)?;
            started(bed, "nixmoxctl up", &units)
        },
        || {
            bed.succeed(&down)?;
            bed.succeed(&format!(
                "systemctl stop nixmox-agent.socket nixmox-agent.service; systemctl stop {units}
                 cp -a /run/kept/conf/. /etc/nixos-containers/ && cp -a /run/kept/units/. /run/systemd/system/ && systemctl daemon-reload"
            ))?;
            let times = started(bed, &format!("systemctl start {units}"), &units)?;
            bed.succeed(&format!(
                "systemctl stop {units}; systemctl start nixmox-agent.socket nixmox-agent.service"
            ))?;
            Ok::<_, anyhow::Error>(times)
        },
    )?;
    let figure = |what: &str, limit: Option<f64>, note: &str, time: fn(&Started) -> Duration| Figure {
        name: format!("up of 20 containers / systemctl start of the same, {what}"),
        budget: limit.map(|limit| Budget { limit, unit: "times" }),
        samples: quotients(measured.iter().map(|(a, b)| (time(a), time(b)))),
        note: note.to_owned(),
    };
    Ok(vec![
        figure(
            "until the last is active",
            Some(1.05),
            "up includes a client, the manifest, the plan and a generation; both sides pay for nspawn",
            |times| times.active,
        ),
        figure(
            "until the command ends",
            None,
            "up also asks each guest whether it is up, and the planner whether nothing is left to do",
            |times| times.ended,
        ),
    ])
}

/// How long a command that starts units took.
struct Started {
    /// Until systemd saw the last of them active.
    active: Duration,
    /// Until it ended.
    ended: Duration,
}

/// Runs a command that starts units, and takes its time.
fn started(bed: &Testbed, command: &str, units: &str) -> Result<Started> {
    let script = format!(
        "cd {STACK} && begin=$(date +%s%6N) && {command} > /dev/null && ended=$(date +%s%6N) || exit 1
         active=$(systemctl show -P ActiveEnterTimestamp --timestamp=us {units} | sort | tail -n 1)
         echo $(( $(date -d \"$active\" +%s%6N) - begin )) $(( ended - begin ))"
    );
    let output = bed.exec_within(UP_LIMIT, &["bash", "-c", &script])?;
    ensure!(output.success(), "`{command}` failed: {output}");
    let mut times = output.stdout.split_whitespace().map(|word| word.parse().map(Duration::from_micros));
    let mut next = || times.next().context("no time")?.context("not a time");
    Ok(Started { active: next()?, ended: next()? })
}

/// Memory and wake-ups of the agent while 20 containers run and nothing happens.
pub(crate) fn idle(bed: &Testbed, _count: usize) -> Result<Vec<Figure>> {
    write_stack(bed, 20)?;
    bed.succeed(&format!("cd {STACK} && nixmoxctl up"))?;
    let pid = bed.succeed("systemctl show -P MainPID nixmox-agent")?;
    let read = |key: &str| -> Result<f64> {
        let text =
            bed.succeed(&format!("grep -h '^{key}:' /proc/{pid}/status /proc/{pid}/task/*/status | head -1"))?;
        text.split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no {key} in `{text}`"))
    };
    // Threads of the blocking pool end after 10 s without work and take their counts along, so each thread's last
    // reading is kept; what it does between that and its end is to end.
    let seconds = IDLE.as_secs();
    let readings = bed.exec_within(
        IDLE * 2,
        &[
            "bash",
            "-c",
            &format!(
                "for i in $(seq 0 {seconds}); do
                     awk '$1 == \"Pid:\" {{ tid = $2 }} /ctxt_switches/ {{ n[tid] += $2 }} END {{ for (tid in n) print tid, n[tid] }}' \
                         /proc/{pid}/task/*/status 2>/dev/null; echo; sleep 1
                 done"
            ),
        ],
    )?;
    ensure!(readings.success(), "cannot read the threads of the agent: {readings}");
    let woken = switches(&readings.stdout)?;
    let memory = |name: &str, key: &str, limit: f64| -> Result<Figure> {
        Ok(Figure {
            name: format!("agent, idle, 20 containers: {name}"),
            budget: Some(Budget { limit, unit: "MiB" }),
            samples: vec![read(key)? / 1024.0],
            note: "one reading of /proc/PID/status".to_owned(),
        })
    };
    Ok(vec![
        memory("resident", "VmRSS", 8.0)?,
        memory("anonymous", "RssAnon", 3.0)?,
        Figure {
            name: "agent, idle, 20 containers: context switches in 60 s".to_owned(),
            budget: None,
            samples: vec![woken],
            note:
                "all threads, ended ones too, voluntary and not; with the watchdog's and a question to each guest \
                   every 30 s"
                    .to_owned(),
        },
    ])
}

/// Adds up the context switches of all threads between the first of some readings and the last.
///
/// A reading is a line `TID COUNT` for each thread there is, then an empty line. A thread that comes counts from 0, one
/// that goes counts as far as it was last read.
fn switches(readings: &str) -> Result<f64> {
    let mut threads: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (index, reading) in readings.trim().split("\n\n").enumerate() {
        for line in reading.lines() {
            let (thread, count) = line.split_once(' ').with_context(|| format!("no count in `{line}`"))?;
            let count: f64 = count.parse().with_context(|| format!("no count in `{line}`"))?;
            let first = if index == 0 { count } else { 0.0 };
            threads.entry(thread).or_insert((first, count)).1 = count;
        }
    }
    Ok(threads.values().map(|(first, last)| last - first).sum())
}

/// `nixmoxctl status` with 100 running containers, less the time of a program that does nothing.
pub(crate) fn status(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    write_stack(bed, 100)?;
    bed.exec_within(UP_LIMIT, &["sh", "-c", &format!("cd {STACK} && nixmoxctl up")])?;
    let samples = (0..count)
        .map(|_| Ok(1000.0 * (repeated(bed, "nixmoxctl status")? - repeated(bed, "/bin/true")?)))
        .collect::<Result<_>>()?;
    let strace = "strace -f -qq -e trace=execve,clone,clone3,fork,vfork -o /tmp/trace nixmoxctl status > /dev/null";
    bed.succeed(&format!("cd {STACK} && {strace}"))?;
    let spawned = bed.succeed("grep -c execve /tmp/trace")?;
    ensure!(spawned == "1", "nixmoxctl status starts other programs: {}", bed.succeed("cat /tmp/trace")?);
    Ok(vec![Figure {
        name: "nixmoxctl status, 100 running containers".to_owned(),
        budget: Some(Budget { limit: 15.0, unit: "ms" }),
        samples,
        note: format!("mean of {REPEAT} calls per sample, less that of /bin/true; no other program is started"),
    }])
}

/// Start of the agent until it says that everything is as desired, with 100 containers that run already.
pub(crate) fn agent_start(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    let units = write_stack(bed, 100)?;
    bed.exec_within(UP_LIMIT, &["sh", "-c", &format!("cd {STACK} && nixmoxctl up")])?;
    let invocations = || bed.succeed(&format!("systemctl show -P InvocationID {units}"));
    let before = invocations()?;
    let script = format!(
        "cd {STACK} && systemctl stop nixmox-agent.service && begin=$(date +%s%N) && systemctl start nixmox-agent.service
         until nixmoxctl plan --exit-code > /dev/null 2>&1; do sleep 0.005; done; echo $(( $(date +%s%N) - begin ))"
    );
    let samples = (0..count)
        .map(|_| {
            let text = bed.succeed(&script)?;
            let nanoseconds: f64 = text.lines().last().unwrap_or_default().parse().context("no time")?;
            Ok(nanoseconds / 1_000_000.0)
        })
        .collect::<Result<_>>()?;
    ensure!(before == invocations()?, "a start of the agent touched containers");
    Ok(vec![Figure {
        name: "agent start to everything as desired, 100 containers".to_owned(),
        budget: Some(Budget { limit: 300.0, unit: "ms" }),
        samples,
        note: "from systemctl start until a plan is empty, one nixmoxctl call included; no container touched"
            .to_owned(),
    }])
}

/// The planner alone, in a process of its own: no host is needed for it.
pub(crate) fn planner(_bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    let of = |report: &serde_json::Value, key: &str| {
        serde_json::from_value::<Vec<f64>>(report[key].clone())
            .with_context(|| format!("no {key} from plan_budget"))
    };
    let run = ["run", "--quiet", "--release", "--package", "nixmox-core", "--example", "plan_budget", "--"];
    let output = cargo(&run).arg(count.to_string()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "plan_budget failed: {}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("plan_budget printed something else")?;
    let figure = |what: &str, budget: Option<f64>, samples: Vec<f64>, note: &str| Figure {
        name: format!("plan of 10,000 services, 29,980 dependencies: {what}"),
        budget: budget.map(|limit| Budget { limit, unit: "ms" }),
        samples,
        note: note.to_owned(),
    };
    Ok(vec![
        figure("start all", Some(50.0), of(&report, "start_all_ms")?, "the first sample is cold"),
        figure("nothing to do", Some(50.0), of(&report, "nothing_ms")?, "what most rounds of the agent plan"),
        figure("stop all", Some(50.0), of(&report, "stop_all_ms")?, ""),
        figure(
            "their texts",
            None,
            of(&report, "texts_ms")?,
            "conf file, drop-in and environment of each, rendered before a plan",
        ),
    ])
}

/// Start-up of the client, and sizes of both programs.
pub(crate) fn programs(bed: &Testbed, count: usize) -> Result<Vec<Figure>> {
    bed.succeed(&format!("mkdir -p {STACK}"))?;
    let samples = (0..count)
        .map(|_| Ok(1000.0 * (repeated(bed, "nixmoxctl --version")? - repeated(bed, "/bin/true")?)))
        .collect::<Result<_>>()?;
    let mut figures = vec![Figure {
        name: "nixmoxctl --version beyond /bin/true".to_owned(),
        budget: Some(Budget { limit: 2.0, unit: "ms" }),
        samples,
        note: format!("mean of {REPEAT} calls per sample"),
    }];
    for program in ["nixmoxctl", "nixmox-agent"] {
        let path = bed.path(format!("/usr/bin/{program}"));
        let size = fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?.len();
        #[allow(clippy::cast_precision_loss, reason = "a program's size in MiB needs no more than 52 bits")]
        let mebibytes = size as f64 / 1_048_576.0;
        figures.push(Figure {
            name: format!("size of {program}"),
            budget: Some(Budget { limit: 4.0, unit: "MiB" }),
            samples: vec![mebibytes],
            note: "release build, stripped".to_owned(),
        });
    }
    Ok(figures)
}

/// Writes a stack of static guests and returns the names of its units.
pub(crate) fn write_stack(bed: &Testbed, containers: usize) -> Result<String> {
    let behaviour = Behaviour::new();
    let names: Vec<String> = (0..containers).map(|index| format!("bench-{index:03}")).collect();
    let systems: Vec<(&str, &Behaviour)> = names.iter().map(|name| (name.as_str(), &behaviour)).collect();
    let mut manifest = "format = 1\n[stack]\nname = \"bench\"\n".to_owned();
    for (name, path) in names.iter().zip(bed.static_guests(&systems)?) {
        let _ = writeln!(manifest, "[services.{name}]\nsystem = \"{path}\"");
    }
    bed.write_file(format!("{STACK}/nixmox.toml"), manifest, 0o644)?;
    Ok(names.iter().map(|name| format!("container@{name}.service")).collect::<Vec<_>>().join(" "))
}

/// Mean time in seconds of a command that is called over and over inside.
pub(crate) fn repeated(bed: &Testbed, command: &str) -> Result<f64> {
    let script = format!(
        "cd {STACK} && begin=$(date +%s%N); for i in $(seq {REPEAT}); do {command} > /dev/null || exit 1; done; echo $(( $(date +%s%N) - begin ))"
    );
    let nanoseconds: f64 = bed.succeed(&script)?.parse().context("no time")?;
    Ok(nanoseconds / 1e9 / f64::from(REPEAT))
}

#[cfg(test)]
mod tests {
    use super::switches;

    #[test]
    fn the_switches_of_a_thread_that_ended_still_count() {
        let readings = "1 100\n2 40\n\n1 110\n2 45\n3 7\n\n1 111\n\n";
        let sum = switches(readings).expect("well formed");
        assert!((sum - (11.0 + 5.0 + 7.0)).abs() < f64::EPSILON, "{sum}");
        assert!(switches("1 x").is_err());
    }
}
