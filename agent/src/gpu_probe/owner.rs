//! Whose a process is and what it calls itself, from `/proc`.

use nixmox_core::gpu::{Process, ProcessKind, ProcessOwner, ledger};
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

/// Returns whose a process is. What a unit is called can be as long as a path.
fn owner(cgroup: &str) -> ProcessOwner {
    match ledger::owner(cgroup) {
        ProcessOwner::Unit(unit) => ProcessOwner::Unit(short(&unit)),
        owner @ (ProcessOwner::Container(_) | ProcessOwner::Unknown) => owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_calls_itself_a_container_is_none() {
        let cgroup = "0::/lxc.payload.x/container@ollama.service\n";
        assert_eq!(owner(cgroup), ProcessOwner::Unknown);
        let container = owner("0::/machine.slice/container@ollama.service/payload\n");
        assert_eq!(container, ProcessOwner::Container("ollama".parse().unwrap()));
    }

    #[test]
    fn the_name_of_a_unit_is_not_longer_than_others() {
        let ProcessOwner::Unit(unit) = owner(&format!("0::/system.slice/{}.service\n", "x".repeat(200))) else {
            panic!("it is a unit");
        };
        assert_eq!(unit.len(), NAME_MAX);
    }
}
