//! What is estimated, and what comes of it; as JSON this is the answer of `offload estimate --json`.

use nixmox_api::MeasuredLoad;
use nixmox_core::model::{Bytes, Word as _};
use nixmox_core::offload::engine::{Engine, MemoryEngine, Version};
use nixmox_core::offload::estimate::{Ask, CONTEXT_OF_CUDA, Estimate, Parts, Room, estimate};
use nixmox_core::offload::model::Model;
use serde::Serialize;

use super::alternatives;

/// What is estimated.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The model, as the person calls it.
    pub(crate) name: String,
    /// The service that has it; `None`: a file.
    pub(crate) service: Option<String>,
    /// What it is made of.
    pub(crate) model: Model,
    /// The program that runs it.
    pub(crate) engine: Engine,
    /// Its version; `None`: the newest.
    pub(crate) version: Option<Version>,
    /// Video memory that it may take, over all GPUs; `None`: as much as it needs.
    pub(crate) vram: Option<Bytes>,
    /// How it is loaded, and on what.
    pub(crate) ask: Ask,
    /// What loads of it were measured to take.
    pub(crate) measured: Vec<MeasuredLoad>,
}

/// What comes of it. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Outcome {
    /// The model, as it was asked for.
    pub(crate) model: String,
    /// The service that has it; absent: a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
    /// Its architecture, such as `llama`.
    pub(crate) architecture: String,
    /// `ollama` or `llama-server`.
    pub(crate) engine: &'static str,
    /// The engine's version; absent: its newest is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// The formula.
    pub(crate) formula: &'static str,
    /// Video memory that it may take, over all GPUs; absent: as much as it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vram: Option<u64>,
    /// Tokens of context of one request: fewer than asked for where the engine shortens it.
    pub(crate) context: u32,
    /// Tokens of context that were asked for.
    pub(crate) context_asked: u32,
    /// Requests at the same time; 0: as many as `llama-server` takes by itself.
    pub(crate) parallel: u32,
    /// How keys and values are kept.
    pub(crate) kv: &'static str,
    /// Whether attention is computed in one pass.
    pub(crate) flash_attention: bool,
    /// Layers on GPUs; the output counts as one.
    pub(crate) layers: u32,
    /// Layers that there are.
    pub(crate) layers_all: u32,
    /// Whether all of them are on GPUs, and no GPU has more than may be used of it.
    pub(crate) fits: bool,
    /// Video memory by which GPUs have more than may be used of them, all together: such as when layers are asked for.
    pub(crate) over: u64,
    /// Video memory, over all GPUs, by the formula.
    pub(crate) gpu: u64,
    /// The machine's memory, by the formula.
    pub(crate) host: u64,
    /// Video memory that such a load was measured to take, which counts in place of `gpu`; absent: none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measured: Option<u64>,
    /// Memory by part: of each GPU in their order, and last of the machine.
    pub(crate) places: Vec<Place>,
    /// What the formula does not know of this model.
    pub(crate) doubts: Vec<String>,
    /// What another setting would change.
    pub(crate) alternatives: Vec<Alternative>,
    /// From how much video memory on so many layers fit, fewest first; the last is all of them.
    pub(crate) enough: Vec<Enough>,
}

/// What is in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Place {
    /// `gpu 0` and so on, or `host`.
    pub(crate) at: String,
    /// Layers that are there.
    pub(crate) layers: u32,
    /// Weights.
    pub(crate) weights: u64,
    /// Keys and values.
    pub(crate) cache: u64,
    /// Buffers to compute in.
    pub(crate) compute: u64,
    /// What the driver and the libraries take.
    pub(crate) overhead: u64,
    /// All of these.
    pub(crate) total: u64,
}

/// What comes of another setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Alternative {
    /// The setting, such as `kv q8_0` or `context 4096`.
    pub(crate) setting: String,
    /// Layers on GPUs.
    pub(crate) layers: u32,
    /// Whether all of them are on GPUs, and no GPU has more than may be used of it.
    pub(crate) fits: bool,
    /// Video memory, over all GPUs.
    pub(crate) gpu: u64,
    /// The machine's memory.
    pub(crate) host: u64,
}

