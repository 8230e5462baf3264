//! Deleting a container's state: its root, as its guest left it.
//!
//! The guest's root may hold anything: links to the host, folders nested a hundred thousand deep, immutable files.
//! Every step is relative to an open directory and follows no link, a folder that is another mount is refused by the
//! kernel (`RESOLVE_NO_XDEV`, openat2(2)), and folders beyond a depth are moved up before they are entered, so neither
//! stack nor descriptors run out.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use nixmox_core::model::ContainerName;

use super::immutable;
use crate::host::StepError;
use crate::host::paths::Paths;

/// Folders entered one inside the other; deeper ones are moved up first.
const DEPTH_MAX: usize = 64;

/// Entries of one folder that are listed at a time.
const LISTED_MAX: usize = 4096;

/// Deletes the state of a container that does not run, and what it logged if it was ephemeral; there being none is no error.
///
/// # Errors
/// `StepError::File` with what could not be removed, such as a mount point; the rest may be gone by then, and the
/// call may be repeated.
pub(in crate::host) fn remove_data(paths: &Paths, name: &ContainerName) -> Result<(), StepError> {
    remove_tree(&paths.state(name))?;
    remove_tree(&paths.journal(name))
}

/// Deletes a folder that a guest has written to, or whatever is in its place; there being none is no error.
///
/// # Errors
/// As [`remove_data`].
pub(super) fn remove_tree(path: &Path) -> Result<(), StepError> {
    let failed =
        |at: &Path, errno: Errno| StepError::File { action: "remove", path: path.join(at), source: errno.into() };
    // Before anything is deleted: a mount in there is somebody's, and a half deleted container nobody's.
    if let Some(mount) = super::mounts::mount_below(path) {
        return Err(StepError::File { action: "remove", path: mount, source: Errno::EBUSY.into() });
    }
    let root = match open(path, directory_flags(), Mode::empty()) {
        Ok(root) => root,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed(Path::new(""), errno)),
    };
    Removal { root, moved: 0 }.run().map_err(|(at, errno)| failed(&at, errno))?;
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed(Path::new(""), errno)),
    }
}

/// A removal in progress.
struct Removal {
    root: OwnedFd,
    /// Folders moved up to the root so far; each gets a name of its own.
    moved: u64,
}

/// What could not be removed, relative to the root, and why.
type Failure = (PathBuf, Errno);

/// A folder that is being emptied.
struct Level {
    directory: OwnedFd,
    /// Its name in the level above; empty for the root.
    name: CString,
    /// Some of what is in it and not yet removed, and whether it is a folder.
    entries: Vec<(CString, bool)>,
}

/// What is done next.
enum Next {
    /// This entry of the innermost folder is removed.
    Entry(CString, bool),
    /// The innermost folder is empty.
    Emptied,
}

impl Removal {
    /// Empties the root.
    fn run(&mut self) -> Result<(), Failure> {
        let root = self.root.try_clone().map_err(|_| (PathBuf::new(), Errno::EMFILE))?;
        let mut levels = vec![Level { directory: root, name: c"".to_owned(), entries: Vec::new() }];
        while let Some(level) = levels.last_mut() {
            match level.next().map_err(|errno| (path_of(&levels, c""), errno))? {
                Next::Emptied => {
                    let emptied = levels.pop();
                    if let (Some(parent), Some(Level { name, .. })) = (levels.last(), emptied) {
                        remove_entry(&parent.directory, &name, UnlinkatFlags::RemoveDir)
                            .map_err(|errno| (path_of(&levels, &name), errno))?;
                    }
                }
                Next::Entry(name, is_directory) => {
                    let entered = self.remove_or_enter(&levels, &name, is_directory);
                    levels.extend(entered.map_err(|errno| (path_of(&levels, &name), errno))?);
                }
            }
        }
        Ok(())
    }

    /// Removes an entry of the innermost folder; a folder is entered, or moved up to the root, which is listed again.
    fn remove_or_enter(
        &mut self,
        levels: &[Level],
        name: &CStr,
        is_directory: bool,
    ) -> Result<Option<Level>, Errno> {
        let Some(level) = levels.last() else { return Ok(None) };
        if !is_directory {
            remove_entry(&level.directory, name, UnlinkatFlags::NoRemoveDir)?;
            return Ok(None);
        }
        if levels.len() >= DEPTH_MAX {
            self.move_up(&level.directory, name)?;
            return Ok(None);
        }
        let directory = enter(&level.directory, name)?;
        Ok(Some(Level { directory, name: name.to_owned(), entries: Vec::new() }))
    }

