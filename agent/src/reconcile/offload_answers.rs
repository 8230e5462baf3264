//! Answers about models: what engines have loaded, what is decided about it, and what a model is made of.
//!
//! Made beside the reconcile task, of what it published and of a look at the GPUs; what a model is made of is asked of its engine,
//! which holds up whoever asks and nobody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use nixmox_api::{
    AgentError, MeasuredLoad, ModelRoom, Offload, OffloadModel, OffloadModelReply, OffloadService, OffloadsReply,
};
use nixmox_core::gpu::doctor::ModelsCheckup;
use nixmox_core::gpu::ledger;
use nixmox_core::model::{self, ActiveState, Bytes, ContainerName, Desired, GpuId, Observed, StackName};
use nixmox_core::offload::arbiter::Load;
use nixmox_core::offload::engine::{MemoryEngine, memory_engine};
use nixmox_core::offload::estimate::KvType;
use nixmox_core::offload::seen::{EngineSeen, EngineView, LoadedModel};
use nixmox_core::offload::watchdog::Incident;

use super::change::unknown_service;
use super::gpus::Seen;
use super::handle::Places;
use super::offloads::{Engine, Offloads, conditions};
use crate::chain::chain;
use crate::host::Host;

/// Said of an engine that was not asked yet.
const NOT_ASKED: &str = "it has not been asked yet";

/// What answers are made of, beside a look.
#[derive(Clone, Debug, Default)]
pub(super) struct OffloadScene {
    /// The declared services that run models.
    services: BTreeMap<ContainerName, Of>,
    /// What loads were measured to take.
    measured: Arc<Vec<(Load, Bytes)>>,
}

/// A service that runs models.
#[derive(Clone, Debug)]
struct Of {
    stack: StackName,
    offload: model::Offload,
    /// Whether its container is up.
    is_up: bool,
    /// What its engine said last; `None`: it was not asked yet, or does not run.
    seen: Option<Arc<EngineSeen>>,
    gpus: Vec<GpuId>,
    budget: Option<Bytes>,
    parallel: u32,
    kv: KvType,
    decision: String,
    incidents: Vec<Incident>,
    loading: Option<String>,
    given_up: Vec<String>,
    /// Of loaded models: layers on GPUs, and all of them.
    layers: BTreeMap<String, (Option<u32>, Option<u32>)>,
}

impl OffloadScene {
    pub(super) fn of(offloads: &Offloads, desired: &Desired, observed: &Observed) -> Self {
        let of = |(name, assigned): (&ContainerName, &model::Assigned)| {
            let offload = assigned.service.offload.clone()?;
            let engine = offloads.of(name);
            let container = observed.containers.get(name);
            let held = desired.holds.contains_key(name);
            let grant = assigned.gpu.grant().filter(|_| !held);
            let (parallel, kv) = conditions(assigned, offload.engine);
            let of = Of {
                stack: assigned.service.stack.clone(),
                is_up: container.is_some_and(|container| container.active == ActiveState::Active),
                seen: engine.and_then(|engine| engine.seen().cloned()),
                gpus: grant.map(|grant| grant.gpus.clone()).unwrap_or_default(),
                budget: grant.and_then(|grant| grant.budget),
                parallel,
                kv,
                decision: engine.map(Engine::decision).unwrap_or_default(),
                incidents: engine.iter().flat_map(|engine| engine.incidents()).cloned().collect(),
                loading: engine.and_then(|engine| engine.loading()).map(str::to_owned),
                given_up: engine.map(|engine| engine.given_up().to_vec()).unwrap_or_default(),
                layers: engine.map(Engine::layers).unwrap_or_default(),
                offload,
            };
            Some((name.clone(), of))
        };
        let services: BTreeMap<_, _> = desired.services.iter().filter_map(of).collect();
        let measured = if services.is_empty() { Arc::default() } else { offloads.measured() };
        Self { services, measured }
    }

    /// Returns what the doctor looks at of a service; `None`: nothing runs models in it.
    pub(super) fn checkup(&self, name: &ContainerName) -> Option<ModelsCheckup<'_>> {
        let of = self.services.get(name)?;
        Some(ModelsCheckup {
            engine: of.seen.as_deref(),
            incidents: &of.incidents,
            cpu_fallback: of.offload.cpu_fallback,
        })
    }

    /// Returns whether no declared service runs models.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

