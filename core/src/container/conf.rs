//! The conf file that NixOS's `container@.service` reads: one variable a line, unquoted by systemd.
//!
//! The words are those of nixpkgs' `nixos-containers.nix` and of `nixos-container`, which looks for
//! `HOST_ADDRESS=` and `LOCAL_ADDRESS=` at the start of a line, unquoted, to find free addresses. `COPY_RESOLV_CONF` is
//! read by our own template alone: nixpkgs' copies the host's file at every start.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::value::{environment_quoted, environment_unquoted, flag, part, path, word};
use super::{
    ENVIRONMENT_FILE_INSIDE, ENVIRONMENT_FOLDER, GUESTS_FOLDER, GUESTS_FOLDER_INSIDE, JOURNAL_INSIDE,
    JOURNALS_FOLDER, Layout, Uncarriable,
};
use crate::model::{Assigned, Network, PrivateUsers, Service, Spec, StorePath, System};

/// The first line of every conf file that NixMox wrote: it names the owner.
pub const CONF_OWNER: &str = "# Written by nixmox-agent, which overwrites changes; the manifest is the source.";

/// Returns the text of the conf file; `None` for an adopted container, whose owner writes it.
///
/// # Errors
///
/// When a value cannot be carried.
pub fn conf_file(assigned: &Assigned, spec: &Spec, layout: &Layout) -> Result<Option<String>, Uncarriable> {
    let service = &assigned.service;
    let system = match &service.system {
        System::Store(system) => system,
        System::Adopted => return Ok(None),
    };
    let mut text = format!("{CONF_OWNER}\nSYSTEM_PATH={system}\n");
    let mut line = |name: &str, value: &str| {
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    };
    match &service.network {
        Network::Private { address: _ } => {
            line("PRIVATE_NETWORK", "1");
            if let Some(addresses) = assigned.addresses {
                line("HOST_ADDRESS", &addresses.host.to_string());
                line("LOCAL_ADDRESS", &addresses.local.to_string());
            }
            line("COPY_RESOLV_CONF", if layout.copy_resolv_conf { "1" } else { "0" });
        }
        Network::Bridge(bridge) => {
            line("PRIVATE_NETWORK", "1");
            line("HOST_BRIDGE", word("the name of a bridge", bridge)?);
            line("COPY_RESOLV_CONF", if layout.copy_resolv_conf { "1" } else { "0" });
        }
        Network::Host => line("PRIVATE_NETWORK", "0"),
    }
    line(
        "PRIVATE_USERS",
        match service.private_users {
            PrivateUsers::No => "no",
            PrivateUsers::Pick => "pick",
        },
    );
    // Who starts it is the agent, never machines.target.
    line("AUTO_START", "0");
    line("EXTRA_NSPAWN_FLAGS", &environment_quoted(&nspawn_flags(assigned)?));
    line("NIXMOX_SPEC", &spec.to_string());
    Ok(Some(text))
}

/// Returns the flags for systemd-nspawn(1), separated by blanks.
fn nspawn_flags(assigned: &Assigned) -> Result<String, Uncarriable> {
    let service = &assigned.service;
    // With a user namespace, files of the host's users would belong to nobody inside; `idmap` keeps their owners,
    // as the template does for the store. A file system that knows no idmapped mounts (mount_setattr(2)) fails the
    // start, which is better than data that nobody inside may write.
    let options = match service.private_users {
        PrivateUsers::No => "",
        PrivateUsers::Pick => ":idmap",
    };
    let mut flags = format!("--bind-ro={GUESTS_FOLDER}:{GUESTS_FOLDER_INSIDE}");
    let mut add = |flag: std::fmt::Arguments<'_>| {
        flags.push(' ');
        // Writing to a String cannot fail.
        let _ = flags.write_fmt(flag);
    };
    if !assigned.environment().is_empty() {
        add(format_args!("--bind-ro={ENVIRONMENT_FOLDER}/{}.conf:{ENVIRONMENT_FILE_INSIDE}", service.name));
    }
    for mount in &service.mounts {
        let flag = if mount.read_only { "--bind-ro" } else { "--bind" };
        let (source, target) = (part("a mount source", &mount.source)?, part("a mount target", &mount.target)?);
        add(format_args!("{flag}={source}:{target}{options}"));
    }
    for tmpfs in &service.tmpfs {
        let target = part("the target of a tmpfs", &tmpfs.target)?;
        match tmpfs.size {
            Some(size) => add(format_args!("--tmpfs={target}:size={}", size.0)),
            None => add(format_args!("--tmpfs={target}")),
        }
    }
    for (name, source) in &service.credentials {
        if name.contains([':', '\\', '/']) {
            return Err(Uncarriable::new("the name of a credential", name, "it contains `:`, `/` or a backslash"));
        }
        // Only the name ends at the first `:`; the path is taken as it is.
        let (name, source) = (word("the name of a credential", name)?, path("a credential", source)?);
        add(format_args!("--load-credential={name}:{source}"));
    }
    for device in assigned.device_rules() {
        add(format_args!("--bind={}", part("a device", &device.path)?));
    }
    for mount in assigned.gpu_mounts() {
        // Programs and libraries, which everybody may read whoever owns them.
        let (source, target) = (part("a GPU's mount", &mount.source)?, part("a GPU's mount", &mount.target)?);
        add(format_args!("--bind-ro={source}:{target}"));
    }
    for capability in &service.capabilities {
        add(format_args!("--capability={}", word("a capability", capability)?));
    }
    if service.ephemeral {
        // The root lies in RuntimeDirectory= (see `drop_in`) and goes with it; a link from the host's journal
        // into it would outlive it.
        add(format_args!("--link-journal=no"));
        if keeps_journal(service) {
            add(format_args!("--bind={JOURNALS_FOLDER}/{}:{JOURNAL_INSIDE}{options}", service.name));
        }
    }
    for text in &service.nspawn_flags {
        add(format_args!("{}", flag("a flag of systemd-nspawn", text)?));
    }
    Ok(flags)
}

