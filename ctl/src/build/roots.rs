//! What keeps a build from the garbage collector until the agent has its own roots: links in a private folder, made by
//! nix and known to its collector, that go with this process.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

/// A folder for links that nix makes; dropping it removes them.
#[derive(Debug)]
pub(crate) struct Roots {
    folder: PathBuf,
}

impl Roots {
    /// Makes a folder that its owner alone may enter, in this one.
    pub(super) fn make(place: &Path) -> io::Result<Self> {
        // mkdtemp(3) makes it with mode 0700.
        Ok(Self { folder: mkdtemp(&place.join("nixmox-build-XXXXXX"))? })
    }

    /// Returns where folders for links are made: `XDG_RUNTIME_DIR` of `pam_systemd(8)`, which goes with the session.
    pub(super) fn place() -> PathBuf {
        let place = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        place.filter(|place| place.is_absolute() && place.is_dir()).unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// Returns what nix is to call its links; it adds numbers.
    pub(super) fn link(&self) -> PathBuf {
        self.folder.join("result")
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        // What cannot be removed goes with the session, or with the next start of the machine.
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_links_are_nobody_elses_and_go_with_it() {
        let place = tempfile::tempdir().unwrap();
        let roots = Roots::make(place.path()).unwrap();
        let folder = roots.link().parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        let target = place.path().join("target");
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, roots.link()).unwrap();
        drop(roots);
        assert!(!folder.exists() && target.exists());
    }
}
