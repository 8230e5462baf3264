//! Our own programs, as cargo builds them: what is installed in a testbed.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context, Result, bail, ensure};

/// Which build of ours a testbed gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// No programs: a host with our units, `container@.service` among them, and no agent.
    None,
    /// What `cargo build` makes.
    Debug,
    /// What `cargo build --release` makes.
    Release,
}

/// Paths of the built programs on the machine.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The program `nixmox-agent`.
    pub agent: PathBuf,
    /// The program `nixmoxctl`.
    pub ctl: PathBuf,
}

impl Build {
    /// Builds the programs, once per process and per kind; `None` for [`Build::None`].
    ///
    /// With `NIXMOX_TESTBED_BUILD=skip` in the environment what is in the target folder is taken as it is.
    pub fn programs(self) -> Result<Option<Programs>> {
        static DONE: Mutex<Vec<Build>> = Mutex::new(Vec::new());
        let profile = match self {
            Self::None => return Ok(None),
            Self::Debug => "debug",
            Self::Release => "release",
        };
        let mut done = DONE.lock().map_err(|_| anyhow::anyhow!("another thread failed to build"))?;
        if !done.contains(&self) && std::env::var_os("NIXMOX_TESTBED_BUILD").is_none_or(|value| value != "skip") {
            let mut cargo = cargo();
            cargo.args(["build", "--quiet", "--package", "nixmox-agent", "--package", "nixmoxctl", "--bins"]);
            if self == Self::Release {
                cargo.arg("--release");
            }
            run(&mut cargo)?;
            done.push(self);
        }
        let dir = target_dir().join(profile);
        let programs = Programs { agent: dir.join("nixmox-agent"), ctl: dir.join("nixmoxctl") };
        for program in [&programs.agent, &programs.ctl] {
            ensure!(program.is_file(), "{} is not built", program.display());
        }
        Ok(Some(programs))
    }
}

impl Build {
    /// Builds `nixmoxctl` alone, once per process and per kind, and returns its path on the machine.
    pub fn client(self) -> Result<PathBuf> {
        static DONE: Mutex<Vec<Build>> = Mutex::new(Vec::new());
        let (flags, profile): (&[&str], &str) = match self {
            Self::None => bail!("no build has a client"),
            Self::Debug => (&[], "debug"),
            Self::Release => (&["--release"], "release"),
        };
        let mut done = DONE.lock().map_err(|_| anyhow::anyhow!("another thread failed to build"))?;
        if !done.contains(&self) && std::env::var_os("NIXMOX_TESTBED_BUILD").is_none_or(|value| value != "skip") {
            run(cargo().args(["build", "--quiet", "--package", "nixmoxctl", "--bins"]).args(flags))?;
            done.push(self);
        }
        let client = target_dir().join(profile).join("nixmoxctl");
        ensure!(client.is_file(), "{} is not built", client.display());
        Ok(client)
    }
}

/// Builds the static guest, once per process, and returns its path on the machine.
pub fn guest_binary() -> Result<PathBuf> {
    static DONE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut done = DONE.lock().map_err(|_| anyhow::anyhow!("another thread failed to build the guest"))?;
    if let Some(path) = done.as_ref() {
        return Ok(path.clone());
    }
    let triple = host_triple()?;
    // A folder and a target of its own: the flag must not reach build scripts or the other crates' builds.
    let dir = target_dir().join("guest");
    run(cargo()
        .args(["build", "--quiet", "--release", "--package", "nixmox-test-guest", "--target", &triple])
        .args(["--config", &format!("target.{triple}.rustflags=[\"-Ctarget-feature=+crt-static\"]")])
        .arg("--target-dir")
        .arg(&dir)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let path = dir.join(&triple).join("release/nixmox-test-guest");
    ensure!(path.is_file(), "{} is not built", path.display());
    *done = Some(path.clone());
    Ok(path)
}

/// Builds the stand-in for NVML (`tests/fake-nvml`), once per process, and returns the path of what stands for `libnvidia-ml.so.1`.
pub fn fake_nvml() -> Result<PathBuf> {
    static DONE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut done =
        DONE.lock().map_err(|_| anyhow::anyhow!("another thread failed to build the stand-in for NVML"))?;
    if let Some(path) = done.as_ref() {
        return Ok(path.clone());
    }
    run(cargo().args(["build", "--quiet", "--package", "nixmox-fake-nvml"]))?;
    let path = target_dir().join("debug/libfake_nvml.so");
    ensure!(path.is_file(), "{} is not built", path.display());
    *done = Some(path.clone());
    Ok(path)
}

/// Root of the workspace that this crate was built in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or_else(|| Path::new("/")).to_owned()
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("rustc does not name its host")
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
