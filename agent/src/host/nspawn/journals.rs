//! Journals of ephemeral containers: their root goes with each instance, what they logged stays.
//!
//! A folder of the host is bound over the guest's `/var/log/journal`. The guest writes what it likes into it; the folder
//! itself, and all above it, are ours. Each instance has a machine id of its own (machine-id(5)) and so a folder of its own in
//! there, which no later instance's journald counts: the oldest are removed before a start.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nixmox_core::model::ContainerName;

use super::data::remove_tree;
use crate::host::StepError;
use crate::host::paths::Paths;

/// Instances whose journals are kept beside that of the next one.
const KEPT: usize = 3;
/// What is looked at before a start of what a guest may have left there; what is beyond that, a later start removes.
const ENTRIES_MAX: usize = 1024;

/// Makes the folder where there is none, and room in it.
pub(in crate::host) fn prepare(paths: &Paths, name: &ContainerName) -> Result<(), StepError> {
    let folder = paths.journal(name);
    make(&paths.journals_dir(), 0o700)?;
    make(&folder, 0o755)?;
    let failed = |source| StepError::File { action: "read", path: folder.clone(), source };
    let mut found: Vec<((i64, i64), PathBuf, bool)> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)?.take(ENTRIES_MAX).flatten() {
        // Of the entry itself, where it is a link. By the time at which the kernel saw it change last: any other time, a guest
        // can choose (inode(7), "ctime").
        let metadata = entry.metadata();
        let changed = metadata.as_ref().map_or((0, 0), |metadata| (metadata.ctime(), metadata.ctime_nsec()));
        let is_folder = metadata.is_ok_and(|metadata| metadata.is_dir());
        found.push((changed, entry.path(), is_folder));
    }
    found.sort_unstable();
    let surplus = found.len().saturating_sub(KEPT);
    let mut left = 0_u64;
    let mut why = None;
    for (_, old, is_folder) in found.into_iter().take(surplus) {
        let removed = if is_folder {
            remove_tree(&old)
        } else {
            fs::remove_file(&old).map_err(|source| StepError::File { action: "remove", path: old, source })
        };
        if let Err(error) = removed {
            left = left.saturating_add(1);
            why.get_or_insert(error);
        }
    }
    if let Some(error) = why {
        // What a guest left there must not keep it from starting.
        tracing::warn!(container = %name, left, error = &error as &dyn std::error::Error, "cannot remove old journals");
    }
    Ok(())
}

fn make(folder: &Path, mode: u32) -> Result<(), StepError> {
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(|source| StepError::File { action: "create", path: folder.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_journals_of_the_last_instances_are_kept_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/nixos-containers")).unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        prepare(&paths, &name).unwrap();
        let folder = paths.journal(&name);
        for age in 1..=5_u64 {
            let machine = folder.join(format!("{age}"));
            fs::create_dir(&machine).unwrap();
            fs::write(machine.join("system.journal"), "").unwrap();
            // What a guest says of the time is not what counts.
            let changed = SystemTime::now() - Duration::from_secs(age * 100);
            fs::File::open(&machine).unwrap().set_modified(changed).unwrap();
        }
        symlink(&outside, folder.join("planted")).unwrap();
        prepare(&paths, &name).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["4", "5", "planted"]);
        for newer in 6..9 {
            let machine = folder.join(format!("{newer}"));
            fs::create_dir(&machine).unwrap();
            fs::File::open(&machine).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        prepare(&paths, &name).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), KEPT);
        assert!(!folder.join("planted").is_symlink());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
    }

    #[test]
    fn a_guest_that_leaves_very_much_starts_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/nixos-containers")).unwrap();
        prepare(&paths, &name).unwrap();
        for number in 0..ENTRIES_MAX + 10 {
            fs::write(paths.journal(&name).join(number.to_string()), "").unwrap();
        }
        let left = || fs::read_dir(paths.journal(&name)).unwrap().count();
        prepare(&paths, &name).unwrap();
        assert_eq!(left(), KEPT + 10);
        prepare(&paths, &name).unwrap();
        assert_eq!(left(), KEPT);
    }
}
