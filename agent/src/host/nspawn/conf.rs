//! The three texts of a container: conf file, drop-in, environment.
//!
//! Owns where each lies and who may replace it. A conf file that is a link is the host's own declaration, one
//! without our first line is `nixos-container`'s: neither is ever written or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nixmox_core::container::{Files, conf_addresses, is_ours, starts_at_boot, system_of_conf};
use nixmox_core::model::{BootStart, ConfFile, ContainerName, DropIn, StorePath};

use crate::host::StepError;
use crate::host::files::{self, Durability};
use crate::host::paths::Paths;

/// Conf files name credentials and flags, no secrets; `nixos-container` makes them 0644 too.
const MODE: u32 = 0o644;
/// The environment of services may hold what its owner does not want every user of the host to read. The folder keeps them out and not
/// the file's own mode: in a guest with users of its own the file belongs to nobody, and what others may not do its root may not.
const ENVIRONMENT_FOLDER_MODE: u32 = 0o700;

/// The longest wait for the lock of `nixos-container`, and the wait between two looks at it: flock(2) has no limit of
/// its own.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// What `write` changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::host) struct Written {
    /// The drop-in is another: systemd must read it before it counts for a loaded unit.
    pub(in crate::host) drop_in: bool,
}

/// Returns what a container's conf file is: somebody else's in `/etc`, else ours where units read it.
pub(in crate::host) fn read_conf(paths: &Paths, name: &ContainerName) -> ConfFile {
    match read_one(&paths.conf(name)) {
        // An old one of ours in an `/etc` that became read-only counts for nothing: the drop-in leaves it out.
        ConfFile::Absent | ConfFile::Ours(_) if paths.conf_in_run() => read_one(&paths.runtime_conf(name)),
        conf @ (ConfFile::Absent | ConfFile::Ours(_) | ConfFile::Foreign | ConfFile::Link) => conf,
    }
}

fn read_one(path: &Path) -> ConfFile {
    if path.is_symlink() {
        return ConfFile::Link;
    }
    match read_lossy(path) {
        Ok(text) if is_ours(&text) => ConfFile::Ours(text),
        Ok(_) => ConfFile::Foreign,
        Err(error) if error.kind() == ErrorKind::NotFound => ConfFile::Absent,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read; counted as somebody else's");
            ConfFile::Foreign
        }
    }
}

/// Reads a file whose writer may not have thought of UTF-8: units read it all the same.
fn read_lossy(path: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// Returns the system that the conf file of a container names whose owner is somebody else.
pub(in crate::host) fn system_of_owner(paths: &Paths, name: &ContainerName) -> Option<StorePath> {
    match read_conf(paths, name) {
        ConfFile::Absent | ConfFile::Ours(_) => None,
        ConfFile::Foreign | ConfFile::Link => system_of_conf(&read_lossy(&paths.conf(name)).ok()?),
    }
}

/// Returns who starts a container at boot, of which the conf file is this.
pub(in crate::host) fn boot_start(paths: &Paths, name: &ContainerName, conf: &ConfFile) -> BootStart {
    let by_host = match conf {
        ConfFile::Absent | ConfFile::Ours(_) => false,
        ConfFile::Foreign | ConfFile::Link => read_lossy(&paths.conf(name)).is_ok_and(|text| starts_at_boot(&text)),
    };
    if by_host { BootStart::Host } else { BootStart::Agent }
}

/// Returns our drop-in of a container's unit.
pub(in crate::host) fn read_drop_in(paths: &Paths, name: &ContainerName) -> DropIn {
    files::read(&paths.drop_in(name)).map_or(DropIn::Absent, DropIn::Ours)
}

/// Returns the containers that have a conf file or a drop-in of ours.
pub(in crate::host) fn names_with_files(paths: &Paths) -> BTreeSet<ContainerName> {
    let confs = entries(&paths.conf_dir()).into_iter().chain(entries(&paths.runtime_conf_dir()));
    let confs = confs.filter_map(|entry| entry.strip_suffix(".conf")?.parse().ok());
    let units = entries(&paths.runtime_units());
    let drop_ins = units.iter().filter_map(|entry| ContainerName::from_unit(entry.strip_suffix(".d")?));
    confs.chain(drop_ins.filter(|name| paths.drop_in(name).exists())).collect()
}

/// Returns the containers whose conf file is not ours, links included, with the addresses in it.
pub(in crate::host) fn foreign_containers(paths: &Paths) -> BTreeMap<ContainerName, Vec<Ipv4Addr>> {
    let directory = paths.conf_dir();
    let of = |entry: String| {
        let name = entry.strip_suffix(".conf")?.parse().ok()?;
        let path = directory.join(&entry);
        match read_one(&path) {
            ConfFile::Absent | ConfFile::Ours(_) => None,
            // One that cannot be read, or a link that leads nowhere, takes its name all the same.
            ConfFile::Foreign | ConfFile::Link => {
                let addresses = read_lossy(&path).map(|text| conf_addresses(&text)).unwrap_or_default();
                Some((name, addresses.into_iter().collect()))
            }
        }
    };
    entries(&directory).into_iter().filter_map(of).collect()
}

fn entries(directory: &Path) -> Vec<String> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %directory.display(), %error, "cannot list; counted as empty");
            }
            Vec::new()
        }
    }
}

