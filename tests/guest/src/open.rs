//! What a process of this guest can open, told in a file: nobody outside has its cgroup, its namespaces and its root.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// Lines `PATH ERRNO`, 0 where it opens; replaced as a whole after every round.
const OPENED_FILE: &str = "/var/lib/guest/opened";
const NEW_FILE: &str = "/var/lib/guest/.opened.new";
const PAUSE: Duration = Duration::from_millis(50);

/// Tries all of these paths, for ever.
pub(crate) fn try_again_and_again(paths: &[PathBuf]) {
    loop {
        let mut text = String::new();
        for path in paths {
            let errno = attempt(path).err().and_then(|error| error.raw_os_error()).unwrap_or_default();
            let _ = writeln!(text, "{} {errno}", path.display());
        }
        // A root that cannot be written to has no test that reads it.
        let _ = fs::write(NEW_FILE, text).and_then(|()| fs::rename(NEW_FILE, OPENED_FILE));
        thread::sleep(PAUSE);
    }
}

/// Opens a path as a program does that uses it: a node for both directions, a library for reading.
fn attempt(path: &Path) -> std::io::Result<File> {
    let is_node = path.starts_with("/dev");
    OpenOptions::new().read(true).write(is_node).custom_flags(O_NONBLOCK | O_NOCTTY).open(path)
}
