//! Giving memory back: what is asked for it first, and what never.

use std::time::Duration;

use super::super::estimate::Layers;
use super::super::seen::LoadedModel;
use super::memory::Known;
use super::size::Sizes;
use super::text::{how, span};
use super::under_way::{UNLOAD_RETRY, UnderWay};
use super::{Found, Judge, Setting, Step, kept, loaded};
use crate::model::{Bytes, CpuFallback, Engine};

/// Unloads that failed in a row, after which an engine is taken for one that cannot.
pub(super) const FAILURES_MAX: u32 = 3;
/// How often clients may load a model again that gave its memory back; then the engine cannot hold itself.
const RETURNS_MAX: u32 = 3;

/// Less than this is no figure of a model.
const SIZE_MIN: u64 = 1 << 20;
/// How long a model counts as busy of which its engine does not say, and which it would cut short.
const UNKNOWN_MAX: Duration = Duration::from_mins(1);

/// A model that can give memory back.
#[derive(Clone)]
struct Candidate<'a> {
    model: &'a LoadedModel,
    known: Known,
    /// What comes back.
    held: u64,
    /// Whether it is not asked now: its engine would cut a request short.
    has_to_wait: bool,
    /// Its place in `keep`.
    place: Option<usize>,
}

impl<'a> Judge<'a> {
    /// Finds the next step to give memory back.
    pub(super) fn give_back(&self) -> Found {
        if let Some(step) = self.memory.under_way()
            // A load that only takes more is not waited for.
            && !step.takes()
        {
            let (why, again_at) = (step.tells(self.scene.now), UnderWay::again_at(self.scene));
            return Found::Wait(format!("{}: {why}", self.asked()), Some(again_at));
        }
        if self.is_outdated() {
            let why = format!("{}: waits for the driver to tell what is used since", self.asked());
            return Found::Wait(why, Some(self.scene.now.saturating_add(super::under_way::RETURN_MAX)));
        }
        let counted = self.counted();
        let returning = self.memory.returning(self.scene, counted);
        let missing = self.excess.0.saturating_sub(returning);
        // No engine counts what the driver takes for it: what comes back is a little more.
        if missing <= returning / 4 {
            let why = format!("{}: waits for what is gone already to come back", self.asked());
            return Found::Wait(why, Some(UnderWay::again_at(self.scene)));
        }
        let all = self.candidates();
        if all.is_empty() {
            let used = self.scene.used.map_or_else(|| "memory".to_owned(), Bytes::roughly);
            return Found::Exhausted(format!(
                "{}: no model is loaded, and {used} is used all the same",
                self.asked()
            ));
        }
        let able: Vec<Candidate<'a>> =
            all.iter().filter(|candidate| candidate.known.failures < FAILURES_MAX).cloned().collect();
        // One that was asked and is not done keeps nobody else from being asked.
        let unasked: Vec<Candidate<'a>> =
            able.iter().filter(|candidate| candidate.known.asked_since.is_none()).cloned().collect();
        let able = if unasked.is_empty() { able } else { unasked };
        let Some(first) = least_needed(&able, missing) else {
            let reason = all.first().map(|candidate| (&candidate.model.name, candidate.known.failure.clone()));
            let (model, failure) = reason.map_or_else(Default::default, |(name, failure)| (name.clone(), failure));
            return Found::Exhausted(format!("{}: `{model}` cannot be unloaded: {failure}", self.asked()));
        };
        self.relieve(first)
    }

