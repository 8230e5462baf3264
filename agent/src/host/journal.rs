//! The last lines that a container logged.
//!
//! Two sources: what its unit wrote on the host (nspawn and a static guest's own output), and, where the guest keeps a
//! journal of its own, its errors. Both are read by `journalctl` children with a time limit; lines are ordered by time.
//! The guest's journal files are opened here, inside the guest's root and without following links, and handed over as
//! descriptors: a planted link cannot make the host's journal or any other file part of the answer.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
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

/// Returns the last lines, oldest first, at most `count`.
pub(super) async fn tail(paths: &Paths, name: &ContainerName, count: usize) -> Vec<String> {
    let lines = count.to_string();
    // Not `--unit`, which adds what systemd says about the unit: that is known from the unit itself.
    let unit = format!("_SYSTEMD_UNIT={}", name.unit());
    let files = guest_files(&paths.state(name));
    let guest = async {
        let Some(files) = files.filter(|files| !files.is_empty()) else { return Vec::new() };
        // This process's descriptors, as journalctl sees them.
        let own = std::process::id();
        let names: Vec<String> =
            files.iter().map(|file| format!("--file=/proc/{own}/fd/{}", file.as_raw_fd())).collect();
        let arguments = names.iter().map(String::as_str).chain(["--priority=err", "--lines", lines.as_str()]);
        journalctl(arguments).await
    };
    let host = journalctl([unit.as_str(), "--lines", lines.as_str()]);
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
        Ok(Ok(text)) => String::from_utf8_lossy(&text).lines().filter_map(parse).collect(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot run journalctl");
            Vec::new()
        }
        Err(_elapsed) => {
            tracing::debug!("journalctl did not end in time");
            Vec::new()
        }
    }
}

/// Reads a line of `--output=short-unix`: seconds with six decimals, then the program and the message.
fn parse(text: &str) -> Option<Line> {
    let (time, text) = text.split_once(' ')?;
    let (seconds, fraction) = time.split_once('.')?;
    let usec = seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)?;
    Some(Line { usec, text: line::clean(text) })
}

/// Opens the journal files that a guest keeps; `None` when it keeps none.
fn guest_files(root: &Path) -> Option<Vec<OwnedFd>> {
    let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(root, directory | OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let below = |from: &OwnedFd, path: &std::ffi::CStr, flags: OFlag| {
        openat2(from, path, OpenHow::new().flags(flags).resolve(resolve)).ok()
    };
    let journal = below(&root, c"var/log/journal", directory)?;
    let mut files = Vec::new();
    for machine in names(&journal) {
        let Some(machine) = below(&journal, &machine, directory) else { continue };
        for name in names(&machine) {
            // Not blocking: a guest may have put a FIFO there.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            if name.to_bytes().ends_with(b".journal")
                && files.len() < FILES_MAX
                && let Some(file) = below(&machine, &name, flags)
            {
                let file = File::from(file);
                if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
                    files.push(OwnedFd::from(file));
                }
            }
        }
    }
    Some(files)
}

fn names(directory: &OwnedFd) -> Vec<std::ffi::CString> {
    let listed = directory.try_clone().ok().and_then(|fd| Dir::from_fd(fd).ok());
    let entries = listed.into_iter().flatten().flatten().map(|entry| entry.file_name().to_owned());
    entries.filter(|name| !name.to_bytes().starts_with(b".")).take(FILES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_line_is_cut_from_its_time() {
        let line = parse("1763633000.000123 web[7]: \u{1b}[1mhello").unwrap();
        assert_eq!(line, Line { usec: 1_763_633_000_000_123, text: "web[7]: [1mhello".to_owned() });
        assert_eq!(parse("-- No entries --"), None);
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
}
