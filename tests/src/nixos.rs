//! A guest that plays a NixOS system: it boots, and has a `switch-to-configuration` of its own.

use anyhow::{Context as _, Result};
use nixmox_testbed::Testbed;

/// Puts a system into the store that boots as the homelab's caddy does; `switch` is how a guest is switched to it.
///
/// What it was switched to is in `/etc/version`, each switch with its verb in `/var/log/switches`.
///
/// # Errors
/// When the host's files cannot be written.
pub fn system(bed: &Testbed, name: &str, switch: &str) -> Result<String> {
    let caddy = bed.homelab_systems()?.remove("caddy").context("there is no caddy")?;
    let staged = format!("/var/tmp/nixos-system-{name}");
    let busybox = bed.read_file("/etc/testbed/busybox")?;
    let init = format!("#!{}/bin/busybox sh\nexec {caddy}/init \"$@\"\n", busybox.trim());
    bed.write_file(format!("{staged}/init"), init, 0o755)?;
    let dry = "[ $1 != dry-activate ] || { echo would restart the following units: caddy.service; exit; }";
    let switch =
        format!("#!/bin/sh\n{dry}\necho {name} $1 >> /var/log/switches\n{switch}\necho {name} > /etc/version\n");
    bed.write_file(format!("{staged}/bin/switch-to-configuration"), switch, 0o755)?;
    bed.store_add(&[staged])?.pop().context("nothing was added")
}
