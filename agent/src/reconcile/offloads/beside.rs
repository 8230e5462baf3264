//! What others have of GPUs for good, beside an engine that is to be started.

use std::collections::BTreeMap;

use nixmox_core::gpu::admission::{Allocation, Decision};
use nixmox_core::gpu::{Claim, Inventory, Phase, ledger};
use nixmox_core::model::{Bytes, ContainerName, Desired, GpuId, Grant};
use nixmox_core::offload::engine::Device;

/// In which steps the use of what is no service counts: texts of a container that is to be started do not change with every look.
const STEP: u64 = 64 << 20;

/// What others than one service have of each GPU, or were promised where that is more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::reconcile) struct Beside(BTreeMap<GpuId, u64>);

impl Beside {
    /// Returns it for each service that has an engine.
    pub(in crate::reconcile) fn of_all(
        desired: &Desired,
        inventory: &Inventory,
        claims: &[Claim<'_>],
        decisions: &BTreeMap<ContainerName, Decision>,
    ) -> BTreeMap<ContainerName, Self> {
        let with_engine = desired.services.iter().filter(|(_, assigned)| assigned.service.offload.is_some());
        with_engine.map(|(name, _)| (name.clone(), Self::of(name, inventory, claims, decisions))).collect()
    }

    fn of(
        name: &ContainerName,
        inventory: &Inventory,
        claims: &[Claim<'_>],
        decisions: &BTreeMap<ContainerName, Decision>,
    ) -> Self {
        let others: Vec<Claim<'_>> = claims.iter().filter(|claim| claim.name != name).copied().collect();
        let rooms = ledger::rooms(inventory, &others);
        let of_gpu = |room: &ledger::Room| {
            let gpu = inventory.gpus.iter().find(|gpu| gpu.id == room.id);
            let own = gpu.and_then(|gpu| ledger::used_of(gpu, name)).unwrap_or_default();
            let strangers = room.others.0.saturating_sub(own.0) / STEP * STEP;
            // Who starts in the same moment holds nothing yet.
            let starts = others.iter().filter(|claim| claim.phase == Phase::Down);
            let granted = starts.filter_map(|claim| granted(decisions.get(claim.name)?, &room.id));
            let granted = granted.fold(0, u64::saturating_add);
            let sum = [room.reserved.0, room.promised.0, granted].into_iter().fold(strangers, u64::saturating_add);
            (room.id.clone(), sum)
        };
        Self(rooms.iter().map(of_gpu).collect())
    }

    /// Returns the GPUs of a grant as an engine finds them that is started now; none where not all of them are known.
    pub(in crate::reconcile) fn devices(&self, grant: &Grant, inventory: &Inventory) -> Vec<Device> {
        let device = |id: &GpuId| {
            let memory = inventory.gpus.iter().find(|gpu| gpu.id == *id)?.memory?;
            Some(Device { total: memory.total, others: Bytes(*self.0.get(id)?) })
        };
        grant.gpus.iter().map(device).collect::<Option<Vec<_>>>().unwrap_or_default()
    }
}

/// Returns what a decision promises of one GPU.
fn granted(decision: &Decision, id: &GpuId) -> Option<u64> {
    let allocation: &Allocation = match decision {
        Decision::Granted(allocation) | Decision::Shrinks { allocation, .. } => allocation,
        Decision::Waits { .. } | Decision::Yields { .. } => return None,
    };
    let gpus = u64::try_from(allocation.gpus.len()).ok().filter(|_| allocation.gpus.contains(id))?;
    Some(allocation.budget?.0.div_ceil(gpus.max(1)))
}
