//! What became of a copy.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;

/// Skipped objects that are named.
const NAMED_MAX: usize = 20;
/// Longest name that is told, in characters.
const NAME_LENGTH_MAX: usize = 200;

/// What became of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Objects that were copied: files, folders and links.
    pub objects: u64,
    /// Bytes of files that were copied.
    pub bytes: u64,
    /// What was not copied or not in full, each as `path: why`; the first twenty. Control characters are not there.
    pub skipped: Vec<String>,
    /// How many more there are.
    pub skipped_more: u64,
}

impl Report {
    /// Notes what was not copied, or not in full.
    pub(crate) fn skip(&mut self, path: &[u8], why: impl Display) {
        if self.skipped.len() == NAMED_MAX {
            self.skipped_more = self.skipped_more.saturating_add(1);
            return;
        }
        let shown = |c: char| if c.is_control() { '?' } else { c };
        let name = OsStr::from_bytes(path).to_string_lossy();
        let name: String = name.chars().take(NAME_LENGTH_MAX).map(shown).collect();
        self.skipped.push(format!("{name}: {why}"));
    }
}
