//! What the agent's own process uses, from `/proc/self` (proc(5)) and getrusage(2): nothing that could make it wait.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

/// The figures. `None`: cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// CPU time in microseconds.
    pub(super) cpu_usec: Option<u64>,
    /// Resident memory in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Address space in bytes.
    pub(super) virtual_bytes: Option<u64>,
    /// When the process started, in microseconds since 1970.
    pub(super) started_usec: Option<u64>,
    /// Open file descriptors, without the one that they were counted through.
    pub(super) open_fds: Option<u64>,
    /// The most that it may have open.
    pub(super) max_fds: Option<u64>,
}

impl Own {
    /// Reads them.
    pub(super) fn read(started_usec: Option<u64>) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let open = fs::read_dir("/proc/self/fd").ok().and_then(|entries| u64::try_from(entries.count()).ok());
        Self {
            cpu_usec: cpu_usec(),
            resident_bytes: bytes("VmRSS"),
            virtual_bytes: bytes("VmSize"),
            started_usec,
            open_fds: open.map(|open| open.saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
        }
    }
}

/// Returns the time of day in microseconds since 1970; `None`: the clock stands before that.
pub(super) fn now_usec() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

fn cpu_usec() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let usec = |time: nix::sys::time::TimeVal| -> Option<u64> {
        u64::try_from(time.tv_sec()).ok()?.checked_mul(1_000_000)?.checked_add(u64::try_from(time.tv_usec()).ok()?)
    };
    usec(usage.user_time())?.checked_add(usec(usage.system_time())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_of_this_process_is_there() {
        let own = Own::read(now_usec());
        let all =
            [own.cpu_usec, own.resident_bytes, own.virtual_bytes, own.started_usec, own.open_fds, own.max_fds];
        assert!(all.iter().all(|figure| figure.is_some_and(|figure| figure > 0)), "{own:?}");
        assert!(own.virtual_bytes > own.resident_bytes && own.max_fds >= own.open_fds, "{own:?}");
    }
}
