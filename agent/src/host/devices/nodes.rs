//! Nodes: what is there, and making those of NVIDIA's that udev does not know.
//!
//! NVIDIA's module announces no devices of its own to udev: a setuid program of the driver makes its nodes when something asks for the
//! first time, which in a container is too late. All others are udev's and only looked at.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use nix::unistd::{Gid, Uid, chown};
use nixmox_core::gpu::NodeState;

use super::numbers::{Number, Numbers, Nvidia};
use crate::host::StepError;
use crate::host::paths::Paths;

/// The mode of nodes where the module says none, which is what it says everywhere.
const MODE: u32 = 0o666;
/// The mode of rights to instances, which are opened for reading and guarded by who is given them.
const CAPABILITY_MODE: u32 = 0o444;

/// Returns whether a node is one of those that are made here when they are granted.
pub(in crate::host) fn is_made(path: &Path) -> bool {
    Nvidia::of(path).is_some()
}

/// Returns whether a node is there and leads to what is loaded now.
///
/// # Errors
/// `GpuNotANode`.
pub(in crate::host) fn is_right(paths: &Paths, numbers: &Numbers, path: &Path) -> Result<bool, StepError> {
    match state(paths, numbers.of(path), path) {
        // A node without a driver opens nothing. Of a kernel that tells no number, what is there has to do.
        NodeState::Right => Ok(numbers.of(path).is_some() || Nvidia::of(path).is_none()),
        NodeState::Missing | NodeState::Stale { .. } => Ok(false),
        NodeState::NotADevice => Err(StepError::GpuNotANode { path: path.to_owned() }),
    }
}

/// Makes a node of NVIDIA's that is missing, or of another number than its module has now. Where the module is not loaded, or
/// somebody else makes its nodes, nothing is done.
///
/// # Errors
/// `File`.
pub(in crate::host) fn put_right(paths: &Paths, numbers: &Numbers, path: &Path) -> Result<(), StepError> {
    let Some((node, number)) = Nvidia::of(path).zip(numbers.of(path)) else { return Ok(()) };
    let found = state(paths, Some(number), path);
    let parameters = Parameters::read(paths);
    match found {
        NodeState::Right | NodeState::NotADevice => return Ok(()),
        NodeState::Missing | NodeState::Stale { .. } if !parameters.modify => return Ok(()),
        NodeState::Missing | NodeState::Stale { .. } => {}
    }
    let mode = match node {
        Nvidia::Gpu(_) | Nvidia::Modeset | Nvidia::Uvm(_) => parameters.mode,
        Nvidia::Capability(_) => CAPABILITY_MODE,
    };
    tracing::info!(path = %path.display(), major = number.0, minor = number.1, ?found, "making a node");
    make(&paths.host_path(path), number, mode, &parameters).map_err(|source| StepError::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}

/// Returns what is where a node belongs.
fn state(paths: &Paths, number: Option<Number>, path: &Path) -> NodeState {
    let Ok(found) = fs::metadata(paths.host_path(path)) else { return NodeState::Missing };
    if !found.file_type().is_char_device() {
        return NodeState::NotADevice;
    }
    match (number_of(&found), number) {
        (Some(found), Some(number)) if found != number => NodeState::Stale { found },
        _ => NodeState::Right,
    }
}

fn number_of(found: &fs::Metadata) -> Option<Number> {
    Some((u32::try_from(major(found.rdev())).ok()?, u32::try_from(minor(found.rdev())).ok()?))
}

/// Makes a node beside its place and moves it there, so that whoever opens it meanwhile has the old or the new one.
fn make(path: &Path, (major, minor): Number, mode: u32, parameters: &Parameters) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    mknod(&beside, SFlag::S_IFCHR, Mode::empty(), makedev(major.into(), minor.into()))?;
    let finish = || {
        chown(&beside, Some(parameters.user), Some(parameters.group))?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
        fs::rename(&beside, path)
    };
    let finished = finish();
    if finished.is_err() {
        let _ = fs::remove_file(&beside);
    }
    finished
}

