//! What the texts of containers depend on: facts of the host, found when the agent starts.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use nixmox_core::container::Layout;
use nixmox_core::network::servers;

use crate::host;
use crate::host::paths::Paths;

/// Where a packaged agent lies; named when the running one does not know its own place.
const AGENT: &str = "/usr/bin/nixmox-agent";

/// What the template starts containers with that is installed where the host is not NixOS.
const START_SCRIPT: &str = "/usr/lib/nixmox/container-start";

/// Finds them.
pub(super) fn find(paths: &Paths) -> Layout {
    Layout {
        agent: std::env::current_exe().map_or_else(|_| PathBuf::from(AGENT), |path| without_deleted(&path)),
        conf_in_run: !is_writable(&paths.conf_dir()),
        copy_resolv_conf: passes_dns_on(paths),
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

/// Returns whether the template gives guests servers that they can reach. Ours looks for them at each start, since at boot
/// there may be none yet; NixOS's copies `/etc/resolv.conf` as it is, so that has to be of use.
fn passes_dns_on(paths: &Paths) -> bool {
    let own = || host::servers::of_host(paths).own;
    paths.host_path(Path::new(START_SCRIPT)).exists() || own().is_some_and(|text| servers::are_all_reached(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_program_is_named_without_the_kernels_mark() {
        assert_eq!(without_deleted(Path::new("/usr/bin/x (deleted)")), Path::new("/usr/bin/x"));
        assert_eq!(without_deleted(Path::new("/usr/bin/x")), Path::new("/usr/bin/x"));
    }

    #[test]
    fn our_template_finds_servers_itself_whatever_there_is_when_the_agent_starts() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let write = |path: &str, text: &str| {
            let path = paths.host_path(Path::new(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert!(!passes_dns_on(&paths));
        write("/etc/resolv.conf", "nameserver 192.168.1.1\n");
        assert!(passes_dns_on(&paths));
        write("/etc/resolv.conf", "nameserver 127.0.0.53\n");
        assert!(!passes_dns_on(&paths), "NixOS's template copies the stub's address");
        write(START_SCRIPT, "");
        assert!(passes_dns_on(&paths));
        write("/etc/resolv.conf", "");
        assert!(passes_dns_on(&paths), "a host that has no servers yet");
    }
}
