//! What goes into the file systems that testbeds boot from, and the hash that names each in the cache.
//!
//! A change of any list or script here, or in `assets/`, gives a new hash and so a new build; nothing is ever changed in place.

use sha2::{Digest, Sha256};

/// The Debian release of host and guests: systemd 257, Nix 2.26, `PostgreSQL` 17.
pub(crate) const SUITE: &str = "trixie";

/// Packages of the booted host.
pub(crate) const ROOT_PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "systemd-container",
    "udev",
    "polkitd",
    "nix-bin",
    "nix-setup-systemd",
    "nftables",
    "iproute2",
    "iputils-ping",
    "netcat-openbsd",
    "procps",
    "strace",
    "curl",
    "ca-certificates",
    "jq",
    "busybox-static",
    "prometheus",
];

/// Packages of a virtual machine, beside those of the booted host.
pub(crate) const VM_PACKAGES: &[&str] = &["linux-image-cloud-amd64", "initramfs-tools", "e2fsprogs"];

/// Packages of the root in which virtual machines are made and run: a machine's own QEMU may be too old for its guest's kernel.
pub(crate) const TOOLS_PACKAGES: &[&str] = &["qemu-system-x86", "qemu-utils", "e2fsprogs", "python3"];

/// Packages of the one root that all booted Debian guests share.
pub(crate) const GUEST_PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "procps",
    "curl",
    "ca-certificates",
    "postgresql",
    "miniflux",
    "caddy",
];

/// What guests never read. `jit = off` in the `PostgreSQL` seed makes LLVM (120 MB) dead weight.
pub(crate) const GUEST_EXCLUDES: &[&str] =
    &["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/lib/*/libLLVM*"];

/// Finishes the host's root after its packages are in.
pub(crate) const ROOT_SCRIPT: &str = include_str!("../assets/finish-root.sh");

/// Puts the homelab's systems into the host's store, as a layer above the root.
pub(crate) const HOMELAB_SCRIPT: &str = include_str!("../assets/homelab-layer.sh");

/// PID 1 of a Debian guest until it has a root file system and becomes systemd.
pub(crate) const GUEST_INIT: &str = include_str!("../assets/guest-init.sh");

/// Makes the disk of a virtual machine.
pub(crate) const VM_SCRIPT: &str = include_str!("../assets/finish-vm.sh");

/// The test driver's shell in a virtual machine.
pub(crate) const VM_SHELL: &str = include_str!("../../../vm-tests/image/shell");

/// What happens in a virtual machine before every scenario's snapshot, and who makes it happen.
pub(crate) const VM_FIRST_BOOT: [&str; 3] = [
    include_str!("../../../vm-tests/image/first-boot.py"),
    include_str!("../../../vm-tests/driver/qemu.py"),
    include_str!("../../../vm-tests/driver/machine.py"),
];

/// Names the host's root.
pub(crate) fn root_hash() -> String {
    hash(&[&[SUITE, ROOT_SCRIPT], ROOT_PACKAGES].concat())
}

/// Names the guests' root.
pub(crate) fn guest_hash() -> String {
    hash(&[&[SUITE], GUEST_PACKAGES, GUEST_EXCLUDES].concat())
}

/// Names the homelab layer, which is made of both roots.
pub(crate) fn homelab_hash() -> String {
    hash(&[&root_hash(), &guest_hash(), HOMELAB_SCRIPT, GUEST_INIT])
}

/// Names the root with the tools for virtual machines.
pub(crate) fn tools_hash() -> String {
    hash(&[&[SUITE], TOOLS_PACKAGES].concat())
}

/// Names the disk of a virtual machine.
pub(crate) fn vm_hash() -> String {
    hash(&[&[SUITE, ROOT_SCRIPT, VM_SCRIPT, VM_SHELL], ROOT_PACKAGES, VM_PACKAGES].concat())
}

/// Names the disk of a virtual machine that has booted. QEMU's own way to keep it depends on the driver.
pub(crate) fn booted_hash() -> String {
    hash(&[&[vm_hash().as_str(), tools_hash().as_str()], &VM_FIRST_BOOT[..]].concat())
}

/// Returns a short name for these parts.
pub(crate) fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        hasher.update([0]);
    }
    let short = hasher.finalize().iter().take(8).fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    format!("{short:016x}")
}

#[cfg(test)]
mod tests {
    use super::{guest_hash, hash, homelab_hash, root_hash};

    #[test]
    fn names_differ_and_are_stable() {
        assert_eq!(root_hash(), root_hash());
        assert_ne!(root_hash(), guest_hash());
        assert_ne!(guest_hash(), homelab_hash());
    }

    #[test]
    fn where_a_part_ends_matters() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
