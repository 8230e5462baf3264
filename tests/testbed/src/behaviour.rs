//! What a static guest does, as the text of the file that it reads beside its `init`.
//!
//! The guest's side of the format is described in `tests/guest`.

use std::{fmt::Write as _, time::Duration};

/// Says how a static guest behaves. The default is ready at once, silent, and ends at once when asked to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    lines: Vec<String>,
}

impl Behaviour {
    /// Returns the behaviour of a guest that is ready at once and does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends `READY=1` only after this time.
    #[must_use]
    pub fn ready_after(self, delay: Duration) -> Self {
        self.line("ready_after", delay.as_secs_f32())
    }

    /// Never sends `READY=1`.
    #[must_use]
    pub fn never_ready(self) -> Self {
        self.line("ready_after", "never")
    }

    /// Ends with exit status `code` when `after` has passed since its start; 133 is a reboot.
    #[must_use]
    pub fn exit(self, code: u8, after: Duration) -> Self {
        self.line("exit", format_args!("{code}@{}", after.as_secs_f32()))
    }

    /// Ends with exit status `code` before it is ready.
    #[must_use]
    pub fn exit_at_once(self, code: u8) -> Self {
        self.line("exit", code)
    }

    /// Answers HTTP on this port: 200, or the status in `/var/lib/guest/status` when that file exists; 0 there hangs up.
    #[must_use]
    pub fn http(self, port: u16) -> Self {
        self.line("http", port)
    }

    /// Answers HTTP with this status while `/var/lib/guest/status` does not exist.
    #[must_use]
    pub fn http_status(self, status: u16) -> Self {
        self.line("http_status", status)
    }

    /// Waits this long before it listens on any port.
    #[must_use]
    pub fn listen_after(self, delay: Duration) -> Self {
        self.line("listen_after", delay.as_secs_f32())
    }

    /// Accepts TCP connections on this port and closes them.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        self.line("tcp", port)
    }

    /// Sends back every datagram that it receives on this port.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        self.line("udp", port)
    }

    /// Takes this long to end when asked to, then writes `/var/lib/guest/stopped`.
    #[must_use]
    pub fn stop_takes(self, time: Duration) -> Self {
        self.line("stop_takes", time.as_secs_f32())
    }

    /// Ignores the request to end.
    #[must_use]
    pub fn never_stops(self) -> Self {
        self.line("stop_takes", "never")
    }

    /// Allocates and touches this many MiB.
    #[must_use]
    pub fn hog_mebibytes(self, mebibytes: u32) -> Self {
        self.line("hog", mebibytes)
    }

    /// Keeps up to this many idle child processes.
    #[must_use]
    pub fn forks(self, processes: u32) -> Self {
        self.line("forks", processes)
    }

    /// Tries to open this path again and again, and writes into `/var/lib/guest/opened` what came of it: a line `PATH ERRNO` for each such
    /// path, 0 where it opens.
    #[must_use]
    pub fn opens(self, path: &str) -> Self {
        self.line("open", path)
    }

    /// Keeps one processor busy.
    #[must_use]
    pub fn spins(self) -> Self {
        self.line("spin", 1)
    }

    /// Writes this line to its log at its start; may be called again for more lines.
    #[must_use]
    pub fn log(self, text: &str) -> Self {
        self.line("log", text.replace('\n', " "))
    }

    /// Writes numbered lines, `line N of COUNT`, so many a second.
    #[must_use]
    pub fn writes(self, rate: u32, count: u32) -> Self {
        self.line("write", format_args!("{rate}@{count}"))
    }

    /// Has a simulator of Ollama answer on this port, told these lines (see `Config` of `nixmox-fake-ollama`).
    #[must_use]
    pub fn ollama(self, port: u16, config: &str) -> Self {
        config.lines().fold(self.line("ollama", port), |behaviour, line| behaviour.line("ollama_is", line))
    }

    /// Runs a program with its arguments, none of which has blanks, with the environment that services of the guest have.
    #[must_use]
    pub fn runs(self, command: &str) -> Self {
        self.line("run", command)
    }

    /// Holds so many bytes of a GPU, by its index, as far as the stand-in for NVML tells.
    #[must_use]
    pub fn holds_vram(self, gpu: usize, bytes: u64) -> Self {
        self.line("vram", format_args!("{gpu}@{bytes}"))
    }

    /// Has this difference from other systems and no other effect: a changed system for tests of changes.
    #[must_use]
    pub fn revision(self, text: &str) -> Self {
        self.line("revision", text.replace('\n', " "))
    }

    /// Returns the text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    fn line(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.lines.push(format!("{key}={value}"));
        self
    }
}
