//! What a service has and asks for: the part of a decision that is not its engine's.

use std::time::Duration;

use nixmox_core::gpu::{Inventory, ledger};
use nixmox_core::model::{
    Assigned, Bytes, Engine as Program, GpuId, GpuShare, GpuStanding, Grant, Offload, System,
};
use nixmox_core::offload::estimate::{KvType, Room};

use crate::reconcile::gpus::Gpus;

/// What a service has now, and asks for: the part of a decision that is not the engine's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) offload: Offload,
    pub(super) share: GpuShare,
    pub(super) budget: Option<Bytes>,
    /// For whom it has less than it wants; empty: it has not.
    pub(super) for_whom: String,
    pub(super) pressure: String,
    /// Its GPUs; none where nobody knows them.
    pub(super) rooms: Vec<Room>,
    pub(super) used: Option<Bytes>,
    pub(super) used_at: Duration,
    pub(super) parallel: u32,
    pub(super) kv: KvType,
    /// What its engine was told to leave of each GPU, and the context of a request that names none.
    pub(super) overhead: Bytes,
    pub(super) context: Option<u32>,
}

impl Given {
    /// Returns what a running service has; `None`: that is not decided, or it is to be stopped. What was seen before `began` is of an
    /// earlier instance.
    pub(super) fn of(assigned: &Assigned, gpus: &Gpus, began: Duration) -> Option<Self> {
        let (offload, share) = (assigned.service.offload.as_ref()?, assigned.service.gpu.as_ref()?);
        let (grant, to, why) = match &assigned.gpu {
            GpuStanding::Granted(grant) | GpuStanding::Kept { grant, .. } => (grant, None, None),
            GpuStanding::Shrinking { grant, to, why } => (grant, to.as_ref(), Some(why)),
            GpuStanding::None | GpuStanding::Waiting { .. } | GpuStanding::Yielding { .. } => return None,
        };
        let seen = gpus.seen().filter(|seen| seen.begun >= began);
        let is_seen = |id: &GpuId| seen.iter().flat_map(|seen| &seen.inventory.gpus).any(|gpu| gpu.id == *id);
        let used = seen.as_ref().filter(|_| grant.gpus.iter().all(is_seen));
        let used = used.and_then(|seen| ledger::used(&seen.inventory, &assigned.service.name));
        let for_whom = why.map(|_| to.map_or_else(|| "what is no service".to_owned(), ToString::to_string));
        let (parallel, kv) = conditions(assigned, offload.engine);
        let (overhead, context) = defaults(assigned, offload.engine);
        Some(Self {
            offload: offload.clone(),
            share: share.clone(),
            budget: grant.budget,
            for_whom: for_whom.unwrap_or_default(),
            pressure: why.cloned().unwrap_or_default(),
            rooms: seen.as_ref().map(|seen| rooms(&seen.inventory, grant)).unwrap_or_default(),
            used,
            used_at: seen.map_or(Duration::ZERO, |seen| seen.begun),
            parallel,
            kv,
            overhead,
            context,
        })
    }

    /// Returns whether more is used than it may.
    pub(super) fn is_over(&self) -> bool {
        self.used.zip(self.budget).is_some_and(|(used, budget)| used > budget)
    }
}

/// Returns the GPUs of a grant with what is free of each; none where not all are known.
fn rooms(inventory: &Inventory, grant: &Grant) -> Vec<Room> {
    let room = |id: &GpuId| {
        let memory = inventory.gpus.iter().find(|gpu| gpu.id == *id)?.memory?;
        let taken = memory.reserved.0.saturating_add(memory.used.0);
        Some(Room { total: memory.total, free: Bytes(memory.total.0.saturating_sub(taken)) })
    };
    grant.gpus.iter().map(room).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// Returns how an engine loads all of its models, as far as its container's environment says so: requests at the same time, and how keys
/// and values are kept. What the guest sets by itself is not known. No requests (0) are said where that is left to a `llama-server`.
pub(in crate::reconcile) fn conditions(assigned: &Assigned, engine: Program) -> (u32, KvType) {
    let environment = assigned.environment();
    let (parallel, usual, kv) = match engine {
        Program::Ollama => ("OLLAMA_NUM_PARALLEL", 1, "OLLAMA_KV_CACHE_TYPE"),
        Program::LlamaServer => ("LLAMA_ARG_N_PARALLEL", 0, "LLAMA_ARG_CACHE_TYPE_K"),
    };
    let parallel = environment.get(parallel).and_then(|text| text.parse().ok()).filter(|count| *count > 0);
    let kv = environment.get(kv).and_then(|word| KvType::from_word(word));
    (parallel.unwrap_or(usual), kv.unwrap_or(KvType::F16))
}

/// Returns what an engine was told at its start, as far as that decides on the context by itself: what to leave of each GPU, and how many
/// tokens a request gets that names none.
fn defaults(assigned: &Assigned, engine: Program) -> (Bytes, Option<u32>) {
    match engine {
        // The environment of an adopted container is its owner's.
        Program::Ollama if assigned.service.system == System::Adopted => (Bytes(0), None),
        Program::Ollama => {
            let environment = assigned.environment();
            let number = |name| environment.get(name).and_then(|text| text.trim().parse::<u64>().ok());
            let context = number("OLLAMA_CONTEXT_LENGTH").and_then(|tokens| u32::try_from(tokens).ok());
            (Bytes(number("OLLAMA_GPU_OVERHEAD").unwrap_or(0)), context.filter(|tokens| *tokens > 0))
        }
        // What it is told is shared by all requests, and it says itself what a model has.
        Program::LlamaServer => (Bytes(0), None),
    }
}