/// What the module says of its nodes (`NVreg_DeviceFile*`, NVIDIA's README, "Configuring the NVIDIA device files").
#[derive(Debug)]
struct Parameters {
    /// Whether its own tools may make them; otherwise the host's owner does.
    modify: bool,
    mode: u32,
    user: Uid,
    group: Gid,
}

impl Parameters {
    fn read(paths: &Paths) -> Self {
        let text = fs::read_to_string(paths.kernel("/proc/driver/nvidia/params")).unwrap_or_default();
        let value = |key: &str| -> Option<u32> {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim().parse().ok()
        };
        Self {
            modify: value("ModifyDeviceFiles") != Some(0),
            mode: value("DeviceFileMode").map_or(MODE, |mode| mode & 0o777),
            user: Uid::from_raw(value("DeviceFileUID").unwrap_or_default()),
            group: Gid::from_raw(value("DeviceFileGID").unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const NODE: &str = "/dev/nvidia3";

    /// A root where NVIDIA's module has this major, and whose node of GPU 3 is `/dev/null`, which is 1:3. Nodes are made by root alone,
    /// in the live tests.
    fn root(devices: &str) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["proc/driver/nvidia", "dev/dri"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("proc/devices"), devices).unwrap();
        for node in ["dev/nvidia3", "dev/dri/renderD128"] {
            symlink("/dev/null", dir.path().join(node)).unwrap();
        }
        let paths = Paths::below(dir.path());
        (dir, paths)
    }

    fn right(paths: &Paths, path: &str) -> bool {
        is_right(paths, &Numbers::read(paths), Path::new(path)).unwrap()
    }

    #[test]
    fn a_node_is_right_when_it_leads_to_the_module_that_is_loaded() {
        let (_dir, paths) = root("1 nvidia\n");
        assert!(right(&paths, NODE));
        assert!(!right(&paths, "/dev/nvidia4"), "there is none");
        assert!(right(&paths, "/dev/dri/renderD128"), "of a kernel that tells no number");
        let (_dir, paths) = root("195 nvidia\n");
        assert!(!right(&paths, NODE), "of the module that was loaded before");
        let number = Numbers::read(&paths).of(Path::new(NODE));
        assert_eq!(state(&paths, number, Path::new(NODE)), NodeState::Stale { found: (1, 3) });
        let (_dir, paths) = root("1 mem\n");
        assert!(!right(&paths, NODE), "no module is loaded");
    }

    #[test]
    fn what_is_no_node_is_named_and_left_alone() {
        let (dir, paths) = root("195 nvidia\n");
        // As a bind mount of a missing node leaves it.
        let made = dir.path().join("dev/nvidia0");
        fs::create_dir(&made).unwrap();
        let (numbers, path) = (Numbers::read(&paths), Path::new("/dev/nvidia0"));
        put_right(&paths, &numbers, path).unwrap();
        let error = is_right(&paths, &numbers, path).unwrap_err();
        assert!(matches!(&error, StepError::GpuNotANode { path: named } if named == path), "{error}");
        assert!(made.is_dir());
    }

    #[test]
    fn nodes_are_made_as_the_module_says() {
        let (dir, paths) = root("195 nvidia\n");
        let write = |text: &str| {
            fs::write(dir.path().join("proc/driver/nvidia/params"), text).unwrap();
            Parameters::read(&paths)
        };
        let silent = write("");
        assert!(silent.modify && silent.mode == 0o666 && silent.user.is_root());
        let strict = write("ModifyDeviceFiles: 1\nDeviceFileUID: 7\nDeviceFileGID: 44\nDeviceFileMode: 432\n");
        assert_eq!((strict.mode, strict.user.as_raw(), strict.group.as_raw()), (0o660, 7, 44));
        assert!(!write("ModifyDeviceFiles: 0\n").modify);
        // The host's owner makes them, so what is missing and stale stays so.
        let numbers = Numbers::read(&paths);
        for node in [NODE, "/dev/nvidia4"] {
            put_right(&paths, &numbers, Path::new(node)).unwrap();
            assert!(!right(&paths, node));
        }
    }
}
