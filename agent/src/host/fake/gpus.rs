//! GPUs of the simulated host, and what its guests see of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use nixmox_core::gpu::{Found, GuestView, Inventory, Opened, Process, ProcessKind, ProcessOwner, SeenNode};
use nixmox_core::model::{Bytes, ContainerName, GpuId, Grant};

use super::Fake;

impl Fake {
    /// Sets what a look at the GPUs finds from now on.
    pub fn set_gpus(&self, inventory: Inventory) {
        self.state().gpus = inventory;
    }

    /// Lets looks at the GPUs take this long.
    pub fn slow_gpus(&self, hang: Duration) {
        self.state().gpus_hang = hang;
    }

    /// Returns how often the GPUs were looked at.
    #[must_use]
    pub fn gpu_looks(&self) -> u64 {
        self.state().gpu_looks
    }

    /// Takes nodes away from a guest; with `for_good` no update brings them back.
    pub fn lose_nodes(&self, name: &ContainerName, nodes: &[&str], for_good: bool) {
        let nodes: BTreeSet<PathBuf> = nodes.iter().map(PathBuf::from).collect();
        let mut state = self.state();
        let lost = if for_good { &mut state.broken_nodes } else { &mut state.lost_nodes };
        lost.entry(name.clone()).or_default().extend(nodes);
    }

    /// Sets what a container uses of a GPU's memory while it runs.
    ///
    /// # Panics
    /// When no GPU can be named like that.
    pub fn use_vram(&self, name: &ContainerName, gpu: &str, bytes: u64) {
        let id: GpuId = gpu.parse().unwrap_or_else(|_| panic!("{gpu} names no GPU"));
        self.state().vram.insert(name.clone(), vec![(id, Bytes(bytes))]);
    }

    /// Returns the GPUs with the processes of the containers that run.
    pub(super) fn gpus_now(&self) -> Inventory {
        let mut state = self.state();
        let mut inventory = state.gpus.clone();
        let running = state.containers.iter().filter(|(_, container)| container.active().has_processes());
        let running: Vec<ContainerName> = running.map(|(name, _)| name.clone()).collect();
        for (pid, name) in (1000..).zip(&running) {
            let mut uses: BTreeMap<GpuId, Bytes> = BTreeMap::new();
            let engine = state.vram_of_engine(name);
            for (id, bytes) in state.vram.get(name).into_iter().flatten().cloned().chain(engine) {
                uses.entry(id).or_default().0 += bytes.0;
            }
            for (id, bytes) in &uses {
                let Some(gpu) = inventory.gpus.iter_mut().find(|gpu| gpu.id == *id) else { continue };
                if let Some(memory) = &mut gpu.memory {
                    memory.used.0 += bytes.0;
                }
                gpu.processes.push(Process {
                    pid,
                    kind: ProcessKind::Compute,
                    memory: Some(*bytes),
                    name: name.to_string(),
                    owner: ProcessOwner::Container(name.clone()),
                });
            }
        }
        inventory
    }

    pub(super) fn view_of(&self, name: &ContainerName, grant: &Grant) -> GuestView {
        let state = self.state();
        let is_lost = |path: &PathBuf| {
            [&state.lost_nodes, &state.broken_nodes]
                .iter()
                .any(|lost| lost.get(name).is_some_and(|nodes| nodes.contains(path)))
        };
        let node = |path: &PathBuf| SeenNode {
            path: path.clone(),
            found: state.gpus.number_of(path).map(|(major, minor)| Found::Device(major, minor)),
            opened: Some(if is_lost(path) { Opened::Refused } else { Opened::Let(None) }),
        };
        GuestView {
            vendor: grant.vendor,
            nodes: grant.nodes.iter().map(node).collect(),
            library: None,
            fault: None,
        }
    }
}
