//! What a container is given from the host: its system, its bridge, and paths that are there, mounted, or made.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use nixmox_core::model::{ContainerName, Mount, Network, Service, StorePath};

use crate::host::StepError;
use crate::host::paths::Paths;

/// Checks that the declared system is in the store and can be booted.
///
/// # Errors
/// `StorePathMissing`.
pub(in crate::host) fn check_system(paths: &Paths, system: &StorePath) -> Result<(), StepError> {
    // `init` may be a link that leads into the store; that it is there is what counts.
    if paths.store_path(system).join("init").exists() {
        Ok(())
    } else {
        Err(StepError::StorePathMissing { path: system.clone() })
    }
}

/// One thing of the host that a service names.
#[derive(Clone, Debug)]
pub(in crate::host) enum Source {
    Mount(Mount),
    Credential(String, PathBuf),
    Device(PathBuf),
    /// A bridge by its name, and where the kernel shows that it is one.
    Bridge(String, PathBuf),
}

impl Source {
    /// Returns all that a service names, in the order in which they are looked at.
    pub(in crate::host) fn all(service: &Service) -> Vec<Self> {
        let mounts = service.mounts.iter().cloned().map(Self::Mount);
        let credentials = service.credentials.iter();
        let credentials = credentials.map(|(name, path)| Self::Credential(name.clone(), path.clone()));
        let devices = service.devices.iter().map(|device| Self::Device(device.path.clone()));
        let bridge = match &service.network {
            Network::Bridge(name) => {
                Some(Self::Bridge(name.clone(), format!("/sys/class/net/{name}/bridge").into()))
            }
            Network::Private { .. } | Network::Host => None,
        };
        mounts.chain(credentials).chain(devices).chain(bridge).collect()
    }

    /// Returns where it lies on the host.
    pub(in crate::host) fn path(&self) -> &Path {
        match self {
            Self::Mount(mount) => &mount.source,
            Self::Credential(_, path) | Self::Device(path) | Self::Bridge(_, path) => path,
        }
    }

    /// Checks that it is there, or may be made. Makes nothing.
    ///
    /// # Errors
    /// `SourceMissing`, `CredentialMissing`, `DeviceMissing`, `BridgeMissing`, `NotAMountpoint`, `NotForTheAgent`.
    pub(in crate::host) fn check(&self, paths: &Paths) -> Result<Presence, StepError> {
        let there = paths.host_path(self.path());
        match self {
            Self::Mount(mount) => check_mount(paths, &there, mount),
            Self::Credential(name, path) if !there.exists() => {
                Err(StepError::CredentialMissing { name: name.clone(), path: path.clone() })
            }
            Self::Device(path) if !there.exists() => Err(StepError::DeviceMissing { path: path.clone() }),
            Self::Bridge(name, _) if !there.exists() => Err(StepError::BridgeMissing { name: name.clone() }),
            Self::Credential(..) | Self::Device(_) | Self::Bridge(..) => Ok(Presence::There),
        }
    }

    /// Makes it where it may be made, else checks that it is there, before nspawn fails on it without saying which.
    ///
    /// # Errors
    /// Those of `check`, and `File` when a directory cannot be made.
    pub(in crate::host) fn prepare(&self, paths: &Paths) -> Result<(), StepError> {
        match self.check(paths)? {
            Presence::There => Ok(()),
            Presence::ToBeMade => std::fs::create_dir_all(paths.host_path(self.path()))
                .map_err(|source| StepError::File { action: "create", path: self.path().to_owned(), source }),
        }
    }
}

/// Whether what a service names is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) enum Presence {
    There,
    ToBeMade,
}

fn check_mount(paths: &Paths, there: &Path, mount: &Mount) -> Result<Presence, StepError> {
    let path = &mount.source;
    // First: a directory made where a disk is missing would hide that it is missing.
    if mount.must_be_mountpoint && !is_mountpoint(there) {
        return Err(StepError::NotAMountpoint { path: path.clone() });
    }
    match std::fs::metadata(there) {
        Ok(_) => Ok(Presence::There),
        Err(error) if error.kind() == ErrorKind::NotFound && mount.create => {
            let parent = path.ancestors().skip(1).find(|above| paths.host_path(above).exists());
            let parent = parent.unwrap_or(Path::new("/"));
            match access(&paths.host_path(parent), AccessFlags::W_OK) {
                // Of the agent's own sandbox, more often than of the file system.
                Err(Errno::EROFS) => {
                    Err(StepError::NotForTheAgent { path: path.clone(), parent: parent.to_owned() })
                }
                Ok(()) | Err(_) => Ok(Presence::ToBeMade),
            }
        }
        Err(_) => Err(StepError::SourceMissing { path: path.clone() }),
    }
}

/// Returns whether something is mounted here on the host: listed in PID 1's mountinfo (`proc_pid_mountinfo(5)`).
/// Comparing the device with the parent's would miss bind mounts.
pub(super) fn is_mountpoint(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    procfs::process::Process::new(1)
        .and_then(|process| process.mountinfo())
        .is_ok_and(|mounts| mounts.into_iter().any(|mount| mount.mount_point == path))
}

/// Returns the root of a container when no space is left for it.
pub(in crate::host) fn full_root(paths: &Paths, name: &ContainerName) -> Option<PathBuf> {
    let path = paths.state(name);
    // Before the first start it is not there yet, and its parent tells.
    let there = [path.as_path(), path.parent()?].into_iter().find(|path| path.exists())?;
    let status = nix::sys::statvfs::statvfs(there).ok()?;
    // A file system without a count of inodes, such as btrfs, says 0 of 0.
    let full = status.blocks_available() == 0 || status.files() > 0 && status.files_available() == 0;
    full.then_some(path)
}

/// Returns a mount point at or below a directory on the host, if there is one.
pub(super) fn mount_below(path: &Path) -> Option<PathBuf> {
    let mounts = procfs::process::Process::new(1).and_then(|process| process.mountinfo()).ok()?;
    mounts.into_iter().map(|mount| mount.mount_point).find(|mount| mount.starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(create: bool, must_be_mountpoint: bool) -> Mount {
        Mount { source: "/a/b".into(), target: "/data".into(), read_only: false, create, must_be_mountpoint }
    }

    fn mount(create: bool, must_be_mountpoint: bool) -> Source {
        Source::Mount(of(create, must_be_mountpoint))
    }

    #[test]
    fn a_missing_source_is_made_only_where_asked_and_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let source = dir.path().join("a/b");
        let refused = mount(false, false).prepare(&paths).unwrap_err();
        assert!(matches!(refused, StepError::SourceMissing { .. }), "{refused}");
        assert_eq!(mount(true, false).check(&paths).unwrap(), Presence::ToBeMade);
        assert!(!source.exists(), "a look makes nothing");
        mount(true, false).prepare(&paths).unwrap();
        assert!(source.is_dir());
        assert_eq!(mount(false, false).check(&paths).unwrap(), Presence::There);
    }

    #[test]
    fn a_disk_that_is_missing_is_not_hidden_by_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let refused = mount(true, true).prepare(&Paths::below(dir.path())).unwrap_err();
        assert!(matches!(refused, StepError::NotAMountpoint { .. }), "{refused}");
        assert!(!dir.path().join("a").exists());
        let proc = Mount { source: "/proc".into(), ..of(false, true) };
        Source::Mount(proc).prepare(&Paths::default()).unwrap();
    }
}
