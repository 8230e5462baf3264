//! What git keeps from nix: a flake in a git repository is made of the files that git tracks, and of no others.
//!
//! Asked once a build has failed. git itself is asked, with its own rules about ignored files and owners; where it is not
//! installed, or the flake lies in no repository, there is nothing to tell.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::flake::{FILE, find as find_flake};
use crate::machine::Machine;
use crate::render::Report;

/// The most files that are named.
const NAMED_MAX: usize = 3;

/// Why nix may see less of a flake than its author does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Files that git does not track.
    Untracked {
        /// The folder of the flake.
        flake: PathBuf,
        /// The files, relative to it; `flake.nix` first. At least one.
        files: Vec<PathBuf>,
        /// Whether some of them are ignored on purpose.
        is_ignored: bool,
    },
    /// The repository is somebody else's, and git refuses to read it; so does nix.
    Foreign {
        /// The folder of the flake.
        flake: PathBuf,
    },
}

impl Hidden {
    /// Returns what of a flake nix does not see; `None`: nothing that git knows of.
    ///
    /// `folder` is where nix runs, `reference` the flake that it is to build from there.
    pub(super) fn find(machine: &Machine, folder: &Path, reference: &str) -> Option<Self> {
        let flake = find_flake(folder, reference)?;
        let list = |options: &[&str]| -> Result<Vec<PathBuf>, String> {
            let mut git = machine.program("git");
            git.arg("-C").arg(&flake).args(["ls-files", "-z", "--others", "--exclude-standard"]).args(options);
            // Its messages are read.
            let output = git.env("LC_ALL", "C").output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
            let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
        };
        let mut files = match list(&[]) {
            Ok(files) => files,
            Err(message) if message.contains("dubious ownership") => return Some(Self::Foreign { flake }),
            Err(_no_repository) => return None,
        };
        // Of what is ignored on purpose only code can be missed.
        let ignored = list(&["--ignored", "--", "*.nix"]).unwrap_or_default();
        let is_ignored = !ignored.is_empty();
        files.extend(ignored);
        // What a build leaves is a link into the store, and is not missed either.
        files.retain(|file| !flake.join(file).is_symlink());
        let is_code = |file: &Path| file.extension().is_some_and(|extension| extension == "nix");
        // Where there is code among them, that is what nix missed.
        if files.iter().any(|file| is_code(file)) {
            files.retain(|file| is_code(file));
        }
        files.sort_by_key(|file| (file != Path::new(FILE), file.clone()));
        (!files.is_empty()).then_some(Self::Untracked { flake, files, is_ignored })
    }

    /// Returns whether nothing can be built before that is put right.
    pub(super) fn is_the_cause(&self) -> bool {
        match self {
            Self::Untracked { files, .. } => files.first().is_some_and(|file| file == Path::new(FILE)),
            Self::Foreign { .. } => true,
        }
    }

    /// Returns the complaint with what is to be said of it.
    pub(super) fn told(&self, report: Report) -> Report {
        match self {
            Self::Untracked { flake, files, is_ignored } => {
                let named: Vec<String> = files.iter().take(NAMED_MAX).map(|file| quoted(file)).collect();
                let more = match files.len() - named.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let add = if *is_ignored { "add --force" } else { "add" };
                let add = format!("git -C {} {add} {}", quoted(flake), named.join(" "));
                report
                    .row("git", format!("does not track {}{more}", named.join(", ")))
                    .row("", "a flake in a git repository is made of the files that git tracks")
                    .row(
                        "try",
                        if self.is_the_cause() { add } else { format!("{add}, if that is what nix missed") },
                    )
            }
            Self::Foreign { flake } => report
                .row("git", format!("does not read {}: it belongs to another user", quoted(flake)))
                .row("try", "the same as its owner; group nixmox-operator needs no sudo")
                .row("", format!("git config --global --add safe.directory {}", quoted(flake))),
        }
    }
}

/// Returns a path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+@".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_proposed_can_be_pasted() {
        assert_eq!(quoted(Path::new("/srv/cloud/a.nix")), "/srv/cloud/a.nix");
        assert_eq!(quoted(Path::new("my $HOME's.nix")), "'my $HOME'\\''s.nix'");
    }
}