    /// Returns the models that have memory, those that are given up first at the front.
    fn candidates(&self) -> Vec<Candidate<'a>> {
        let (sizes, keep) = (self.sizes(), kept(self.scene.offload));
        let known: Vec<(&LoadedModel, Known)> =
            loaded(self.view).map(|model| (model, self.memory.known(&model.name))).collect();
        let held: Vec<Option<u64>> =
            known.iter().map(|(model, known)| sizes.held(model, known).map(|held| held.0)).collect();
        let counted = held.iter().flatten().copied().fold(0, u64::saturating_add);
        let unknown = held.iter().filter(|held| held.is_none()).count().max(1) as u64;
        // What nobody counts is somebody's.
        let rest = self.scene.used.map_or(0, |used| used.0.saturating_sub(counted)) / unknown;
        let candidates = known.into_iter().zip(held).map(|((model, known), held)| {
            let place = keep.iter().position(|name| *name == model.name);
            let has_to_wait = self.has_to_wait(model).is_some();
            Candidate { model, known, held: held.unwrap_or(rest.max(1)), has_to_wait, place }
        });
        let mut candidates: Vec<Candidate<'_>> = candidates.collect();
        // An engine counts for itself alone: one that counts nothing on the GPUs has yet what its libraries take.
        if candidates.iter().any(|candidate| candidate.held > 0) {
            candidates.retain(|candidate| candidate.held > 0);
        }
        candidates.sort_by_key(|candidate| {
            let place = candidate.place.map(std::cmp::Reverse);
            // Of a model that is kept its place counts, not its use.
            let used_at = candidate.known.used_at * u32::from(place.is_none());
            let expires = candidate.model.expires_usec.unwrap_or(u64::MAX);
            let is_busy = candidate.model.busy == Some(true);
            (
                place,
                is_busy || candidate.has_to_wait,
                used_at,
                expires,
                candidate.held,
                candidate.model.name.clone(),
            )
        });
        candidates
    }

    /// Returns until when a model is not asked, and what is waited for: an engine that would cut a request short is not asked while there is one,
    /// or may be one. `None`: it can be asked now.
    fn has_to_wait(&self, model: &LoadedModel) -> Option<(Duration, String)> {
        let (now, grace, name) = (self.scene.now, self.scene.offload.request_grace, &model.name);
        let since = self.memory.over_since.unwrap_or(now);
        match (self.scene.offload.engine, model.busy) {
            (Engine::Ollama, _) | (Engine::LlamaServer, Some(false)) => None,
            (Engine::LlamaServer, Some(true)) => {
                let until = since.saturating_add(grace.unwrap_or(UNLOAD_RETRY));
                Some((until, format!("a request of `{name}` to finish")))
            }
            (Engine::LlamaServer, None) => {
                let until = since.saturating_add(grace.map_or(UNKNOWN_MAX, |grace| grace.min(UNKNOWN_MAX)));
                let left = until.saturating_sub(now);
                let what =
                    format!("a request that `{name}` may have: it does not say, and is asked in {}", span(left));
                (now < until).then_some((until, what))
            }
        }
    }

    /// Decides how a model gives memory back.
    fn relieve(&self, candidate: &Candidate<'_>) -> Found {
        let Candidate { model, known, held, has_to_wait: _, place } = candidate;
        let name = &model.name;
        if let Some((until, what)) = self.has_to_wait(model) {
            return Found::Wait(format!("{}: waits for {what}", self.asked()), Some(until));
        }
        if self.scene.now < known.retry_at && known.failures > 0 {
            let why = format!("{}: asks `{name}` again, which failed: {}", self.asked(), known.failure);
            return Found::Wait(why, Some(known.retry_at));
        }
        if place.is_some()
            && let Some((setting, why)) = self.smaller(model, known, *held)
        {
            return Found::Step(Step::Load { model: name.clone(), setting, keep: true }, why);
        }
        let idle = span(self.scene.now.saturating_sub(known.used_at));
        // Where nobody counts, no figure is better than a wrong one.
        let size = if *held < SIZE_MIN { String::new() } else { format!(" ({})", Bytes(*held).roughly()) };
        let why = match (model.busy, place) {
            (Some(true), _) => format!("{}: unloads `{name}`{size} after its request", self.asked()),
            (_, Some(_)) => format!("{}: unloads `{name}`{size}, which is to be kept", self.asked()),
            (_, None) => format!("{}: unloads `{name}`{size}, idle for {idle}", self.asked()),
        };
        Found::Step(Step::Unload { model: name.clone() }, why)
    }

    /// Returns how a model that is to be kept can be loaded with less: fewer layers, a smaller context, or on the CPU.
    fn smaller(&self, model: &LoadedModel, known: &Known, held: u64) -> Option<(Setting, String)> {
        if !self.has_settings() || self.scene.now < known.load_at() {
            return None;
        }
        let sizes = self.sizes();
        let (layers, context) = sizes.has(model, known);
        if layers == Some(0) {
            return None;
        }
        let all = sizes.layers_all(&model.name);
        let now = Setting { layers: layers.map_or(Layers::Auto, Layers::Exactly), context: Some(context) };
        // What is estimated is compared with what is estimated: then an error of it counts for the difference alone.
        let has = sizes.need(&model.name, known, now).map_or(held, |need| need.0);
        // What is still being loaded is not among what is used.
        let own = model.size_vram.map_or(0, |vram| vram.0.max(has));
        let others = self.scene.used.map_or(0, |used| used.0.saturating_sub(own));
        let free = self.scene.budget.map_or(u64::MAX, |budget| budget.0.saturating_sub(others));
        let room = Bytes(has.saturating_sub(self.excess.0).min(free));
        let setting =
            self.fewer(model, known, layers, context, room).or_else(|| match self.scene.offload.cpu_fallback {
                CpuFallback::Allow | CpuFallback::Warn => Some(Setting {
                    layers: Layers::Exactly(0),
                    context: known.setting.and_then(|setting| setting.context),
                }),
                CpuFallback::Refuse => None,
            })?;
        let why = format!("{}: loads `{}` {}", self.asked(), model.name, how(setting, all));
        Some((setting, why))
    }

    fn fewer(
        &self,
        model: &LoadedModel,
        known: &Known,
        layers: Option<u32>,
        context: u32,
        room: Bytes,
    ) -> Option<Setting> {
        let sizes = self.sizes();
        let all = sizes.layers_all(&model.name)?;
        let same = known.setting.and_then(|setting| setting.context).or(self.scene.offload.context);
        let fewer = sizes.layers_within(&model.name, known, same, room, layers.unwrap_or(all));
        let smaller = || {
            let contexts = Sizes::smaller_contexts(context).filter(|_| !known.is_context_undone);
            let mut found = contexts.filter_map(|context| {
                sizes.layers_within(&model.name, known, Some(context), room, all.saturating_add(1))
            });
            found.next()
        };
        fewer.or_else(smaller).map(|(setting, _)| setting)
    }

    /// Returns why it counts as any other service though steps are left, where it does.
    pub(super) fn hindrance(&self) -> Option<String> {
        let now = self.scene.now;
        let grace = self.scene.offload.request_grace;
        let over = self.memory.over_since.map_or_else(Default::default, |since| now.saturating_sub(since));
        let is_asked = |known: &Known| known.asked_since.map(|since| now.saturating_sub(since));
        for (name, known) in self.memory.all().filter(|(_, known)| known.is_loaded) {
            if let (Some(grace), Some(asked)) = (grace, is_asked(known))
                && asked >= grace
            {
                return Some(format!("`{name}` still answers requests {} after it was asked", span(asked)));
            }
            if known.returns >= RETURNS_MAX {
                return Some(format!("`{name}` was loaded again {} times by who asks it", known.returns));
            }
        }
        let waits = self.scene.offload.engine == Engine::LlamaServer;
        let busy = loaded(self.view).find(|model| model.busy == Some(true)).filter(|_| waits);
        if let (Some(model), Some(grace)) = (busy, grace)
            && over >= grace
        {
            return Some(format!("`{}` still answers a request after {}", model.name, span(over)));
        }
        let old = self.memory.changed_at.filter(|_| self.is_outdated());
        let silent = old.map(|at| now.saturating_sub(at)).filter(|silent| *silent >= UNLOAD_RETRY)?;
        Some(format!("the driver has not told what is used for {}", span(silent)))
    }
}

/// Returns the model that is given up first: of all, what is needed least goes. Of those that are not to be kept none goes for nothing, when
/// others of them are enough without it; what is to be kept gives only what they cannot, and the place in `keep` says who. Where all are not
/// enough, all go.
fn least_needed<'b, 'a>(candidates: &'b [Candidate<'a>], excess: u64) -> Option<&'b Candidate<'a>> {
    let mut chosen = Vec::new();
    let mut sum = 0_u64;
    for candidate in candidates {
        if sum >= excess {
            break;
        }
        sum = sum.saturating_add(candidate.held);
        chosen.push(candidate);
    }
    if chosen.iter().any(|candidate| candidate.place.is_some()) {
        return chosen.first().copied();
    }
    for at in (0..chosen.len()).rev() {
        let without = chosen.iter().enumerate().filter(|(other, _)| *other != at);
        let rest = without.fold(0, |sum: u64, (_, candidate)| sum.saturating_add(candidate.held));
        if rest >= excess {
            chosen.remove(at);
        }
    }
    chosen.first().copied()
}
