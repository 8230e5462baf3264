//! Nix on the host: roots of its garbage collector, profiles of containers.
//!
//! Owns the links below `/nix/var/nix/gcroots/nixmox`, and the profile of each container. Builds and evaluates nothing, and trusts no profile: the
//! per-container profile directories can be written by guests.

mod daemon;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use nixmox_core::model::StorePath;

use super::{OtherRoots, StepError};
use daemon::Daemon;

/// The link in a profile directory.
const PROFILE: &str = "system";
/// What it is made as before it is renamed.
const PROFILE_NEW: &str = ".nixmox-system";

/// Makes these store paths roots: one link each, named as the path is.
///
/// New roots are made before old ones go. A store path that is missing gets its link all the same.
///
/// # Errors
/// `StepError::File` with the link.
pub(super) fn set_roots(directory: &Path, kept: &BTreeSet<StorePath>, others: OtherRoots) -> Result<(), StepError> {
    let failed = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| StepError::File { action, path, source }
    };
    std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
    let mut names = BTreeSet::new();
    for path in kept {
        let name = OsString::from(path.as_str().rsplit('/').next().unwrap_or_default());
        let link = directory.join(&name);
        if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(path.as_str())) {
            match std::fs::remove_file(&link) {
                Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed("remove", &link)(source)),
                _ => symlink(path.as_str(), &link).map_err(failed("create", &link))?,
            }
        }
        names.insert(name);
    }
    if others == OtherRoots::Keep {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory).map_err(failed("read", directory))?.flatten() {
        if !names.contains(&entry.file_name()) {
            std::fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Returns the store paths that Nix does not know; `None`: nobody could be asked, as on a host without its daemon.
pub(super) fn invalid(socket: &Path, paths: &BTreeSet<StorePath>) -> Option<BTreeSet<StorePath>> {
    if paths.is_empty() {
        return Some(BTreeSet::new());
    }
    let ask = || {
        let mut daemon = Daemon::connect(socket)?;
        let asked: io::Result<Vec<_>> =
            paths.iter().map(|path| Ok((path.clone(), daemon.is_valid(path)?))).collect();
        asked
    };
    match ask() {
        Ok(answers) => Some(answers.into_iter().filter(|(_, valid)| !valid).map(|(path, _)| path).collect()),
        Err(error) => {
            tracing::debug!(%error, "nix-daemon cannot be asked what is valid");
            None
        }
    }
}

/// Returns whether a guest with this system can be switched to another one: it is one of NixOS.
pub(super) fn takes_another(system: &Path) -> bool {
    system.join("bin/switch-to-configuration").exists()
}

/// Makes a container's profile lead to its system, as `nixos-container` expects of containers that it knows.
///
/// The guest may write to the directory, so nothing in it is followed or trusted: the link is made beside its place and
/// renamed there, relative to the open directory. What we start is said by the conf file, never by this link.
///
/// # Errors
/// `StepError::File` with the link.
pub(super) fn set_profile(directory: &Path, system: &StorePath) -> Result<(), StepError> {
    let link = directory.join(PROFILE);
    let failed = |source: io::Error| StepError::File { action: "create", path: link.clone(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let set = || -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = open(directory, flags, Mode::empty())?;
        if matches!(readlinkat(&directory, PROFILE), Ok(target) if target == system.as_str()) {
            return Ok(());
        }
        match unlinkat(&directory, PROFILE_NEW, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        symlinkat(system.as_str(), &directory, PROFILE_NEW)?;
        renameat(&directory, PROFILE_NEW, &directory, PROFILE)
    };
    set().map_err(|errno| failed(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_replaced_and_nothing_in_its_directory_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let profile = dir.path().join("web");
        let path = |letter: &str| format!("/nix/store/{}-x", letter.repeat(32)).parse::<StorePath>().unwrap();
        set_profile(&profile, &path("a")).unwrap();
        std::fs::write(dir.path().join("kept"), "kept").unwrap();
        symlink("../kept", profile.join(PROFILE_NEW)).unwrap();
        set_profile(&profile, &path("b")).unwrap();
        assert_eq!(std::fs::read_link(profile.join("system")).unwrap(), Path::new(path("b").as_str()));
        assert_eq!(std::fs::read_to_string(dir.path().join("kept")).unwrap(), "kept");

        std::fs::rename(&profile, dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &profile).unwrap();
        set_profile(&profile, &path("a")).unwrap_err();
    }

    #[test]
    fn kept_paths_are_roots_and_others_are_not_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("nixmox");
        let path = |letter: &str| format!("/nix/store/{}-x", letter.repeat(32)).parse::<StorePath>().unwrap();
        set_roots(&roots, &BTreeSet::from([path("a")]), OtherRoots::Remove).unwrap();
        set_roots(&roots, &BTreeSet::from([path("b")]), OtherRoots::Keep).unwrap();
        assert_eq!(std::fs::read_dir(&roots).unwrap().count(), 2);
        // A root that leads elsewhere is made right.
        std::fs::remove_file(roots.join(format!("{}-x", "b".repeat(32)))).unwrap();
        symlink("/elsewhere", roots.join(format!("{}-x", "b".repeat(32)))).unwrap();
        set_roots(&roots, &BTreeSet::from([path("b"), path("c")]), OtherRoots::Remove).unwrap();
        let mut targets: Vec<_> =
            std::fs::read_dir(&roots).unwrap().map(|e| std::fs::read_link(e.unwrap().path()).unwrap()).collect();
        targets.sort();
        assert_eq!(targets, [Path::new(path("b").as_str()), Path::new(path("c").as_str())]);
    }
}
