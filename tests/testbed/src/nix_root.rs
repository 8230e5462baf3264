//! Nix, and systemd's checks of units, on a machine that has neither: from the root of a testbed's host, which is not booted for that.
//!
//! ```text
//!  cache: root of the host ──chroot──▶ /mnt/run/source   a copy of the working tree, as a commit of it would have it
//!                                      /mnt/run          what callers put there
//!                                      /nix              a store of its own
//!                                      /mnt/nixpkgs      a nixpkgs of the caller's, read-only
//! ```
//!
//! There is no network: whatever is evaluated lies in one of these.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{
    build::workspace_root,
    cache::Cache,
    contained,
    exec::Output,
    leftovers::RunDir,
    machine::{self, say},
    recipe,
};

/// Runs a command in the root. $1: the root; $2: the run folder; $3: a nixpkgs, or nothing; then what runs.
const IN_ROOT: &str = r#"
root=$1 run=$2 nixpkgs=$3
shift 3
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/mnt"
mkdir "$root/mnt/run" "$root/mnt/nixpkgs"
mount --bind "$run" "$root/mnt/run"
mkdir -p "$run/nix"
mount --bind "$run/nix" "$root/nix"
if [ -n "$nixpkgs" ]; then mount --bind -o ro "$nixpkgs" "$root/mnt/nixpkgs"; fi
exec unshare --net chroot "$root" env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/run/home LANG=C.UTF-8 \
    NIX_CONFIG="build-users-group =" "$@"
"#;

/// A Nix and a systemd that can look at our files.
#[derive(Debug)]
pub struct NixRoot {
    root: PathBuf,
    run: RunDir,
    nixpkgs: Option<PathBuf>,
}

impl NixRoot {
    /// Where commands find the run folder, the only one that they can write to.
    const RUN: &str = "/mnt/run";
    /// Where commands find the copy of the working tree.
    pub const SOURCE: &str = "/mnt/run/source";
    /// Where commands find the caller's nixpkgs.
    pub const NIXPKGS: &str = "/mnt/nixpkgs";

    /// Builds what the cache lacks (30 s once), and copies the working tree. `nixpkgs` is a nixpkgs, or what has a `lib` like its.
    pub fn prepare(nixpkgs: Option<&Path>) -> Result<Self> {
        machine::prepare()?;
        let cache = Cache::open()?;
        let root = cache.root()?;
        let nix = Self { root, run: RunDir::claim(&cache)?, nixpkgs: nixpkgs.map(Path::to_owned) };
        copy_working_tree(&nix.run.path().join("source"))?;
        Ok(nix)
    }

    /// Writes a file below the run folder and returns where commands find it.
    pub fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.run.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Path::new(Self::RUN).join(name))
    }

    /// Returns where the machine itself has the run folder, which is removed in the end.
    #[must_use]
    pub fn run_folder(&self) -> &Path {
        self.run.path()
    }

    /// Copies a file of the machine below the run folder, under its own name, and returns the folder in which commands find it.
    pub fn bring(&self, folder: &str, file: &Path) -> Result<PathBuf> {
        let outside = self.run.path().join(folder);
        fs::create_dir_all(&outside).with_context(|| format!("cannot create {}", outside.display()))?;
        let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
        fs::copy(file, outside.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
        Ok(Path::new(Self::RUN).join(folder))
    }

    /// Runs a command and returns what it printed, whatever its exit status.
    pub fn run<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<Output> {
        let mut all = ["sh", "-euc", IN_ROOT, "testbed"].map(OsString::from).to_vec();
        let nixpkgs = self.nixpkgs.clone().unwrap_or_default();
        all.extend([self.root.clone().into(), self.run.path().into(), nixpkgs.into()]);
        all.extend(argv.iter().map(|argument| argument.as_ref().to_owned()));
        contained::output(&all)
    }
}

/// Returns a program that `cargo install` makes, from the cache.
pub fn tool(package: &str, version: &str, program: &str) -> Result<PathBuf> {
    let entry = Cache::open()?.entry(&format!("{package}-{version}"), |target| {
        say(&format!("installing {package} {version} (once, about 60 s)"));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(target).arg(package);
        let output = cargo.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "cargo install failed:\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })?;
    Ok(entry.join("bin").join(program))
}

/// Returns a folder for `PYTHONPATH` with packages from `PyPI`, from the cache. Each is `NAME==VERSION`, and what they need is among them.
pub fn python_packages(name: &str, packages: &[&str]) -> Result<PathBuf> {
    machine::require(&[("python3", "python3"), ("pip3", "python3-pip")])?;
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; print(sys.implementation.cache_tag)"]);
    let tag = python.output().context("cannot start python3")?;
    ensure!(tag.status.success(), "python3 failed:\n{}", String::from_utf8_lossy(&tag.stderr));
    // What is compiled in them is for one Python.
    let hash = recipe::hash(&[packages, &[&*String::from_utf8_lossy(&tag.stdout)]].concat());
    Cache::open()?.entry(&format!("{name}-{hash}"), |target| {
        say(&format!("installing {} (once, about 10 s)", packages.join(", ")));
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"]).arg(target);
        let output = pip.args(packages).output().context("cannot start python3")?;
        ensure!(output.status.success(), "pip install failed:\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })
}

/// Copies what git tracks or would track: not what was built, which is larger than all else by far.
fn copy_working_tree(target: &Path) -> Result<()> {
    let from = workspace_root();
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").current_dir(&from).args(list).output().context("cannot start git")?;
    ensure!(output.status.success(), "git ls-files failed:\n{}", String::from_utf8_lossy(&output.stderr));
    for name in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = Path::new(OsStr::from_bytes(name));
        // Deleted, and not yet committed so.
        if !from.join(name).exists() {
            continue;
        }
        let place = target.join(name);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::copy(from.join(name), &place).with_context(|| format!("cannot copy {}", name.display()))?;
    }
    Ok(())
}