/// Returns whether what an ephemeral service logs is kept for it: unless its root is, or something is mounted there.
#[must_use]
pub fn keeps_journal(service: &Service) -> bool {
    let mounts = service.mounts.iter().map(|mount| &mount.target);
    let mut targets = mounts.chain(service.tmpfs.iter().map(|tmpfs| &tmpfs.target));
    let journal = Path::new(JOURNAL_INSIDE);
    let meets = |target: &PathBuf| journal.starts_with(target) || target.starts_with(journal);
    service.ephemeral && !targets.any(meets)
}

/// Returns whether NixMox wrote this conf file.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.lines().next() == Some(CONF_OWNER)
}

/// Returns the addresses that a conf file takes, whoever wrote it; without duplicates, possibly none.
///
/// Reads what `nixos-container` and NixOS write: `HOST_ADDRESS=10.233.1.1`, with or without `/24` and quotes.
#[must_use]
pub fn conf_addresses(text: &str) -> BTreeSet<Ipv4Addr> {
    let address = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        let address = value.split_once('/').map_or(value, |(address, _prefix)| address);
        matches!(name.trim_end(), "HOST_ADDRESS" | "LOCAL_ADDRESS").then(|| address.parse().ok())?
    };
    text.lines().filter_map(address).collect()
}

/// Returns whether a conf file has the host start the container at boot, whoever wrote it.
#[must_use]
pub fn starts_at_boot(text: &str) -> bool {
    let assignments = text.lines().filter_map(|line| line.trim().split_once('='));
    let mut values = assignments.filter(|(name, _)| name.trim_end() == "AUTO_START");
    // The last one counts (systemd.exec(5), EnvironmentFile=).
    values.next_back().is_some_and(|(_, value)| value.trim().trim_matches(['"', '\'']) == "1")
}

/// Returns whether a conf file of ours puts the container on the host's network.
#[must_use]
pub fn is_on_host_network(text: &str) -> bool {
    text.lines().any(|line| line == "PRIVATE_NETWORK=0")
}

/// Returns the fingerprint that a conf file of ours carries; `None` when it carries none that can be read.
#[must_use]
pub fn spec_of_conf(text: &str) -> Option<Spec> {
    text.lines().find_map(|line| line.strip_prefix("NIXMOX_SPEC="))?.parse().ok()
}

/// Returns the system that a conf file names; `None`: it leaves that to the profile, or names no store path.
#[must_use]
pub fn system_of_conf(text: &str) -> Option<StorePath> {
    text.lines().find_map(|line| line.strip_prefix("SYSTEM_PATH="))?.parse().ok()
}

/// Returns the host paths that a conf file of ours binds writably: no two containers should run on one of these
/// unless both are declared so.
#[must_use]
pub fn writable_sources(text: &str) -> BTreeSet<PathBuf> {
    let flags =
        text.lines().find_map(|line| line.strip_prefix("EXTRA_NSPAWN_FLAGS=")).and_then(environment_unquoted);
    flags
        .unwrap_or_default()
        .split(' ')
        .filter_map(|flag| flag.strip_prefix("--bind="))
        // A path of ours has no backslash of its own, so `\:` is the only escape there can be.
        .map(|bind| bind.replace("\\:", "\0"))
        .filter_map(|bind| bind.split(':').next().map(|source| PathBuf::from(source.replace('\0', ":"))))
        .filter(|source| !source.starts_with("/dev") && !source.starts_with(JOURNALS_FOLDER))
        .collect()
}
