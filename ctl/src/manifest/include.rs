//! What a stack file includes: patterns to files.
//!
//! Nothing here ends the reading: what cannot be found or read becomes a complaint beside its pattern, so that every
//! mistake of every file is told at once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nixmox_core::manifest::{Diagnostic, Include, ServiceDocument, StackDocument, parse_service};

use super::read;

/// Like a shell: `*` stops at a slash and does not match hidden files.
const OPTIONS: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files that one pattern matches.
struct Matches<'a> {
    document: &'a StackDocument,
    include: Include<'a>,
    /// Sorted within each folder.
    files: Vec<PathBuf>,
    complaints: Vec<Diagnostic>,
}

/// Reads what the stack file at `file` includes; returns also the complaints about what could not be read.
///
/// A file that is matched twice under the same service name counts once, however it is spelt.
pub(super) fn services(
    document: &StackDocument,
    file: &Path,
    working: &Path,
) -> (Vec<ServiceDocument>, Vec<Diagnostic>) {
    let (mut services, mut complaints) = (Vec::new(), Vec::new());
    let mut seen: BTreeSet<(PathBuf, PathBuf)> = BTreeSet::new();
    for include in document.includes() {
        let mut matches = Matches { document, include, files: Vec::new(), complaints: Vec::new() };
        if let Some(help) = refused(include.pattern) {
            matches.complain(format!("`{}` names no files relative to this one", include.pattern), Some(help));
        } else if let Err(error) = glob::Pattern::new(include.pattern) {
            matches.complain(format!("`{}` is not a pattern of file names: {}", include.pattern, error.msg), None);
        } else {
            matches.find(document.source().folder(), &include.pattern.split("**/").collect::<Vec<_>>());
            matches.check_any(file);
        }
        for path in std::mem::take(&mut matches.files) {
            let real = path.canonicalize().unwrap_or_else(|_unreadable| path.clone());
            let service = path.parent().and_then(Path::file_name).unwrap_or_default().into();
            if !seen.insert((real, service)) {
                continue;
            }
            match read::source(&path, working) {
                Ok(source) => services.push(parse_service(source)),
                Err(error) => {
                    matches.complain(format!("cannot read {}: {error}", read::name(&path, working)), None);
                }
            }
        }
        complaints.append(&mut matches.complaints);
    }
    (services, complaints)
}

/// Returns what to write instead of a pattern that would not mean what it says.
fn refused(pattern: &str) -> Option<&'static str> {
    if pattern.starts_with('/') {
        Some("`../` leads out of the stack's folder")
    } else if pattern == "~" || pattern.starts_with("~/") || pattern.starts_with('$') {
        Some("neither `~` nor variables are expanded")
    } else if pattern.ends_with("**") {
        Some("`**` stands for folders; behind it comes the name of the files: `**/service.toml`")
    } else {
        None
    }
}

fn is_wild(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

impl Matches<'_> {
    /// Adds the files that the parts of a pattern match, below a folder; between two parts stands `**`.
    fn find(&mut self, folder: &Path, parts: &[&str]) {
        let [first, rest @ ..] = parts else { return };
        if rest.is_empty() {
            let found = self.matches_of(folder, first);
            self.files.extend(found);
            return;
        }
        let tops = if first.is_empty() { vec![folder.to_owned()] } else { self.matches_of(folder, first) };
        for top in tops.iter().filter(|top| top.is_dir()) {
            for below in self.folders(top) {
                self.find(&below, rest);
            }
        }
    }

    /// Returns what a pattern without `**` matches in a folder.
    fn matches_of(&mut self, folder: &Path, pattern: &str) -> Vec<PathBuf> {
        let folder = glob::Pattern::escape(&folder.display().to_string());
        // Every part of a valid pattern is valid.
        let Ok(paths) = glob::glob_with(&format!("{folder}/{pattern}"), OPTIONS) else { return Vec::new() };
        let mut found = Vec::new();
        for path in paths {
            match path {
                Ok(path) => found.push(path),
                Err(error) => {
                    let (path, why) = (error.path().display().to_string(), error.error().to_string());
                    self.complain(format!("cannot read {path}: {why}"), None);
                }
            }
        }
        found
    }

    /// Returns a folder and all below it, sorted. Links are not followed, as in a shell: one to a folder above would
    /// never end, one into the store leads to thousands of files that nobody wrote here.
    fn folders(&mut self, top: &Path) -> Vec<PathBuf> {
        let mut found = vec![top.to_owned()];
        let mut at = 0;
        while let Some(folder) = found.get(at).cloned() {
            at += 1;
            let entries = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => {
                    self.complain(format!("cannot read {}: {error}", folder.display()), None);
                    continue;
                }
            };
            let is_hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
            let below = entries.iter().filter(|entry| !is_hidden(entry));
            let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(below.map(fs::DirEntry::path));
        }
        found.sort();
        found
    }

    /// Leaves the stack file itself out, which a pattern such as `*.toml` matches, and complains when nothing is left.
    fn check_any(&mut self, stack_file: &Path) {
        let (source, pattern) = (self.document.source(), self.include.pattern);
        let before = self.files.len();
        self.files.retain(|path| !path.canonicalize().is_ok_and(|real| real == stack_file));
        if !is_wild(pattern) && self.files.len() < before {
            self.complain(
                format!("`{pattern}` is this stack file itself"),
                Some("include files of one service each"),
            );
        } else if self.files.is_empty() && self.complaints.is_empty() {
            let complaint = format!("`{pattern}` matches no file");
            // A pattern may wait for its first file; a name that is not there is a mistake.
            self.complaints.push(if is_wild(pattern) {
                Diagnostic::warning(source, self.include.span, complaint)
            } else {
                Diagnostic::error(source, self.include.span, complaint)
            });
        }
    }

    /// Adds an error at the pattern.
    fn complain(&mut self, message: String, help: Option<&str>) {
        let error = Diagnostic::error(self.document.source(), self.include.span, message);
        self.complaints.push(match help {
            Some(help) => error.help(help),
            None => error,
        });
    }
}
