//! `cargo xtask bench`: the figures of the design's budgets, as JSON and as a table. Release build, on a testbed.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nixmox_testbed::{Behaviour, Build, Options, Testbed};

use crate::figures::{Budget, Figure, PAIRS, pairs, table};

/// Containers that the bring-up figure starts.
const CONTAINERS: usize = 20;
/// Longest time one bring-up may take.
const UP_LIMIT: Duration = Duration::from_mins(2);

/// How much to measure and where to write it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pairs per figure, at least seven
    #[arg(long, default_value_t = PAIRS)]
    pairs: usize,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures every figure; fails when a budget is missed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bed = Testbed::boot(&Options::new("bench").build(Build::Release).without_homelab())?;
    let figures = vec![bring_up(&bed, arguments.pairs)?];
    let json = serde_json::to_string_pretty(&figures).context("cannot write JSON")?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{json}\n\n{}", table(&figures));
    let kept = figures.iter().all(Figure::within_budget);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `nixmoxctl up` of independent static guests, divided by one `systemctl start` of the same units.
fn bring_up(bed: &Testbed, count: usize) -> Result<Figure> {
    let behaviour = Behaviour::new();
    let names: Vec<String> = (0..CONTAINERS).map(|index| format!("bench-{index:02}")).collect();
    let systems: Vec<(&str, &Behaviour)> = names.iter().map(|name| (name.as_str(), &behaviour)).collect();
    let paths = bed.static_guests(&systems)?;
    let mut manifest = "format = 1\n[stack]\nname = \"bench\"\n".to_owned();
    for (name, path) in names.iter().zip(&paths) {
        use std::fmt::Write as _;
        let _ = writeln!(manifest, "[services.{name}]\nsystem = \"{path}\"");
    }
    bed.write_file("/root/bench/nixmox.toml", manifest, 0o644)?;
    let units: Vec<String> = names.iter().map(|name| format!("container@{name}.service")).collect();
    let units = units.join(" ");
    let up = "cd /root/bench && nixmoxctl up";
    // Makes the conf files and drop-ins that the other side uses as well.
    bed.succeed(up)?;
    let stop = "cd /root/bench && nixmoxctl down";
    let samples = pairs(
        count,
        || {
            bed.succeed(stop)?;
            timed(bed, up)
        },
        || {
            // The same units with the same files, started by systemd alone while no agent runs.
            bed.succeed(&format!(
                "systemctl stop nixmox-agent.service nixmox-agent.socket; systemctl stop {units}"
            ))?;
            let time = timed(bed, &format!("systemctl start {units}"))?;
            bed.succeed("systemctl start nixmox-agent.socket nixmox-agent.service")?;
            Ok::<_, anyhow::Error>(time)
        },
    )?;
    Ok(Figure {
        name: format!("up of {CONTAINERS} containers / systemctl start of the same"),
        budget: Some(Budget { limit: 1.05, unit: "times" }),
        samples,
        note: "static guests on a testbed; both sides pay for nspawn".to_owned(),
    })
}

/// Time of a script inside, with the 18 ms that entering the host takes.
fn timed(bed: &Testbed, script: &str) -> Result<Duration> {
    let begin = Instant::now();
    let output = bed.exec_within(UP_LIMIT, &["bash", "-c", script])?;
    anyhow::ensure!(output.success(), "`{script}` failed: {output}");
    Ok(begin.elapsed())
}
