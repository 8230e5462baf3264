//! Whose a process is and what it calls itself, from `/proc`.

use nixmox_core::gpu::{Process, ProcessKind, ProcessOwner};
use nixmox_core::model::Bytes;

use crate::host::line;
use crate::host::paths::Paths;

/// Longest name of a process or a unit, in characters.
const NAME_MAX: usize = 80;

/// Returns a process with what `/proc` knows of it.
pub(super) fn process(paths: &Paths, pid: u32, kind: ProcessKind, memory: Option<Bytes>) -> Process {
    let read = |file: &str| {
        let bytes = std::fs::read(paths.kernel(&format!("/proc/{pid}/{file}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Process { pid, kind, memory, name: short(&read("comm")), owner: owner(&read("cgroup")) }
}

/// Returns a text as one line that is not longer than a name.
pub(super) fn short(text: &str) -> String {
    line::clean(text).chars().take(NAME_MAX).collect()
}

/// Returns whose a process is, with a name that can be shown.
fn owner(cgroup: &str) -> ProcessOwner {
    match nixmox_core::gpu::owner(cgroup) {
        ProcessOwner::Unit(unit) => ProcessOwner::Unit(short(&unit)),
        owner @ (ProcessOwner::Container(_) | ProcessOwner::Unknown) => owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_can_be_shown_and_a_container_is_one() {
        let unit = |cgroup: &str| match owner(cgroup) {
            ProcessOwner::Unit(unit) => unit,
            other => panic!("{other:?}"),
        };
        assert_eq!(unit("0::/system.slice/a\u{1b}[31mb.service\n"), "a [31mb.service");
        let long = unit(&format!("0::/system.slice/{}.service\n", "x".repeat(200)));
        assert_eq!(long.chars().count(), NAME_MAX);
        let name = "ollama".parse().unwrap();
        assert_eq!(owner("0::/machine.slice/container@ollama.service/payload\n"), ProcessOwner::Container(name));
        assert_eq!(owner(""), ProcessOwner::Unknown);
    }
}
