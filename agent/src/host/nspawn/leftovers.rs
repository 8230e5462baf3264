//! What a killed nspawn leaves behind, its links among it: why the next start would fail over it.
//!
//! nspawn cleans up after itself only when it ends by itself. After SIGKILL its socket export stays mounted, which
//! the next start takes for a running container, and its veth pair may outlive it for a moment. The mount is in the
//! host's mount namespace, the agent in one of its own (`ProtectSystem=`): unmounting is asked of systemd, which
//! keeps a unit for every mount.

use std::fmt::Write as _;
use std::path::Path;

use nixmox_core::model::ContainerName;

use super::mounts::is_mountpoint;
use crate::host::StepError;
use crate::host::netlink;
use crate::host::paths::Paths;

/// Returns the unit of the socket export when it is still mounted.
pub(in crate::host) fn mounted_export(paths: &Paths, name: &ContainerName) -> Option<String> {
    let path = paths.unix_export(name);
    is_mountpoint(&path).then(|| mount_unit(&path))
}

/// Deletes the links of a container that does not run, `ve-NAME` and `vb-NAME` on a bridge; there being none is the usual case.
///
/// # Errors
/// `StepError::File` with what could not be removed.
pub(in crate::host) fn delete_links(name: &ContainerName) -> Result<(), StepError> {
    for link_name in [format!("ve-{name}"), format!("vb-{name}")] {
        let deleted = netlink::link(&link_name).and_then(|link| match link {
            Some(link) => {
                tracing::warn!(container = %name, link = %link_name, "deleting the link that a killed container left");
                netlink::delete_link(&link)
            }
            None => Ok(()),
        });
        let path = Path::new("/sys/class/net").join(link_name);
        deleted.map_err(|source| StepError::File { action: "remove", path, source })?;
    }
    Ok(())
}

/// Returns the name of the unit of a mount: systemd.unit(5), "String Escaping for Inclusion in Unit Names".
pub(in crate::host) fn mount_unit(path: &Path) -> String {
    let mut unit = String::new();
    for (index, byte) in path.to_string_lossy().trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => unit.push('-'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' => unit.push(char::from(byte)),
            b'.' if index > 0 => unit.push('.'),
            // Writing to a String cannot fail.
            other => drop(write!(unit, "\\x{other:02x}")),
        }
    }
    unit + ".mount"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_unit_is_named_as_systemd_escapes_it() {
        // As printed by `systemd-escape -p --suffix=mount /run/systemd/nspawn/unix-export/a-b`.
        let unit = mount_unit(Path::new("/run/systemd/nspawn/unix-export/a-b"));
        assert_eq!(unit, "run-systemd-nspawn-unix\\x2dexport-a\\x2db.mount");
    }
}
