//! What a cgroup uses, read from cgroupfs.
//!
//! Owns reading only: limits are systemd's to write. `cgroups-rs` serves `pids.current` and `pids.max`, which it reads
//! rightly. It turns a missing or unreadable `memory.current` and `cpu.stat` into 0 and knows nothing of PSI, so all else
//! is read here, in the forms that `form` knows: a missing file is `None`, never 0 (a host whose controllers live in
//! cgroup v1 has most of them missing).

mod form;
mod oom;

use std::path::{Path, PathBuf};

use cgroups_rs::MaxValue;
use cgroups_rs::pid::PidController;

use super::{Figures, Pressure};

pub(super) use oom::OomCounts;
pub(crate) use oom::of_own_unit as oom_kills_of_own_unit;

/// Where cgroup v2 is mounted: file-hierarchy(7).
const MOUNT: &str = "/sys/fs/cgroup";
/// Where the kernel counts what came of limits on memory; the file can be watched (admin-guide/cgroup-v2, "Memory Interface Files").
const EVENTS: &str = "memory.events";

/// Returns whether the kernel counts pressure: it may be built or started without (`psi=`, kernel-parameters), and does not in cgroup v1.
pub(super) fn counts_pressure() -> bool {
    Path::new(MOUNT).join("memory.pressure").exists()
}

/// The cgroup of a unit, with all below it.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Returns the cgroup that systemd's `ControlGroup` names; `None` when it is gone.
    pub(super) fn open(control_group: &str) -> Option<Self> {
        let path = Path::new(MOUNT).join(control_group.trim_start_matches('/'));
        path.is_dir().then_some(Self { path })
    }

    /// Reads `memory.current` in bytes.
    pub(super) fn memory_current(&self) -> Option<u64> {
        self.number("memory.current")
    }

    /// Reads the CPU time in microseconds: `usage_usec` of `cpu.stat`.
    pub(super) fn cpu_usec(&self) -> Option<u64> {
        form::field(&self.text("cpu.stat")?, "usage_usec")
    }

    /// Reads `pids.current`.
    pub(super) fn tasks_current(&self) -> Option<u64> {
        PidController::new(self.path.clone(), true).get_pid_current().ok()
    }

    /// Reads all else that is told of it.
    pub(super) fn figures(&self) -> Figures {
        let io = self.text("io.stat").map(|text| form::io_bytes(&text));
        Figures {
            cpu_pressure: self.pressure("cpu.pressure"),
            memory_swap_current: self.number("memory.swap.current"),
            memory_max: self.number("memory.max"),
            memory_high: self.number("memory.high"),
            memory_pressure: self.pressure("memory.pressure"),
            oom_kills: self.oom_kills(),
            io_read_bytes: io.map(|(read, _)| read),
            io_write_bytes: io.map(|(_, written)| written),
            io_pressure: self.pressure("io.pressure"),
            tasks_max: self.tasks_max(),
            ..Figures::default()
        }
    }

    /// Reads how many processes were killed for want of memory, in it and all below it.
    fn oom_kills(&self) -> Option<u64> {
        self.text(EVENTS).and_then(|text| form::field(&text, "oom_kill"))
    }

    fn tasks_max(&self) -> Option<u64> {
        match PidController::new(self.path.clone(), true).get_pid_max() {
            Ok(MaxValue::Value(limit)) => u64::try_from(limit).ok(),
            Ok(MaxValue::Max) | Err(_) => None,
        }
    }

    fn pressure(&self, file: &str) -> Option<Pressure> {
        form::pressure(&self.text(file)?)
    }

    /// Reads a file of one number; `max` is none.
    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.path.join(file)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let cgroup = Cgroup { path: dir.path().to_owned() };
        (dir, cgroup)
    }

    #[test]
    fn a_missing_file_is_none_and_not_zero() {
        let (_dir, cgroup) = written(&[]);
        assert_eq!((cgroup.memory_current(), cgroup.cpu_usec(), cgroup.tasks_current()), (None, None, None));
        assert_eq!(cgroup.figures(), Figures::default());
    }

    #[test]
    fn figures_are_read_as_the_kernel_writes_them() {
        let (_dir, cgroup) = written(&[
            ("memory.current", "4096\n"),
            ("cpu.stat", "user_usec 3\nusage_usec 17\nusage_usec_x 9\n"),
            ("pids.current", "2\n"),
            ("pids.max", "512\n"),
            ("memory.max", "8192\n"),
            ("memory.high", "max\n"),
            ("memory.swap.current", "0\n"),
            ("memory.events", "low 0\nhigh 0\nmax 4\noom 3\noom_kill 2\noom_group_kill 0\n"),
            (
                "memory.pressure",
                "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n",
            ),
            (
                "io.stat",
                "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
            ),
        ]);
        assert_eq!(
            (cgroup.memory_current(), cgroup.cpu_usec(), cgroup.tasks_current()),
            (Some(4096), Some(17), Some(2))
        );
        let expected = Figures {
            memory_swap_current: Some(0),
            memory_max: Some(8192),
            memory_pressure: Some(Pressure {
                some_avg10: 1.5,
                full_avg10: Some(0.25),
                some_total_usec: Some(9),
                full_total_usec: Some(1),
            }),
            oom_kills: Some(2),
            io_read_bytes: Some(11),
            io_write_bytes: Some(22),
            tasks_max: Some(512),
            ..Figures::default()
        };
        assert_eq!(cgroup.figures(), expected);
    }

    #[test]
    fn no_limit_is_none() {
        let (_dir, cgroup) = written(&[("pids.max", "max\n"), ("memory.max", "max\n")]);
        assert_eq!(cgroup.figures(), Figures::default());
    }
}
