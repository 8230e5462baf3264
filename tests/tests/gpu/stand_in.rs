//! Stand-ins for NVIDIA's driver: what the kernel would tell of its modules, and nodes.
//!
//! A GPU's node is one of a misc device (`/proc/misc`): of a number that no device rule allows by itself, which opens where one does.
//! What the driver shares has numbers behind which nothing is, so that opening those fails with `ENODEV` once the rules let it through.

use std::collections::BTreeMap;

use nixmox_core::model::{Assigned, GpuMount, GpuStanding, Grant, OPTIONAL_NODES, Vendor};

/// The major of misc devices.
pub(crate) const MAJOR: u32 = 10;
/// Another major, which no driver has (Documentation/admin-guide/devices.txt, "local use"): opening it fails with `ENXIO` once the rules
/// let it through.
pub(crate) const OTHER_MAJOR: u32 = 60;
/// Minors of the GPUs: misc devices that every kernel has. Not that of tun, which the template of containers allows.
pub(crate) const GPUS: [u32; 4] = [229, 234, 235, 237];
/// The version of the module.
pub(crate) const VERSION: &str = "550.54.14";

/// Returns a script that makes the kernel look as if NVIDIA's modules were loaded with this major. Nodes stay as they are.
pub(crate) fn load(major: u32) -> String {
    let names = format!("{major} nvidia\\n{major} nvidia-uvm\\n");
    format!(
        "{PRETEND}\nprintf 'Character devices:\\n{names}%s\\n' \"$(tail -n +2 /run/stand-in/kernel)\" > /proc/devices"
    )
}

/// Returns a script after which no module is loaded.
pub(crate) fn unload() -> String {
    format!("{PRETEND}\ncat /run/stand-in/kernel > /proc/devices")
}

/// Returns a script after which the module says this of its version.
pub(crate) fn version(version: &str) -> String {
    format!(
        "{PRETEND}\necho 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Thu Feb 22 01:44:30 UTC 2024' > /proc/driver/nvidia/version"
    )
}

/// Replaces what the kernel tells by files of ours, once; files are written in place, so that everybody sees the change.
const PRETEND: &str = "set -e
if ! test -e /run/stand-in/kernel; then
    mkdir -p /run/stand-in
    cp /proc/devices /run/stand-in/devices
    cp /proc/devices /run/stand-in/kernel
    mount --bind /run/stand-in/devices /proc/devices
    mount -t tmpfs -o mode=755 tmpfs /proc/driver
    mkdir /proc/driver/nvidia
fi";

/// Returns a script that makes the nodes of all GPUs, as the driver does when something asks for the first time.
pub(crate) fn make_nodes(major: u32) -> String {
    let command = |(name, minor)| format!("\nmknod -m 666 {name} c {major} {minor}");
    let commands: Vec<String> = all_nodes().into_iter().map(command).collect();
    remove_nodes() + &commands.concat()
}

/// Returns a script that removes all nodes.
pub(crate) fn remove_nodes() -> String {
    "rm -rf /dev/nvidia*".to_owned()
}

fn all_nodes() -> Vec<(String, u32)> {
    let gpus = GPUS.iter().map(|minor| (node(*minor), *minor));
    gpus.chain([("/dev/nvidiactl".to_owned(), 255), ("/dev/nvidia-uvm".to_owned(), 0)]).collect()
}

/// Returns the node of a GPU.
pub(crate) fn node(minor: u32) -> String {
    format!("/dev/nvidia{minor}")
}

/// A library where guests look for it.
pub(crate) const LIBRARY: &str = "/run/opengl-driver/lib/libcuda.so.1";

/// Returns what the guest of these tests tries to open: every node that there is, and a library.
pub(crate) fn tried() -> Vec<String> {
    all_nodes().into_iter().map(|(name, _)| name).chain([LIBRARY.to_owned()]).collect()
}

/// Returns what a service is given that has these GPUs, without a user space.
pub(crate) fn grant(gpus: &[u32]) -> Grant {
    let shared = ["/dev/nvidia-uvm", "/dev/nvidiactl"].map(str::to_owned);
    let mut nodes: Vec<_> = gpus.iter().map(|minor| node(*minor)).chain(shared).map(Into::into).collect();
    nodes.sort();
    Grant {
        vendor: Vendor::Nvidia,
        gpus: gpus.iter().map(|minor| format!("GPU-{minor}").parse().expect("an id")).collect(),
        budget: None,
        nodes,
        mounts: Vec::new(),
        environment: BTreeMap::from([("LD_LIBRARY_PATH".to_owned(), "/run/opengl-driver/lib".to_owned())]),
    }
}

/// Returns the same with the nodes that computing goes without.
pub(crate) fn with_optional(mut grant: Grant) -> Grant {
    grant.nodes.extend(OPTIONAL_NODES.map(Into::into));
    grant.nodes.sort();
    grant
}

/// Returns a service that has these GPUs.
pub(crate) fn given(assigned: &Assigned, gpus: &[u32]) -> Assigned {
    Assigned { gpu: GpuStanding::Granted(grant(gpus)), ..assigned.clone() }
}

/// Returns the same with these paths bound: source, target.
pub(crate) fn with_mounts(mut grant: Grant, mounts: &[(&str, &str)]) -> Grant {
    let mount = |(source, target): &(&str, &str)| GpuMount { source: source.into(), target: target.into() };
    grant.mounts = mounts.iter().map(mount).collect();
    grant
}
