//! Running commands inside a testbed.
//!
//! A command enters all namespaces of the booted host's PID 1 (`nsenter`, 18 ms) with an environment of its own, as root, outside
//! of any unit. `timeout` ends it when it takes too long, so that a hanging command fails a test and not the run.
//!
//! `timeout` itself stays outside of the host's PID namespace (`nsenter --no-fork`): a systemd that goes down stops every process
//! with `kill(-1, SIGSTOP)`, and an `nsenter` that waits for a child stops itself when the child is stopped, for ever.

use std::{
    ffi::OsStr,
    fmt,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::bed::Testbed;

/// After this a command is killed.
const COMMAND_LIMIT: Duration = Duration::from_mins(3);
/// Longest time until the journal has what was written to it.
const SYNC_LIMIT: Duration = Duration::from_mins(1);
/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(50);

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 + N when a signal ended it, 124 when it took too long.
    pub code: i32,
    /// Standard output, with bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with bytes that are not UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Tells whether the exit status is 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "exit status {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl Testbed {
    /// Returns a command that will run inside, for callers that want pipes, a terminal or no time limit.
    ///
    /// Its environment holds `PATH`, `HOME`, `LANG` and `TERM` alone.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.enter();
        command.arg("--").arg(program.as_ref());
        command
    }

    /// `nsenter` into all namespaces of the host, with the environment of [`Testbed::command`].
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader().to_string(), "--all"]);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("TERM", std::env::var_os("TERM").unwrap_or_else(|| "dumb".into()));
        command
    }

    /// Runs a program with its arguments inside; a failure of the program is no error.
    pub fn exec<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<Output> {
        self.exec_within(COMMAND_LIMIT, argv)
    }

    /// Like [`Testbed::exec`], with a time limit of its own.
    pub fn exec_within<S: AsRef<OsStr>>(&self, limit: Duration, argv: &[S]) -> Result<Output> {
        ensure!(!argv.is_empty(), "no command given");
        let mut command = self.enter();
        command.args(["--no-fork", "--", "timeout", "--kill-after=2", &limit.as_secs_f32().to_string()]).args(argv);
        let output = command.stdin(Stdio::null()).output().context("cannot start nsenter")?;
        Ok(Output {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a bash script inside; a failure of the script is no error.
    pub fn shell(&self, script: &str) -> Result<Output> {
        self.exec(&["bash", "-c", script])
    }

    /// Runs a bash script inside as another user, with that user's groups and no privileges.
    pub fn shell_as(&self, user: &str, script: &str) -> Result<Output> {
        self.exec(&["runuser", "-u", user, "--", "bash", "-c", script])
    }

    /// Runs a bash script inside and returns its standard output without the last newline; fails when the script does.
    pub fn succeed(&self, script: &str) -> Result<String> {
        let output = self.shell(script)?;
        if !output.success() {
            bail!("`{script}` failed in the testbed: {output}");
        }
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Runs a bash script inside that must fail, and returns what it printed.
    pub fn fail(&self, script: &str) -> Result<Output> {
        let output = self.shell(script)?;
        ensure!(!output.success(), "`{script}` succeeded in the testbed and should not: {output}");
        Ok(output)
    }

    /// Repeats a bash script until it succeeds; returns its standard output, or fails with its last output when `limit` is over.
    pub fn wait_until(&self, script: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let output = self.shell(script)?;
            if output.success() {
                return Ok(output.stdout.trim_end().to_owned());
            }
            ensure!(
                Instant::now() < end,
                "`{script}` did not succeed in the testbed within {limit:?}; last: {output}"
            );
            thread::sleep(POLL);
        }
    }

    /// Waits until the journal has everything that was written to it before: only then is what it lacks not there.
    pub fn sync_journal(&self) -> Result<()> {
        self.wait_until("journalctl --sync", SYNC_LIMIT).map(drop)
    }

    /// Returns what `journalctl` prints with these arguments, in `short-precise` form, of all that was written
    /// before.
    pub fn journal(&self, arguments: &[&str]) -> Result<String> {
        self.sync_journal()?;
        let argv = [&["journalctl", "--no-pager", "--quiet", "--output=short-precise"], arguments].concat();
        let output = self.exec(&argv)?;
        // With `--grep`, nothing found is a failure without a word.
        let is_empty = output.code == 1 && output.stderr.is_empty();
        ensure!(output.success() || is_empty, "{argv:?} failed in the testbed: {output}");
        Ok(output.stdout)
    }

    /// Runs a program on the caller's terminal and waits for it; returns its exit status.
    pub fn interactive<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<i32> {
        let (program, arguments) = argv.split_first().context("no command given")?;
        let status = self.command(program).args(arguments).status().context("cannot start nsenter")?;
        Ok(exit_code(status))
    }
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
