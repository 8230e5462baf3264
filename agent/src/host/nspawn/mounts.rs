//! What a container is given from the host: its system, and paths that are there, mounted, or made.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nixmox_core::model::{ContainerName, Mount, Service, StorePath};

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
}

impl Source {
    /// Returns all that a service names, in the order in which they are looked at.
    pub(in crate::host) fn all(service: &Service) -> Vec<Self> {
        let mounts = service.mounts.iter().cloned().map(Self::Mount);
        let credentials = service.credentials.iter();
        let credentials = credentials.map(|(name, path)| Self::Credential(name.clone(), path.clone()));
        let devices = service.devices.iter().map(|device| Self::Device(device.path.clone()));
        mounts.chain(credentials).chain(devices).collect()
    }

    /// Returns where it lies on the host.
    pub(in crate::host) fn path(&self) -> &Path {
        match self {
            Self::Mount(mount) => &mount.source,
            Self::Credential(_, path) | Self::Device(path) => path,
        }
    }

    /// Checks that it is there, or may be made.
    ///
    /// # Errors
    /// `SourceMissing`, `CredentialMissing`, `DeviceMissing`, `NotAMountpoint`.
    pub(in crate::host) fn check(&self, paths: &Paths) -> Result<(), StepError> {
        let there = paths.host_path(self.path());
        match self {
            Self::Mount(mount) => check(&there, mount).map(drop),
            Self::Credential(name, path) if !there.exists() => {
                Err(StepError::CredentialMissing { name: name.clone(), path: path.clone() })
            }
            Self::Device(path) if !there.exists() => Err(StepError::DeviceMissing { path: path.clone() }),
            Self::Credential(..) | Self::Device(_) => Ok(()),
        }
    }

    /// Makes it where it may be made, else checks that it is there, before nspawn fails on it without saying which.
    ///
    /// # Errors
    /// `SourceMissing`, `CredentialMissing`, `DeviceMissing`, `NotAMountpoint`, or `NotForTheAgent` and `File` when a
    /// directory cannot be made.
    pub(in crate::host) fn prepare(&self, paths: &Paths) -> Result<(), StepError> {
        match self {
            Self::Mount(mount) => prepare(&paths.host_path(&mount.source), mount),
            Self::Credential(..) | Self::Device(_) => self.check(paths),
        }
    }
}

/// Whether a source is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    There,
    ToBeMade,
}

fn check(source: &Path, mount: &Mount) -> Result<Presence, StepError> {
    // First: a directory made where a disk is missing would hide that it is missing.
    if mount.must_be_mountpoint && !is_mountpoint(source) {
        return Err(StepError::NotAMountpoint { path: mount.source.clone() });
    }
    match std::fs::metadata(source) {
        Ok(_) => Ok(Presence::There),
        Err(error) if error.kind() == ErrorKind::NotFound && mount.create => Ok(Presence::ToBeMade),
        Err(_) => Err(StepError::SourceMissing { path: mount.source.clone() }),
    }
}

fn prepare(source: &Path, mount: &Mount) -> Result<(), StepError> {
    match check(source, mount)? {
        Presence::There => Ok(()),
        Presence::ToBeMade => create(source, &mount.source),
    }
}

fn create(there: &Path, path: &Path) -> Result<(), StepError> {
    std::fs::create_dir_all(there).map_err(|source| match source.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            let above = |path: &&Path| path.parent().is_none() || path.exists();
            let there = path.ancestors().skip(1).find(above).unwrap_or(path);
            StepError::NotForTheAgent { path: path.to_owned(), there: there.to_owned() }
        }
        _ => StepError::File { action: "create", path: path.to_owned(), source },
    })
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

    fn mount(source: &Path, create: bool, must_be_mountpoint: bool) -> Mount {
        let target = "/data".into();
        Mount { source: source.to_owned(), target, read_only: false, create, must_be_mountpoint }
    }

    #[test]
    fn a_missing_source_is_made_only_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a/b");
        let error = prepare(&source, &mount(&source, false, false)).unwrap_err();
        assert!(matches!(error, StepError::SourceMissing { .. }), "{error}");
        prepare(&source, &mount(&source, true, false)).unwrap();
        assert!(source.is_dir());
    }

    #[test]
    fn a_disk_that_is_missing_is_not_hidden_by_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("disk");
        let error = prepare(&source, &mount(&source, true, true)).unwrap_err();
        assert!(matches!(error, StepError::NotAMountpoint { .. }), "{error}");
        assert!(!source.exists());
        prepare(Path::new("/proc"), &mount(Path::new("/proc"), false, true)).unwrap();
    }
}
