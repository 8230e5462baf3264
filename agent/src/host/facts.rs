//! What the machine is and has, as far as limits depend on it: read from `/proc` and `/sys`, blocking.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};
use nixmox_core::model::{Bytes, Facts};

use super::files;
use super::paths::Paths;

/// Reads the facts of the machine, paths aside.
pub(super) fn read(paths: &Paths) -> Facts {
    let text = |path: &str| files::read(&paths.kernel(path));
    let meminfo = text("/proc/meminfo").unwrap_or_default();
    let memory = |key: &str| amount(&meminfo, key);
    Facts {
        memory_total: memory("MemTotal:"),
        swap_total: memory("SwapTotal:"),
        zswap: Some(text("/sys/module/zswap/parameters/enabled").is_some_and(|text| text.trim() == "Y")),
        controllers: text("/sys/fs/cgroup/cgroup.controllers"),
        cpus: text("/sys/devices/system/cpu/online").and_then(|text| list(&text)),
        io_weights: Some(io_weights(paths)),
        recursive_protection: text("/proc/self/mounts").and_then(|text| recursive_protection(&text)),
        without_device: Vec::new(),
    }
}

/// Returns the CPUs that may ever be there (kernel, admin-guide/cputopology); none when they cannot be read.
pub(super) fn possible_cpus(paths: &Paths) -> Vec<u16> {
    let text = files::read(&paths.kernel("/sys/devices/system/cpu/possible"));
    text.and_then(|text| list(&text)).unwrap_or_default()
}

/// Returns whether a block device lies under a path, which systemd could find (systemd.resource-control(5),
/// `IOReadBandwidthMax=`).
pub(super) fn has_device(paths: &Paths, path: &Path) -> bool {
    let path = paths.host_path(path);
    let Ok(found) = std::fs::metadata(&path) else { return false };
    if found.file_type().is_block_device() {
        return true;
    }
    let device = paths.kernel(&format!("/sys/dev/block/{}:{}", major(found.dev()), minor(found.dev())));
    // Its files have a device number of their own kind, of which systemd knows.
    device.exists() || statfs(&path).is_ok_and(|found| found.filesystem_type() == BTRFS_SUPER_MAGIC)
}

/// Reads an amount such as `MemTotal:       16384 kB` (`proc_meminfo(5)`).
fn amount(text: &str, key: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

/// Reads a list of CPUs such as `0-3,8` (kernel, admin-guide/cputopology).
fn list(text: &str) -> Option<Vec<u16>> {
    let mut found = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        found.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(found)
}

/// Returns whether a disk shares its time by weights.
fn io_weights(paths: &Paths) -> bool {
    // `8:0 enable=1 ctrl=user ...`; missing in a kernel without it.
    let costs = files::read(&paths.kernel("/sys/fs/cgroup/io.cost.qos")).unwrap_or_default();
    let is_bfq = |disk: std::fs::DirEntry| {
        files::read(&disk.path().join("queue/scheduler")).is_some_and(|text| text.contains("[bfq]"))
    };
    costs.lines().any(|line| line.contains("enable=1"))
        || std::fs::read_dir(paths.kernel("/sys/block")).into_iter().flatten().flatten().any(is_bfq)
}

/// Returns whether the hierarchy of cgroups is mounted with `memory_recursiveprot`; `None`: it is not mounted.
fn recursive_protection(mounts: &str) -> Option<bool> {
    let mut words = mounts.lines().map(|line| line.split(' '));
    let options = words.find_map(|mut words| (words.nth(2)? == "cgroup2").then(|| words.next()).flatten())?;
    Some(options.split(',').any(|option| option == "memory_recursiveprot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_those_of_the_kernels_list() {
        assert_eq!(list("0-1\n"), Some(vec![0, 1]));
        assert_eq!(list("0-2,5,8-9"), Some(vec![0, 1, 2, 5, 8, 9]));
        assert_eq!(list("\n"), Some(Vec::new()));
    }

    #[test]
    fn the_facts_are_read_from_what_the_kernel_says() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let write = |path: &str, text: &str| {
            let path = paths.kernel(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let unknown = Facts { io_weights: Some(false), zswap: Some(false), ..Facts::default() };
        assert_eq!(read(&paths), unknown, "nothing is made up");
        write("/proc/meminfo", "MemTotal:        2048 kB\nMemFree: 7 kB\nSwapTotal: 0 kB\n");
        write("/sys/module/zswap/parameters/enabled", "Y\n");
        write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory\n");
        write("/sys/devices/system/cpu/online", "0-1,5\n");
        write("/sys/block/sda/queue/scheduler", "none [mq-deadline] bfq\n");
        write("/proc/self/mounts", "a /x tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n");
        let found = read(&paths);
        assert_eq!((found.memory_total, found.swap_total), (Some(Bytes(2 << 20)), Some(Bytes(0))));
        assert_eq!(found.zswap, Some(true));
        assert_eq!(
            found.controllers.as_deref(),
            Some(
                "cpuset cpu memory
"
            )
        );
        assert_eq!(found.cpus, Some(vec![0, 1, 5]));
        assert_eq!((found.io_weights, found.recursive_protection), (Some(false), Some(false)));
        write("/sys/fs/cgroup/io.cost.qos", "8:0 enable=1 ctrl=auto\n");
        write("/proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,memory_recursiveprot 0 0\n");
        let found = read(&paths);
        assert_eq!((found.io_weights, found.recursive_protection), (Some(true), Some(true)));
        write("/sys/fs/cgroup/io.cost.qos", "8:0 enable=0\n");
        write("/sys/block/sda/queue/scheduler", "mq-deadline [bfq] none\n");
        assert_eq!(read(&paths).io_weights, Some(true));
    }

    #[test]
    fn no_disk_lies_under_what_is_not_there_or_in_memory() {
        let host = Paths::default();
        assert!(!has_device(&host, Path::new("/proc")));
        assert!(!has_device(&host, Path::new("/does-not-exist")));
    }
}
