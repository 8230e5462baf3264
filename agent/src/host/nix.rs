//! Nix on the host: roots of its garbage collector.
//!
//! Owns the links below `/nix/var/nix/gcroots/nixmox`. Builds and evaluates nothing, and trusts no profile: the
//! per-container profile directories can be written by guests.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use nixmox_core::model::StorePath;

use super::StepError;

/// Makes these store paths, and no others, roots: one link each, named as the path is.
///
/// New roots are made before old ones go. A store path that is missing gets its link all the same.
///
/// # Errors
/// `StepError::File` with the link.
pub(super) fn set_roots(directory: &Path, kept: &BTreeSet<StorePath>) -> Result<(), StepError> {
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
    for entry in std::fs::read_dir(directory).map_err(failed("read", directory))?.flatten() {
        if !names.contains(&entry.file_name()) {
            std::fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_paths_are_roots_and_others_are_not_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("nixmox");
        let path = |letter: &str| format!("/nix/store/{}-x", letter.repeat(32)).parse::<StorePath>().unwrap();
        set_roots(&roots, &BTreeSet::from([path("a"), path("b")])).unwrap();
        // A root that leads elsewhere is made right.
        std::fs::remove_file(roots.join(format!("{}-x", "b".repeat(32)))).unwrap();
        symlink("/elsewhere", roots.join(format!("{}-x", "b".repeat(32)))).unwrap();
        set_roots(&roots, &BTreeSet::from([path("b"), path("c")])).unwrap();
        let mut targets: Vec<_> =
            std::fs::read_dir(&roots).unwrap().map(|e| std::fs::read_link(e.unwrap().path()).unwrap()).collect();
        targets.sort();
        assert_eq!(targets, [Path::new(path("b").as_str()), Path::new(path("c").as_str())]);
    }
}
