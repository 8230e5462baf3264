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
    let mut missing: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    // mmdebstrap checks signatures with the archive's keys, which a non-Debian derivative may lack.
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        missing.push("debian-archive-keyring");
    }
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let apt = find_program("apt-get").with_context(|| {
        format!(
            "this machine lacks {} and has no apt-get; install them by hand (the testbed is made for Debian and its derivatives)",
            missing.join(", ")
        )
    })?;
    say(&format!("installing Debian packages: {}", missing.join(" ")));
    run_apt(&apt, &["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    run_apt(&apt, &install)
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
