//! A view of a guest's journal and nothing else of the guest: a root of our own with its folders mounted in it.
//!
//! `journalctl` follows links, and a guest may plant any. So its folders are opened without following one, and mounted
//! read-only, without devices, programs, and without links (`MS_NOSYMFOLLOW`, mount(2)) in a mount namespace that ends
//! with this process:
//!
//! ```text
//! leader's mount namespace ── /var/log/journal, /run/log/journal ── open_tree(2) ──┐
//! disk, while it rests     ── ROOT/var/log/journal, ... ────────── open_tree(2) ──┴─▶ move_mount(2) ─▶ VIEW/var/log/journal
//! ```
//!
//! What is mounted there may be the host's own journal, for a service that ships it: that is no guest's, and is left out
//! wherever it comes from (see `Hosts`). What is mounted below one of the folders is not in the view.
//!
//! A folder of a running guest can only be cloned within its own mount namespace, so this process enters that for the
//! time of it, and comes back with detached mounts.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change, mount_remount,
    move_mount, open_tree,
};
use serde::{Deserialize, Serialize};

use super::Trouble;
use super::enter;
use super::journal::{Guest, Running};

/// Where the view is built: a folder of ours that there always is, hidden in this process's mount namespace.
const VIEW: &str = "/run/nixmox";
/// Where journald keeps journals, lasting ones and those of this boot (systemd-journald.service(8), "Files"), relative to
/// the root of a system.
const FOLDERS: [&CStr; 2] = [c"var/log/journal", c"run/log/journal"];

/// A folder at rest: below a path of ours that no guest has a hand in, a path that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// An absolute path of the host.
    pub ours: PathBuf,
    /// What follows; empty: `ours` itself.
    pub theirs: PathBuf,
}

/// What was found of a guest's journal.
pub(super) enum Found {
    /// The root of a system in which nothing but the journal lies.
    Journal(&'static str),
    /// It has none, and may yet make one.
    NotYet,
    /// It has none, and does not run.
    Never,
}

/// The host's own journals, which must not be taken for a guest's.
pub(super) struct Hosts {
    /// The folders by device and inode, which stay the same wherever a folder is mounted.
    folders: BTreeSet<(u64, u64)>,
    /// The name that journald gives the folder of the host's journal (machine-id(5)); empty where the host has none.
    machine: String,
    /// The guest that is looked at.
    guest: String,
    /// Whether it was said already that something is left out.
    told: Cell<bool>,
}

impl Hosts {
    /// Looks at them below a root, which is the host's but in tests.
    pub(super) fn of(root: &Path, guest: &str) -> Self {
        let identity = |found: fs::Metadata| found.is_dir().then(|| (found.dev(), found.ino()));
        let mut folders = BTreeSet::new();
        for folder in FOLDERS {
            let folder = root.join(folder.to_string_lossy().as_ref());
            folders.extend(fs::metadata(&folder).ok().and_then(identity));
            // A link there is to the journal of a guest (`--link-journal=` of systemd-nspawn(1)), and not followed.
            let within =
                fs::read_dir(&folder).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
            folders.extend(within.filter_map(identity));
        }
        let machine = fs::read_to_string(root.join("etc/machine-id")).unwrap_or_default();
        Self { folders, machine: machine.trim().to_owned(), guest: guest.to_owned(), told: Cell::new(false) }
    }

