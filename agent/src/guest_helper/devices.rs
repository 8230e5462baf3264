//! What a guest has of device nodes: whether each is there, of which number, and what comes of opening it.
//!
//! Device rules are the cgroup's and not the path's, so this process opens nodes from a cgroup of the guest's unit, as the guest's
//! root. A guest can put anything where a node belongs. Its paths are resolved in its root, without links, and what lies there is looked
//! at before it is opened: only what has the number that the host has for that path, and the very thing that was looked at.
//!
//! Opening a node wakes its driver, which may take seconds, or for ever where it hangs: the agent waits no longer than the question's time.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nixmox_core::gpu::grant::USER_SPACE_INSIDE;
use serde::{Deserialize, Serialize};

use super::Trouble;
use super::enter::Guest;
use crate::host::devices::{LIBRARY_LINK, newest, of_library_file};

/// The folder of the driver's libraries, below where a guest's programs look for drivers.
const LIBRARIES: &str = "lib";
/// Most entries of that folder that are looked at: a guest may have any number there.
const ENTRIES_MAX: usize = 16 * 1024;
/// Most nodes that are looked at.
const NODES_MAX: usize = 512;

/// A node that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its absolute path in the guest.
    pub path: PathBuf,
    /// The number that the host has for it; `None`: it has none, so it is not opened.
    pub number: Option<(u32, u32)>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Each node that was asked about, in that order.
    pub nodes: Vec<SeenNode>,
    /// The version of NVIDIA's user space where programs look for it; `None`: there is none.
    pub library: Option<String>,
}

/// What is where a node belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeenNode {
    /// Nothing.
    Absent,
    /// Something else, or a link.
    Other,
    /// A character device of this number, and what came of opening it: 0, or an errno; `None`: it was not tried.
    Device(u32, u32, Option<i32>),
}

/// Looks at nodes from where the guest's processes are. This process stays there.
pub(super) fn look(guest: &Guest, unit: &str, asked: &[Asked]) -> Result<Seen, Trouble> {
    let root = guest.root()?;
    let library = library(&root);
    let found: Vec<_> = asked.iter().take(NODES_MAX).map(|node| (node, find(&root, &node.path))).collect();
    guest.enter_cgroup(unit)?;
    guest.become_its_root()?;
    let nodes = found.into_iter().map(|(node, found)| match found {
        Found::Absent => SeenNode::Absent,
        Found::Other => SeenNode::Other,
        Found::Device(fd, stat) => {
            let number = number(&stat);
            let opened = (Some(number) == node.number).then(|| attempt(&fd, &stat));
            SeenNode::Device(number.0, number.1, opened)
        }
    });
    Ok(Seen { nodes: nodes.collect(), library })
}

enum Found {
    Absent,
    Other,
    /// Held by its path alone: nothing was opened.
    Device(OwnedFd, FileStat),
}

/// Finds what is at a path of the guest, without following a link.
fn find(root: &OwnedFd, path: &Path) -> Found {
    let resolve =
        ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let is_device = |stat: &FileStat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    match openat2(root, path, how) {
        Err(Errno::ENOENT) => Found::Absent,
        Err(_in_the_way) => Found::Other,
        Ok(fd) => match fstat(&fd) {
            Ok(stat) if is_device(&stat) => Found::Device(fd, stat),
            _ => Found::Other,
        },
    }
}

fn number(stat: &FileStat) -> (u32, u32) {
    let half = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    (half(major(stat.st_rdev)), half(minor(stat.st_rdev)))
}

/// Opens the very node that was looked at; returns 0 or an errno.
fn attempt(fd: &OwnedFd, stat: &FileStat) -> i32 {
    // A right to an instance of a GPU (MIG) is for reading.
    let is_writable =
        Mode::from_bits_truncate(stat.st_mode).intersects(Mode::S_IWUSR | Mode::S_IWGRP | Mode::S_IWOTH);
    let access = if is_writable { OFlag::O_RDWR } else { OFlag::O_RDONLY };
    let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    // proc_pid_fd(5): the link leads to what the descriptor holds, whatever its path is by now.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path.as_str(), flags, Mode::empty()).err().map_or(0, |errno| errno as i32)
}

/// Returns the version of the libraries where the guest's programs look for them.
fn library(root: &OwnedFd) -> Option<String> {
    // A link here is the guest's own affair, and stays in its root; only names are read.
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let flags = |flags: OFlag| OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let place = Path::new(USER_SPACE_INSIDE).join(LIBRARIES);
    // What programs are given, where several lie there. Held by its path alone, which proc_pid_fd(5) tells: nothing is opened.
    let led = openat2(root, &place.join(LIBRARY_LINK), flags(OFlag::O_PATH)).ok();
    let led = led.and_then(|fd| readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()).ok());
    if let Some(version) = led.as_deref().and_then(|path| of_library_file(Path::new(path).file_name()?.to_str()?)) {
        return Some(version.to_owned());
    }
    let folder = flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK);
    let folder = Dir::from_fd(openat2(root, &place, folder).ok()?).ok()?;
    let names = folder.into_iter().take(ENTRIES_MAX).flatten();
    newest(names.filter_map(|entry| Some(of_library_file(entry.file_name().to_str().ok()?)?.to_owned())))
}
