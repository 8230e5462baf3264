//! What nix is doing, from the lines of its log: pure, line by line, whatever the lines are.
//!
//! nix writes with `--log-format internal-json` one JSON object a line behind `@nix `: an activity starts, has results and
//! stops; messages stand for themselves. Kinds and results are numbers, here as Nix 2.26 has them (`logging.hh`). How
//! much is done of all is counted as nix counts it for its own progress bar: what ended, and what runs. `logs/` has what Nix
//! 2.26 wrote.

use std::collections::{BTreeMap, VecDeque};

use nixmox_core::closure::name_of;
use serde::Deserialize;
use serde_json::Value;

use crate::render::plain;

/// The most activities that are known at once: no machine runs as many.
const RUNNING_MAX: usize = 4096;
/// The most lines of a builder that are kept.
const LINES_MAX: usize = 20;
/// The most builds that ended and may still be named by a complaint.
const ENDED_MAX: usize = 64;

// Kinds of activities.
const COPY_PATH: u64 = 100;
const FILE_TRANSFER: u64 = 101;
const COPY_PATHS: u64 = 103;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
const SUBSTITUTE: u64 = 108;
// Kinds of results.
const LOG_LINE: u64 = 101;
const SET_PHASE: u64 = 104;
const PROGRESS: u64 = 105;
const SET_EXPECTED: u64 = 106;

/// How much is done of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    /// What is done.
    pub(crate) done: u64,
    /// What is expected in the end, as far as that is known; at least what is done.
    pub(crate) expected: u64,
}

/// A builder, or a path that is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// What is built or fetched, without the store's folder and the hash.
    pub(crate) name: String,
    /// What it is at; `None`: it does not say.
    pub(crate) phase: Option<String>,
    /// When it began, in milliseconds of the caller's clock.
    pub(crate) since_ms: u64,
    /// Whether it is fetched, not built.
    pub(crate) is_fetched: bool,
    /// What is fetched of it, in bytes.
    pub(crate) bytes: Amount,
    /// The whole store path of the derivation.
    derivation: String,
    /// The last lines of its builder.
    lines: VecDeque<String>,
}

/// A builder that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedBuild {
    /// What was to be built.
    pub(crate) name: String,
    /// The store path of its derivation: `nix log` takes it.
    pub(crate) derivation: String,
    /// Its last lines; empty when nix tells them itself.
    pub(crate) lines: Vec<String>,
}

/// What is to be shown of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A text for a person, as nix colours it.
    Text(String),
    /// Something that is no part of the log: of a program that nix runs.
    Foreign(String),
}

/// What nix is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    running: BTreeMap<u64, Activity>,
    /// What is done by activities that ended, by kind.
    ended: BTreeMap<u64, u64>,
    /// What activities expect of each kind.
    expected: BTreeMap<u64, u64>,
    ended_builds: VecDeque<Work>,
    failed: Vec<FailedBuild>,
}

#[derive(Clone, Debug, Default)]
struct Activity {
    kind: u64,
    /// The activity that it is a part of; 0: none.
    parent: u64,
    amount: Amount,
    /// What it said to expect of each kind.
    expected: BTreeMap<u64, u64>,
    work: Option<Work>,
}

/// A line of the log; absent what the kind of line does not have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    action: String,
    id: u64,
    #[serde(rename = "type")]
    kind: u64,
    parent: u64,
    level: u64,
    fields: Vec<Value>,
    msg: String,
    raw_msg: Option<Value>,
}

impl Line {
    fn number(&self, place: usize) -> u64 {
        self.fields.get(place).and_then(Value::as_u64).unwrap_or(0)
    }

