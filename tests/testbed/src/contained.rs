//! Commands in mount and PID namespaces that end when this process does.
//!
//! A killed run leaves no mount and no process, only files, and removing those can never reach through a mount into the machine.

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::exec::Output;

/// First process of a PID namespace: runs its arguments, and ends, with all of them, when its standard input is closed.
const LIFE_LINE: &str = r#"
exec 3<&0
trap 'exit 143' TERM
"$@" < /dev/null 3<&- &
job=$!
(cat <&3 > /dev/null; kill -TERM 1) > /dev/null 2>&1 &
exec 3<&-
wait $job
"#;

/// Runs a command to its end, in silence.
pub(crate) fn run(argv: &[OsString]) -> Result<()> {
    let output = output(argv)?;
    if !output.success() {
        bail!(
            "{} ended with exit status {}:\n{}{}",
            argv.first().map(|name| name.to_string_lossy()).unwrap_or_default(),
            output.code,
            output.stdout,
            output.stderr
        );
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed, whatever its exit status.
pub(crate) fn output(argv: &[OsString]) -> Result<Output> {
    let mut child =
        command(argv).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start unshare")?;
    // Closed when this function returns, or when this process dies.
    let _line = child.stdin.take();
    let output = child.wait_with_output().context("cannot wait for unshare")?;
    Ok(Output {
        code: output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command to its end; what it prints is seen.
pub(crate) fn show(argv: &[OsString]) -> Result<()> {
    let mut child = command(argv).spawn().context("cannot start unshare")?;
    let _line = child.stdin.take();
    let status = child.wait().context("cannot wait for unshare")?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

fn command(argv: &[OsString]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", LIFE_LINE, "testbed"])
        .args(argv)
        .stdin(Stdio::piped());
    command
}