/// Returns what runs models in services.
pub(super) fn offloads(seen: Option<&Seen>, scene: &OffloadScene) -> OffloadsReply {
    OffloadsReply { services: scene.services.iter().map(|(name, of)| service(seen, name, of)).collect() }
}

fn service(seen: Option<&Seen>, name: &ContainerName, of: &Of) -> OffloadService {
    let view = view(of);
    let (state, reason) = match (of.is_up, of.seen.as_deref()) {
        (false, _) => ("down", String::new()),
        (true, None) => ("silent", NOT_ASKED.to_owned()),
        (true, Some(EngineSeen::Silent(why))) => ("silent", why.clone()),
        (true, Some(EngineSeen::Answers(_))) => ("answers", String::new()),
    };
    let used = seen.filter(|_| of.is_up).and_then(|seen| ledger::used(&seen.inventory, name));
    OffloadService {
        name: name.to_string(),
        stack: of.stack.to_string(),
        offload: Offload::from(&of.offload),
        state: state.to_owned(),
        reason,
        version: view.map(|view| view.version_text.clone()).unwrap_or_default(),
        memory_engine: view.map(|view| formula(of, view).to_owned()).unwrap_or_default(),
        budget: of.budget.map(|budget| budget.0),
        used: used.map(|used| used.0),
        decision: if of.is_up { of.decision.clone() } else { String::new() },
        models: view.map(|view| models(of, view)).unwrap_or_default(),
    }
}

/// Returns what the engine says, if it does.
fn view(of: &Of) -> Option<&EngineView> {
    match of.seen.as_deref().filter(|_| of.is_up)? {
        EngineSeen::Answers(view) => Some(view),
        EngineSeen::Silent(_) => None,
    }
}

/// Returns what places layers in an engine, in a few words.
fn formula(of: &Of, view: &EngineView) -> &'static str {
    match memory_engine(of.offload.engine, view.version) {
        MemoryEngine::Layered => "ollama, layer by layer",
        MemoryEngine::Exact => "ollama, exact layout",
        MemoryEngine::Fit => "llama.cpp --fit",
    }
}

/// Returns the models that are loaded, then those that are to be kept and are not, then those that were given up.
fn models(of: &Of, view: &EngineView) -> Vec<OffloadModel> {
    let is_loaded = |name: &&String| view.loaded.iter().any(|model| model.name == **name);
    let absent = |name: &String| {
        let is_loading = of.loading.as_ref() == Some(name);
        OffloadModel {
            name: name.clone(),
            state: if is_loading { "loading" } else { "unloaded" }.to_owned(),
            keep: of.offload.keep.contains(name),
            ..blamed(of, name)
        }
    };
    let kept = of.offload.keep.iter().filter(|name| !is_loaded(name));
    let is_other = |name: &&String| !is_loaded(name) && !of.offload.keep.contains(name);
    let loading = of.loading.iter().filter(is_other);
    let given_up = of.given_up.iter().filter(|name| is_other(name) && of.loading.as_ref() != Some(*name));
    view.loaded
        .iter()
        .map(|model| loaded(of, model))
        .chain(kept.chain(loading).chain(given_up).map(absent))
        .collect()
}

fn loaded(of: &Of, model: &LoadedModel) -> OffloadModel {
    let (layers, layers_all) = of.layers.get(&model.name).copied().unwrap_or_default();
    let state = match (model.size, model.size_vram) {
        _ if of.loading.as_ref() == Some(&model.name) => "loading",
        (_, Some(Bytes(0))) => "cpu",
        (Some(size), Some(on_gpus)) if on_gpus < size => "partial",
        (Some(_), Some(_)) => "gpu",
        (_, None) | (None, Some(_)) => match (layers, layers_all) {
            (Some(0), _) => "cpu",
            (Some(layers), Some(all)) if layers < all => "partial",
            (Some(_), Some(_)) => "gpu",
            (_, None) | (None, _) => "unknown",
        },
    };
    OffloadModel {
        name: model.name.clone(),
        state: state.to_owned(),
        size: model.size.map(|size| size.0),
        size_vram: model.size_vram.map(|size| size.0),
        layers,
        layers_all,
        context: model.context,
        busy: model.busy,
        keep: of.offload.keep.contains(&model.name),
        ..blamed(of, &model.name)
    }
}

