//! What a service needs of the host for the GPUs that it is given: nodes, mounts, environment.
//!
//! Node paths alone are granted, never groups of devices: all GPUs of a vendor have one major number. What the sources of the mounts
//! lead to is made before a start by the agent (`host`), so that the texts of a container do not change with the driver.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::{Allocation, Driver, Gpu, Inventory, NodeState, Part, UserSpace};
use crate::model::{GpuId, GpuMount, Grant, Vendor};

/// The folder of what the agent makes for GPUs.
pub const USER_SPACE_FOLDER: &str = "/run/nixmox/gpu";
/// NVIDIA's user space, as containers are given it: on NixOS a link to what fits the loaded module, elsewhere a folder with `lib/` full of
/// links to what is below [`LIBRARIES_INSIDE`].
pub const USER_SPACE_NVIDIA: &str = "/run/nixmox/gpu/nvidia";
/// That of AMD and Intel likewise.
pub const USER_SPACE_MESA: &str = "/run/nixmox/gpu/mesa";
/// Where guests see it: where programs of nixpkgs look for drivers (`addDriverRunpath`), with the libraries in `lib`.
pub const USER_SPACE_INSIDE: &str = "/run/opengl-driver";
/// Where guests see the host's folders of libraries, as `0`, `1` and so on, in the order of [`UserSpace::Libraries`].
pub const LIBRARIES_INSIDE: &str = "/run/host/gpu";

/// Where a CDI specification may put something: below these a guest has nothing that it needs. Its `/etc`, its store and what its service
/// manager has in `/run` are its own.
const CDI_ROOTS: [&str; 3] = ["/usr", "/opt", "/lib/firmware"];
/// Folders and links directly in `/run` where it may likewise: those of NVIDIA's daemons, such as `/run/nvidia-persistenced/socket`.
const CDI_RUN: &str = "nvidia";
/// Scripts of every guest begin with it.
const ENV_PROGRAM: &str = "/usr/bin/env";

/// Returns where the user space of a vendor's driver is bound from.
#[must_use]
pub fn user_space(vendor: Vendor) -> &'static Path {
    match vendor {
        Vendor::Nvidia => Path::new(USER_SPACE_NVIDIA),
        Vendor::Amd | Vendor::Intel => Path::new(USER_SPACE_MESA),
    }
}

/// Returns what an allocation needs of the host. `held` is what the service had last: of a GPU that is not seen now, its nodes are taken from
/// there, and mounts and environment stay.
#[must_use]
pub fn grant(allocation: &Allocation, inventory: &Inventory, held: Option<&Grant>) -> Grant {
    let Allocation { vendor, gpus, budget } = allocation;
    let find = |id: &GpuId| inventory.gpus.iter().find(|gpu| gpu.id == *id);
    let seen: Vec<&Gpu> = gpus.iter().filter_map(find).collect();
    let nothing = Driver::default();
    let driver = inventory.drivers.get(vendor).unwrap_or(&nothing);
    let mut granted = Grant {
        vendor: *vendor,
        gpus: gpus.clone(),
        budget: *budget,
        nodes: nodes(&seen, driver, inventory),
        mounts: mounts(*vendor, driver),
        environment: environment(&seen, driver),
    };
    if seen.len() < gpus.len()
        && let Some(held) = held.filter(|held| held.vendor == *vendor)
    {
        let all: BTreeSet<PathBuf> = granted.nodes.into_iter().chain(held.nodes.iter().cloned()).collect();
        granted.nodes = all.into_iter().collect();
        granted.mounts.clone_from(&held.mounts);
        granted.environment.clone_from(&held.environment);
    }
    granted
}

/// Returns the nodes of these GPUs and those that all share. Who has an instance needs the node of its GPU, too (NVIDIA's MIG guide, "Device
/// Nodes and Capabilities"). What computing goes without is left out where it is not right: nspawn does not start without it.
fn nodes(gpus: &[&Gpu], driver: &Driver, inventory: &Inventory) -> Vec<PathBuf> {
    let parents = gpus.iter().filter_map(|gpu| match &gpu.part {
        Part::Whole | Part::Partitioned => None,
        Part::Instance { parent, .. } => inventory.gpus.iter().find(|gpu| gpu.id == *parent),
    });
    let own = gpus.iter().copied().chain(parents).flat_map(|gpu| &gpu.nodes);
    let needed = own.chain(&driver.nodes).filter(|node| !node.optional || node.state == NodeState::Right);
    let paths: BTreeSet<&PathBuf> = needed.map(|node| &node.path).collect();
    paths.into_iter().cloned().collect()
}

/// Returns what is bound, by target.
fn mounts(vendor: Vendor, driver: &Driver) -> Vec<GpuMount> {
    let mut by_target: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    let folders: &[PathBuf] = match &driver.user_space {
        UserSpace::None | UserSpace::OpenglDriver => &[],
        UserSpace::Libraries(folders) => folders,
    };
    if driver.user_space != UserSpace::None {
        by_target.insert(USER_SPACE_INSIDE.into(), user_space(vendor).into());
    }
    for (number, folder) in folders.iter().enumerate() {
        by_target.insert(Path::new(LIBRARIES_INSIDE).join(number.to_string()), folder.clone());
    }
    for GpuMount { source, target } in &driver.cdi_mounts {
        let is_there =
            folders.iter().any(|folder| source.starts_with(folder)) || source.starts_with(USER_SPACE_INSIDE);
        if !is_there && is_free(target) {
            by_target.entry(target.clone()).or_insert_with(|| source.clone());
        }
    }
    by_target.into_iter().map(|(target, source)| GpuMount { source, target }).collect()
}

/// Returns whether a CDI specification may put something there. The store is every guest's already.
fn is_free(target: &Path) -> bool {
    let is_plain = target.is_absolute() && target.components().all(|part| part != Component::ParentDir);
    let is_below = |root: &&str| target.strip_prefix(root).is_ok_and(|rest| rest.components().count() > 1);
    let in_run =
        target.strip_prefix("/run").ok().and_then(|rest| rest.iter().next()).and_then(|part| part.to_str());
    is_plain
        && target != Path::new(ENV_PROGRAM)
        && (CDI_ROOTS.iter().any(is_below) || in_run.is_some_and(|part| part.starts_with(CDI_RUN)))
}

/// Returns the environment. Which whole GPUs a program sees is decided by the nodes (AMD's kernel hides the others from `/dev/kfd` by the same
/// rules); of instances CUDA takes the first alone unless it is told (NVIDIA's MIG guide, "CUDA Device Enumeration").
fn environment(gpus: &[&Gpu], driver: &Driver) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    if driver.user_space != UserSpace::None {
        environment.insert("LD_LIBRARY_PATH".to_owned(), format!("{USER_SPACE_INSIDE}/lib"));
    }
    if gpus.iter().any(|gpu| matches!(gpu.part, Part::Instance { .. })) {
        let ids: Vec<&str> = gpus.iter().map(|gpu| gpu.id.as_str()).collect();
        environment.insert("CUDA_VISIBLE_DEVICES".to_owned(), ids.join(","));
    }
    environment
}