    fn move_up(&mut self, directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        loop {
            self.moved += 1;
            let to = format!(".nixmox-removed-{}", self.moved);
            match renameat(directory, name, &self.root, to.as_str()) {
                // The guest may have used this name: then the next one is tried.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                Err(Errno::EPERM) if immutable::clear(directory) => {}
                other => return other,
            }
        }
    }
}

impl Level {
    /// Returns the next entry, listing the folder again when those known are done.
    fn next(&mut self) -> Result<Next, Errno> {
        if self.entries.is_empty() {
            self.list()?;
        }
        Ok(self.entries.pop().map_or(Next::Emptied, |(name, is_directory)| Next::Entry(name, is_directory)))
    }

    fn list(&mut self) -> Result<(), Errno> {
        let listed = self.directory.try_clone().map_err(|_| Errno::EMFILE)?;
        for entry in Dir::from_fd(listed)?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_owned();
            if name.as_c_str() == c"." || name.as_c_str() == c".." {
                continue;
            }
            let is_directory = match entry.file_type() {
                Some(kind) => kind == Type::Directory,
                // Some file systems do not say: entering fails for what is no folder.
                None => enter(&self.directory, &name).is_ok(),
            };
            self.entries.push((name, is_directory));
            if self.entries.len() >= LISTED_MAX {
                break;
            }
        }
        Ok(())
    }
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Opens a folder in a folder: never a link, never another mount.
fn enter(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(directory, name, OpenHow::new().flags(directory_flags()).resolve(resolve))
}

/// Removes an entry, if need be after clearing the immutable flag of the entry or of its folder: NixOS sets it on
/// `var/empty`, a guest may set it anywhere.
fn remove_entry(directory: &OwnedFd, name: &CStr, flags: UnlinkatFlags) -> Result<(), Errno> {
    match unlinkat(directory.as_fd(), name, flags) {
        Err(Errno::EPERM) => {
            immutable::clear(directory);
            let open_flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
            if let Ok(entry) = openat2(directory, name, OpenHow::new().flags(open_flags).resolve(resolve)) {
                immutable::clear(&entry);
            }
            unlinkat(directory.as_fd(), name, flags)
        }
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn path_of(levels: &[Level], name: &CStr) -> PathBuf {
    let names = levels.iter().map(|level| level.name.as_c_str()).chain([name]);
    names.map(|name| OsStr::from_bytes(name.to_bytes())).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn container() -> (tempfile::TempDir, Paths, ContainerName, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        let root = paths.state(&name);
        fs::create_dir_all(&root).unwrap();
        (dir, paths, name, root)
    }

    #[test]
    fn what_links_lead_to_stays() {
        let (dir, paths, name, root) = container();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        symlink(&outside, root.join("folder")).unwrap();
        symlink(outside.join("file"), root.join("file")).unwrap();
        fs::create_dir_all(root.join("var/lib/a b")).unwrap();
        fs::write(root.join("var/lib/a b/x"), "gone").unwrap();
        remove_data(&paths, &name).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
        assert!(outside.join("kept").exists());
        remove_data(&paths, &name).unwrap();
    }

    #[test]
    fn a_root_that_is_a_link_is_refused() {
        let (dir, paths, name, root) = container();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("kept")).unwrap();
        fs::remove_dir(&root).unwrap();
        symlink(&outside, &root).unwrap();
        remove_data(&paths, &name).unwrap_err();
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn folders_deeper_than_any_path_are_removed() {
        let (_dir, paths, name, root) = container();
        // Longer than PATH_MAX in all, so made step by step.
        let mut at = open(&root, directory_flags(), Mode::empty()).unwrap();
        let deep = CString::new("deep".repeat(50)).unwrap();
        for _ in 0..5 * DEPTH_MAX {
            nix::sys::stat::mkdirat(&at, deep.as_c_str(), Mode::S_IRWXU).unwrap();
            at = enter(&at, &deep).unwrap();
        }
        fs::create_dir(root.join(".nixmox-removed-1")).unwrap();
        fs::write(root.join(".nixmox-removed-2"), "taken").unwrap();
        remove_data(&paths, &name).unwrap();
        assert!(!root.exists());
    }
}