/// Returns what is wrong with a model, and nothing else.
fn blamed(of: &Of, name: &str) -> OffloadModel {
    let incident = of.incidents.iter().find(|incident| incident.model == *name);
    OffloadModel {
        incident: incident.map(|incident| incident.found.clone()).unwrap_or_default(),
        hint: incident.map(|incident| incident.hint.clone()).unwrap_or_default(),
        ..OffloadModel::default()
    }
}

/// Returns what a model of a service is made of.
pub(super) async fn model<H: Host>(
    host: &H,
    seen: Option<&Seen>,
    (scene, places): (&OffloadScene, &Places),
    name: &str,
    model: String,
) -> Result<OffloadModelReply, AgentError> {
    let refused = |reason: String, hint: String| Err(AgentError::Refused { reason, hint });
    let Some((name, of)) = scene.services.get_key_value(name) else {
        if places.contains_key(name) {
            return refused(
                format!("`{name}` is not declared to run models"),
                "give it an `offload` table in its manifest, and `nixmoxctl up`".to_owned(),
            );
        }
        return Err(unknown_service(name, places.keys()));
    };
    if !of.is_up {
        return refused(
            format!("`{name}` does not run, and its engine alone knows its models"),
            format!("nixmoxctl start {name}"),
        );
    }
    if model.is_empty() {
        return refused(
            "no model is named".to_owned(),
            format!("`nixmoxctl offload {name}` lists those that there are"),
        );
    }
    let header = match host.show_model(name, &of.offload, &model).await {
        Ok(header) => header,
        Err(error) => return refused(chain(&error), error.hint().unwrap_or_default()),
    };
    let is_it = |name: &str| of.offload.engine.is_same_model(name, &model);
    let digest = view(of).and_then(|view| view.loaded.iter().find(|loaded| is_it(&loaded.name)));
    let digest = digest.map(|loaded| loaded.digest.as_str()).filter(|digest| !digest.is_empty());
    Ok(OffloadModelReply {
        version: view(of).map(|view| view.version_text.clone()).unwrap_or_default(),
        parallel: of.parallel,
        kv: of.kv.as_word().to_owned(),
        context: of.offload.context,
        budget: of.budget.map(|budget| budget.0),
        gpus: rooms(seen, name, of),
        measured: scene
            .measured
            .iter()
            .filter(|(load, _)| is_it(&load.model) || Some(load.model.as_str()) == digest)
            .map(|(load, bytes)| MeasuredLoad {
                context: load.context,
                parallel: load.parallel,
                kv: load.kv.as_word().to_owned(),
                layers: load.layers,
                bytes: bytes.0,
            })
            .collect(),
        ..OffloadModelReply::from(&header)
    })
}

/// Returns the GPUs of a service with what it may use of each: its part of its budget, and no more than others leave.
fn rooms(seen: Option<&Seen>, name: &ContainerName, of: &Of) -> Vec<ModelRoom> {
    let gpus = seen.map(|seen| seen.inventory.gpus.as_slice()).unwrap_or_default();
    let count = u64::try_from(of.gpus.len()).unwrap_or(u64::MAX).max(1);
    let room = |id: &GpuId| {
        let gpu = gpus.iter().find(|gpu| gpu.id == *id)?;
        let memory = gpu.memory?;
        let own = ledger::used_of(gpu, name).unwrap_or_default();
        let others = memory.reserved.0.saturating_add(memory.used.0.saturating_sub(own.0));
        let left = memory.total.0.saturating_sub(others);
        let part = of.budget.map_or(left, |budget| budget.0.div_ceil(count));
        Some(ModelRoom { id: id.to_string(), total: memory.total.0, free: part.min(left) })
    };
    of.gpus.iter().filter_map(room).collect()
}
