//! What the machine itself must have before a testbed can boot: root, a few programs, overlayfs.
//!
//! Installs the Debian packages that carry missing programs and says so. Does nothing when all is there.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Uid;

/// Programs that the testbed starts on the machine, each with the Debian package that has it.
const PROGRAMS: [(&str, &str); 7] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("tar", "tar"),
    ("gcc", "gcc"),
];

/// Makes sure that the machine can boot a testbed; installs missing Debian packages. Safe to repeat.
pub(crate) fn prepare() -> Result<()> {
    ensure!(
        Uid::effective().is_root(),
        "the testbed needs root: it mounts file systems and starts systemd-nspawn. Run the command with sudo, or leave the testbed \
         out with `cargo xtask test --no-testbed`"
    );
    let mut missing = missing(&PROGRAMS);
    // mmdebstrap checks signatures with the archive's keys, which a non-Debian derivative may lack.
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        missing.push("debian-archive-keyring");
    }
    install(missing)
}

/// Makes sure that these programs are there, each with the Debian package that has it; installs what is missing.
/// Safe to repeat.
///
/// # Errors
///
/// When one is missing and cannot be installed: the error names the package.
pub fn require(programs: &[(&str, &'static str)]) -> Result<()> {
    install(missing(programs))
}

fn missing(programs: &[(&str, &'static str)]) -> Vec<&'static str> {
    programs.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect()
}

fn install(mut packages: Vec<&str>) -> Result<()> {
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let packages_text = packages.join(" ");
    ensure!(Uid::effective().is_root(), "this machine lacks {packages_text}: apt-get install {packages_text}");
    let apt = find_program("apt-get").with_context(|| {
        format!(
            "this machine lacks {packages_text} and has no apt-get; install them by hand (the testbed is made for Debian and its \
             derivatives)"
        )
    })?;
    say(&format!("installing Debian packages: {packages_text}"));
    run_apt(&apt, &["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(packages);
    run_apt(&apt, &arguments)
}

/// Tells the person at the terminal what takes time.
pub(crate) fn say(text: &str) {
    #[allow(clippy::print_stderr, reason = "progress of a test tool goes to stderr")]
    {
        eprintln!("testbed: {text}");
    }
}

fn run_apt(apt: &Path, arguments: &[&str]) -> Result<()> {
    let output = Command::new(apt)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .with_context(|| format!("cannot start {}", apt.display()))?;
    if !output.status.success() {
        bail!(
            "apt-get {} failed: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}
