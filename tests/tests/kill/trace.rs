//! What the agent's journal says of the steps of one operation: which began and which ended, before and after a death.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use nixmox_testbed::Testbed;
use serde_json::Value;

/// One line of the agent's journal about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Process of the agent that wrote it.
    pub(crate) pid: String,
    /// The service.
    pub(crate) service: String,
    /// What is done to it.
    pub(crate) step: String,
    /// Whether the step begins; else it ended, well or not.
    pub(crate) begins: bool,
    /// When the journal received it, in microseconds since 1970.
    pub(crate) at_usec: u64,
}

/// A reader of the agent's journal that goes on where it stopped.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    cursor: Option<String>,
}

impl Journal {
    /// Returns the lines about steps since the last call.
    pub(crate) fn read(&mut self, bed: &Testbed) -> Result<Vec<Line>> {
        let from = self.cursor.as_ref().map(|cursor| format!("--after-cursor='{cursor}'")).unwrap_or_default();
        bed.sync_journal()?;
        let text = bed.succeed(&format!(
            "journalctl --quiet --unit=nixmox-agent --output=json {from} \
             --output-fields=_PID,NIXMOX_SERVICE,NIXMOX_STEP,NIXMOX_EVENT"
        ))?;
        let mut lines = Vec::new();
        for entry in text.lines() {
            let entry: Value = serde_json::from_str(entry).context("a line of the journal")?;
            let field = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            self.cursor = Some(field("__CURSOR"));
            let begins = match field("NIXMOX_EVENT").as_str() {
                "step-begins" => true,
                "step-done" | "step-failed" => false,
                _ => continue,
            };
            lines.push(Line {
                pid: field("_PID"),
                service: field("NIXMOX_SERVICE"),
                step: field("NIXMOX_STEP"),
                begins,
                at_usec: field("__REALTIME_TIMESTAMP").parse().context("a time of the journal")?,
            });
        }
        Ok(lines)
    }
}

/// Returns the steps that a process had begun and not ended when it died, as `(step, service)`.
pub(crate) fn under_way<'a>(lines: &'a [Line], pid: &str) -> BTreeSet<(&'a str, &'a str)> {
    let mut open = BTreeSet::new();
    for line in lines.iter().filter(|line| line.pid == pid) {
        let step = (line.step.as_str(), line.service.as_str());
        if line.begins {
            open.insert(step);
        } else {
            open.remove(&step);
        }
    }
    open
}