/// Writes what differs from what is there.
///
/// # Errors
/// `StepError::File` with the path; what was written before it stays, and the call may be repeated.
pub(in crate::host) fn write(paths: &Paths, name: &ContainerName, files: &Files) -> Result<Written, StepError> {
    let environment = paths.environment(name);
    match &files.environment {
        Some(text) => {
            files::make_directory(environment.parent().unwrap_or(&environment), ENVIRONMENT_FOLDER_MODE)?;
            files::replace(&environment, text, MODE, Durability::Runtime)?;
        }
        None => files::remove(&environment)?,
    }
    if let Some(text) = &files.conf {
        write_conf(paths, name, text)?;
    }
    let drop_in = files::replace(&paths.drop_in(name), &files.drop_in, MODE, Durability::Runtime)?;
    Ok(Written { drop_in })
}

fn write_conf(paths: &Paths, name: &ContainerName, text: &str) -> Result<(), StepError> {
    let (path, runtime) = (paths.conf(name), paths.runtime_conf(name));
    match read_conf(paths, name) {
        // Without a copy in /run that is out of use.
        ConfFile::Ours(there) if there == text && paths.conf_in_run() == runtime.exists() => return Ok(()),
        ConfFile::Absent | ConfFile::Ours(_) => {}
        ConfFile::Foreign | ConfFile::Link => return Err(StepError::ForeignConf { path }),
    }
    // Held until the file is there: `nixos-container create` looks at the files for what is free.
    let _lock = address_lock(paths);
    refuse_taken_addresses(paths, text)?;
    if paths.conf_in_run() {
        return files::replace(&runtime, text, MODE, Durability::Runtime).map(drop);
    }
    match files::replace(&path, text, MODE, Durability::Synced) {
        // What an agent wrote while /etc was read-only is out of use.
        Ok(_) => files::remove(&runtime),
        // Units would not read it elsewhere: where they look was decided when the agent started.
        Err(StepError::File { source, .. }) if source.kind() == ErrorKind::ReadOnlyFilesystem => {
            Err(StepError::ConfReadOnly { path, source })
        }
        Err(error) => Err(error),
    }
}

/// Takes the lock under which `nixos-container` chooses addresses. It holds it for as long as it writes one file.
///
/// `None` after a warning: its folder may be everybody's, and who keeps it locked must not keep services from starting.
fn address_lock(paths: &Paths) -> Option<Flock<File>> {
    let path = paths.address_lock();
    let locked = || {
        // Where the folder is there, its mode is the host's.
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        let no_link = OFlag::O_NOFOLLOW.bits();
        let mut file =
            OpenOptions::new().create(true).append(true).mode(0o644).custom_flags(no_link).open(&path)?;
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((again, Errno::EWOULDBLOCK)) if Instant::now() < end => file = again,
                Err((_, error)) => return Err(error.into()),
            }
            std::thread::sleep(LOCK_POLL);
        }
    };
    locked()
        .inspect_err(
            |error: &std::io::Error| tracing::warn!(path = %path.display(), %error, "goes on without the lock"),
        )
        .ok()
}

/// Refuses a conf file with an address that somebody else's has: it was free when it was chosen.
fn refuse_taken_addresses(paths: &Paths, text: &str) -> Result<(), StepError> {
    let ours = conf_addresses(text);
    if ours.is_empty() {
        return Ok(());
    }
    let taken = foreign_containers(paths).into_iter().find_map(|(other, theirs)| {
        theirs.into_iter().find(|address| ours.contains(address)).map(|address| (address, other))
    });
    taken.map_or(Ok(()), |(address, other)| Err(StepError::AddressTaken { address, other }))
}