    /// Returns whether a folder is one of them, or has one in it.
    fn have(&self, folder: &OwnedFd) -> nix::Result<bool> {
        let found = fstat(folder)?;
        if self.folders.contains(&(found.st_dev, found.st_ino)) {
            return Ok(true);
        }
        if self.machine.is_empty() {
            return Ok(false);
        }
        // By any name that a folder can have: a copy, or another file system over the host's.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH);
        match openat2(folder, self.machine.as_str(), how) {
            Ok(_there) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Says, once, that one is left out.
    fn tell(&self) {
        if !self.told.replace(true) {
            // Whoever should read this may have left.
            let _ = writeln!(io::stderr(), "a journal in `{}` is the host's, and left out", self.guest);
        }
    }
}

/// Builds the view. The process must have a mount namespace of its own.
pub(super) fn of(guest: &Guest, hosts: &Hosts) -> Result<Found, Trouble> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(mounting)?;
    let trees = match &guest.running {
        Some(running) => match of_running(running, hosts) {
            // It ended in between; what it left is at rest.
            Err(Trouble::Gone) => at_rest(&guest.at_rest, hosts)?,
            trees => trees?,
        },
        None => at_rest(&guest.at_rest, hosts)?,
    };
    if trees.is_empty() {
        return Ok(if guest.running.is_some() { Found::NotYet } else { Found::Never });
    }
    let hidden = MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSUID;
    mount("tmpfs", VIEW, "tmpfs", hidden, c"mode=0755,size=64k").map_err(mounting)?;
    // Which of them is which makes no difference: both are read.
    for (tree, folder) in trees.iter().zip(FOLDERS) {
        let target = PathBuf::from(VIEW).join(folder.to_string_lossy().as_ref());
        fs::create_dir_all(&target).map_err(Trouble::Io)?;
        move_mount(tree, c"", rustix::fs::CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(mounting)?;
        let shut = hidden | MountFlags::RDONLY | MountFlags::NOSYMFOLLOW | MountFlags::BIND;
        mount_remount(&target, shut, c"").map_err(mounting)?;
    }
    Ok(Found::Journal(VIEW))
}

/// Clones the folders of a running guest, as it sees them.
fn of_running(running: &Running, hosts: &Hosts) -> Result<Vec<OwnedFd>, Trouble> {
    let guest = enter::Guest::open(running.leader, &running.unit)?;
    let own = open("/proc/self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(entering)?;
    guest.enter_mounts()?;
    let trees = open("/", DIRECTORY, Mode::empty()).map_err(entering).and_then(|root| {
        // What it sees below its root may lie on any number of file systems.
        let below = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        FOLDERS.iter().filter_map(|folder| clone(&root, *folder, below, hosts).transpose()).collect()
    });
    setns(own, CloneFlags::CLONE_NEWNS).map_err(entering)?;
    trees
}

/// Clones the folders that a guest left.
fn at_rest(places: &[Place], hosts: &Hosts) -> Result<Vec<OwnedFd>, Trouble> {
    let clone_of = |place: &Place| -> Result<Option<OwnedFd>, Trouble> {
        let ours = match open(&place.ours, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            ours => ours.map_err(entering)?,
        };
        let theirs = if place.theirs.as_os_str().is_empty() { ".".into() } else { place.theirs.clone() };
        let beneath =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
        clone(&ours, &theirs, beneath, hosts)
    };
    places.iter().take(FOLDERS.len()).filter_map(|place| clone_of(place).transpose()).collect()
}

/// Makes a mount of a folder that hangs nowhere; `None`: there is no such folder, a link is in the way, or it is the host's.
fn clone<P: nix::NixPath + ?Sized>(
    root: &OwnedFd,
    path: &P,
    resolve: ResolveFlag,
    hosts: &Hosts,
) -> Result<Option<OwnedFd>, Trouble> {
    let folder = match openat2(root, path, OpenHow::new().flags(DIRECTORY).resolve(resolve)) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(None),
        folder => folder.map_err(entering)?,
    };
    if hosts.have(&folder).map_err(entering)? {
        hosts.tell();
        return Ok(None);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(folder.as_fd(), c"", flags).map(Some).map_err(mounting)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

fn entering(errno: Errno) -> Trouble {
    Trouble::Enter(errno.into())
}

fn mounting(errno: rustix::io::Errno) -> Trouble {
    Trouble::Io(errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "00112233445566778899aabbccddeeff";

    fn folder(path: &Path) -> OwnedFd {
        fs::create_dir_all(path).unwrap();
        open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn the_hosts_journal_is_known_by_any_name_and_a_guests_is_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let host = folder(&root.join("var/log/journal"));
        let machine = folder(&root.join("var/log/journal").join(MACHINE));
        let remote = folder(&root.join("run/log/journal/remote"));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/machine-id"), format!("{MACHINE}\n")).unwrap();
        let guest = folder(&root.join("guest"));
        std::os::unix::fs::symlink(root.join("guest"), root.join("var/log/journal/linked")).unwrap();
        let hosts = Hosts::of(root, "web");
        for theirs in [&host, &machine, &remote] {
            assert_eq!(hosts.have(theirs), Ok(true));
        }
        assert_eq!(hosts.have(&guest), Ok(false), "linked from the host's, as nspawn does it");
        folder(&root.join("guest/ffeeddccbbaa99887766554433221100"));
        assert_eq!(hosts.have(&guest), Ok(false));
        folder(&root.join("guest").join(MACHINE));
        assert_eq!(hosts.have(&guest), Ok(true), "a copy of the host's");
        // A host without a machine id, and without a journal.
        assert_eq!(Hosts::of(&root.join("nowhere"), "web").have(&guest), Ok(false));
    }
}
