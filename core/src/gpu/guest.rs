//! What a guest sees of the GPUs that it was given.

use std::path::PathBuf;

use crate::model::Vendor;

/// What was found from where a container's processes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestView {
    /// Whose driver its user space is of.
    pub vendor: Vendor,
    /// Every node that was asked about, in that order.
    pub nodes: Vec<SeenNode>,
    /// The version of the driver's user space where programs look for it; `None`: there is none.
    pub library: Option<String>,
    /// Why nothing, or not all of it, could be found out; `None`: all could.
    pub fault: Option<String>,
}

/// One node as a process of the container has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNode {
    /// Its path in the container.
    pub path: PathBuf,
    /// What is there: its number, where that is a character device. `None`: nothing is.
    pub found: Option<Found>,
    /// What came of opening it from a cgroup of the container; `None`: it was not tried.
    pub opened: Option<Opened>,
}

/// What is where a node should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A character device of this number.
    Device(u32, u32),
    /// Something else.
    Other,
}

/// What came of opening a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is open, or its driver answered with an error of its own (this errno): the device rules let it through.
    Let(Option<i32>),
    /// The device rules refuse it (`EPERM`, cgroup v2 device controller).
    Refused,
    /// The permissions of the node refuse it (`EACCES`).
    Forbidden,
}

impl GuestView {
    /// Returns the nodes that a process of the container cannot use, in the order in which they were asked about: missing, of
    /// another number than `number` says of the path, or refused. What could not be found out is not among them.
    pub fn lost(&self, number: impl Fn(&PathBuf) -> Option<(u32, u32)>) -> Vec<PathBuf> {
        if self.fault.is_some() {
            return Vec::new();
        }
        let is_lost = |node: &&SeenNode| match node.found {
            None | Some(Found::Other) => true,
            Some(Found::Device(major, minor)) => {
                number(&node.path).is_some_and(|right| right != (major, minor))
                    || node.opened == Some(Opened::Refused)
            }
        };
        self.nodes.iter().filter(is_lost).map(|node| node.path.clone()).collect()
    }
}
