//! The texts that carry one container: conf file, unit drop-in, environment file, fingerprint, exit record.
//!
//! Owns what NixMox writes for a container and how it reads it back, as pure functions of what is desired. Does
//! not write, does not compare (that is `plan`), and does not check the manifest: a value that these formats
//! cannot carry is refused here once more, as [`Uncarriable`], because a line break in the wrong place would be
//! a setting of its own in a file that root reads.
//!
//! ```text
//! Assigned ─┬─▶ spec ───────────▶ NIXMOX_SPEC=  (in the conf file; read back from nspawn's environment)
//!           ├─▶ conf_file ──────▶ /etc/nixos-containers/NAME.conf, or /run/nixmox/conf/NAME.conf
//!           ├─▶ drop_in ────────▶ /run/systemd/system/container@NAME.service.d/10-nixmox.conf
//!           └─▶ environment_file▶ /run/nixmox/env/NAME.conf, bound into the guest
//! ```

mod conf;
mod drop_in;
mod environment;
mod exit;
mod spec;
mod switch;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::{Assigned, ContainerName, Desired, Spec};

pub use conf::{
    CONF_OWNER, conf_addresses, conf_file, is_on_host_network, is_ours, keeps_journal, spec_of_conf,
    starts_at_boot, system_of_conf, writable_sources,
};
pub use drop_in::{dependencies, drop_in, slice, slice_drop_in};
pub use environment::{environment_file, spec_of_environ, system_of_environ};
pub use exit::{ExitVariables, Note, parse_exit_record, record_exit, write_note};
pub use spec::spec;
pub use switch::{switch_mark, switched};
pub use value::Uncarriable;

/// Where the conf file lies that NixOS's template reads.
pub const CONF_FOLDER: &str = "/etc/nixos-containers";
/// Where the journals of ephemeral containers lie, one folder per container; on the file system of other containers' roots,
/// which can be mapped as those can.
pub const JOURNALS_FOLDER: &str = "/var/lib/nixos-containers/.journal";
/// Where a guest keeps its journal (systemd-journald.service(8)).
pub const JOURNAL_INSIDE: &str = "/var/log/journal";
/// Where the conf file lies when `/etc` is read-only.
pub const CONF_FOLDER_RUN: &str = "/run/nixmox/conf";
/// The folder of the hosts file and of resolv.conf, bound read-only into every guest, so that replacing a file is seen there.
pub const GUESTS_FOLDER: &str = "/run/nixmox/guests";
/// Where guests see [`GUESTS_FOLDER`].
pub const GUESTS_FOLDER_INSIDE: &str = "/run/host/nixmox";
/// Where the environment files lie, one per container that has an environment.
pub const ENVIRONMENT_FOLDER: &str = "/run/nixmox/env";
/// Where guests see their environment file: a drop-in of their service manager (systemd-system.conf(5)).
pub const ENVIRONMENT_FILE_INSIDE: &str = "/run/systemd/system.conf.d/50-nixmox.conf";
/// Where exit records lie, one per container, named after it; a running one's note beside it is `NAME.note`.
pub const EXIT_FOLDER: &str = "/run/nixmox/exit";

/// What the texts depend on besides the service: facts of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The absolute path of the agent's binary, for `ExecStartPost=`, `ExecStop=` and `ExecStopPost=`.
    pub agent: PathBuf,
    /// Whether the conf file lies in [`CONF_FOLDER_RUN`] because `/etc` cannot be written.
    pub conf_in_run: bool,
    /// Whether the template copies the host's servers of names into containers with a private network.
    pub copy_resolv_conf: bool,
}

/// Every text of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The fingerprint of what only a restart can change; empty for an adopted container.
    pub spec: Spec,
    /// The conf file; `None` for an adopted container, whose owner writes it.
    pub conf: Option<String>,
    /// Our drop-in of its unit.
    pub drop_in: String,
    /// The environment file; `None` when it has no environment.
    pub environment: Option<String>,
}

/// Returns every text of one container.
///
/// # Errors
///
/// When a value cannot be carried. The manifest's checks refuse these before.
pub fn files(assigned: &Assigned, layout: &Layout) -> Result<Files, Uncarriable> {
    let spec = spec(assigned);
    Ok(Files {
        conf: conf_file(assigned, &spec, layout)?,
        drop_in: drop_in(assigned, layout)?,
        environment: environment_file(assigned)?,
        spec,
    })
}

/// Returns the texts of every desired container, or why one cannot have them: the `files` of `plan`.
#[must_use]
pub fn all_files(desired: &Desired, layout: &Layout) -> BTreeMap<ContainerName, Result<Files, Uncarriable>> {
    desired.services.iter().map(|(name, assigned)| (name.clone(), files(assigned, layout))).collect()
}

#[cfg(test)]
mod tests;
