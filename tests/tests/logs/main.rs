//! `nixmoxctl logs` and `events` on a real systemd: every line once and in order, of every kind of service, and nothing that a
//! hostile guest points at.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod events;
mod follow;
mod hostile;
mod sources;
mod storm;

use anyhow::{Context, Result};
use nixmox_testbed::Testbed;
use serde_json::Value;

/// Returns what a service is said to have logged, as `logs -o json` tells it to an observer, oldest first.
fn lines_of(bed: &Testbed, arguments: &str) -> Result<Vec<Value>> {
    bed.sync_journal()?;
    let output = bed.shell_as("anna", &format!("nixmoxctl --all logs -o json {arguments}"))?;
    anyhow::ensure!(output.success(), "logs {arguments}: {output}");
    output.stdout.lines().map(|line| serde_json::from_str(line).context("a line is no JSON")).collect()
}

/// Returns a field as text; empty when it is not there.
fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_default()
}
