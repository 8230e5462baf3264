//! The stack of `examples/homelab` on a testbed: its files, its secrets and its systems.

use std::{collections::BTreeMap, fs, os::unix::fs::symlink};

use anyhow::{Context, Result};

use crate::{bed::Testbed, behaviour::Behaviour, build::workspace_root};

/// Where the stack lies inside.
pub const HOMELAB_DIR: &str = "/srv/homelab";
/// Where the layer lists its systems: a line `NAME PATH` each.
const SYSTEMS: &str = "/etc/testbed/systems";
/// The passwords that the stack's credentials name, with made-up values.
const SECRETS: [(&str, &str); 2] =
    [("postgres-password", "correct-horse"), ("miniflux-password", "battery-staple")];

impl Testbed {
    /// Returns the store paths of the homelab's booted Debian systems by service name.
    pub fn homelab_systems(&self) -> Result<BTreeMap<String, String>> {
        let text = self.read_file(SYSTEMS).context("this testbed was booted without the homelab's systems")?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, path)| (name.to_owned(), path.to_owned()))
            .collect())
    }

    /// Puts the stack into [`HOMELAB_DIR`], with its secrets, and in each service's folder the link `result` to its system.
    ///
    /// The host must be booted.
    pub fn install_homelab(&self) -> Result<()> {
        self.copy_in(workspace_root().join("examples/homelab"), HOMELAB_DIR)?;
        for (name, value) in SECRETS {
            self.write_file(format!("{HOMELAB_DIR}/secrets/{name}"), value, 0o600)?;
        }
        let mut systems = self.homelab_systems()?;
        systems.insert("hello".to_owned(), self.static_guest("hello", &Behaviour::new().http(80).log("hello"))?);
        for (name, path) in systems {
            let link = self.path(format!("{HOMELAB_DIR}/services/{name}/result"));
            let _ = fs::remove_file(&link);
            symlink(&path, &link).with_context(|| format!("cannot link the system of {name}"))?;
        }
        Ok(())
    }
}
