//! What a running container was started with, from the environment of its nspawn.

use nixmox_core::container::spec_of_environ;
use nixmox_core::model::Spec;

/// Returns the fingerprint in the environment of a unit's main process; `None` when the process is gone, or was
/// not started by this or an earlier version of `NixMox`.
///
/// The environment is that of execve(2): a process may overwrite it, nspawn does not (`proc_pid_environ(5)`).
pub(in crate::host) fn started_with(main_pid: u32) -> Option<Spec> {
    spec_of_environ(&std::fs::read(format!("/proc/{main_pid}/environ")).ok()?)
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
            command.env_remove("NIXMOX_SPEC").envs(value.map(|v| ("NIXMOX_SPEC", v)));
            let mut child = command.spawn().unwrap();
            // What it echoes shows that execve(2) is over: its environment is set up after its parent runs on.
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            let read = started_with(child.id());
            drop(child.stdin.take());
            child.wait().unwrap();
            read
        };
        assert_eq!(with(Some("system:00000007")), Some("system:00000007".parse().unwrap()));
        assert_eq!(with(None), None);
    }
}
