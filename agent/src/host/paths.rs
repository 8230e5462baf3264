//! Where things lie on the host: every path that the adapters touch, in one place.
//!
//! Owns names and places, no content and no access. It can be rooted elsewhere, for tests of the
//! adapters on a temporary directory.

use std::path::{Path, PathBuf};

use nixmox_core::container::{
    CONF_FOLDER, CONF_FOLDER_RUN, ENVIRONMENT_FOLDER, EXIT_FOLDER, GUESTS_FOLDER, JOURNALS_FOLDER,
};
use nixmox_core::model::{ContainerName, StorePath};

/// The paths of the host.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
    /// Whether conf files of ours lie in `/run` because `/etc` cannot be written.
    conf_in_run: bool,
}

impl Default for Paths {
    /// The host itself.
    fn default() -> Self {
        Self { root: PathBuf::from("/"), conf_in_run: false }
    }
}

impl Paths {
    /// Returns the same paths below `root`.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), conf_in_run: false }
    }

    /// Returns the same paths with conf files of ours where units are told to read them.
    pub(crate) fn with_conf_in_run(self, conf_in_run: bool) -> Self {
        Self { conf_in_run, ..self }
    }

    /// Whether conf files of ours lie in [`Paths::runtime_conf_dir`].
    pub(crate) fn conf_in_run(&self) -> bool {
        self.conf_in_run
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Returns a path that is absolute on the host, as a path below this root.
    pub(crate) fn host_path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The directory of conf files that NixOS's template and `nixos-container` read.
    pub(crate) fn conf_dir(&self) -> PathBuf {
        self.host_path(Path::new(CONF_FOLDER))
    }

    /// The conf file of a container.
    pub(crate) fn conf(&self, name: &ContainerName) -> PathBuf {
        self.conf_dir().join(format!("{name}.conf"))
    }

    /// Where conf files live when `/etc` is read-only; the drop-in names it as the only `EnvironmentFile=`.
    pub(crate) fn runtime_conf_dir(&self) -> PathBuf {
        self.host_path(Path::new(CONF_FOLDER_RUN))
    }

    /// The conf file of a container when `/etc` is read-only.
    pub(crate) fn runtime_conf(&self, name: &ContainerName) -> PathBuf {
        self.runtime_conf_dir().join(format!("{name}.conf"))
    }

    /// What `nixos-container` locks while it chooses an address and writes the conf file that has it.
    pub(crate) fn address_lock(&self) -> PathBuf {
        self.at("run/lock/nixos-container")
    }

    /// The directory of runtime units, in which drop-in directories lie.
    pub(crate) fn runtime_units(&self) -> PathBuf {
        self.at("run/systemd/system")
    }

    /// Our drop-in of a container's unit. Sorts before systemd's own `50-*.conf`.
    pub(crate) fn drop_in(&self, name: &ContainerName) -> PathBuf {
        self.runtime_units().join(format!("{}.d/10-nixmox.conf", name.unit()))
    }

    /// What `SetUnitProperties` with `runtime` wrote for a unit (systemd's, but ours to remove).
    pub(crate) fn runtime_control(&self, name: &ContainerName) -> PathBuf {
        self.control_dir().join(format!("{}.d", name.unit()))
    }

    /// Our drop-in of a slice.
    pub(crate) fn slice_drop_in(&self, unit: &str) -> PathBuf {
        self.runtime_units().join(format!("{unit}.d/10-nixmox.conf"))
    }

    /// What `SetUnitProperties` with `runtime` wrote for a slice.
    pub(crate) fn slice_control(&self, unit: &str) -> PathBuf {
        self.control_dir().join(format!("{unit}.d"))
    }

    /// A path of the kernel's: `/proc` or `/sys`.
    pub(crate) fn kernel(&self, path: &str) -> PathBuf {
        self.host_path(Path::new(path))
    }

    /// Where `systemctl set-property` writes live properties for good.
    pub(crate) fn lasting_control_dir(&self) -> PathBuf {
        self.at("etc/systemd/system.control")
    }

    /// The directory of what `SetUnitProperties` with `runtime` wrote.
    pub(crate) fn control_dir(&self) -> PathBuf {
        self.at("run/systemd/system.control")
    }

    /// The environment of a guest's services, bound into it.
    pub(crate) fn environment(&self, name: &ContainerName) -> PathBuf {
        self.host_path(Path::new(ENVIRONMENT_FOLDER)).join(format!("{name}.conf"))
    }

    /// The directory of the files that guests share.
    pub(crate) fn guests_dir(&self) -> PathBuf {
        self.host_path(Path::new(GUESTS_FOLDER))
    }

    /// Whom the host's own programs ask for names (resolv.conf(5)).
    pub(crate) fn own_resolv_conf(&self) -> PathBuf {
        self.at("etc/resolv.conf")
    }

    /// The servers behind the stub of systemd-resolved(8).
    pub(crate) fn resolv_conf_behind_stub(&self) -> PathBuf {
        self.at("run/systemd/resolve/resolv.conf")
    }

    /// The resolv.conf(5) that guests share.
    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.guests_dir().join("resolv.conf")
    }

    /// The hosts file that guests share.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.guests_dir().join("hosts")
    }

    /// The directory of what guests are given of GPUs' drivers.
    pub(crate) fn gpu_dir(&self) -> PathBuf {
        self.at("run/nixmox/gpu")
    }

    /// The directory of exit records.
    pub(crate) fn exit_dir(&self) -> PathBuf {
        self.host_path(Path::new(EXIT_FOLDER))
    }

    /// How the last instance of a container ended, as `ExecStopPost=` wrote it.
    pub(crate) fn exit_record(&self, name: &ContainerName) -> PathBuf {
        self.exit_dir().join(name.as_str())
    }

    /// What the running instance of a container noted on its way. No container has a dot in its name.
    pub(crate) fn exit_note(&self, name: &ContainerName) -> PathBuf {
        self.exit_dir().join(format!("{name}.note"))
    }

    /// The invocation that the agent last asked systemd to stop.
    pub(crate) fn stop_mark(&self, name: &ContainerName) -> PathBuf {
        self.exit_dir().join(format!("{name}.stop"))
    }

    /// What the running instance of a container was switched to.
    pub(crate) fn switch_mark(&self, name: &ContainerName) -> PathBuf {
        self.exit_dir().join(format!("{name}.switch"))
    }

    /// What nspawn exports a guest's sockets through; a mount that a killed nspawn leaves behind.
    pub(crate) fn unix_export(&self, name: &ContainerName) -> PathBuf {
        self.at("run/systemd/nspawn/unix-export").join(name.as_str())
    }

    /// The root file system of a container.
    pub(crate) fn state(&self, name: &ContainerName) -> PathBuf {
        self.at("var/lib/nixos-containers").join(name.as_str())
    }

    /// The folder of what ephemeral containers log. No container has a dot in its name.
    pub(crate) fn journals_dir(&self) -> PathBuf {
        self.host_path(Path::new(JOURNALS_FOLDER))
    }

    /// What an ephemeral container logs.
    pub(crate) fn journal(&self, name: &ContainerName) -> PathBuf {
        self.journals_dir().join(name.as_str())
    }

    /// The directory of our roots of Nix's garbage collector.
    pub(crate) fn gc_roots(&self) -> PathBuf {
        self.at("nix/var/nix/gcroots/nixmox")
    }

    /// The profile directory by which `nixos-container` knows a container's system; guests may write to it.
    pub(crate) fn profile(&self, name: &ContainerName) -> PathBuf {
        self.at("nix/var/nix/profiles/per-container").join(name.as_str())
    }

    /// Where Nix's daemon listens.
    pub(crate) fn nix_daemon(&self) -> PathBuf {
        self.at("nix/var/nix/daemon-socket/socket")
    }

    /// A store path on this host.
    pub(crate) fn store_path(&self, path: &StorePath) -> PathBuf {
        self.host_path(Path::new(path.as_str()))
    }
}
