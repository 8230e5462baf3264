//! The environment of a command, on its way to the guest's systemd.
//!
//! It may hold secrets, and every user of a guest may ask its systemd for the properties of a unit, and read the unit
//! itself below `/run/systemd/transient`. So it goes there as a file that only the guest's root can read, which is gone as
//! soon as systemd has read it: before the command runs.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::guest_helper::Trouble;

/// Where a guest has what it needs until it ends, relative to its root.
const FOLDER: &str = "run";

/// A file with the environment of a command; removed when this is dropped.
pub(super) struct Environment {
    folder: OwnedFd,
    name: String,
}

impl Environment {
    /// Writes an environment for a unit into the guest whose root this is, if there is any. To be called as the guest's root,
    /// whose file it is then.
    pub(super) fn write(root: &OwnedFd, unit: &str, entries: &[String]) -> Result<Option<Self>, Trouble> {
        if entries.is_empty() {
            return Ok(None);
        }
        let text = text(entries)?;
        let failed = |source| Trouble::Path(format!("/{FOLDER}"), source);
        let open = || -> nix::Result<(Self, OwnedFd)> {
            let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let folder = openat2(root, FOLDER, OpenHow::new().flags(flags).resolve(inside))?;
            let name = format!("{}.env", unit.trim_end_matches(".service"));
            // Nothing that is there, and no link to anywhere.
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let how = OpenHow::new().flags(flags).mode(Mode::S_IRUSR).resolve(ResolveFlag::RESOLVE_BENEATH);
            let file = openat2(&folder, name.as_str(), how)?;
            Ok((Self { folder, name }, file))
        };
        let (environment, file) = open().map_err(|errno| failed(errno.into()))?;
        File::from(file).write_all(text.as_bytes()).map_err(failed)?;
        Ok(Some(environment))
    }

    /// Returns where it is in the guest.
    pub(super) fn path(&self) -> String {
        format!("/{FOLDER}/{}", self.name)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // Errors: the guest ended, or has taken it away.
        let _ = unlinkat(&self.folder, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Returns variables as systemd reads them from a file (`EnvironmentFile=` of systemd.exec(5)).
fn text(entries: &[String]) -> Result<String, Trouble> {
    let mut text = String::new();
    for entry in entries {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        // What systemd would leave out without a word, it is better to hear of.
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if !is_name || value.chars().any(|c| c.is_ascii_control() && !matches!(c, '\t' | '\n')) {
            return Err(Trouble::Variable(name.to_owned()));
        }
        let _infallible = write!(text, "{name}=\"");
        for character in value.chars() {
            // All that means something between double quotes.
            if matches!(character, '"' | '\\' | '`' | '$') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_root_can_read_it_and_it_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let write = || Environment::write(&root, "x.service", &["A=b".to_owned()]);
        assert!(Environment::write(&root, "x.service", &[]).unwrap().is_none(), "nothing to hide");
        assert!(write().is_err(), "there is no folder for it");
        fs::create_dir(dir.path().join("run")).unwrap();
        let environment = write().unwrap().unwrap();
        assert_eq!(environment.path(), "/run/x.env");
        let file = dir.path().join("run/x.env");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o400);
        assert_eq!(fs::read_to_string(&file).unwrap(), "A=\"b\"\n");
        assert!(write().is_err(), "what is there is not written to");
        drop(environment);
        assert!(!file.exists());
        // A link that somebody has put there.
        symlink(dir.path().join("elsewhere"), &file).unwrap();
        assert!(write().is_err());
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn a_value_means_nothing_but_itself_and_a_name_is_one() {
        let text = |entry: &str| text(&[entry.to_owned()]).ok();
        assert_eq!(text("A=b c=d").unwrap(), "A=\"b c=d\"\n");
        assert_eq!(text("_A1=\"'\\`$x\n#\ty").unwrap(), "_A1=\"\\\"'\\\\\\`\\$x\n#\ty\"\n");
        for bad in ["", "=b", "1A=b", "A B=c", "A\nB=c", "A=\u{1b}[0m", "A=b\0"] {
            assert_eq!(text(bad), None, "{bad:?}");
        }
    }
}
