//! A stack in a folder of the host, and `nixmoxctl` in that folder.

use anyhow::{Result, bail};
use nixmox_testbed::{Output, Testbed};

/// Returns the folder of a stack on the host.
#[must_use]
pub fn folder(stack: &str) -> String {
    format!("/srv/{stack}")
}

/// Writes the stack file of a stack whose services are given as TOML.
///
/// # Errors
/// When the host's files cannot be written.
pub fn write(bed: &Testbed, stack: &str, services: &str) -> Result<()> {
    let text = format!("format = 1\n[stack]\nname = \"{stack}\"\n\n{services}");
    bed.write_file(format!("{}/nixmox.toml", folder(stack)), text, 0o644)
}

/// Runs `nixmoxctl` with these arguments in a stack's folder, as root; its failure is no error.
///
/// # Errors
/// When the program cannot be started.
pub fn ctl(bed: &Testbed, stack: &str, arguments: &str) -> Result<Output> {
    bed.shell(&format!("cd {} && nixmoxctl {arguments}", folder(stack)))
}

/// Like [`ctl`], and fails when the program does, with what the agent wrote to the journal.
///
/// # Errors
/// When `nixmoxctl` does not exit with 0.
pub fn succeed(bed: &Testbed, stack: &str, arguments: &str) -> Result<String> {
    let output = ctl(bed, stack, arguments)?;
    if !output.success() {
        let journal = bed.journal(&["-u", "nixmox-agent", "-n", "40"]);
        let journal = journal.unwrap_or_else(|error| format!("{error:#}"));
        bail!("nixmoxctl {arguments}: {output}\n--- journal\n{journal}");
    }
    Ok(output.stdout)
}
