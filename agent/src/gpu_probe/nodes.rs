//! Device nodes: which number the running kernel has for each, and what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use nix::sys::stat::{major, minor};
use nixmox_core::gpu::{Driver, Gpu, Node, NodeState};

use crate::host::paths::Paths;

/// Names that NVIDIA's modules have for the major number of GPUs and their control in `/proc/devices`; it was renamed.
const NVIDIA: [&str; 2] = ["nvidia", "nvidia-frontend"];
/// The minor numbers of the nodes that all GPUs of NVIDIA share (nvidia-container-toolkit, `internal/info/proc/devices`).
const CONTROL_MINOR: u32 = 255;
const MODESET_MINOR: u32 = 254;

/// The major numbers of character devices, by name (`/proc/devices`).
#[derive(Clone, Debug, Default)]
pub(super) struct Majors(BTreeMap<String, u32>);

impl Majors {
    /// Reads those of the running kernel.
    pub(super) fn read(paths: &Paths) -> Self {
        Self::parse(&std::fs::read_to_string(paths.kernel("/proc/devices")).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let characters = text.lines().take_while(|line| !line.starts_with("Block devices"));
        let entry = |line: &str| {
            let (number, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), number.parse().ok()?))
        };
        let mut majors = BTreeMap::new();
        majors.extend(characters.filter_map(entry));
        Self(majors)
    }

    /// Returns the number that goes by the first of these names that is known.
    fn first(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.0.get(*name)).copied()
    }

    /// Returns whether the modules of NVIDIA registered anything.
    pub(super) fn has_nvidia(&self) -> bool {
        self.first(&NVIDIA).is_some()
    }

    /// Returns the node of a GPU of NVIDIA, by the number that NVML has for it.
    pub(super) fn gpu(&self, paths: &Paths, minor: u32) -> Node {
        node(paths, format!("/dev/nvidia{minor}"), self.first(&NVIDIA).map(|major| (major, minor)), false)
    }

    /// Returns the node that gives access to a part of a GPU (MIG).
    pub(super) fn capability(&self, paths: &Paths, minor: u32) -> Node {
        let number = self.first(&["nvidia-caps"]).map(|major| (major, minor));
        node(paths, format!("/dev/nvidia-caps/nvidia-cap{minor}"), number, false)
    }

    /// Returns the nodes that all GPUs of NVIDIA share.
    pub(super) fn shared(&self, paths: &Paths) -> Vec<Node> {
        let number = |names: &[&str], minor| self.first(names).map(|major| (major, minor));
        let uvm = ["nvidia-uvm"];
        vec![
            node(paths, "/dev/nvidiactl".to_owned(), number(&NVIDIA, CONTROL_MINOR), false),
            node(paths, "/dev/nvidia-uvm".to_owned(), number(&uvm, 0), false),
            node(paths, "/dev/nvidia-uvm-tools".to_owned(), number(&uvm, 1), true),
            node(paths, "/dev/nvidia-modeset".to_owned(), number(&NVIDIA, MODESET_MINOR), true),
        ]
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

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n237 nvidia-caps\n\nBlock devices:\n  9 nvidia-frontend\n";

    /// Returns a root in which `/dev/null` and `/dev/zero` stand for nodes: making some would need privileges.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev")).unwrap();
        root
    }

    #[test]
    fn numbers_are_those_of_the_running_kernel() {
        let root = root();
        let paths = Paths::below(root.path());
        let majors = Majors::parse(DEVICES);
        assert_eq!(majors.gpu(&paths, 3).number, Some((195, 3)));
        assert_eq!(majors.gpu(&paths, 3).path, PathBuf::from("/dev/nvidia3"));
        assert_eq!(majors.capability(&paths, 12).number, Some((237, 12)));
        let numbers: Vec<_> = majors.shared(&paths).into_iter().map(|node| node.number.unwrap()).collect();
        assert_eq!(numbers, [(195, 255), (510, 0), (510, 1), (195, 254)]);
        let older = Majors::parse("Character devices:\n196 nvidia-frontend\n");
        assert_eq!(older.gpu(&paths, 0).number, Some((196, 0)));
        assert_eq!(older.shared(&paths)[1].number, None, "without its module the kernel knows no such device");
        assert!(!Majors::parse("Block devices:\n195 nvidia\n").has_nvidia());
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
