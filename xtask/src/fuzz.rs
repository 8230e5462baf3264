//! `cargo xtask fuzz`: builds the fuzz targets with coverage and runs them from the committed corpus.
//!
//! Uses the stable compiler: the flags ask LLVM's coverage pass directly for what libFuzzer reads (inline
//! counters, the table of addresses, comparisons; see `SanitizerCoverage` in clang's documentation).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use nixmox_testbed::workspace_root;

use crate::step::{announce, cargo};

const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

const MANIFEST: &str = "fuzz/Cargo.toml";

/// Puts the faults in when it is set; see `fuzz/README.md`.
const PLANTED: &str = "NIXMOX_PLANTED";

/// Executions of each target in CI.
pub(crate) const RUNS: u64 = 100_000;

/// A planted fault is found long before this.
const RUNS_PLANTED: u64 = 5_000_000;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Executions of each target
    #[arg(long, default_value_t = RUNS)]
    runs: u64,
    /// Plant a fault, and fail unless each target finds it
    #[arg(long)]
    planted: bool,
}

/// Runs the targets as asked.
pub(crate) fn command(arguments: &Arguments) -> Result<ExitCode> {
    let target = arguments.target.as_deref();
    let bed = Bed::build()?;
    if arguments.planted {
        bed.find_planted(target)?;
    } else {
        bed.run(target, arguments.runs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns a command that fails when the targets' lock file does not fit their manifests: they are a workspace of their
/// own, so nothing else reads it. What it downloads is needed for the build.
pub(crate) fn check_lock() -> Command {
    cargo(&["fetch", "--quiet", "--locked", "--manifest-path", MANIFEST])
}

/// Returns the names of all targets, or checks that the one asked for is there.
fn targets(only: Option<&str>) -> Result<Vec<String>> {
    let folder = workspace_root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.context("cannot read the list of fuzz targets")?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    match only {
        None => Ok(names),
        Some(name) if names.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("no fuzz target {name}; there are: {}", names.join(", ")),
    }
}

/// Built targets, and where they leave things.
pub(crate) struct Bed {
    programs: PathBuf,
    scratch: PathBuf,
    /// Held for as long as this is: a second run in this tree would empty the folders of the first.
    _alone: File,
}

/// What a run came to.
struct Outcome {
    executions: u64,
    /// The input that broke something.
    found: Option<PathBuf>,
    log: String,
}

impl Bed {
    /// Builds all targets, once for runs with and without planted faults.
    pub(crate) fn build() -> Result<Self> {
        // libFuzzer is C++ and comes as source.
        nixmox_testbed::require(&[("c++", "g++")])?;
        let scratch = workspace_root().join("target/fuzz");
        // With `--target` the flags do not reach build scripts, which have nobody to count for.
        let triple = host_triple()?;
        let status = cargo(&["build", "--quiet", "--release", "--locked", "--manifest-path", MANIFEST, "--bins"])
            .args(["--target", &triple, "--target-dir"])
            .arg(&scratch)
            .env("RUSTFLAGS", COVERAGE)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .context("cannot start cargo")?;
        ensure!(status.success(), "the fuzz targets do not build (libFuzzer needs a C++ compiler)");
        let lock = scratch.join("lock");
        let alone = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
        alone.lock().with_context(|| format!("cannot lock {}", lock.display()))?;
        Ok(Self { programs: scratch.join(triple).join("release"), scratch, _alone: alone })
    }

    /// Runs one target, or all of them, this many times each; fails when one of them finds something.
    pub(crate) fn run(&self, target: Option<&str>, runs: u64) -> Result<()> {
        for target in targets(target)? {
            let begin = announce(&format!("fuzz {target}"));
            let outcome = self.fuzz(&target, runs, false)?;
            if let Some(found) = outcome.found {
                bail!("fuzz target {target} broke on {}\n{}", found.display(), outcome.log);
            }
            // An empty corpus, or a target that ends early, must not pass for a clean run.
            ensure!(
                outcome.executions >= runs,
                "fuzz target {target} ran {} times, not {runs}\n{}",
                outcome.executions,
                outcome.log
            );
            let seconds = begin.elapsed().as_secs_f32();
            println!("== fuzz {target}: nothing found in {} executions, {seconds:.1} s", outcome.executions);
        }
        Ok(())
    }

    /// Plants the faults, and fails unless one target, or each of them, finds its own.
    pub(crate) fn find_planted(&self, target: Option<&str>) -> Result<()> {
        for target in targets(target)? {
            let begin = announce(&format!("fuzz {target} with a planted fault"));
            let outcome = self.fuzz(&target, RUNS_PLANTED, true)?;
            ensure!(
                outcome.found.is_some(),
                "fuzz target {target} missed its planted fault in {} executions\n{}",
                outcome.executions,
                outcome.log
            );
            let seconds = begin.elapsed().as_secs_f32();
            println!(
                "== fuzz {target}: found its planted fault after {} executions, {seconds:.1} s",
                outcome.executions
            );
        }
        Ok(())
    }

    fn fuzz(&self, target: &str, runs: u64, planted: bool) -> Result<Outcome> {
        let found = fresh(&self.scratch.join("corpus").join(target))?;
        let artifacts = fresh(&self.scratch.join("artifacts").join(target))?;
        let mut command = Command::new(self.programs.join(target));
        if planted {
            command.env(PLANTED, "1");
        } else {
            command.env_remove(PLANTED);
        }
        let output = command
            // What is new goes into the first folder; the committed corpus is only read. One seed: a run repeats.
            .args([&found, &workspace_root().join("fuzz/corpus").join(target)])
            .arg(format!("-runs={runs}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-seed=1", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start fuzz target {target}"))?;
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        let executions = log
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok())
            .unwrap_or(0);
        let artifact = std::fs::read_dir(&artifacts)
            .with_context(|| format!("cannot list {}", artifacts.display()))?
            .find_map(|entry| Some(entry.ok()?.path()));
        if artifact.is_none() {
            ensure!(output.status.success(), "fuzz target {target} ended with {}\n{log}", output.status);
        }
        Ok(Outcome { executions, found: artifact, log })
    }
}

/// Makes an empty folder of a path.
fn fresh(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.to_path_buf())
}

fn host_triple() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
