//! `nixmox-agent exit-record [--started|--stop] NAME`: how a container ended, written down by its own unit.
//!
//! Runs from `ExecStartPost=`, `ExecStop=` and `ExecStopPost=` of the drop-in, so that nobody has to be alive when a container ends.
//! Owns reading systemd's variables and replacing the file; what is written is `nixmox_core::container`'s.

use std::process::Command;

use nixmox_core::container::{ExitVariables, Note, parse_exit_record, record_exit, switched, write_note};
use nixmox_core::model::{ContainerName, Spec, SpecField};

use crate::host::StepError;
use crate::host::cgroup::oom_kills_of_own_unit;
use crate::host::files::{self, Durability};
use crate::host::paths::Paths;

/// The record names no secrets; `status` is for everybody.
const MODE: u32 = 0o644;

/// When in a unit's life this is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// From `ExecStartPost=`: the container is ready.
    Started,
    /// From `ExecStop=`: the container was active, and stops.
    Stop,
    /// From `ExecStopPost=`: nothing of it runs any more.
    StopPost,
}

/// Writes the record of a container from this process's environment.
///
/// # Errors
/// `StepError::File` when it cannot be written; the unit ignores that (`-` before the command).
pub fn write(name: &ContainerName, moment: Moment) -> Result<(), StepError> {
    let variable = |key: &str| std::env::var(key).unwrap_or_default();
    let paths = Paths::default();
    let mark = files::read(&paths.switch_mark(name));
    let variables = ExitVariables {
        invocation: variable("INVOCATION_ID"),
        spec: spec(&variable("NIXMOX_SPEC"), &variable("INVOCATION_ID"), mark.as_deref()),
        result: variable("SERVICE_RESULT"),
        code: variable("EXIT_CODE"),
        status: variable("EXIT_STATUS"),
    };
    write_to(&paths, name, moment, &variables, host_stops)
}

/// Returns what the instance ran at its end: what it was started with, or switched to since. What cannot be read stays as it is, and
/// so does one that ended on its way to another system: it is no stranger for that.
fn spec(started_with: &str, invocation: &str, mark: Option<&str>) -> String {
    let switched = started_with.parse().map(|spec: Spec| switched(spec, invocation, mark));
    match switched {
        Ok(spec) if spec.get(SpecField::System).is_some() => spec.to_string(),
        Ok(_) | Err(()) => started_with.to_owned(),
    }
}

fn write_to(
    paths: &Paths,
    name: &ContainerName,
    moment: Moment,
    variables: &ExitVariables,
    host_stops: impl FnOnce() -> bool,
) -> Result<(), StepError> {
    let note = paths.exit_note(name);
    let (path, text) = match moment {
        Moment::Started => (note, write_note(Note::Started, variables)),
        // The main process has ended already, so nobody stops it.
        Moment::Stop if !variables.code.is_empty() => return Ok(()),
        Moment::Stop => (note, write_note(Note::Stopping, variables)),
        Moment::StopPost => {
            // The cgroup, and with it the kernel's count, is there as long as this command is.
            let oom_kills = oom_kills_of_own_unit(&name.unit()).unwrap_or_default();
            (paths.exit_record(name), record_exit(files::read(&note).as_deref(), variables, oom_kills))
        }
    };
    files::replace(&path, &text, MODE, Durability::Runtime)?;
    // The host's own shutdown stops containers as a person does. `/run` outlives a soft reboot
    // (systemd-soft-reboot.service(8)), and behind that nothing is known of it, as behind every other.
    let stopped = moment == Moment::StopPost && parse_exit_record(&text).is_some_and(|record| record.stopped);
    if stopped && host_stops() { files::remove(&path) } else { Ok(()) }
}

/// Returns whether systemd is shutting the host down. As root, systemctl asks it without the system's bus.
fn host_stops() -> bool {
    let asked = Command::new("systemctl").arg("is-system-running").output();
    asked.is_ok_and(|output| output.stdout.trim_ascii() == b"stopping")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_stop_noted_is_kept_by_what_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        let mut variables = ExitVariables { invocation: "a".repeat(32), ..ExitVariables::default() };
        write_to(&paths, &web, Moment::Started, &variables, || false).unwrap();
        write_to(&paths, &web, Moment::Stop, &variables, || false).unwrap();
        variables.result = "success".to_owned();
        variables.code = "exited".to_owned();
        variables.status = "0".to_owned();
        write_to(&paths, &web, Moment::StopPost, &variables, || false).unwrap();
        let record = files::read(&paths.exit_record(&web)).and_then(|text| parse_exit_record(&text)).unwrap();
        assert!(record.stopped, "{record:?}");
        assert!(!record.succeeded());
    }

    #[test]
    fn a_stop_of_what_has_ended_by_itself_is_not_noted() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, job) = (Paths::below(dir.path()), "job".parse().unwrap());
        let mut variables = ExitVariables { invocation: "a".repeat(32), ..ExitVariables::default() };
        write_to(&paths, &job, Moment::Started, &variables, || false).unwrap();
        (variables.result, variables.code, variables.status) = ("success".into(), "exited".into(), "0".into());
        write_to(&paths, &job, Moment::Stop, &variables, || false).unwrap();
        write_to(&paths, &job, Moment::StopPost, &variables, || false).unwrap();
        let record = files::read(&paths.exit_record(&job)).and_then(|text| parse_exit_record(&text)).unwrap();
        assert!(!record.stopped && record.succeeded(), "{record:?}");
    }

    #[test]
    fn a_stop_by_the_hosts_shutdown_is_not_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        let ended = |result: &str| ExitVariables {
            invocation: "a".repeat(32),
            result: result.to_owned(),
            code: "exited".to_owned(),
            status: "0".to_owned(),
            ..ExitVariables::default()
        };
        write_to(&paths, &web, Moment::Stop, &ExitVariables { code: String::new(), ..ended("") }, || true).unwrap();
        write_to(&paths, &web, Moment::StopPost, &ended("success"), || true).unwrap();
        assert_eq!(files::read(&paths.exit_record(&web)), None);
        // What ends by itself meanwhile is told.
        files::remove(&paths.exit_note(&web)).unwrap();
        write_to(&paths, &web, Moment::StopPost, &ended("protocol"), || true).unwrap();
        assert!(files::read(&paths.exit_record(&web)).is_some());
    }
}
