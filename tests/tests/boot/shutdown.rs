//! How the boot before this one ended, by the marks that guests leave and by its journal.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::house::{EDGES, House, root};

/// What a static guest logs when it is told to end.
const ASKED: &str = "asked to end";

/// Checks that each of these containers was given the time that its own shutdown takes, and was asked to begin it only when
/// all that need it had ended.
pub(crate) fn check(house: &House, ran: &BTreeMap<String, String>) -> Result<()> {
    let mut ended = BTreeMap::new();
    for name in ran.keys() {
        let marker = house.bed.path(root(name, "stopped"));
        let meta = fs::metadata(marker).with_context(|| format!("{name} was not allowed to stop to its end"))?;
        ended.insert(name.as_str(), since_1970(meta.modified()?)?);
    }
    let asked = asked(house)?;
    println!("asked to end, and ended: {asked:?} {ended:?}");
    for (dependent, needed) in EDGES {
        let end = ended.get(dependent).with_context(|| format!("{dependent} ran"))?;
        let begin = asked.get(needed).with_context(|| format!("{needed} was asked to end"))?;
        ensure!(end <= begin, "{needed} was stopped at {begin:?}, before {dependent} had ended, at {end:?}");
    }
    Ok(())
}

/// Returns when each container was asked to end in the boot before this one.
fn asked(house: &House) -> Result<BTreeMap<String, Duration>> {
    let text = house.bed.succeed(
        "journalctl --quiet --boot=-1 --unit='container@*' --output=json --output-fields=MESSAGE,_SYSTEMD_UNIT",
    )?;
    let mut asked = BTreeMap::new();
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).context("a line of the journal")?;
        let field = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let unit = field("_SYSTEMD_UNIT").strip_prefix("container@").and_then(|unit| unit.strip_suffix(".service"));
        if let Some(name) = unit.filter(|_| field("MESSAGE").trim() == ASKED) {
            let usec = field("__REALTIME_TIMESTAMP").parse().context("a time of the journal")?;
            asked.insert(name.to_owned(), Duration::from_micros(usec));
        }
    }
    Ok(asked)
}

fn since_1970(time: SystemTime) -> Result<Duration> {
    Ok(time.duration_since(UNIX_EPOCH)?)
}
