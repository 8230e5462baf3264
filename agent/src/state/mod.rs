//! What the agent keeps on disk, below `/var/lib/nixmox`.
//!
//! `generations/N.json` and the link `current`: what is desired. `notes.json`: what outlives a generation and
//! is no part of it: holds, and which specification of a job succeeded. `events.json`: which numbers of events were given
//! out. Everything else is systemd's, the
//! kernel's or the journal's, and is read back.

mod generation;
mod generations;
mod notes;
mod numbers;

pub use generation::{Generation, StackRecord, Trial};
pub use generations::{Current, Generations, Kept};
pub use notes::{MEASURED_MAX, Notes, NotesFile, Prepared as PreparedNotes, VramSeen};
pub use numbers::EventNumbers;

use std::path::PathBuf;

/// Why something on disk could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file could not be read or written.
    #[error("cannot {action} `{path}`")]
    Io {
        /// `read`, `write`, `list` or `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file is torn or not ours.
    #[error("`{path}` is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file was written by a later version, whose meaning is unknown: nothing may be touched.
    #[error("`{path}` has format {format}, this agent knows {known}: install the version of NixMox that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest format this agent knows.
        known: u64,
    },
}

/// Reads a JSON file whose `format` must be known; `None`: it is not there.
fn read<T: serde::de::DeserializeOwned>(path: &std::path::Path, known: u64) -> Result<Option<T>, StateError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u64,
    }
    let damaged =
        |source: serde_json::Error| StateError::Damaged { path: path.to_owned(), source: Box::new(source) };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { action: "read", path: path.to_owned(), source }),
    };
    let Format { format } = serde_json::from_slice(&text).map_err(damaged)?;
    if format > known {
        return Err(StateError::Newer { path: path.to_owned(), format, known });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

fn write<T: serde::Serialize>(path: &std::path::Path, value: &T) -> Result<(), StateError> {
    prepare(path, value)?.commit().map_err(not_written(path))
}

fn prepare<T: serde::Serialize>(path: &std::path::Path, value: &T) -> Result<crate::disk::Prepared, StateError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|source| StateError::Damaged { path: path.to_owned(), source: Box::new(source) })?;
    text.push(b'\n');
    // Generations hold paths of secrets, never secrets; still, only root has business here.
    crate::disk::prepare(path, &text, 0o600, crate::disk::Durability::Synced).map_err(not_written(path))
}

fn not_written(path: &std::path::Path) -> impl Fn(std::io::Error) -> StateError {
    move |source| StateError::Io { action: "write", path: path.to_owned(), source }
}
