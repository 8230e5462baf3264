//! One manifest file from disk: whole, text, and of a sane size, or why not.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use nixmox_core::manifest::SourceFile;

/// The longest file, in bytes. Far more than a person writes, and enough for thousands of services.
const LENGTH_MAX: u64 = 4 << 20;

/// Reads a file under the name that messages call it: relative to the working folder where it lies below it.
pub(super) fn source(path: &Path, working: &Path) -> io::Result<SourceFile> {
    Ok(SourceFile::new(name(path, working), path.parent().unwrap_or(Path::new("/")), text(path)?))
}

/// Returns what messages call a file.
pub(super) fn name(path: &Path, working: &Path) -> String {
    path.strip_prefix(working).unwrap_or(path).display().to_string()
}

/// Reads a regular file of a sane size.
pub(super) fn text(path: &Path) -> io::Result<String> {
    // Opening a FIFO waits for somebody to write into it.
    let metadata = path.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LENGTH_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LENGTH_MAX) {
        return Err(unusable(format!(
            "it is longer than {} MiB; `stack.include` names further files",
            LENGTH_MAX >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let right = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = right.split(|byte| *byte == b'\n').count();
        unusable(format!("line {line} is not UTF-8; save the file as UTF-8"))
    })
}

/// Returns the error about what a file holds.
fn unusable(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
