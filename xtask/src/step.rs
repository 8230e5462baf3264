//! Steps of a command: each is announced, timed and counted.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use nixmox_testbed::{children, workspace_root};

/// Longest time in which tests may print no line. The longest test program takes 4 min, and prints its dots as one line.
const SILENCE_LIMIT: Duration = Duration::from_mins(15);

/// Counts what passed and what failed.
#[derive(Default)]
pub(crate) struct Tally {
    /// Tests and checks that passed.
    pub(crate) passed: u64,
    /// Tests and checks that failed.
    pub(crate) failed: u64,
    /// Names of the steps in which something failed.
    pub(crate) broken: Vec<String>,
    /// What was left out, and why.
    pub(crate) skipped: Vec<String>,
}

impl Tally {
    /// Runs a check that passes or fails as a whole.
    pub(crate) fn check(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let begin = announce(name);
        let status =
            command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        self.count(name, status.success(), begin);
        Ok(())
    }

    /// Runs a check that is a function here.
    pub(crate) fn verify(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        let begin = announce(name);
        let outcome = check();
        if let Err(error) = &outcome {
            println!("{error:#}");
        }
        self.count(name, outcome.is_ok(), begin);
    }

    /// Runs several steps; one that cannot even be begun counts as a failure of all of them, and does not end the rest.
    pub(crate) fn attempt(&mut self, name: &str, steps: impl FnOnce(&mut Self) -> Result<()>) {
        let begin = Instant::now();
        if let Err(error) = steps(self) {
            println!("{error:#}");
            self.count(name, false, begin);
        }
    }

    /// Runs tests and adds up the results that the test programs print.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let begin = announce(name);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("a child without standard output")?;
        let (passed, failed) = (self.passed, self.failed);
        let lines = lines(stdout);
        loop {
            let line = match lines.recv_timeout(SILENCE_LIMIT) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    println!("== {name}: ended, for it printed nothing in {} s", SILENCE_LIMIT.as_secs());
                    kill_all(child.id().cast_signed());
                    break;
                }
            };
            println!("{line}");
            if let Some((good, bad)) = test_result(&line) {
                self.passed += good;
                self.failed += bad;
            }
        }
        let status = child.wait().context("cannot wait for the tests")?;
        // Tests that do not compile, or a program that dies, print no result.
        if !status.success() && self.failed == failed {
            self.failed += 1;
        }
        if self.failed > failed {
            self.broken.push(name.to_owned());
        }
        println!(
            "== {name}: {} passed, {} failed, {:.1} s",
            self.passed - passed,
            self.failed - failed,
            begin.elapsed().as_secs_f32()
        );
        Ok(())
    }

    /// Says what was left out and what failed, and returns the exit status of all.
    pub(crate) fn finish(&self) -> ExitCode {
        for skipped in &self.skipped {
            println!("left out: {skipped}");
        }
        for broken in &self.broken {
            println!("failed: {broken}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn count(&mut self, name: &str, success: bool, begin: Instant) {
        let word = if success {
            self.passed += 1;
            "passed"
        } else {
            self.failed += 1;
            self.broken.push(name.to_owned());
            "FAILED"
        };
        println!("== {name}: {word}, {:.1} s", begin.elapsed().as_secs_f32());
    }
}

/// Says what begins now.
pub(crate) fn announce(name: &str) -> Instant {
    println!("== {name}");
    Instant::now()
}

/// Returns a cargo command that runs in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root()).args(arguments);
    command
}

/// Reads lines on a thread, until all that write have ended.
fn lines(output: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Kills a process and all below it: from the top, so that none of them goes on to its next child.
fn kill_all(pid: i32) {
    let below = children(pid);
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    below.into_iter().for_each(kill_all);
}

/// Reads `test result: ok. 3 passed; 0 failed; ...`.
fn test_result(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        rest.split("; ").find_map(|part| part.strip_suffix(word)).and_then(|count| count.trim().parse().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::{Tally, test_result};

    #[test]
    fn a_step_that_cannot_be_begun_is_counted_and_does_not_hide_what_failed_before() {
        let mut tally = Tally { failed: 1, broken: vec!["lints".to_owned()], ..Tally::default() };
        tally.attempt("testbed", |tally| {
            tally.passed += 3;
            anyhow::bail!("only root can boot a testbed")
        });
        tally.attempt("more", |_| Ok(()));
        assert_eq!(
            (tally.passed, tally.failed, tally.broken),
            (3, 2, vec!["lints".to_owned(), "testbed".to_owned()])
        );
    }

    #[test]
    fn reads_the_result_line_of_a_test_program() {
        let line =
            "test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.0s";
        assert_eq!(test_result(line), Some((5, 1)));
        assert_eq!(test_result("test result: ok. 12 passed; 0 failed; 0 ignored"), Some((12, 0)));
        assert_eq!(test_result("test a ... ok"), None);
    }
}
