//! A person at a terminal of the host: types, reads, changes the size of the window.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nixmox_testbed::Testbed;

use crate::house::LIMIT;

/// A terminal on which a script runs in the host.
pub(crate) struct Person {
    terminal: File,
    /// The side of the program; held, so that its settings can be read when the program is gone.
    program: OwnedFd,
    settings: Termios,
    child: Child,
    /// All that was shown.
    seen: Vec<u8>,
    /// How much of it was looked at.
    looked_at: usize,
}

impl Person {
    /// Runs a script on a terminal of 30 rows and 100 columns.
    pub(crate) fn runs(bed: &Testbed, script: &str) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).unwrap();
        let settings = tcgetattr(&pair.slave).unwrap();
        let inside = bed.command("bash");
        let end = || pair.slave.try_clone().unwrap();
        // A session whose terminal this is: a window that changes is told to those in the foreground.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inside.get_program()).args(inside.get_args()).args(["-c", script]).env_clear();
        command.envs(inside.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let (terminal, program) = (pair.master.into(), pair.slave);
        Self { terminal, program, settings, child, seen: Vec::new(), looked_at: 0 }
    }

    /// Types a text.
    pub(crate) fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Makes the window another size.
    pub(crate) fn resizes(&mut self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.terminal, size).unwrap();
    }

    /// Waits until this is shown, after what was waited for before.
    pub(crate) fn sees(&mut self, text: &str) {
        assert!(self.sees_within(text, LIMIT), "`{text}` is not shown:\n{}", self.shown());
    }

    /// The same, with a time; returns whether it was shown.
    pub(crate) fn sees_within(&mut self, text: &str, limit: std::time::Duration) -> bool {
        let begun = Instant::now();
        loop {
            let new = &self.seen[self.looked_at..];
            if let Some(at) = new.windows(text.len()).position(|shown| shown == text.as_bytes()) {
                self.looked_at += at + text.len();
                return true;
            }
            if begun.elapsed() > limit {
                return false;
            }
            self.reads(20);
        }
    }

    /// Returns everything that was shown.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Whether what is typed goes to the program as it is.
    pub(crate) fn is_raw(&self) -> bool {
        let lines = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        !tcgetattr(&self.program).unwrap().local_flags.intersects(lines)
    }

    /// Waits for the end of the script; the terminal must be as it was. Returns the exit status.
    pub(crate) fn ends(&mut self) -> i32 {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "it does not end:\n{}", self.shown());
            self.reads(20);
        };
        while self.reads(0) {}
        assert!(tcgetattr(&self.program).unwrap() == self.settings, "the settings of the terminal");
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap()
    }

    /// Reads what is shown within so many milliseconds; returns whether that is anything.
    fn reads(&mut self, milliseconds: u16) -> bool {
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(milliseconds)).unwrap() == 0 {
            return false;
        }
        let mut bytes = [0; 4096];
        let read = self.terminal.read(&mut bytes).unwrap();
        self.seen.extend_from_slice(&bytes[..read]);
        read > 0
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // Errors: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
