//! Whose a process is and what it calls itself, from `/proc`.

use nixmox_core::gpu::{Process, ProcessKind, ProcessOwner};
use nixmox_core::model::{Bytes, ContainerName};

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

/// Returns whose a process is, from its `/proc/PID/cgroup` (cgroups(7)). The first unit in the path is the host's word: all behind it was
/// named by whoever the unit belongs to.
fn owner(cgroup: &str) -> ProcessOwner {
    let unified = cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    // A host with cgroup v1 has systemd's tree beside.
    let named = || cgroup.lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path));
    let path = unified.filter(|path| *path != "/").or_else(named).unwrap_or_default();
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    match path.split('/').find(is_unit) {
        // Outside of what this process sees: the rest of the path is relative to somewhere else.
        _ if path.starts_with("/..") => ProcessOwner::Unknown,
        None => ProcessOwner::Unknown,
        Some(unit) => {
            ContainerName::from_unit(unit).map_or_else(|| ProcessOwner::Unit(short(unit)), ProcessOwner::Container)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unit_of_a_path_owns_a_process() {
        let unit = |unit: &str| ProcessOwner::Unit(unit.to_owned());
        let container = |name: &str| ProcessOwner::Container(name.parse().unwrap());
        for (cgroup, expected) in [
            (
                "0::/machine.slice/container@ollama.service/payload/system.slice/ollama.service\n",
                container("ollama"),
            ),
            ("0::/a.slice/a-b.slice/container@x.service/supervisor\n", container("x")),
            ("0::/system.slice/evil.service/container@ollama.service\n", unit("evil.service")),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", unit("session-2.scope")),
            (
                "12:devices:/\n1:name=systemd:/system.slice/display-manager.service\n0::/\n",
                unit("display-manager.service"),
            ),
            ("0::/\n", ProcessOwner::Unknown),
            ("0::/../../container@ollama.service\n", ProcessOwner::Unknown),
            ("", ProcessOwner::Unknown),
            ("0::/machine.slice/container@-bad-.service\n", unit("container@-bad-.service")),
        ] {
            assert_eq!(owner(cgroup), expected, "{cgroup}");
        }
    }
}
