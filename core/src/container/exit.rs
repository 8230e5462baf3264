//! Exit records: how an instance ended, written by `ExecStop=` and `ExecStopPost=` of its unit.
//!
//! systemd forgets a unit that ended with 0 as soon as it is unloaded, and does not tell a guest that powered
//! itself off from one that was told to. Both commands run as `nixmox-agent exit-record`, so that nobody has to
//! be alive when a container ends:
//!
//! ```text
//!            stop job on an active unit                   main process ended by itself
//! active ──▶ ExecStop without $EXIT_CODE: stopped=yes     ExecStop with $EXIT_CODE: stopped=no
//!              └──▶ ExecStopPost completes the record       └──▶ ExecStopPost completes the record
//! activating ──▶ ExecStopPost alone (systemd.service(5)): result `success` only when it was stopped,
//!                `protocol` when the guest ended before it said READY=1
//! ```

use std::fmt::Write as _;

use crate::model::{ExitRecord, InvocationId, Spec};

/// What systemd tells a command of `ExecStop=` or `ExecStopPost=` (systemd.exec(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitVariables {
    /// `$INVOCATION_ID`.
    pub invocation: String,
    /// `$NIXMOX_SPEC`, from the conf file; empty when NixMox did not write it.
    pub spec: String,
    /// `$SERVICE_RESULT`.
    pub result: String,
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`; empty while the main process lives.
    pub code: String,
    /// `$EXIT_STATUS`; empty while the main process lives.
    pub status: String,
}

/// Returns the record that `ExecStop=` leaves: whether the stop was asked for.
#[must_use]
pub fn note_stop(variables: &ExitVariables) -> String {
    write_record(variables, variables.code.is_empty())
}

/// Returns the record that `ExecStopPost=` leaves, from what `ExecStop=` left; `previous` is `None` when nothing
/// is there, and ignored when it is about another invocation.
#[must_use]
pub fn record_exit(previous: Option<&str>, variables: &ExitVariables) -> String {
    let noted = previous
        .and_then(parse_exit_record)
        .filter(|record| record.invocation.to_string() == variables.invocation)
        .map(|record| record.stopped);
    // Without ExecStop= the unit never became active: see the module's documentation.
    let stopped = noted.unwrap_or_else(|| variables.result == "success");
    write_record(variables, stopped)
}

fn write_record(variables: &ExitVariables, stopped: bool) -> String {
    let mut text = String::new();
    let stopped = if stopped { "yes" } else { "no" };
    for (key, value) in [
        ("invocation", variables.invocation.as_str()),
        ("spec", &variables.spec),
        ("result", &variables.result),
        ("code", &variables.code),
        ("status", &variables.status),
        ("stopped", stopped),
    ] {
        // systemd's words have no control characters; a conf file of somebody else may have.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

/// Returns what an exit record says; `None` when it is torn or not one.
#[must_use]
pub fn parse_exit_record(text: &str) -> Option<ExitRecord> {
    let value = |key: &str| {
        text.lines().find_map(|line| line.split_once('=').and_then(|(name, value)| (name == key).then_some(value)))
    };
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
    })
}
