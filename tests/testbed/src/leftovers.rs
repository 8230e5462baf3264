//! What a testbed leaves on the machine, and its removal: a folder under the cache's `run/` and one cgroup.
//!
//! The folder holds a lock file that the owner keeps locked while it lives. A folder whose lock is free belongs to a dead run: the
//! kernel has ended its processes and mounts already, the folder and the cgroup are removed here.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::cache::Cache;

/// Removes the cgroups named by the arguments, deepest first. Needs a mount of its own: a machine may show no cgroup v2 tree.
const REMOVE_CGROUPS: &str = r#"
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
for name; do
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        [ -d "/sys/fs/cgroup/$name" ] || break
        find "/sys/fs/cgroup/$name" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
done
"#;

/// The place of one running testbed.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    name: String,
    _lock: Flock<File>,
}

impl RunDir {
    /// Claims a new place; removes those of dead runs first.
    pub(crate) fn claim(cache: &Cache) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = cache.run_dir()?;
        // One claims or sweeps at a time: a folder without its lock file is being made.
        let guard = base.join("lock");
        let guard = File::create(&guard).with_context(|| format!("cannot create {}", guard.display()))?;
        let _guard = Flock::lock(guard, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .context("cannot lock the run folder")?;
        sweep(&base);
        let name = format!("bed-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = base.join(&name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let lock = File::create(path.join("lock")).context("cannot create the testbed's lock file")?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .context("cannot lock the testbed's folder")?;
        Ok(Self { path, name, _lock: lock })
    }

    /// Name of the testbed: of its machine, its cgroup and its folder.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A folder on the disk that is removed with the testbed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the console of the booted host is written.
    pub(crate) fn console(&self) -> PathBuf {
        self.path.join("console.log")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        remove_cgroups(&[&self.name]);
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let alive = File::open(path.join("lock"))
            .is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
        if !alive {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                remove_cgroups(&[name]);
            }
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn remove_cgroups(names: &[&str]) {
    let _ = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", REMOVE_CGROUPS, "testbed"])
        .args(names)
        .output();
}
