//! Our programs and units on a testbed, at the places a distribution's package would put them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use crate::{
    bed::Testbed,
    build::{Programs, workspace_root},
};

/// Where each file of `systemd/` goes, by its ending or its name.
fn place(name: &str) -> Option<(String, u32)> {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    match (name, extension) {
        (_, Some("service" | "socket" | "target" | "slice")) => {
            Some((format!("/usr/lib/systemd/system/{name}"), 0o644))
        }
        (_, Some("network")) => Some((format!("/usr/lib/systemd/network/{name}"), 0o644)),
        ("sysusers.conf", _) => Some(("/usr/lib/sysusers.d/nixmox.conf".to_owned(), 0o644)),
        ("tmpfiles.conf", _) => Some(("/usr/lib/tmpfiles.d/nixmox.conf".to_owned(), 0o644)),
        ("sysctl.conf", _) => Some(("/usr/lib/sysctl.d/60-nixmox.conf".to_owned(), 0o644)),
        (name, None) => Some((format!("/usr/lib/nixmox/{name}"), 0o755)),
        (_, Some(_)) => None,
    }
}

/// Copies our units and, if given, programs below a root; nothing is enabled.
pub(crate) fn lay_out(root: &Path, programs: Option<&Programs>) -> Result<()> {
    let units = workspace_root().join("systemd");
    for entry in fs::read_dir(&units).with_context(|| format!("cannot read {}", units.display()))? {
        let entry = entry?;
        if let Some((target, mode)) = entry.file_name().to_str().and_then(place) {
            put(&entry.path(), root, &target, mode)?;
        }
    }
    if let Some(programs) = programs {
        put(&programs.agent, root, "/usr/bin/nixmox-agent", 0o755)?;
        put(&programs.ctl, root, "/usr/bin/nixmoxctl", 0o755)?;
    }
    Ok(())
}

/// Copies a file to an absolute path below a root, with these permission bits; creates its folder.
pub(crate) fn put(from: &Path, root: &Path, target: &str, mode: u32) -> Result<()> {
    let target = root.join(target.trim_start_matches('/'));
    let parent = target.parent().context("a file has a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::copy(from, &target).with_context(|| format!("cannot copy {} to {}", from.display(), target.display()))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", target.display()))
}

/// Copies our units into a host that is not booted; with programs, those as well, and enables the agent.
pub(crate) fn install(bed: &Testbed, programs: Option<&Programs>) -> Result<()> {
    lay_out(&bed.root(), programs)?;
    make_groups(bed)?;
    if programs.is_none() {
        return Ok(());
    }
    enable(bed, "sockets.target.wants", "nixmox-agent.socket")?;
    enable(bed, "multi-user.target.wants", "nixmox-agent.service")
}

/// Makes our groups now, as a package's installation does: at boot systemd makes users only after an update of `/usr`.
fn make_groups(bed: &Testbed) -> Result<()> {
    let output = Command::new("chroot")
        .arg(bed.root())
        .args(["systemd-sysusers", "nixmox.conf"])
        .output()
        .context("cannot start chroot")?;
    ensure!(output.status.success(), "systemd-sysusers failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn enable(bed: &Testbed, wants: &str, unit: &str) -> Result<()> {
    let link = bed.path(format!("/etc/systemd/system/{wants}/{unit}"));
    let parent = link.parent().context("a unit link has a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), &link)
        .with_context(|| format!("cannot enable {unit}"))
}
