//! How many processes of each container the kernel has killed for want of memory, without a look as long as there is none.
//!
//! One inotify instance watches `memory.events` of all containers. The kernel changes these files also when a limit is merely reached,
//! which can be often: only what counts kills wakes anybody.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nixmox_core::model::InvocationId;

use super::{Cgroup, EVENTS, MOUNT};

/// The counts of all containers that run.
#[derive(Debug)]
pub(in crate::host) struct OomCounts {
    mount: PathBuf,
    /// `None`: nothing can be watched, and every look reads.
    inotify: Option<Inotify>,
    known: Mutex<BTreeMap<(String, Option<InvocationId>), Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    watch: Option<WatchDescriptor>,
    /// `None`: the kernel does not count.
    kills: Option<u64>,
}

impl OomCounts {
    pub(in crate::host) fn new() -> Self {
        Self::below(Path::new(MOUNT))
    }

    fn below(mount: &Path) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify =
            inotify.inspect_err(|error| tracing::warn!(%error, "cannot watch cgroups; each look reads them"));
        Self { mount: mount.to_owned(), inotify: inotify.ok(), known: Mutex::default() }
    }

    /// Returns the descriptor that becomes readable when a count may have changed; `None`: nothing can be watched.
    pub(in crate::host) fn wakes(&self) -> Option<OwnedFd> {
        self.inotify.as_ref().and_then(|inotify| inotify.as_fd().try_clone_to_owned().ok())
    }

    /// Watches these cgroups, each of one run, in place of those before; returns the count of each.
    pub(in crate::host) fn follow(&self, groups: Vec<(String, Option<InvocationId>)>) -> Vec<Option<u64>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        let counts = groups.into_iter().map(|group| {
            let before = known.remove(&group).filter(|count| count.watch.is_some());
            let count = before.unwrap_or_else(|| self.watch(&group.0));
            next.insert(group, count);
            count.kills
        });
        let counts = counts.collect();
        for watch in known.values().filter_map(|count| count.watch) {
            // The kernel has dropped it already where the cgroup is gone.
            let _ = self.inotify.as_ref().map(|inotify| inotify.rm_watch(watch));
        }
        *known = next;
        counts
    }

    fn watch(&self, group: &str) -> Count {
        let cgroup = self.cgroup(group);
        let add = |inotify: &Inotify| inotify.add_watch(&cgroup.path.join(EVENTS), AddWatchFlags::IN_MODIFY).ok();
        // Before the first read, so that nothing is missed.
        let watch = self.inotify.as_ref().and_then(add);
        Count { watch, kills: cgroup.oom_kills() }
    }

    /// Reads all anew. Returns whether there is another kill.
    pub(in crate::host) fn look(&self) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for ((group, _), count) in known.iter_mut() {
            // What is gone had its last say already.
            if let Some(kills) = self.cgroup(group).oom_kills().filter(|kills| Some(*kills) != count.kills) {
                (count.kills, changed) = (Some(kills), true);
            }
        }
        changed
    }

    fn cgroup(&self, group: &str) -> Cgroup {
        Cgroup { path: self.mount.join(group.trim_start_matches('/')) }
    }
}

/// Returns how many processes of a unit were killed for want of memory, as one of its own commands sees it; `None`: this is none of its
/// commands, or the kernel does not count.
pub(crate) fn of_own_unit(unit: &str) -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    Cgroup::open(unit_of(&own, unit)?)?.oom_kills()
}

/// Returns the cgroup of a unit in cgroups(7)'s `/proc/PID/cgroup` of a process somewhere below it: commands around a delegated unit have one
/// of their own in it.
fn unit_of<'a>(text: &'a str, unit: &str) -> Option<&'a str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut end = 0;
    path.split('/').find_map(|part| {
        end += part.len();
        let found = (part == unit).then(|| path.get(..end)).flatten();
        end += 1;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::readable::Readable;

    fn write(dir: &Path, group: &str, kills: u64) {
        std::fs::create_dir_all(dir.join(group)).unwrap();
        let text = format!("low 0\nhigh 0\nmax 4\noom 3\noom_kill {kills}\noom_group_kill 0\n");
        std::fs::write(dir.join(group).join(EVENTS), text).unwrap();
    }

    fn group(name: &str, run: u128) -> (String, Option<InvocationId>) {
        (format!("/{name}"), Some(InvocationId(run)))
    }

    #[tokio::test]
    async fn a_kill_is_a_change_and_a_limit_that_is_merely_reached_is_none() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", 0);
        write(dir.path(), "b", 2);
        let counts = OomCounts::below(dir.path());
        assert_eq!(counts.follow(vec![group("a", 1), group("b", 1), group("c", 1)]), [Some(0), Some(2), None]);
        let wakes = Readable::new(counts.wakes().unwrap()).unwrap();
        for (kills, is_change) in [(0, false), (1, true)] {
            write(dir.path(), "a", kills);
            wakes.ready().await.unwrap();
            wakes.drain();
            assert_eq!(counts.look(), is_change);
            assert!(!counts.look(), "told once");
        }
        assert_eq!(counts.follow(vec![group("a", 1), group("b", 1)]), [Some(1), Some(2)]);
    }

    #[test]
    fn another_run_is_counted_anew_although_its_cgroup_is_called_the_same() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", 5);
        let counts = OomCounts::below(dir.path());
        assert_eq!(counts.follow(vec![group("a", 1)]), [Some(5)]);
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        write(dir.path(), "a", 0);
        assert_eq!(counts.follow(vec![group("a", 2)]), [Some(0)]);
        assert_eq!(counts.follow(Vec::new()), []);
    }

    #[test]
    fn a_units_cgroup_is_found_from_below_it() {
        let unit = "container@web.service";
        let of = |path: &str| unit_of(&format!("1:name=systemd:/x\n0::{path}\n"), unit).map(str::to_owned);
        let whole = Some("/machine.slice/container@web.service".to_owned());
        assert_eq!(of("/machine.slice/container@web.service"), whole);
        assert_eq!(of("/machine.slice/container@web.service/.control"), whole);
        assert_eq!(of("/machine.slice/container@webb.service"), None);
        assert_eq!(of("/"), None);
    }
}
