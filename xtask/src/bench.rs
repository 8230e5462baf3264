//! `cargo xtask bench`: the figures of the design's budgets, as JSON and as a table. Release build, on a testbed.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use nixmox_testbed::{Build, Options, Testbed};

use crate::{
    figures::{Figure, PAIRS, table},
    large, measure,
};

/// How much to measure and where to write it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Pairs, or samples, per figure, at least seven
    #[arg(long, default_value_t = PAIRS)]
    pairs: usize,
    /// Write the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure only the kinds of figures whose name contains this, such as `up` or `agent start`
    #[arg(long, value_name = "KIND")]
    only: Option<String>,
}

/// One kind of figure: its name and how it is measured on a host of its own.
type Measure = (&'static str, fn(&Testbed, usize) -> Result<Vec<Figure>>);

/// Every kind of figure, in the order of the table.
const MEASURES: [Measure; 7] = [
    ("planner", measure::planner),
    ("up", measure::bring_up),
    ("idle", measure::idle),
    ("status", measure::status),
    ("agent start", measure::agent_start),
    ("large", large::large),
    ("programs", measure::programs),
];

/// Measures every figure, also after one that cannot be measured; fails when there is such a one, or a budget is missed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let count = arguments.pairs.max(PAIRS);
    let asked = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let kinds = MEASURES.map(|(name, _)| name);
    ensure!(kinds.into_iter().any(asked), "there is no such kind of figure; there are: {}", kinds.join(", "));
    let (mut figures, mut failed) = (Vec::new(), false);
    for (name, measure) in MEASURES.into_iter().filter(|(name, _)| asked(name)) {
        eprintln!("measuring: {name}");
        // A host each: what one figure leaves must not weigh on the next.
        let bed = Testbed::boot(&Options::new(name).build(Build::Release).without_homelab())?;
        match measure(&bed, count) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                eprintln!("cannot measure `{name}`: {error:#}");
                failed = true;
            }
        }
    }
    let json = serde_json::to_string_pretty(&figures).context("cannot write JSON")?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{json}\n\n{}", table(&figures));
    let kept = figures.iter().all(Figure::within_budget);
    Ok(if kept && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
