//! The task runner: `cargo xtask demo | test | fuzz | bench | nix | testbed | vm | gpu-check`.
//!
//! Each command is a file; this one reads the command line.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool for developers")]

mod bench;
mod check;
mod demo;
mod figures;
mod fuzz;
mod gpu_check;
mod large;
mod measure;
mod nix;
mod step;
mod testbed;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs NixMox on a real systemd, tests it and measures it.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a homelab up on a testbed, show it, kill the agent, bring it down
    Demo,
    /// Check the format, lint, and run every test
    Test(check::Arguments),
    /// Feed mutated inputs to what reads untrusted ones
    Fuzz(fuzz::Arguments),
    /// Measure what the design promises
    Bench(bench::Arguments),
    /// Evaluate the flake and the NixOS module, and check what comes of them
    Nix(nix::Arguments),
    /// Boot a testbed and open a shell in it
    Testbed(testbed::Arguments),
    /// Run scenarios on a virtual machine
    Vm(vm::Arguments),
    /// Build the program that compares what is read of GPUs with nvidia-smi, and run it where there is one
    GpuCheck,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo => demo::run(),
        Command::Test(arguments) => check::run(&arguments),
        Command::Fuzz(arguments) => fuzz::command(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Nix(arguments) => nix::run(&arguments),
        Command::Testbed(arguments) => testbed::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
        Command::GpuCheck => gpu_check::run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