/// From how much video memory on so many layers fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Enough {
    /// Layers on GPUs.
    pub(crate) layers: u32,
    /// Video memory, over all GPUs.
    pub(crate) vram: u64,
}

impl Case {
    /// Returns what becomes of the model when it is loaded like this, so that all of it keeps to what may be used of each GPU.
    ///
    /// `--fit` looks at what is free when it has the GPU already: what the driver took for that is not free any more. Formulas of older Ollama
    /// keep some back themselves. A GPU of which nothing may be used is none: engines compute also on a GPU that has no layers.
    pub(super) fn estimate(&self, ask: &Ask) -> Estimate {
        let kept = match ask.engine {
            MemoryEngine::Layered | MemoryEngine::Exact => Bytes(0),
            MemoryEngine::Fit => CONTEXT_OF_CUDA,
        };
        let room = |room: &Room| Room { free: Bytes(room.free.0.saturating_sub(kept.0)), ..*room };
        let usable = |room: &&Room| room.free.0 > 0;
        let gpus = ask.gpus.iter().filter(usable).map(room).collect();
        let mut found = estimate(&self.model, &Ask { gpus, ..ask.clone() });
        let mut parts = std::mem::take(&mut found.gpus).into_iter();
        let all = ask
            .gpus
            .iter()
            .map(|room| if usable(&room) { parts.next().unwrap_or_default() } else { Parts::default() });
        found.gpus = all.collect();
        found
    }

    /// Returns what comes of it, and what would of other settings.
    pub(crate) fn outcome(&self) -> Outcome {
        let found = self.estimate(&self.ask);
        let gpus = found.gpus.iter().enumerate().map(|(index, parts)| Place::of(format!("gpu {index}"), parts));
        let host = Place::of("host".to_owned(), &found.host);
        let kv = self.ask.keys.as_word();
        let is_like = |load: &&MeasuredLoad| {
            load.context == found.context
                && load.parallel == self.ask.parallel
                && load.kv == kv
                && load.layers == found.layers
        };
        let gpu = found.gpus.iter().map(total).fold(0, u64::saturating_add);
        let measured = self.measured.iter().find(is_like).map(|load| load.bytes);
        // What was measured counts, and it is known of all GPUs together alone.
        let over = match (measured, self.vram) {
            (Some(measured), Some(Bytes(vram))) => measured.saturating_sub(vram),
            (None, Some(Bytes(vram))) => over(&self.ask, &found).max(gpu.saturating_sub(vram)),
            (_, None) => 0,
        };
        Outcome {
            model: self.name.clone(),
            service: self.service.clone(),
            architecture: self.model.architecture.clone(),
            engine: self.engine.as_word(),
            version: self.version.map(|version| version.to_string()),
            formula: found.formula,
            vram: self.vram.map(|Bytes(bytes)| bytes),
            context: found.context,
            context_asked: self.ask.context,
            parallel: self.ask.parallel,
            kv,
            flash_attention: self.ask.flash_attention,
            layers: found.layers,
            layers_all: found.layers_all,
            fits: found.layers == found.layers_all && over == 0,
            over,
            gpu,
            host: total(&found.host),
            measured,
            places: gpus.chain([host]).collect(),
            alternatives: alternatives::settings(self, &found),
            enough: alternatives::enough(self, &found),
            doubts: found.doubts,
        }
    }
}

impl Place {
    fn of(at: String, parts: &Parts) -> Self {
        let Parts { layers, weights, cache, compute, overhead } = *parts;
        let [weights, cache, compute, overhead] = [weights, cache, compute, overhead].map(|Bytes(bytes)| bytes);
        Self { at, layers, weights, cache, compute, overhead, total: total(parts) }
    }
}

/// Returns by how much GPUs have more than may be used of them.
pub(super) fn over(ask: &Ask, found: &Estimate) -> u64 {
    let over = |(room, parts): (&Room, &Parts)| total(parts).saturating_sub(room.free.0);
    ask.gpus.iter().zip(&found.gpus).map(over).fold(0, u64::saturating_add)
}

/// Returns all memory in one place.
pub(super) fn total(parts: &Parts) -> u64 {
    let Parts { layers: _, weights, cache, compute, overhead } = *parts;
    [weights, cache, compute, overhead].into_iter().fold(0, |sum, Bytes(bytes)| sum.saturating_add(bytes))
}
