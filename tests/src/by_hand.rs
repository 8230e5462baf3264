//! A container that somebody else made, as `nixos-container create` does, or as the host's configuration does.
#![allow(
    clippy::missing_errors_doc,
    reason = "every function fails for the same reason: the testbed did not do what was asked; the message says which"
)]

use anyhow::Result;
use nixmox_testbed::Testbed;

/// A container that NixMox did not make.
#[derive(Clone, Copy, Debug)]
pub struct ByHand<'a> {
    bed: &'a Testbed,
    /// Its name.
    pub name: &'a str,
}

impl<'a> ByHand<'a> {
    /// Makes one as `nixos-container create` does: a conf file, a profile that leads to its system, and its state.
    ///
    /// Its addresses are 10.233.NUMBER.1 and .2.
    pub fn create(bed: &'a Testbed, name: &'a str, number: u8, system: &str) -> Result<Self> {
        let conf = format!(
            "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.{number}.1\nLOCAL_ADDRESS=10.233.{number}.2\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n"
        );
        bed.write_file(format!("/etc/nixos-containers/{name}.conf"), conf, 0o644)?;
        bed.succeed(&format!(
            "mkdir -p /nix/var/nix/profiles/per-container/{name} /var/lib/nixos-containers/{name}/var
             ln -s {system} /nix/var/nix/profiles/per-container/{name}/system
             echo precious > /var/lib/nixos-containers/{name}/var/data"
        ))?;
        Ok(Self { bed, name })
    }

    /// Makes the conf file what the host's configuration makes it: a link to a file that nobody writes.
    pub fn declared_by_the_host(self) -> Result<Self> {
        let name = self.name;
        self.bed
            .succeed(&format!(
                "mkdir -p /etc/static/nixos-containers && mv /etc/nixos-containers/{name}.conf /etc/static/nixos-containers/
                 ln -s /etc/static/nixos-containers/{name}.conf /etc/nixos-containers/{name}.conf"
            ))?;
        Ok(self)
    }

    /// Returns what tells whether its files were touched: inode, times, size, mode and content of the conf file, of what it leads to if
    /// it is a link, and of the profile.
    pub fn files(&self) -> Result<String> {
        let name = self.name;
        let conf = format!("/etc/nixos-containers/{name}.conf");
        let script = format!(
            "stat -c '%N %i %y %z %s %a' {conf} $(readlink -f {conf}) /nix/var/nix/profiles/per-container/{name}/system
             cat {conf} /var/lib/nixos-containers/{name}/var/data; find /etc/nixos-containers /var/lib/nixos-containers -name '*{name}.conf*'"
        );
        self.bed.succeed(&script)
    }

    /// Returns a property of its unit.
    pub fn show(&self, property: &str) -> Result<String> {
        self.bed.succeed(&format!("systemctl show -P {property} container@{}", self.name))
    }
}
