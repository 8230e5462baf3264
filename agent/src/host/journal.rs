//! The last lines that a container logged.
//!
//! Two sources: what its unit wrote on the host (nspawn and a static guest's own output), and, where the guest keeps a
//! journal of its own, what is said there: services write to standard error, which journald takes as information.
//! Both are read by `journalctl` children with a time limit; lines are ordered by time.
//! The guest's journal files are opened here, inside the guest's root and without following links, and handed over as
//! descriptors: a planted link cannot make the host's journal or any other file part of the answer.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstatat};
use nixmox_core::model::ContainerName;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::line;
use super::paths::Paths;

/// A journal of a few hundred MiB answers well within this.
const JOURNALCTL_LIMIT: Duration = Duration::from_secs(3);
/// What of the answer is read.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// Journal files of a guest that are looked at; each rotation makes one.
const FILES_MAX: usize = 32;
/// Folders of journals that are looked at, the last written first: one per machine id that the guest ever had.
const MACHINES_MAX: usize = 4;
/// Entries of a folder that are looked at: the guest can put any number there.
const ENTRIES_MAX: usize = 4096;
/// The journal that is written now. The guest's journald makes it anew under this name at each rotation: systemd-journald.service(8), "Files".
const ACTIVE: &CStr = c"system.journal";
/// How long finding them may take.
const FIND_LIMIT: Duration = Duration::from_secs(3);

/// Returns the last lines, oldest first, at most `count`; none from before `since_usec`, in microseconds since 1970.
pub(super) async fn tail(
    paths: &Paths,
    name: &ContainerName,
    since_usec: Option<u64>,
    count: usize,
) -> Vec<String> {
    let lines = count.to_string();
    let since = since_argument(since_usec.unwrap_or(0));
    // Not `--unit`, which adds what systemd says about the unit: that is known from the unit itself.
    let unit = format!("_SYSTEMD_UNIT={}", name.unit());
    let root = paths.state(name);
    let guest = async {
        let found = tokio::time::timeout(FIND_LIMIT, tokio::task::spawn_blocking(move || guest_files(&root))).await;
        let files = found.ok().and_then(Result::ok).flatten();
        let Some(files) = files.filter(|files| !files.is_empty()) else { return Vec::new() };
        // This process's descriptors, as journalctl sees them.
        let own = std::process::id();
        let names: Vec<String> =
            files.iter().map(|file| format!("--file=/proc/{own}/fd/{}", file.as_raw_fd())).collect();
        let arguments = names.iter().map(String::as_str).chain(["--priority=info", "--lines", &lines, &since]);
        journalctl(arguments).await
    };
    let host = journalctl([unit.as_str(), "--lines", &lines, &since]);
    let (host, guest) = tokio::join!(host, guest);
    let mut lines: Vec<Line> = host.into_iter().chain(guest).collect();
    // Stable: lines of one moment keep their order.
    lines.sort_by_key(|line| line.usec);
    let surplus = lines.len().saturating_sub(count);
    lines.into_iter().skip(surplus).map(|line| line.text).collect()
}

/// A line and when it was logged, in microseconds since 1970.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    usec: u64,
    text: String,
}

async fn journalctl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Vec<Line> {
    let lines = read(arguments).await;
    let clean = |(usec, text): (u64, &str)| Line { usec, text: line::clean(text) };
    lines.lines().filter_map(timed).map(clean).collect()
}

