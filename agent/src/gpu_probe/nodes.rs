//! Device nodes: which number the running kernel has for each, and what is there.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use nixmox_core::gpu::{Driver, Gpu, Node, NodeState};
use nixmox_core::model::OPTIONAL_NODES;

use crate::host::devices::Numbers;
use crate::host::paths::Paths;

/// Nodes of NVIDIA, and their numbers in the running kernel.
#[derive(Clone, Debug)]
pub(super) struct Nvidia {
    numbers: Numbers,
    paths: Paths,
}

impl Nvidia {
    /// Reads what the running kernel has.
    pub(super) fn read(paths: &Paths) -> Self {
        Self { numbers: Numbers::read(paths), paths: paths.clone() }
    }

    /// Returns whether the modules of NVIDIA registered anything.
    pub(super) fn are_known(&self) -> bool {
        self.numbers.of(Path::new("/dev/nvidiactl")).is_some()
    }

    /// Returns the node of a GPU, by the number that NVML has for it.
    pub(super) fn gpu(&self, minor: u32) -> Node {
        self.node(format!("/dev/nvidia{minor}"), false)
    }

    /// Returns the node that gives access to a part of a GPU (MIG).
    pub(super) fn capability(&self, minor: u32) -> Node {
        self.node(format!("/dev/nvidia-caps/nvidia-cap{minor}"), false)
    }

    /// Returns the nodes that all GPUs share.
    pub(super) fn shared(&self) -> Vec<Node> {
        let needed = ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(|path| self.node(path.to_owned(), false));
        let optional = OPTIONAL_NODES.map(|path| self.node(path.to_owned(), true));
        needed.into_iter().chain(optional).collect()
    }

    fn node(&self, path: String, optional: bool) -> Node {
        let number = self.numbers.of(Path::new(&path));
        node(&self.paths, path, number, optional)
    }
}

/// Returns a node whose number sysfs knows (`.../dev`).
pub(super) fn of_sysfs(paths: &Paths, path: String, dev: &str) -> Node {
    let text = std::fs::read_to_string(paths.kernel(dev)).unwrap_or_default();
    let number =
        text.trim().split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    node(paths, path, number, false)
}

/// Returns a node with what is there.
fn node(paths: &Paths, path: String, number: Option<(u32, u32)>, optional: bool) -> Node {
    let path = PathBuf::from(path);
    let state = match std::fs::metadata(paths.host_path(&path)) {
        Err(_) => NodeState::Missing,
        Ok(found) if found.file_type().is_char_device() => state(found.rdev(), number),
        Ok(_) => NodeState::NotADevice,
    };
    Node { path, number, state, optional }
}

fn state(device: u64, number: Option<(u32, u32)>) -> NodeState {
    // Both are of 32 bits at most in Linux.
    let part = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
    let found = (part(major(device)), part(minor(device)));
    // One that leads nowhere, since nothing has registered the number, is of another time too.
    if number == Some(found) { NodeState::Right } else { NodeState::Stale { found } }
}

/// Returns the nodes of a driver and its GPUs that computing needs.
pub(super) fn needed<'a>(driver: &Driver, gpus: impl Iterator<Item = &'a Gpu>) -> Vec<Node> {
    let mut nodes = BTreeSet::new();
    nodes.extend(gpus.flat_map(|gpu| &gpu.nodes).chain(&driver.nodes).cloned());
    nodes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a root in which `/dev/null` and `/dev/zero` stand for nodes: making some would need privileges.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        root
    }

    #[test]
    fn numbers_are_those_of_the_running_kernel() {
        let root = root();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let nodes = |devices: &str| {
            std::fs::write(root.path().join("proc/devices"), devices).unwrap();
            Nvidia::read(&Paths::below(root.path()))
        };
        let newer = nodes(
            "Character devices:\n195 nvidia\n510 nvidia-uvm\n237 nvidia-caps\n\nBlock devices:\n  9 nvidia-frontend\n",
        );
        assert_eq!(newer.gpu(3).number, Some((195, 3)));
        assert_eq!(newer.gpu(3).path, PathBuf::from("/dev/nvidia3"));
        assert_eq!(newer.capability(12).number, Some((237, 12)));
        let mut numbers: Vec<_> =
            newer.shared().into_iter().map(|node| (node.number.unwrap(), node.optional)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [((195, 254), true), ((195, 255), false), ((510, 0), false), ((510, 1), true)]);
        let older = nodes("Character devices:\n196 nvidia-frontend\n");
        assert_eq!(older.gpu(0).number, Some((196, 0)));
        assert_eq!(older.shared()[1].number, None, "without its module the kernel knows no such device");
        assert!(!nodes("Block devices:\n195 nvidia\n").are_known());
    }

    #[test]
    fn what_is_there_is_compared() {
        let root = root();
        let paths = Paths::below(root.path());
        let at = |name: &str| root.path().join("dev").join(name);
        std::os::unix::fs::symlink("/dev/null", at("null")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let state = |name: &str, number| node(&paths, format!("/dev/{name}"), number, false).state;
        assert_eq!(state("null", Some((1, 3))), NodeState::Right);
        assert_eq!(state("null", Some((195, 3))), NodeState::Stale { found: (1, 3) });
        assert_eq!(state("null", None), NodeState::Stale { found: (1, 3) });
        assert_eq!(state("file", Some((1, 3))), NodeState::NotADevice);
        assert_eq!(state("nothing", Some((1, 3))), NodeState::Missing);
    }
}
