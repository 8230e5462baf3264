//! Taking memory again: loading what is to be kept, in the best way that fits, and repairing what the engine put elsewhere.

use std::time::Duration;

use super::super::estimate::Layers;
use super::super::seen::LoadedModel;
use super::super::watchdog;
use super::memory::Known;
use super::size::Sizes;
use super::text::{how, span};
use super::{Found, Judge, Setting, Step, counted, earlier, is_shrunk, kept, loaded};
use crate::model::{Bytes, CpuFallback};

/// How long memory must not have been asked for.
pub(super) const CALM: Duration = Duration::from_mins(1);
/// What must be free beyond what a model needs while others have what it gave up, in percent of its need.
const MARGIN_PERCENT: u64 = 10;
/// With less than this nothing is tried of which nobody knows what it takes.
const ROOM_MIN: u64 = 512 << 20;

/// Repairs in a row that changed nothing, after which a model is left where it is: somebody has to look.
pub(in super::super) const REPAIRS_MAX: u32 = 3;

/// How a model should be loaded.
struct Target {
    setting: Setting,
    /// Layers on GPUs, as far as they are known: all where the engine decides.
    layers: u32,
    context: u32,
    need: Bytes,
}

impl Judge<'_> {
    /// Loads what is to be kept, or loads it anew with more.
    pub(super) fn promote(&mut self) -> Found {
        let mut again_at = None;
        let mut reason = String::new();
        if self.is_outdated() {
            // What was just loaded would count as free, and a model be given it a second time.
            return Found::Nothing(None);
        }
        let mut room = self.room();
        for name in kept(self.scene.offload) {
            let found = self.promote_one(&name, &mut room);
            match found {
                Found::Step(..) => return found,
                Found::Wait(why, at) => {
                    again_at = earlier(again_at, at);
                    if reason.is_empty() {
                        reason = why;
                    }
                }
                Found::Exhausted(_) => {}
                Found::Nothing(at) => again_at = earlier(again_at, at),
            }
        }
        Found::Wait(reason, again_at)
    }

    /// Returns what is free of the budget.
    fn room(&self) -> u64 {
        let Some(budget) = self.scene.budget else { return u64::MAX };
        budget.0.saturating_sub(self.scene.used.map_or_else(|| self.counted(), |used| used.0))
    }

    /// Returns what all that is loaded has on the GPUs, as far as anybody knows.
    pub(super) fn counted(&self) -> u64 {
        counted(self.scene, self.view, &self.memory).0
    }

    /// Returns what a model may have that has this much already: never more than the whole budget, whatever the driver has not seen yet.
    fn own(&self, room: u64, held: u64) -> u64 {
        room.saturating_add(held).min(self.scene.budget.map_or(u64::MAX, |budget| budget.0))
    }

    fn promote_one(&self, name: &str, room: &mut u64) -> Found {
        let is_there = self.view.available.is_empty() || self.view.available.iter().any(|other| other == name);
        let found = loaded(self.view).find(|model| model.name == *name);
        let known = self.memory.known(name);
        let has = match found {
            None if !is_there => {
                return Found::Wait(
                    format!("`{name}` is to be kept loaded, and the engine does not have it"),
                    None,
                );
            }
            None => None,
            Some(_) if !self.has_settings() => return Found::Nothing(None),
            // What the engine put elsewhere by itself is the watchdog's. But one on the CPU may have been moved there before this agent began, and
            // where that is allowed nobody repairs it.
            Some(model) if known.setting.is_none() && (self.repairs() || model.size_vram != Some(Bytes(0))) => {
                return Found::Nothing(None);
            }
            Some(model) => Some((model, self.sizes().has(model, &known))),
        };
        let held = found.and_then(|model| self.sizes().held(model, &known)).unwrap_or_default().0;
        let own = self.own(*room, held);
        let Some(target) = self.target(name, &known, own, found.is_some()) else {
            return match found {
                None => Found::Wait(
                    format!("`{name}` is not loaded: there is no room, {} are free", Bytes(*room).roughly()),
                    None,
                ),
                Some(_) => Found::Nothing(None),
            };
        };
        if has.is_some_and(|(_, (layers, context))| {
            // Nothing is gained by the same, and a model is not moved for less.
            layers
                .is_none_or(|layers| (target.layers, target.context) <= (layers, context) || target.layers < layers)
        }) {
            return Found::Nothing(None);
        }
        // Less than it was told is the repair's, which counts how often; and no engine loads anew for what it was told already.
        let told = known.setting.filter(|_| has.is_some());
        let is_less = match (told.map(|told| told.layers), has) {
            (Some(Layers::Exactly(told)), Some((_, (Some(has), _)))) => has < told,
            (Some(Layers::Auto), Some((_, (Some(has), _)))) => {
                self.sizes().layers_all(name).is_some_and(|all| has < all)
            }
            (Some(Layers::Exactly(_) | Layers::Auto) | None, _) => false,
        };
        if told == Some(target.setting) || (is_less && self.repairs()) {
            return Found::Nothing(None);
        }
        let calm_at = self.memory.disturbed.map_or(Duration::ZERO, |at| at.saturating_add(CALM));
        let due = calm_at.max(known.load_at());
        // What it is to have soon is nobody's that comes after it; one that waits for long keeps nobody out.
        if due <= self.scene.now.saturating_add(CALM) {
            *room = room.saturating_sub(target.need.0.saturating_sub(held));
        }
        if self.scene.now < due {
            let wait = span(due.saturating_sub(self.scene.now));
            let what = if has.is_some() { "is loaded with more" } else { "is loaded again" };
            let why = match known.failure.as_str() {
                "" => format!("`{name}` {what} in {wait}, unless memory is asked for"),
                failure => format!("`{name}` {what} in {wait}: {failure}"),
            };
            return Found::Wait(why, Some(due));
        }
        if has.is_some()
            && let Some(busy) = loaded(self.view).find(|model| model.busy == Some(true))
        {
            let why = format!("`{name}` is loaded with more when `{}` has finished its request", busy.name);
            return Found::Wait(why, None);
        }
        let all = self.sizes().layers_all(name);
        let need = if target.need.0 > 0 {
            format!(", {} of {}", target.need.roughly(), Bytes(own).roughly())
        } else {
            String::new()
        };
        let free = if self.scene.budget.is_some() { need.as_str() } else { "" };
        let how = how(target.setting, all);
        let how = if how.is_empty() { how } else { format!(" {how}") };
        Found::Step(
            Step::Load { model: name.to_owned(), setting: target.setting, keep: true },
            format!("loads `{name}`{how}, which is to be kept{free}"),
        )
    }

    /// Returns the best way to load a model in this much room; `None`: there is none.
    fn target(&self, name: &str, known: &Known, room: u64, is_loaded: bool) -> Option<Target> {
        let sizes = self.sizes();
        // A router loads a model as its preset says.
        let context = self.scene.offload.context.filter(|_| self.has_settings());
        let tokens = sizes.context(name, context);
        let all = sizes.layers_all(name);
        let whole = Setting { layers: Layers::Auto, context };
        let layers = all.unwrap_or(u32::MAX);
        let Some(need) = sizes.need(name, known, whole) else {
            // Nobody knows what it takes: the engine finds out.
            let is_enough = self.scene.budget.is_none() || room >= ROOM_MIN;
            // Where the driver does not tell either, it would have to go again.
            let is_enough = is_enough && !(self.scene.used.is_none() && is_shrunk(self.scene));
            let best = Target { setting: whole, layers, context: tokens, need: Bytes(0) };
            return if is_enough { Some(best) } else { self.on_cpu(context, tokens) };
        };
        if need.0 <= self.usable(room) {
            // What is loaded with a number of layers is loaded anew with another number alone.
            let exact = all.filter(|_| is_loaded && self.has_settings()).map_or(Layers::Auto, Layers::Exactly);
            return Some(Target { setting: Setting { layers: exact, context }, layers, context: tokens, need });
        }
        if !self.has_settings() {
            return None;
        }
        self.part(&sizes, name, known, room).or_else(|| self.on_cpu(context, tokens))
    }

    /// Returns the best way to load a part of a model: fewer layers, then a smaller context.
    fn part(&self, sizes: &Sizes<'_>, name: &str, known: &Known, room: u64) -> Option<Target> {
        let (room, context) = (Bytes(self.usable(room)), self.scene.offload.context);
        let tokens = sizes.context(name, context);
        let all = sizes.layers_all(name)?;
        let smaller = Sizes::smaller_contexts(tokens).filter(|_| !known.is_context_undone);
        let mut ways =
            [(context, tokens, all)].into_iter().chain(smaller.map(|tokens| (Some(tokens), tokens, all + 1)));
        ways.find_map(|(context, tokens, limit)| {
            let (setting, need) = sizes.layers_within(name, known, context, room, limit)?;
            let Layers::Exactly(layers) = setting.layers else { return None };
            Some(Target { setting, layers, context: tokens, need })
        })
    }

    fn on_cpu(&self, context: Option<u32>, tokens: u32) -> Option<Target> {
        match self.scene.offload.cpu_fallback {
            CpuFallback::Allow | CpuFallback::Warn if self.has_settings() => {
                let setting = Setting { layers: Layers::Exactly(0), context };
                Some(Target { setting, layers: 0, context: tokens, need: Bytes(0) })
            }
            CpuFallback::Allow | CpuFallback::Warn | CpuFallback::Refuse => None,
        }
    }

    /// Returns what of the room may be needed: a part is left while the budget is less than is declared, since it may become less still.
    fn usable(&self, room: u64) -> u64 {
        let whole = self.scene.share.vram.unwrap_or(Bytes(u64::MAX));
        let is_whole = self.scene.budget.is_none_or(|budget| budget >= whole);
        if is_whole { room } else { (room / (100 + MARGIN_PERCENT)).saturating_mul(100) }
    }

    /// Brings models to the GPU that the engine put elsewhere.
    pub(super) fn repair(&mut self) -> Found {
        let incidents = watchdog::misplaced(self.scene, self.view, &self.memory);
        self.memory.note_right(self.scene.now, |name| incidents.iter().any(|wrong| wrong == name));
        if !self.repairs() {
            return Found::Nothing(None);
        }
        if let Some(found) = self.load_again() {
            return found;
        }
        let mut again_at = None;
        for model in loaded(self.view).filter(|model| incidents.contains(&model.name)) {
            match self.repair_one(model) {
                Found::Wait(_, at) | Found::Nothing(at) => again_at = earlier(again_at, at),
                found => return found,
            }
        }
        Found::Nothing(again_at)
    }

    /// Returns whether models are repaired at all.
    fn repairs(&self) -> bool {
        match self.scene.offload.cpu_fallback {
            CpuFallback::Allow => false,
            CpuFallback::Warn | CpuFallback::Refuse => self.has_settings(),
        }
    }

    fn repair_one(&mut self, model: &LoadedModel) -> Found {
        let known = self.memory.known(&model.name);
        if known.repairs >= REPAIRS_MAX {
            return Found::Nothing(None);
        }
        let sizes = self.sizes();
        let held = sizes.held(model, &known).unwrap_or_default().0;
        let all = sizes.layers_all(&model.name);
        let has = sizes.has(model, &known).0.unwrap_or(0);
        let keep = kept(self.scene.offload).contains(&model.name);
        let due = known.load_at().max(self.memory.disturbed.map_or(Duration::ZERO, |at| at.saturating_add(CALM)));
        if self.scene.now < due {
            return Found::Wait(String::new(), Some(due));
        }
        if self.is_outdated() {
            return Found::Wait(String::new(), None);
        }
        if model.busy == Some(true) {
            return Found::Wait(String::new(), None);
        }
        let target = self.target(&model.name, &known, self.own(self.room(), held), true);
        let better = target.filter(|target| target.layers > has && all.is_some());
        let Some(target) = better else { return Found::Nothing(None) };
        let name = &model.name;
        let found = match (has, all) {
            (0, _) => "is on the CPU".to_owned(),
            (has, Some(all)) => format!("has {has} of {all} layers on the GPU"),
            (has, None) => format!("has {has} layers on the GPU"),
        };
        let free = Bytes(self.room()).roughly();
        let (number, most) = (known.repairs.saturating_add(1), REPAIRS_MAX);
        let room = if self.scene.budget.is_some() { format!(", though {free} are free") } else { String::new() };
        if known.setting == Some(target.setting) {
            // No engine loads anew for what it was told already.
            let why = format!("unloads `{name}` to load it again: it {found}{room} (repair {number} of {most})");
            self.memory.load_again(name, target.setting);
            return Found::Step(Step::Unload { model: name.clone() }, why);
        }
        let how = how(target.setting, all);
        let why = format!("loads `{name}` {how}: it {found}{room} (repair {number} of {most})");
        Found::Step(Step::Load { model: name.clone(), setting: target.setting, keep }, why)
    }

    /// Loads a model that a repair had unloaded.
    fn load_again(&self) -> Option<Found> {
        let is_gone = |name: &str| loaded(self.view).all(|model| model.name != name);
        let due = self.memory.all().find_map(|(name, known)| {
            let setting = known.again.filter(|_| is_gone(name) && !self.is_outdated())?;
            let is_due = self.scene.now >= known.loads.ready_at().max(known.retry_at);
            is_due.then_some((name, known, setting))
        });
        let (name, known, setting) = due?;
        let sizes = self.sizes();
        sizes.need(name, known, setting).filter(|need| need.0 <= self.room())?;
        let keep = kept(self.scene.offload).iter().any(|kept| kept == name);
        let why = format!("loads `{name}` {}, which was unloaded for that", how(setting, sizes.layers_all(name)));
        Some(Found::Step(Step::Load { model: name.to_owned(), setting, keep }, why))
    }
}