/// Returns what journalctl says, as much of it as is read, in the form that [`timed`] knows; empty when it cannot be had.
pub(super) async fn read<'a>(arguments: impl IntoIterator<Item = &'a str>) -> String {
    let read = async {
        let mut child = Command::new("journalctl")
            .args(["--quiet", "--no-pager", "--output=short-unix", "--no-hostname", "--all"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>(text)
    };
    match tokio::time::timeout(JOURNALCTL_LIMIT, read).await {
        Ok(Ok(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot run journalctl");
            String::new()
        }
        Err(_elapsed) => {
            tracing::debug!("journalctl did not end in time");
            String::new()
        }
    }
}

/// Returns the argument for a time in microseconds since 1970, as seconds with six decimals (systemd.time(7)).
pub(super) fn since_argument(usec: u64) -> String {
    format!("--since=@{}.{:06}", usec / 1_000_000, usec % 1_000_000)
}

/// Reads a line of `--output=short-unix`: microseconds since 1970, then the program and the message. `None`: it goes on a message
/// of several lines, which is set in.
pub(super) fn timed(text: &str) -> Option<(u64, &str)> {
    let (time, text) = text.split_once(' ')?;
    let (seconds, fraction) = time.split_once('.')?;
    let usec = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)?;
    Some((usec, text))
}

/// Opens the journal files that a guest keeps, the one that is written now first, then the newest; `None` when it keeps none.
fn guest_files(root: &Path) -> Option<Vec<OwnedFd>> {
    let root = open(root, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
    let journal = below(&root, c"var/log/journal", DIRECTORY)?;
    let mut files = Vec::new();
    for machine in newest(&journal, |_| true).into_iter().take(MACHINES_MAX) {
        let Some(machine) = below(&journal, &machine, DIRECTORY) else { continue };
        let others = newest(&machine, |name| name.to_bytes().ends_with(b".journal") && name != ACTIVE);
        let names = std::iter::once(ACTIVE.to_owned()).chain(others);
        let opened = names.filter_map(|name| {
            // Not blocking: a guest may have put a FIFO there.
            let file = File::from(below(&machine, &name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?);
            file.metadata().is_ok_and(|metadata| metadata.is_file()).then(|| OwnedFd::from(file))
        });
        let places = FILES_MAX - files.len();
        files.extend(opened.take(places));
    }
    Some(files)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens what a guest has there, without leaving the folder by a link or a mount.
fn below(from: &OwnedFd, path: &CStr, flags: OFlag) -> Option<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(from, path, OpenHow::new().flags(flags).resolve(resolve)).ok()
}

/// Returns those names in a folder that are wanted, the last changed first.
fn newest(directory: &OwnedFd, wanted: impl Fn(&CStr) -> bool) -> Vec<CString> {
    let listed = directory.try_clone().ok().and_then(|fd| Dir::from_fd(fd).ok());
    let entries = listed.into_iter().flatten().take(ENTRIES_MAX).flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    let mut found: Vec<_> = names
        .filter(|name| !name.to_bytes().starts_with(b".") && wanted(name))
        .filter_map(|name| {
            let stat = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            Some(((stat.st_mtime, stat.st_mtime_nsec), name))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_is_cut_from_its_time() {
        let line = timed("1763633000.000123 web[7]: \u{1b}[1mhello");
        assert_eq!(line, Some((1_763_633_000_000_123, "web[7]: \u{1b}[1mhello")));
        assert_eq!(timed("-- No entries --"), None);
    }

    #[test]
    fn a_time_is_told_as_journalctl_reads_it() {
        assert_eq!(since_argument(1_763_633_000_000_123), "--since=@1763633000.000123");
    }

    #[test]
    fn links_in_a_guests_journal_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        let machine = root.join("var/log/journal/abc");
        fs::create_dir_all(&machine).unwrap();
        fs::create_dir_all(outside.join("def")).unwrap();
        fs::write(outside.join("def/system.journal"), "secret").unwrap();
        symlink(outside.join("def/system.journal"), machine.join("planted.journal")).unwrap();
        symlink(outside.join("def"), root.join("var/log/journal/def")).unwrap();
        nix::unistd::mkfifo(&machine.join("fifo.journal"), Mode::S_IRWXU).unwrap();
        assert_eq!(guest_files(&root).map(|files| files.len()), Some(0));
        fs::write(machine.join("system.journal"), "own").unwrap();
        assert_eq!(guest_files(&root).map(|files| files.len()), Some(1));
        assert_eq!(guest_files(&outside).map(|files| files.len()), None);
    }

    #[test]
    fn the_journal_that_is_written_now_comes_first_then_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path().join("var/log/journal/abc");
        fs::create_dir_all(&machine).unwrap();
        let make = |name: &str, age: u64| {
            let file = File::create(machine.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        make("system.journal", 1000);
        for age in 0..100 {
            make(&format!("user-1000@{:02}.journal", (age * 37) % 100), age + 1);
        }
        // Not journals, and before all others in no particular order.
        for number in 0..200 {
            make(&format!(".planted-{number}"), 0);
        }
        let files = guest_files(dir.path()).unwrap();
        let ages = files.into_iter().map(|file| {
            let age = File::from(file).metadata().unwrap().modified().unwrap().elapsed().unwrap();
            age.as_secs()
        });
        let ages: Vec<_> = ages.collect();
        let newest: Vec<u64> = (1..32).collect();
        assert_eq!((ages[0], &ages[1..]), (1000, newest.as_slice()));
    }
}
