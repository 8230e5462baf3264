//! Writing a file so that a crash leaves the old text or the new one, never a torn one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether a write must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The file lies in `/run`: gone with the power anyway.
    Runtime,
    /// The file and its name are synced before the call returns.
    Synced,
}

/// Replaces `path` by a file with this text and mode: temporary file and rename, each synced where asked.
///
/// The temporary file is `.NAME.new` beside it (neither systemd nor nixos-container reads such a name), so an attempt cut short leaves at most one, and the next
/// attempt replaces it. Concurrent writers of one path are the caller's to avoid.
///
/// # Errors
/// What the file system says; `path` is then as it was.
pub fn replace(path: &Path, text: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    prepare(path, text, mode, durability)?.commit()
}

/// Does everything of [`replace`] that can fail for want of space: what is left is a rename.
///
/// # Errors
/// What the file system says; nothing is left behind then.
pub fn prepare(path: &Path, text: &[u8], mode: u32, durability: Durability) -> io::Result<Prepared> {
    let prepared = Prepared { temporary: temporary_name(path)?, path: path.to_owned(), durability };
    // Mode is set on creation, so that a secret is never readable for a moment.
    remove_if_there(&prepared.temporary)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&prepared.temporary)?;
    file.write_all(text)?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    Ok(prepared)
}

/// A file that is written whole beside the one that it will replace; dropped, it is gone.
#[derive(Debug)]
pub struct Prepared {
    temporary: PathBuf,
    path: PathBuf,
    durability: Durability,
}

impl Prepared {
    /// Puts it in its place.
    ///
    /// # Errors
    /// What the file system says; the old file is then as it was, unless only the sync of the folder failed.
    pub fn commit(self) -> io::Result<()> {
        fs::rename(&self.temporary, &self.path)?;
        match self.durability {
            Durability::Runtime => Ok(()),
            Durability::Synced => sync_folder(&self.path),
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Best effort, and nothing to do after a commit: the error that matters is the one of the write.
        let _ = remove_if_there(&self.temporary);
    }
}

/// Replaces the symbolic link `path` by one to `target`, atomically.
///
/// # Errors
/// What the file system says; `path` is then as it was.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let temporary = temporary_name(path)?;
    remove_if_there(&temporary)?;
    std::os::unix::fs::symlink(target, &temporary)?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// What the file system says.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok(path.with_file_name(temporary))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_a_killed_attempt_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(folder.path().join(".a.json.new"), "torn").unwrap();
        replace(&path, b"one", 0o600, Durability::Synced).unwrap();
        replace(&path, b"two", 0o600, Durability::Synced).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("x"), "kept").unwrap();
        // A folder that is not empty cannot be replaced by a file.
        assert!(replace(&path, b"new", 0o600, Durability::Runtime).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
