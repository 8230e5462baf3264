//! `cargo xtask test`: format, lints, every test, a short run of each fuzz target.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use nixmox_testbed::workspace_root;

use crate::step::{Tally, announce, cargo};
use crate::{fuzz, nix, vm};

/// Packages whose tests boot a testbed.
const TESTBED_PACKAGES: [&str; 2] = ["nixmox-testbed", "nixmox-tests"];

/// Test programs of `nixmox-tests` that need no testbed, nor root.
const IN_PROCESS: [&str; 5] = ["floors", "gpu_probe", "reconcile", "terminal", "wire"];

/// What to leave out.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests that boot a real systemd: quick, and needs no root
    #[arg(long)]
    no_testbed: bool,
    /// Leave out the scenarios on a virtual machine: the longest part
    #[arg(long)]
    no_vm: bool,
}

/// Runs everything, also after a failure, and says at the end what failed.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut tally = Tally::default();
    tally.check("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    tally.check("lock file of the fuzz targets", &mut fuzz::check_lock())?;
    let mut clippy = cargo(&["clippy", "--quiet", "--workspace", "--all-targets"]);
    tally.check("lints", clippy.args(["--", "--deny", "warnings"]))?;
    let mut documentation = cargo(&["doc", "--quiet", "--workspace", "--no-deps"]);
    tally.check("documentation of the code", documentation.env("RUSTDOCFLAGS", "--deny warnings"))?;
    let mut quick = cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"]);
    for package in TESTBED_PACKAGES {
        quick.args(["--exclude", package]);
    }
    tally.tests("unit tests", &mut quick)?;
    let mut in_process = cargo(&["test", "--quiet", "--package", "nixmox-tests", "--lib", "--no-fail-fast"]);
    for program in IN_PROCESS {
        in_process.args(["--test", program]);
    }
    tally.tests("the agent in process", &mut in_process)?;
    if arguments.no_testbed {
        tally.skipped.push("tests on a real systemd (--no-testbed)".to_owned());
        tally.skipped.push("the flake and the NixOS module (--no-testbed)".to_owned());
    } else {
        tally.attempt("nix", |tally| nix::test(tally, &nix::Nixpkgs::find(None)?));
        // Without root, or without the packages it needs: what comes after is still run, and told.
        tally.attempt("testbed", testbed);
    }
    if arguments.no_vm || arguments.no_testbed {
        let why = if arguments.no_vm { "--no-vm" } else { "--no-testbed" };
        tally.skipped.push(format!("scenarios on a virtual machine ({why})"));
    } else {
        tally.attempt("virtual machine", |tally| vm::test(tally, &nixmox_testbed::scenarios()?));
    }
    fuzz(&mut tally);
    Ok(tally.finish())
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
    nixmox_testbed::llama_cpp()?;
    println!("== testbed: ready, {:.1} s", begin.elapsed().as_secs_f32());
    tally.tests(
        "tests of the testbed",
        &mut cargo(&["test", "--quiet", "--no-fail-fast", "--package", "nixmox-testbed"]),
    )?;
    let mut tests = cargo(&["test", "--quiet", "--no-fail-fast", "--package", "nixmox-tests"]);
    for program in on_a_real_systemd()? {
        tests.args(["--test", &program]);
    }
    tally.tests("tests on a real systemd", &mut tests)?;
    // The README's first command, as somebody types it into a pipe.
    let itself = std::env::current_exe().context("cannot tell where this program lies")?;
    tally.check("demo", Command::new(itself).arg("demo").stdin(Stdio::null()))
}

/// Returns the test programs of `nixmox-tests` that boot a testbed: all but those named above.
fn on_a_real_systemd() -> Result<Vec<String>> {
    let folder = workspace_root().join("tests/tests");
    let mut programs = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("cannot read the list of tests")?.path();
        let program = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
        programs.extend(program.filter(|program| !IN_PROCESS.contains(&program.as_str())));
    }
    programs.sort();
    Ok(programs)
}

/// Runs each fuzz target from its corpus, and once more with a fault that it has to find.
fn fuzz(tally: &mut Tally) {
    let mut bed = None;
    tally.verify("build of the fuzz targets", || {
        bed = Some(fuzz::Bed::build()?);
        Ok(())
    });
    let Some(bed) = bed else { return };
    tally.verify("fuzz", || bed.run(None, fuzz::RUNS));
    tally.verify("fuzz with planted faults", || bed.find_planted(None));
}
