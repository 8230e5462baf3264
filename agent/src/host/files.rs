//! The host's files: `disk`'s whole writes with their folder and an error that names the path, and tolerant reading.
//!
//! Knows no content.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::disk;
pub(crate) use crate::disk::Durability;
use crate::host::StepError;

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
    disk::replace(path, text.as_bytes(), mode, durability).map_err(failed("write", path))?;
    Ok(true)
}

/// Makes a directory with this mode, or gives it to one that is there.
///
/// # Errors
/// `StepError::File` with the path.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), StepError> {
    let failed = |source| StepError::File { action: "create", path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// Removes a file; a missing one is no error.
///
/// # Errors
/// `StepError::File` with the path.
pub(crate) fn remove(path: &Path) -> Result<(), StepError> {
    disk::remove_if_there(path).map_err(|source| StepError::File {
        action: "remove",
        path: path.to_owned(),
        source,
    })
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