    fn text(&self, place: usize) -> &str {
        self.fields.get(place).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Log {
    /// Takes a line of stderr, without its end, at a moment of the caller's clock; returns what is to be shown of it.
    pub(crate) fn take(&mut self, line: &[u8], now_ms: u64) -> Option<Said> {
        let Some(json) = line.strip_prefix(b"@nix ") else {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            return (!text.is_empty()).then_some(Said::Foreign(text));
        };
        // A line of a later nix that is not understood is nothing to stop a build for.
        let line: Line = serde_json::from_slice(json).ok()?;
        match line.action.as_str() {
            "start" => self.start(&line, now_ms),
            "stop" => self.stop(line.id),
            "result" => self.result(&line),
            "msg" => return self.message(line),
            _ => {}
        }
        None
    }

    /// Returns the derivations that are built.
    pub(crate) fn builds(&self) -> Amount {
        self.amount(BUILDS)
    }

    /// Returns the paths that are fetched.
    pub(crate) fn paths(&self) -> Amount {
        self.amount(COPY_PATHS)
    }

    /// Returns the bytes that are fetched: as they are transferred, or as they are unpacked where nothing tells that.
    pub(crate) fn bytes(&self) -> Amount {
        let transferred = self.amount(FILE_TRANSFER);
        if transferred.expected > 0 { transferred } else { self.amount(COPY_PATH) }
    }

    /// Returns what is under way, what began first in front; builds before what is fetched.
    pub(crate) fn works(&self) -> Vec<&Work> {
        let mut works: Vec<&Work> = self.running.values().filter_map(|activity| activity.work.as_ref()).collect();
        works.sort_by_key(|work| (work.is_fetched, work.since_ms));
        works
    }

    /// Returns the builders that failed, in the order in which nix complained.
    pub(crate) fn failed(&self) -> &[FailedBuild] {
        &self.failed
    }

    fn start(&mut self, line: &Line, now_ms: u64) {
        if self.running.len() >= RUNNING_MAX {
            return;
        }
        let work = |is_fetched: bool| Work {
            name: name_of(line.text(0)).to_owned(),
            since_ms: now_ms,
            is_fetched,
            derivation: line.text(0).to_owned(),
            ..Work::default()
        };
        // Copying a path is a part of its substitution where there is one.
        let is_part = self.running.get(&line.parent).is_some_and(|parent| parent.kind == SUBSTITUTE);
        let work = match line.kind {
            BUILD => Some(work(false)),
            SUBSTITUTE => Some(work(true)),
            COPY_PATH if !is_part => Some(work(true)),
            _ => None,
        };
        let (kind, parent) = (line.kind, line.parent);
        self.running.insert(line.id, Activity { kind, parent, work, ..Activity::default() });
    }

    fn stop(&mut self, id: u64) {
        let Some(activity) = self.running.remove(&id) else { return };
        let ended = self.ended.entry(activity.kind).or_default();
        *ended = ended.saturating_add(activity.amount.done);
        for (kind, expected) in &activity.expected {
            let all = self.expected.entry(*kind).or_default();
            *all = all.saturating_sub(*expected);
        }
        if let Some(work) = activity.work.filter(|work| !work.is_fetched) {
            self.ended_builds.push_back(work);
            if self.ended_builds.len() > ENDED_MAX {
                self.ended_builds.pop_front();
            }
        }
    }

    fn result(&mut self, line: &Line) {
        let Some(activity) = self.running.get_mut(&line.id) else { return };
        match (line.kind, &mut activity.work) {
            (PROGRESS, work) => {
                let amount = Amount { done: line.number(0), expected: line.number(1) };
                activity.amount = amount;
                let (kind, parent) = (activity.kind, activity.parent);
                match work {
                    Some(work) => work.bytes = amount,
                    // What is copied of a path that is substituted.
                    None if kind == COPY_PATH => {
                        if let Some(work) = self.running.get_mut(&parent).and_then(|parent| parent.work.as_mut()) {
                            work.bytes = amount;
                        }
                    }
                    None => {}
                }
            }
            (SET_EXPECTED, _) => {
                let (kind, number) = (line.number(0), line.number(1));
                let before = activity.expected.insert(kind, number).unwrap_or(0);
                let all = self.expected.entry(kind).or_default();
                *all = all.saturating_sub(before).saturating_add(number);
            }
            (SET_PHASE, Some(work)) => work.phase = Some(line.text(0).to_owned()),
            (LOG_LINE, Some(work)) => {
                work.lines.push_back(plain(line.text(0)));
                if work.lines.len() > LINES_MAX {
                    work.lines.pop_front();
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, line: Line) -> Option<Said> {
        /// Warnings; what is less is not for everybody.
        const WARNING: u64 = 1;
        // `--dry-run` tells at the level of errors what it would build and fetch.
        const NEWS: [&str; 5] =
            ["this derivation will be", "these ", "this path will be", "don't know how to build", "  /nix/store/"];
        if line.level > WARNING || line.msg.is_empty() {
            return None;
        }
        let text = plain(&line.msg);
        let is_news = line.raw_msg.is_none() && NEWS.iter().any(|news| text.starts_with(news));
        if line.level == 0 && is_news {
            return None;
        }
        if line.level == 0 {
            self.note_failures(&text);
        }
        Some(Said::Text(line.msg))
    }

    /// Notes the builders that an error names.
    fn note_failures(&mut self, text: &str) {
        let running = self.running.values().filter_map(|activity| activity.work.as_ref());
        let builds = running.filter(|work| !work.is_fetched).chain(&self.ended_builds);
        for work in builds {
            let is_named = !work.derivation.is_empty() && text.contains(&work.derivation);
            if is_named && !self.failed.iter().any(|failed| failed.derivation == work.derivation) {
                // As a user of a daemon nix tells the last lines itself.
                let lines =
                    if text.contains("log lines:") { Vec::new() } else { work.lines.iter().cloned().collect() };
                let (name, derivation) = (work.name.clone(), work.derivation.clone());
                self.failed.push(FailedBuild { name, derivation, lines });
            }
        }
    }

    fn amount(&self, kind: u64) -> Amount {
        let ended = self.ended.get(&kind).copied().unwrap_or(0);
        let running = self.running.values().filter(|activity| activity.kind == kind);
        let (done, expected) = running.fold((ended, ended), |(done, expected), activity| {
            (done.saturating_add(activity.amount.done), expected.saturating_add(activity.amount.expected))
        });
        let told = self.expected.get(&kind).copied().unwrap_or(0);
        Amount { done, expected: expected.max(told).max(done) }
    }
}

#[cfg(test)]
mod tests;
