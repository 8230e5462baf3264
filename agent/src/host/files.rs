//! Files that appear whole or not at all.
//!
//! Owns the write by temporary file and rename, and tolerant reading and removal. Knows no content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::host::StepError;

/// Whether a write must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The file lies in `/run`: gone with the power anyway.
    Runtime,
    /// The file and its name are synced before the call returns.
    Synced,
}

/// Replaces a file by rename, making its directory first. Nothing is written when it already holds `text`.
///
/// Returns whether it was written.
///
/// # Errors
/// `StepError::File` with the path; the old file is then still whole.
pub(crate) fn replace(path: &Path, text: &str, mode: u32, durability: Durability) -> Result<bool, StepError> {
    if matches!(fs::read(path), Ok(old) if old == text.as_bytes()) {
        return Ok(false);
    }
    let failed = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| StepError::File { action, path, source }
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    // The name starts with a dot and does not end in `.conf`, so that neither systemd nor nixos-container
    // reads a half-written file. A leftover of a killed agent is overwritten by the next write.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary: PathBuf = directory.join(format!(".{name}.new"));
    let written = write_whole(&temporary, text, mode, durability)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| if durability == Durability::Synced { File::open(directory)?.sync_all() } else { Ok(()) });
    if let Err(source) = written {
        // A full disk leaves an empty temporary file; the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", path)(source));
    }
    Ok(true)
}

fn write_whole(path: &Path, text: &str, mode: u32, durability: Durability) -> io::Result<()> {
    // Removed first: the mode of an existing file would stay as it was.
    remove_if_there(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a file; a missing one is no error.
///
/// # Errors
/// `StepError::File` with the path.
pub(crate) fn remove(path: &Path) -> Result<(), StepError> {
    remove_if_there(path).map_err(|source| StepError::File { action: "remove", path: path.to_owned(), source })
}

/// Removes a directory with plain files in it; a missing one is no error.
///
/// # Errors
/// `StepError::File` with the path.
pub(crate) fn remove_directory(path: &Path) -> Result<(), StepError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StepError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Reads a small text; `None` when it is missing or cannot be read, which is logged.
pub(crate) fn read(path: &Path) -> Option<String> {
    match fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read; counted as absent");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_written_once_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.conf");
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/.b.conf.new"), "torn").unwrap();
        assert!(replace(&path, "X=1\n", 0o600, Durability::Synced).unwrap());
        assert!(!replace(&path, "X=1\n", 0o600, Durability::Synced).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn an_error_names_the_file_and_not_the_temporary_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.conf");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, "x", 0o644, Durability::Runtime).unwrap_err();
        assert!(matches!(&error, StepError::File { action: "write", path: p, .. } if *p == path), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays behind");
    }
}