/// Removes all that was written for a container, and what systemd wrote for its live properties.
///
/// Returns whether a drop-in was there.
///
/// # Errors
/// `StepError::File` with the path.
pub(in crate::host) fn remove_all(paths: &Paths, name: &ContainerName) -> Result<Written, StepError> {
    files::remove_directory(&paths.runtime_control(name))?;
    files::remove(&paths.environment(name))?;
    files::remove(&paths.exit_note(name))?;
    files::remove(&paths.stop_mark(name))?;
    files::remove(&paths.switch_mark(name))?;
    files::remove(&paths.exit_record(name))?;
    if matches!(read_one(&paths.runtime_conf(name)), ConfFile::Ours(_)) {
        files::remove(&paths.runtime_conf(name))?;
    }
    if matches!(read_one(&paths.conf(name)), ConfFile::Ours(_)) {
        match files::remove(&paths.conf(name)) {
            Err(StepError::File { source, .. })
                if paths.conf_in_run() && source.kind() == ErrorKind::ReadOnlyFilesystem => {}
            other => other?,
        }
    }
    // Last: it is what tells that there is something to remove, should this be cut short.
    let path = paths.drop_in(name);
    let written = Written { drop_in: path.exists() };
    files::remove(&path)?;
    if let Some(directory) = path.parent() {
        // Stays when somebody else has a drop-in there.
        let _ = std::fs::remove_dir(directory);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use nixmox_core::container::CONF_OWNER;
    use nixmox_core::model::Spec;

    use super::*;

    fn files(conf: &str) -> Files {
        Files {
            spec: Spec::default(),
            conf: Some(format!("{CONF_OWNER}\n{conf}")),
            drop_in: "[Service]\n".to_owned(),
            environment: None,
        }
    }

    #[test]
    fn what_is_written_reads_back_and_is_removed_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        let text = "SYSTEM_PATH=/x\n";
        assert_eq!(write(&paths, &web, &files(text)).unwrap(), Written { drop_in: true });
        assert_eq!(write(&paths, &web, &files(text)).unwrap(), Written { drop_in: false });
        assert_eq!(read_conf(&paths, &web), ConfFile::Ours(format!("{CONF_OWNER}\n{text}")));
        assert_eq!(read_drop_in(&paths, &web), DropIn::Ours("[Service]\n".to_owned()));
        assert_eq!(names_with_files(&paths), BTreeSet::from([web.clone()]));
        remove_all(&paths, &web).unwrap();
        remove_all(&paths, &web).unwrap();
        assert_eq!(names_with_files(&paths), BTreeSet::new());
        assert_eq!(std::fs::read_dir(paths.runtime_units()).unwrap().count(), 0);
    }

    #[test]
    fn a_removal_that_is_cut_short_anywhere_can_be_found_and_finished() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web): (_, ContainerName) = (Paths::below(dir.path()), "web".parse().unwrap());
        let obstacles = [paths.environment(&web), paths.exit_note(&web), paths.exit_record(&web)];
        for obstacle in &obstacles {
            let texts = Files { environment: Some("[Manager]\n".to_owned()), ..files("X=1\n") };
            write(&paths, &web, &texts).unwrap();
            files::replace(&paths.exit_record(&web), "stopped=no\n", MODE, Durability::Runtime).unwrap();
            files::replace(&paths.exit_note(&web), "note=started\n", MODE, Durability::Runtime).unwrap();
            // A folder is not removed as a file is.
            std::fs::remove_file(obstacle).unwrap();
            std::fs::create_dir(obstacle).unwrap();
            remove_all(&paths, &web).unwrap_err();
            assert_eq!(names_with_files(&paths), BTreeSet::from([web.clone()]), "{}", obstacle.display());
            std::fs::remove_dir(obstacle).unwrap();
            remove_all(&paths, &web).unwrap();
            assert_eq!(names_with_files(&paths), BTreeSet::new());
            assert_eq!(obstacles.iter().filter(|path| path.exists()).count(), 0);
        }
    }

    #[test]
    fn where_etc_is_read_only_what_lies_there_is_out_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        write(&paths, &web, &files("X=1\n")).unwrap();
        let in_run = paths.clone().with_conf_in_run(true);
        assert_eq!(read_conf(&in_run, &web), ConfFile::Absent);
        write(&in_run, &web, &files("X=2\n")).unwrap();
        assert_eq!(read_conf(&in_run, &web), ConfFile::Ours(format!("{CONF_OWNER}\nX=2\n")));
        assert_eq!(read_conf(&paths, &web), ConfFile::Ours(format!("{CONF_OWNER}\nX=1\n")));
        write(&paths, &web, &files("X=3\n")).unwrap();
        assert!(!paths.runtime_conf(&web).exists(), "writable again: the copy in /run is out of use");
        std::fs::write(paths.conf(&web), "SYSTEM_PATH=/y\n").unwrap();
        assert_eq!(read_conf(&in_run, &web), ConfFile::Foreign, "the name is taken all the same");
    }

    #[test]
    fn an_address_that_somebody_else_took_meanwhile_is_not_given_to_a_second_container() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        std::fs::create_dir_all(paths.conf_dir()).unwrap();
        std::fs::write(paths.conf_dir().join("other.conf"), "LOCAL_ADDRESS=10.233.2.2\n").unwrap();
        let error = write(&paths, &web, &files("LOCAL_ADDRESS=10.233.2.2\n")).unwrap_err();
        assert!(error.to_string().contains("10.233.2.2") && error.to_string().contains("`other`"), "{error}");
        assert!(!paths.conf(&web).exists());
        write(&paths, &web, &files("LOCAL_ADDRESS=10.233.3.2\n")).unwrap();
    }

    #[test]
    fn a_conf_file_is_written_when_whoever_chooses_an_address_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web): (_, ContainerName) = (Paths::below(dir.path()), "web".parse().unwrap());
        let folder = paths.address_lock().parent().unwrap().to_owned();
        files::make_directory(&folder, 0o1777).unwrap();
        let lock = address_lock(&paths).unwrap();
        assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o7777, 0o1777, "as everybody had it");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write(&paths, &web, &files("X=1\n")));
            std::thread::sleep(LOCK_POLL * 3);
            assert!(!paths.conf(&web).exists());
            drop(lock);
            writer.join().unwrap().unwrap();
        });
        // What is there already needs no lock.
        let _lock = address_lock(&paths).unwrap();
        write(&paths, &web, &files("X=1\n")).unwrap();
    }

    #[test]
    fn a_conf_file_of_others_is_neither_written_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        std::fs::create_dir_all(paths.conf_dir()).unwrap();
        std::fs::write(paths.conf(&web), "SYSTEM_PATH=/y\nLOCAL_ADDRESS=10.233.7.2\n").unwrap();
        assert_eq!(read_conf(&paths, &web), ConfFile::Foreign);
        let address = Ipv4Addr::new(10, 233, 7, 2);
        assert_eq!(foreign_containers(&paths), BTreeMap::from([(web.clone(), vec![address])]));
        let error = write(&paths, &web, &files("X=1\n")).unwrap_err();
        assert!(matches!(error, StepError::ForeignConf { .. }), "{error}");
        remove_all(&paths, &web).unwrap();
        assert!(paths.conf(&web).exists());

        std::fs::remove_file(paths.conf(&web)).unwrap();
        std::os::unix::fs::symlink("/nowhere", paths.conf(&web)).unwrap();
        assert_eq!(read_conf(&paths, &web), ConfFile::Link);
        assert!(write(&paths, &web, &files("X=1\n")).is_err());
    }

    #[test]
    fn a_conf_file_that_cannot_be_read_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let (paths, web) = (Paths::below(dir.path()), "web".parse().unwrap());
        std::fs::create_dir_all(paths.conf_dir()).unwrap();
        let latin1 = b"# B\xfcro\nSYSTEM_PATH=/y\nLOCAL_ADDRESS=10.233.7.2\n";
        std::fs::write(paths.conf(&web), latin1).unwrap();
        assert_eq!(read_conf(&paths, &web), ConfFile::Foreign);
        let address = Ipv4Addr::new(10, 233, 7, 2);
        assert_eq!(foreign_containers(&paths), BTreeMap::from([(web.clone(), vec![address])]));
        write(&paths, &web, &files("X=1\n")).unwrap_err();
        assert_eq!(std::fs::read(paths.conf(&web)).unwrap(), latin1);

        // Fails to be read for every user, root included.
        std::fs::remove_file(paths.conf(&web)).unwrap();
        std::fs::create_dir(paths.conf(&web)).unwrap();
        assert_eq!(read_conf(&paths, &web), ConfFile::Foreign);
        assert_eq!(foreign_containers(&paths), BTreeMap::from([(web, Vec::new())]));
    }
}
