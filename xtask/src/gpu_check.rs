//! `cargo xtask gpu-check`: the program that compares what the agent reads of GPUs with what `nvidia-smi` tells, as one file.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::workspace_root;

use crate::step::cargo;

/// Where the program is looked for that tells of GPUs.
const SMI: &str = "nvidia-smi";

/// Builds it, and runs it where there is an `nvidia-smi`.
pub(crate) fn run() -> Result<ExitCode> {
    let arguments = ["build", "--quiet", "--release", "--package", "nixmox-tests", "--bin", "gpu-check"];
    let status = cargo(&arguments).status().context("cannot start cargo")?;
    ensure!(status.success(), "gpu-check is not built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), Into::into);
    let program = target.join("release/gpu-check");
    println!("{}", program.display());
    if Command::new(SMI).arg("-L").output().is_err() {
        println!(
            "There is no {SMI} here. Copy that file to a machine with an NVIDIA driver and run it there, as root."
        );
        return Ok(ExitCode::SUCCESS);
    }
    let status = Command::new(&program).status().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
