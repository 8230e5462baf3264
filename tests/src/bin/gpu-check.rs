//! Compares what the agent reads of NVIDIA's GPUs with what `nvidia-smi` tells, on a machine that has some; needs nothing but the driver.
//!
//! Built by `cargo xtask gpu-check` as one file to be copied. It looks as the agent does, through a child that is this program again, and
//! ends with 1 where anything differs or is wrong.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its table is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;

use nixmox_agent::gpu_probe;
use nixmox_agent::host::Gpus;
use nixmox_tests::gpu_check::{self, Smi};

const USAGE: &str = "usage: gpu-check [NVIDIA-SMI]

Compares what NixMox reads of NVIDIA's GPUs with what nvidia-smi (or the program of that name that is given) tells. Ends with 1 where something
differs or a GPU has a fault, with 2 where there is nothing to compare: no GPU of NVIDIA's, or no nvidia-smi, where nodes and the layers of
`nixmoxctl gpu doctor` are judged all the same. Changes nothing.
";
/// Under which folder `/proc`, `/sys`, `/dev` and the driver are looked for: for tests.
const ROOT: &str = "PROBE_ROOT";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["gpu-probe", left_out @ ..] => {
            let root = std::env::var_os(ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
            gpu_probe::run_below(&root, left_out).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        [] => check("nvidia-smi"),
        [program] if !program.starts_with('-') => check(program),
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn check(program: &str) -> ExitCode {
    let found = match look() {
        Ok(found) => found,
        Err(error) => {
            eprintln!("gpu-check: {error:#}");
            return ExitCode::from(2);
        }
    };
    if !gpu_check::has_nvidia(&found) {
        eprintln!(
            "gpu-check: there is nothing to compare: no GPU of NVIDIA's is in this machine, and no module of its driver is loaded"
        );
        return ExitCode::from(2);
    }
    // Right after the look: what moves has not moved far.
    let smi = match Smi::ask(program) {
        Ok(smi) => smi,
        Err(error) => {
            print!("{}", gpu_check::table(&gpu_check::judge(&found)));
            eprintln!("gpu-check: {error:#}");
            return ExitCode::from(2);
        }
    };
    let rows = gpu_check::compare(&found, &smi);
    print!("{}", gpu_check::table(&rows));
    if rows.iter().all(|row| row.agrees) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks as the agent does.
fn look() -> anyhow::Result<nixmox_core::gpu::Inventory> {
    // A driver finds nothing in it; the stand-in for NVML does.
    let passed = [ROOT, "FAKE_NVML_STATE"];
    let environment =
        passed.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
    let gpus = Gpus::new(std::env::current_exe()?).with(environment);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(gpus.look()))
}
