//! `cargo xtask test`: format, lints, every test, a short run of each fuzz target.

use std::process::ExitCode;

use anyhow::Result;

use crate::fuzz;
use crate::step::{Tally, announce, cargo};

/// Packages whose tests boot a testbed.
const TESTBED_PACKAGES: [&str; 2] = ["nixmox-testbed", "nixmox-tests"];

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests that boot a real systemd: quick, and needs no root
    #[arg(long)]
    no_testbed: bool,
}

/// Runs everything, also after a failure, and says at the end what failed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut tally = Tally::default();
    tally.check("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets"]);
    tally.check("lints", clippy.args(["--", "--deny", "warnings"]))?;
    let mut quick = cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"]);
    for package in TESTBED_PACKAGES {
        quick.args(["--exclude", package]);
    }
    tally.tests("unit tests", &mut quick)?;
    if arguments.no_testbed {
        tally.skipped.push("tests on a real systemd (--no-testbed)".to_owned());
    } else {
        testbed(&mut tally)?;
    }
    fuzz(&mut tally);
    for skipped in &tally.skipped {
        println!("left out: {skipped}");
    }
    for broken in &tally.broken {
        println!("failed: {broken}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests that boot testbeds. All is built before, so that no test's time limit pays for a compiler.
fn testbed(tally: &mut Tally) -> Result<()> {
    tally.check(
        "build",
        &mut cargo(&["build", "--quiet", "--package", "nixmox-agent", "--package", "nixmoxctl", "--bins"]),
    )?;
    let begin = announce("testbed");
    nixmox_testbed::guest_binary()?;
    nixmox_testbed::Cache::open()?.fill()?;
    println!("== testbed: ready, {:.1} s", begin.elapsed().as_secs_f32());
    let mut tests = cargo(&["test", "--quiet", "--no-fail-fast"]);
    for package in TESTBED_PACKAGES {
        tests.args(["--package", package]);
    }
    tally.tests("tests on a real systemd", &mut tests)
}

/// Runs each fuzz target from its corpus, and once more with a fault that it has to find.
fn fuzz(tally: &mut Tally) {
    if !fuzz::has_compiler() {
        tally.skipped.push("fuzz targets (libFuzzer needs a C++ compiler: apt-get install g++)".to_owned());
        return;
    }
    tally.verify("fuzz", || fuzz::run(None, fuzz::RUNS));
    tally.verify("fuzz with planted faults", || fuzz::find_planted(None));
}
