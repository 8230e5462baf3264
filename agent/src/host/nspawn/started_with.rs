//! What a running container was started with, from the environment of its nspawn.

use nixmox_core::container::{spec_of_environ, system_of_environ};
use nixmox_core::model::{Spec, StorePath};

/// What the main process of a unit tells about its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) enum Start {
    /// The process has ended: the unit is about to leave its state.
    Gone,
    /// Somebody other than `NixMox` started it, with this system; `None`: that of its profile.
    Outside(Option<StorePath>),
    /// It was started with this.
    With(Spec),
}

/// Returns what a unit's main process was started with; `None` stands for a unit that has none.
///
/// The environment is that of execve(2): a process may overwrite it, nspawn does not (`proc_pid_environ(5)`). That
/// of a process that has ended and was not yet waited for reads as empty; systemd starts none with an empty one.
pub(in crate::host) fn started_with(main_pid: Option<u32>) -> Start {
    let environ = main_pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/environ")).ok());
    match environ.filter(|environ| !environ.is_empty()) {
        None => Start::Gone,
        Some(environ) => match spec_of_environ(&environ) {
            Some(spec) => Start::With(spec),
            None => Start::Outside(system_of_environ(&environ)),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_tells_what_it_was_started_with() {
        let with = |value: Option<&str>| {
            let mut command = Command::new("cat");
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command.env_remove("SYSTEM_PATH").env_remove("NIXMOX_SPEC").envs(value.map(|v| ("NIXMOX_SPEC", v)));
            let mut child = command.spawn().unwrap();
            // What it echoes shows that execve(2) is over: its environment is set up after its parent runs on.
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let read = started_with(Some(child.id()));
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_eq!(started_with(Some(child.id())), Start::Gone);
            read
        };
        assert_eq!(with(Some("system:00000007")), Start::With("system:00000007".parse().unwrap()));
        assert_eq!(with(None), Start::Outside(None));
        assert_eq!(started_with(None), Start::Gone);
    }
}
