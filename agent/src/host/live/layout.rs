//! What the texts of containers depend on: facts of the host, found when the agent starts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use nixmox_core::container::Layout;

use crate::host::files;
use crate::host::paths::Paths;

/// Where a packaged agent lies; named when the running one does not know its own place.
const AGENT: &str = "/usr/bin/nixmox-agent";

/// Finds them.
pub(super) fn find(paths: &Paths) -> Layout {
    Layout {
        agent: std::env::current_exe().map_or_else(|_| PathBuf::from(AGENT), |path| without_deleted(&path)),
        conf_in_run: !is_writable(&paths.conf_dir()),
        copy_resolv_conf: files::read(&paths.host_path(Path::new("/etc/resolv.conf")))
            .is_some_and(|text| reachable_from_elsewhere(&text)),
    }
}

/// The kernel marks the path of a program that was replaced while it runs (`proc_pid_exe(5)`); the new one is meant.
fn without_deleted(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(&text))
}

/// Root may write everywhere but on a read-only file system, which access(2) says too.
fn is_writable(directory: &Path) -> bool {
    let made = std::fs::create_dir_all(directory);
    made.is_ok() && access(directory, AccessFlags::W_OK).is_ok()
}

/// Returns whether the servers of a resolv.conf(5) can be reached from a network namespace of its own: there is one
/// and none is a loopback address, as that of systemd-resolved is.
fn reachable_from_elsewhere(text: &str) -> bool {
    let servers: Vec<IpAddr> =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok()).collect();
    !servers.is_empty() && servers.iter().all(|server| !server.is_loopback() && !server.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_localhost_is_of_no_use_to_guests() {
        assert!(reachable_from_elsewhere("search lan\nnameserver 192.168.1.1\n"));
        assert!(!reachable_from_elsewhere("nameserver 127.0.0.53\nnameserver 192.168.1.1\n"));
        assert!(!reachable_from_elsewhere("search lan\n"));
    }

    #[test]
    fn a_replaced_program_is_named_without_the_kernels_mark() {
        assert_eq!(without_deleted(Path::new("/usr/bin/x (deleted)")), Path::new("/usr/bin/x"));
        assert_eq!(without_deleted(Path::new("/usr/bin/x")), Path::new("/usr/bin/x"));
    }
}
