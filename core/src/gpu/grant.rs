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

#[cfg(test)]
mod tests {
    use super::super::fixture::{amd, healthy, id, node, nvidia, paths};
    use super::*;
    use crate::model::Bytes;

    fn allocation(gpus: &[&str]) -> Allocation {
        let gpus = gpus.iter().map(|gpu| id(gpu)).collect();
        Allocation { vendor: Vendor::Nvidia, gpus, budget: Some(Bytes(1 << 30)) }
    }

    fn mount(source: &str, target: &str) -> GpuMount {
        GpuMount { source: source.into(), target: target.into() }
    }

    #[test]
    fn the_nodes_of_the_gpu_alone_and_those_that_all_share_are_granted() {
        let granted = grant(&allocation(&["GPU-1"]), &healthy(), None);
        let shared =
            ["/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia0", "/dev/nvidiactl"];
        assert_eq!(granted.nodes, paths(&shared));
        assert_eq!(granted.mounts, [mount(USER_SPACE_NVIDIA, "/run/opengl-driver")]);
        let environment: Vec<_> = granted.environment.into_iter().collect();
        assert_eq!(environment, [("LD_LIBRARY_PATH".to_owned(), "/run/opengl-driver/lib".to_owned())]);
    }

    #[test]
    fn what_computing_goes_without_is_left_out_when_it_is_not_right() {
        let mut inventory = healthy();
        let driver = inventory.drivers.get_mut(&Vendor::Nvidia).unwrap();
        driver.nodes.iter_mut().for_each(|node| node.state = NodeState::Missing);
        let granted = grant(&allocation(&["GPU-0"]), &inventory, None);
        // Those that are needed are made before a start.
        assert_eq!(granted.nodes, paths(&["/dev/nvidia-uvm", "/dev/nvidia1", "/dev/nvidiactl"]));
    }

    #[test]
    fn an_instance_needs_the_node_of_its_gpu_and_its_capabilities_and_is_named() {
        let mut inventory = healthy();
        inventory.gpus[0].part = Part::Partitioned;
        let caps = |numbers: [u32; 2]| {
            numbers.map(|number| node(&format!("/dev/nvidia-caps/nvidia-cap{number}"), (237, number))).to_vec()
        };
        for (place, numbers) in [(1, [21, 22]), (2, [30, 31])] {
            let part = Part::Instance { parent: id("GPU-0"), gpu_instance: 1, compute_instance: 0 };
            let instance = Gpu { id: id(&format!("MIG-{place}")), part, nodes: caps(numbers), ..nvidia(0) };
            inventory.gpus.insert(place, instance);
        }
        let granted = grant(&allocation(&["MIG-2"]), &inventory, None);
        let own = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31", "/dev/nvidia1"];
        assert!(paths(&own).iter().all(|path| granted.nodes.contains(path)), "{:?}", granted.nodes);
        assert_eq!(granted.nodes.len(), 3 + 4);
        assert_eq!(granted.environment["CUDA_VISIBLE_DEVICES"], "MIG-2");
    }

    #[test]
    fn elsewhere_than_on_nixos_the_folders_of_libraries_are_bound() {
        let mut inventory = healthy();
        let driver = inventory.drivers.get_mut(&Vendor::Nvidia).unwrap();
        driver.user_space =
            UserSpace::Libraries(paths(&["/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/nvidia"]));
        let libcuda = "/usr/lib/x86_64-linux-gnu/libcuda.so.570.1";
        driver.cdi_mounts = vec![mount(libcuda, libcuda), mount("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi")];
        let expected = [
            mount("/usr/lib/x86_64-linux-gnu", "/run/host/gpu/0"),
            mount("/usr/lib/x86_64-linux-gnu/nvidia", "/run/host/gpu/1"),
            mount(USER_SPACE_NVIDIA, "/run/opengl-driver"),
            mount("/usr/bin/nvidia-smi", "/usr/bin/nvidia-smi"),
        ];
        assert_eq!(grant(&allocation(&["GPU-0"]), &inventory, None).mounts, expected);
    }

    #[test]
    fn a_cdi_specification_puts_nothing_over_what_is_the_guests() {
        let mut inventory = healthy();
        let driver = inventory.drivers.get_mut(&Vendor::Nvidia).unwrap();
        let socket = "/run/nvidia-persistenced/socket";
        let ours = [
            "/",
            "/etc",
            "/etc/passwd",
            "/nix/store",
            "/nix/store/x",
            "/usr",
            "/usr/bin",
            "/usr/bin/env",
            "/run",
            "/run/systemd",
            "/run/opengl-driver/lib",
            "/run/host/gpu/0",
            "/proc/driver",
            "/dev/nvidia0",
            "/usr/../etc/shadow",
            "usr/lib/x",
            "/bin/sh",
            "/root/x",
            "/lib/firmware",
        ];
        driver.cdi_mounts = ours.iter().map(|target| mount("/opt/x", target)).collect();
        driver.cdi_mounts.push(mount("/run/opengl-driver/lib/libcuda.so.1", "/usr/lib/libcuda.so.1"));
        driver.cdi_mounts.push(mount(socket, socket));
        driver.cdi_mounts.push(mount("/opt/other", socket));
        driver.cdi_mounts.push(mount("/nix/store/x/bin/nvidia-smi", "/usr/bin/nvidia-smi"));
        let expected = [
            mount(socket, socket),
            mount(USER_SPACE_NVIDIA, "/run/opengl-driver"),
            mount("/nix/store/x/bin/nvidia-smi", "/usr/bin/nvidia-smi"),
        ];
        assert_eq!(grant(&allocation(&["GPU-0"]), &inventory, None).mounts, expected);
    }

    #[test]
    fn of_a_gpu_that_is_not_seen_everything_stays() {
        let held = grant(&allocation(&["GPU-0", "GPU-1"]), &healthy(), None);
        let mut inventory = healthy();
        inventory.gpus.pop();
        assert_eq!(grant(&allocation(&["GPU-0", "GPU-1"]), &inventory, Some(&held)), held);
        assert_eq!(grant(&allocation(&["GPU-0", "GPU-1"]), &Inventory::default(), Some(&held)), held);
        let less = Allocation { budget: None, ..allocation(&["GPU-0", "GPU-1"]) };
        assert_eq!(grant(&less, &inventory, Some(&held)).budget, None);
        // What is seen is not taken from there.
        let other = grant(&allocation(&["GPU-0"]), &healthy(), Some(&held));
        assert!(!other.nodes.contains(&"/dev/nvidia0".into()));
    }

    #[test]
    fn guests_of_amd_are_given_what_is_shared_and_their_own_node() {
        let mut inventory = healthy();
        inventory.gpus.push(amd());
        let driver = Driver { nodes: vec![node("/dev/kfd", (234, 0))], ..Driver::default() };
        inventory.drivers.insert(Vendor::Amd, driver);
        let allocation = Allocation { vendor: Vendor::Amd, gpus: vec![id("0000:03:00.0")], budget: None };
        let granted = grant(&allocation, &inventory, None);
        assert_eq!(granted.nodes, paths(&["/dev/dri/renderD128", "/dev/kfd"]));
        assert!(granted.mounts.is_empty() && granted.environment.is_empty(), "they bring their own user space");
        inventory.drivers.get_mut(&Vendor::Amd).unwrap().user_space = UserSpace::OpenglDriver;
        assert_eq!(grant(&allocation, &inventory, None).mounts, [mount(USER_SPACE_MESA, "/run/opengl-driver")]);
    }
}
