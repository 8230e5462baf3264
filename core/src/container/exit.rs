//! Exit records: how an instance ended, written by `ExecStopPost=` of its unit.
//!
//! systemd forgets a unit that ended with 0 as soon as it is unloaded, and its variables do not tell a guest that
//! powered itself off from one that was told to: both end with `success` and 0. So the unit leaves a note on its
//! way, all of them through `nixmox-agent exit-record`, so that nobody has to be alive when a container ends:
//!
//! ```text
//!             ExecStartPost= notes `started`       main process ends by itself
//! activating ──────────────────────────▶ active ──────────────────────────────────▶ ExecStopPost=: not stopped
//!     │                                    │ stop job: ExecStop= notes `stopping`
//!     │                                    └──────────────────────────────────────▶ ExecStopPost=: stopped
//!     ├── stop job: no note, and systemd says `success` ──────────────────────────▶ ExecStopPost=: stopped
//!     ├── ends before READY=1: no note, and systemd says `protocol` ──────────────▶ ExecStopPost=: not stopped
//!     └── ends before ExecStartPost= is done: `ExecStop=` runs, with `$EXIT_CODE` ▶ ExecStopPost=: not stopped
//! ```
//!
//! Tried on systemd 257: `ExecStop=` runs neither for a main process that ended by itself while the unit was active,
//! nor for a unit that is stopped while it activates. It does run for one that ended by itself between READY=1 and the
//! end of `ExecStartPost=`; what tells that from a stop is that the main process has ended before it. Where a command of
//! `ExecStartPost=` itself fails it does not run: systemd sends SIGTERM, nspawn halts the guest, and both end as if it had
//! powered itself off, but for the result `exit-code`.

use std::fmt::Write as _;

use crate::model::{ExitRecord, InvocationId, Spec};

/// What systemd tells a command of `ExecStartPost=`, `ExecStop=` or `ExecStopPost=` (systemd.exec(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitVariables {
    /// `$INVOCATION_ID`.
    pub invocation: String,
    /// `$NIXMOX_SPEC`, from the conf file; empty when NixMox did not write it.
    pub spec: String,
    /// `$SERVICE_RESULT`; empty before the end.
    pub result: String,
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`; empty while the main process lives.
    pub code: String,
    /// `$EXIT_STATUS`; empty while the main process lives.
    pub status: String,
}

/// What a unit notes on its way, before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// It became active (`ExecStartPost=`).
    Started,
    /// It is being stopped while it is active (`ExecStop=`).
    Stopping,
}

impl Note {
    fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
        }
    }
}

/// Returns the text of a note; it replaces the one before.
#[must_use]
pub fn write_note(note: Note, variables: &ExitVariables) -> String {
    lines(&[("invocation", &variables.invocation), ("note", note.word())])
}

/// Returns the record that `ExecStopPost=` leaves. `note` is the text that was noted last; `None` when nothing was,
/// and ignored when it is about another invocation. `oom_kills`: see [`ExitRecord::oom_kills`].
#[must_use]
pub fn record_exit(note: Option<&str>, variables: &ExitVariables, oom_kills: u64) -> String {
    let note = note
        .filter(|text| value(text, "invocation") == Some(&variables.invocation))
        .and_then(|text| value(text, "note"));
    let stopped = match note {
        Some(word) => word == Note::Stopping.word(),
        // It never became active: see the module's documentation.
        None => variables.result == "success",
    };
    lines(&[
        ("invocation", &variables.invocation),
        ("spec", &variables.spec),
        ("result", &variables.result),
        ("code", &variables.code),
        ("status", &variables.status),
        ("oom_kills", &oom_kills.to_string()),
        // Last: a record without it is torn.
        ("stopped", if stopped { "yes" } else { "no" }),
    ])
}

fn lines(values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in values {
        // systemd's words have no control characters; a conf file of somebody else may have.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once('=').and_then(|(name, value)| (name == key).then_some(value)))
}

/// Returns what an exit record says; `None` when it is torn or not one.
#[must_use]
pub fn parse_exit_record(text: &str) -> Option<ExitRecord> {
    let value = |key| value(text, key);
    let stopped = match value("stopped")? {
        "yes" => true,
        "no" => false,
        _torn => return None,
    };
    let invocation = value("invocation").filter(|id| id.len() == 32)?;
    let spec: Option<Spec> = value("spec").filter(|spec| !spec.is_empty()).and_then(|spec| spec.parse().ok());
    Some(ExitRecord {
        invocation: InvocationId(u128::from_str_radix(invocation, 16).ok()?),
        spec,
        result: value("result")?.to_owned(),
        status: value("status")?.to_owned(),
        stopped,
        // An older agent's unit does not tell.
        oom_kills: value("oom_kills").and_then(|count| count.parse().ok()).unwrap_or_default(),
    })
}
