//! `cargo xtask gpu-check`: the program that compares what the agent reads of GPUs with what `nvidia-smi` tells, as one file.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use nixmox_testbed::workspace_root;

use crate::step::cargo;

/// What the program ends with where it had nothing to compare.
const NOTHING: i32 = 2;

/// Builds it and runs it. Ends as it does: with 1 where something differs, with 2 where there is nothing to compare.
pub(crate) fn run() -> Result<ExitCode> {
    let arguments = ["build", "--quiet", "--release", "--package", "nixmox-tests", "--bin", "gpu-check"];
    let status = cargo(&arguments).status().context("cannot start cargo")?;
    ensure!(status.success(), "gpu-check is not built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), Into::into);
    let program = target.join("release/gpu-check");
    println!("{}", program.display());
    let status = Command::new(&program).status().with_context(|| format!("cannot start {}", program.display()))?;
    if status.code() == Some(NOTHING) {
        println!(
            "Nothing was compared. Copy that file to a machine with an NVIDIA GPU and its driver, and run it there, as root."
        );
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
