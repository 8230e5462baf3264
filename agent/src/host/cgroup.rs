//! What a cgroup uses, read from cgroupfs.
//!
//! Owns reading only: limits are systemd's to write. `cgroups-rs` serves `pids.current`, which it reads rightly.
//! It turns a missing or unreadable `memory.current` and `cpu.stat` into 0, so those are read here: a missing file
//! is `None`, never 0 (a host whose controllers live in cgroup v1 has none of them).

use std::path::{Path, PathBuf};

use cgroups_rs::pid::PidController;

/// Where cgroup v2 is mounted: file-hierarchy(7).
const MOUNT: &str = "/sys/fs/cgroup";

/// What a cgroup and all below it use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CgroupUsage {
    /// `memory.current` in bytes.
    pub(super) memory_current: Option<u64>,
    /// `usage_usec` of `cpu.stat`.
    pub(super) cpu_usec: Option<u64>,
    /// `pids.current`.
    pub(super) tasks_current: Option<u64>,
}

/// Reads the cgroup of a unit, given as systemd's `ControlGroup`; `None` when it is gone.
pub(super) fn read(control_group: &str) -> Option<CgroupUsage> {
    let path = Path::new(MOUNT).join(control_group.trim_start_matches('/'));
    path.is_dir().then(|| read_at(&path))
}

fn read_at(path: &Path) -> CgroupUsage {
    let text = |file: &str| std::fs::read_to_string(path.join(file)).ok();
    CgroupUsage {
        memory_current: text("memory.current").and_then(|text| text.trim().parse().ok()),
        cpu_usec: text("cpu.stat").and_then(|text| field(&text, "usage_usec")),
        tasks_current: PidController::new(PathBuf::from(path), true).get_pid_current().ok(),
    }
}

/// Reads one line of a flat keyed file (kernel, admin-guide/cgroup-v2, "Format").
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_none_and_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_at(dir.path()), CgroupUsage::default());
        std::fs::write(dir.path().join("memory.current"), "4096\n").unwrap();
        std::fs::write(dir.path().join("cpu.stat"), "user_usec 3\nusage_usec 17\nusage_usec_x 9\n").unwrap();
        std::fs::write(dir.path().join("pids.current"), "2\n").unwrap();
        let read = read_at(dir.path());
        let expected = CgroupUsage { memory_current: Some(4096), cpu_usec: Some(17), tasks_current: Some(2) };
        assert_eq!(read, expected);
    }
}
