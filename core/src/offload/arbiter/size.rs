//! What models take on the GPUs: measured, counted by the engine, or estimated, in this order.

use super::super::engine::{MemoryEngine, cut_context, default_context, memory_engine};
use super::super::estimate::{Ask, Layers, Room};
use super::super::model::Model;
use super::super::seen::{EngineView, LoadedModel};
use super::memory::Known;
use super::{Load, Scene, Setting};
use crate::model::Bytes;

/// Tokens that are computed at once.
const BATCH: u32 = 512;
/// A context is not made smaller than this: nothing could be asked any more.
pub(super) const CONTEXT_MIN: u32 = 2048;

/// So much of the layers that were asked for must be there by the engine's count: it counts more than layers.
const SHARE_PERCENT: u64 = 70;

/// Answers what models take.
#[derive(Clone, Copy)]
pub(in super::super) struct Sizes<'a> {
    scene: &'a Scene<'a>,
    engine: MemoryEngine,
    view: &'a EngineView,
}

impl<'a> Sizes<'a> {
    pub(in super::super) fn new(scene: &'a Scene<'a>, view: &'a EngineView) -> Self {
        Self { scene, engine: memory_engine(scene.offload.engine, view.version), view }
    }

    fn model(&self, name: &str) -> Option<&'a Model> {
        self.scene.models.get(name)
    }

    /// Returns how many layers a model has, with the output.
    pub(in super::super) fn layers_all(&self, name: &str) -> Option<u32> {
        let repeating = u32::try_from(self.model(name)?.layers.len()).ok()?;
        (repeating > 0).then(|| repeating.saturating_add(1))
    }

    /// Returns with how many tokens of context a model is loaded.
    pub(super) fn context(&self, name: &str, asked: Option<u32>) -> u32 {
        let (scene, version) = (self.scene, self.view.version);
        let engine = scene.offload.engine;
        let trained = self.model(name).and_then(|model| u32::try_from(model.number("context_length")?).ok());
        // Of the GPUs the engine sees what it was not told to leave, when it was started.
        let total = scene
            .rooms
            .iter()
            .fold(0, |sum: u64, room| sum.saturating_add(room.total.0.saturating_sub(scene.overhead.0)));
        match asked.or(scene.offload.context).or(scene.context) {
            Some(asked) => cut_context(engine, version, asked, trained),
            None => default_context(engine, version, Bytes(total), trained),
        }
    }

    /// Returns what a model takes on all GPUs when it is loaded like this; `None`: nobody knows.
    pub(super) fn need(&self, name: &str, known: &Known, setting: Setting) -> Option<Bytes> {
        let all = self.layers_all(name);
        let layers = match setting.layers {
            Layers::Exactly(0) => return Some(Bytes(0)),
            Layers::Exactly(layers) => Some(all.map_or(layers, |all| layers.min(all))),
            Layers::Auto => all,
        };
        let context = self.context(name, setting.context);
        let is_it = |load: &Load| {
            (load.model == name || (!known.digest.is_empty() && load.model == known.digest))
                && load.context == context
                && load.parallel == self.scene.parallel
                && load.kv == self.scene.kv
                && layers.is_none_or(|layers| load.layers == layers)
        };
        let measured =
            self.scene.measured.0.iter().filter(|(load, _)| is_it(load)).max_by_key(|(load, _)| load.layers);
        let estimated = || self.estimated(name, context, layers?);
        let counted = || known.size.filter(|_| layers == all && setting.context == self.scene.offload.context);
        // What the engine counted when all of it was there is at least what it takes.
        measured.map(|(_, bytes)| *bytes).or_else(|| estimated().max(counted()))
    }

    fn estimated(&self, name: &str, context: u32, layers: u32) -> Option<Bytes> {
        let nobody_knows = [Room { total: Bytes(u64::MAX / 4), free: Bytes(u64::MAX / 4) }];
        let rooms = if self.scene.rooms.is_empty() { &nobody_knows[..] } else { self.scene.rooms };
        let ask = Ask {
            engine: self.engine,
            version: self.view.version,
            gpus: rooms.iter().map(|room| Room { total: room.total, free: room.total }).collect(),
            context,
            parallel: self.scene.parallel,
            batch: BATCH,
            keys: self.scene.kv,
            values: self.scene.kv,
            flash_attention: self.engine != MemoryEngine::Layered,
            layers: Layers::Exactly(layers),
        };
        self.scene.estimates.need(name, self.model(name)?, &ask)
    }

    /// Returns what a loaded model has on the GPUs; `None`: nobody knows.
    pub(super) fn held(&self, model: &LoadedModel, known: &Known) -> Option<Bytes> {
        let setting = known.setting.unwrap_or(Setting { layers: Layers::Auto, context: model.context });
        model.size_vram.or_else(|| self.need(&model.name, known, setting))
    }

    /// Returns how a loaded model is loaded: layers on GPUs, where they can be told, and context.
    pub(super) fn has(&self, model: &LoadedModel, known: &Known) -> (Option<u32>, u32) {
        let all = self.layers_all(&model.name);
        let context = model
            .context
            .unwrap_or_else(|| self.context(&model.name, known.setting.and_then(|setting| setting.context)));
        // Of all layers those that are there by the engine's count; it counts more than layers.
        let share = all.zip(model.size_vram).zip(model.size).and_then(|((all, vram), size)| {
            let share = u128::from(all) * u128::from(vram.0) / u128::from(size.0.max(1));
            u32::try_from(share).ok().map(|layers| layers.min(all))
        });
        let is_whole = model.size_vram.zip(model.size).is_none_or(|(vram, size)| vram >= size);
        let layers = match (known.setting.map(|setting| setting.layers), model.size_vram) {
            // Whatever was asked for: an engine that found no room, or lost the GPU, says so here.
            (_, Some(Bytes(0))) => Some(0),
            (Some(Layers::Exactly(_)), Some(_)) if is_whole && model.size.is_some() => all,
            (Some(Layers::Exactly(layers)), _) => {
                let is_less = |share: &u32| u64::from(*share) * 100 < u64::from(layers) * SHARE_PERCENT;
                Some(share.filter(is_less).unwrap_or(layers))
            }
            (_, Some(_)) if !is_whole => share.zip(all).map(|(share, all)| share.min(all.saturating_sub(1))),
            _all => all,
        };
        (layers, context)
    }

    /// Returns the most layers of a model with which it takes no more than `room`, below `limit`, and what it takes then; `None`: not one, or
    /// nobody knows.
    pub(super) fn layers_within(
        &self,
        name: &str,
        known: &Known,
        context: Option<u32>,
        room: Bytes,
        limit: u32,
    ) -> Option<(Setting, Bytes)> {
        let (mut low, mut high, mut best) = (1, self.layers_all(name)?.min(limit.saturating_sub(1)), None);
        while low <= high {
            let middle = low + (high - low) / 2;
            let setting = Setting { layers: Layers::Exactly(middle), context };
            let need = self.need(name, known, setting)?;
            if need <= room {
                best = Some((setting, need));
                low = middle + 1;
            } else {
                high = middle.saturating_sub(1);
            }
        }
        best
    }

    /// Returns the contexts that a model can be loaded with instead of `context`, the largest first.
    pub(super) fn smaller_contexts(context: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(context / 2), |context| Some(context / 2))
            .take_while(|context| *context >= CONTEXT_MIN)
    }
}
