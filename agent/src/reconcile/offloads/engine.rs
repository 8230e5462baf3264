//! What is known of the engine in one instance of a container: what it said last, what was decided, and what is under way.
//!
//! ```text
//!  first seen ──▶ unknown ──look──▶ answers ◀──▶ silent
//!                    │                 │ decide
//!                    │                 ▼
//!  elastic until GRACE is over      a step ──over──▶ confirmed by looks begun after it ──▶ decide …
//! ```
//!
//! Until an engine has had time to come up, it counts as one that gives memory back: an agent that starts anew must not have a
//! container stopped because it has not asked yet.

#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::model::{Bytes, Engine as Program, InvocationId, Offload};
use nixmox_core::offload::arbiter::{self, Estimates, Load, Measured, Memory, Scene, Setting, Step, Verdict};
use nixmox_core::offload::estimate::{Layers, estimate};
use nixmox_core::offload::seen::{EngineSeen, EngineView, LoadedModel};
use nixmox_core::offload::watchdog::{self, Incident};

use super::given::Given;
use super::models::Models;
use crate::guest_helper::engine::time::FOR_EVER;

/// Time between two looks while all is as it should be.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// The same while memory is to come back, or a step is under way.
const LOOK_INTERVAL_PRESSED: Duration = Duration::from_secs(2);
/// How long that goes on: what lasts longer is waited for at leisure.
const PRESSED_MAX: Duration = Duration::from_mins(5);
/// How long after a step memory is still expected to come back (engines end the process that had it).
const AFTERMATH: Duration = Duration::from_secs(15);
/// Looks in a row without an answer that are soon followed by another one: it may have been lost under load.
const SILENT_LOOKS: u32 = 10;
/// How long an engine may take to come up before it counts as silent.
const GRACE: Duration = Duration::from_mins(1);
/// How long one that could not give enough back counts as any other service, though it may be able to again.
const INELASTIC: Duration = Duration::from_mins(1);
/// For how long the same models must have been loaded before they are measured: memory of those before them is gone by then.
const SETTLED: Duration = Duration::from_secs(15);
/// Looks in a row at which a model is not where it should be, from which on that is told.
const INCIDENT_LOOKS: u32 = 2;
/// How much a budget must change before that is told again.
const BUDGET_STEP: u64 = 512 << 20;
/// Time until a decision is asked for again that wants to be asked at once.
const AGAIN_MIN: Duration = Duration::from_millis(500);
/// Models of which it is remembered that their memory was taken back.
const GIVEN_UP_MAX: usize = 16;

/// What is known of the engine of one instance.
#[derive(Debug)]
pub(in crate::reconcile) struct Engine {
    pub(super) invocation: InvocationId,
    /// When the instance was first seen.
    pub(super) began: Duration,
    /// Whether its container is up.
    pub(super) is_up: bool,
    /// What it said last, and when that was asked.
    seen: Option<(Arc<EngineSeen>, Duration)>,
    looking: bool,
    /// When the last look was begun, whatever came of it.
    looked: Option<Duration>,
    /// Looks in a row without an answer.
    silent: u32,
    /// When it answered first.
    answered: Option<Duration>,
    memory: Memory,
    verdict: Option<Verdict>,
    /// What the last decision was made of.
    basis: Option<(Given, Duration, u64)>,
    again_at: Option<Duration>,
    inelastic_until: Duration,
    step: Option<(Step, Duration)>,
    /// When the last step was over.
    stepped: Option<Duration>,
    /// Since when it has more than it may.
    over_since: Option<Duration>,
    pub(in crate::reconcile) models: Models,
    /// What they were estimated to take.
    pub(super) estimates: Estimates,
    /// Grows with everything that is known anew beside looks.
    changes: u64,
    incidents: BTreeMap<String, Lasting>,
    incidents_at: Option<Duration>,
    told_budget: Option<Given>,
    /// Whether it was told that it cannot be made to give back what is asked for.
    told_stiff: bool,
    /// What is loaded, and since when it is the same.
    steady: (Vec<LoadedModel>, Duration),
    measured_at: Duration,
    /// Models that the engine keeps for good because we had it load them so, or an agent before this one.
    pinned: BTreeSet<String>,
    /// What was to be kept, and of what engine, when the last look was begun.
    keep: Vec<String>,
    program: Program,
    /// Models whose memory was taken back.
    given_up: Vec<String>,
}

/// A model that is not where it should be.
#[derive(Debug)]
struct Lasting {
    incident: Incident,
    /// At so many looks in a row.
    looks: u32,
}

impl Engine {
    pub(super) fn new(invocation: InvocationId, now: Duration) -> Self {
        Self {
            invocation,
            began: now,
            is_up: false,
            seen: None,
            looking: false,
            looked: None,
            silent: 0,
            answered: None,
            memory: Memory::default(),
            verdict: None,
            basis: None,
            again_at: None,
            inelastic_until: Duration::ZERO,
            step: None,
            stepped: None,
            over_since: None,
            models: Models::default(),
            estimates: Estimates::new(estimate),
            changes: 0,
            incidents: BTreeMap::new(),
            incidents_at: None,
            told_budget: None,
            told_stiff: false,
            steady: (Vec::new(), now),
            measured_at: Duration::ZERO,
            pinned: BTreeSet::new(),
            keep: Vec::new(),
            program: Program::Ollama,
            given_up: Vec::new(),
        }
    }

    /// Returns whether it can be made to give memory back.
    pub(super) fn is_elastic(&self, now: Duration) -> bool {
        if now < self.unknown_until() {
            return true;
        }
        now >= self.inelastic_until && self.verdict.as_ref().is_some_and(|verdict| verdict.is_elastic)
    }

    /// Returns until when nothing that is known of it has a meaning: it comes up, or what an agent before this one had it do is still to be
    /// seen.
    fn unknown_until(&self) -> Duration {
        self.answered.map_or_else(|| self.began.saturating_add(GRACE), |at| at.saturating_add(AFTERMATH))
    }

    /// Returns whether memory is to come back soon.
    pub(super) fn is_pressed(&self, now: Duration) -> bool {
        let lasts =
            |since: Option<Duration>, most: Duration| since.is_some_and(|since| now < since.saturating_add(most));
        let step = self.step.as_ref().map(|(_, since)| *since);
        lasts(self.over_since, PRESSED_MAX) || lasts(step, PRESSED_MAX) || lasts(self.stepped, AFTERMATH)
    }

    fn next_look(&self, now: Duration) -> Option<Duration> {
        if !self.is_up || self.looking {
            return None;
        }
        let is_soon = self.is_pressed(now)
            || self.silent > 0 && self.silent < SILENT_LOOKS
            || self.answered.is_none() && now < self.began.saturating_add(GRACE);
        let interval = if is_soon { LOOK_INTERVAL_PRESSED } else { LOOK_INTERVAL };
        Some(self.looked.map_or(now, |looked| looked.saturating_add(interval)))
    }

    /// Returns whether a look is due; it is then under way.
    pub(super) fn begin_look(&mut self, now: Duration, offload: &Offload) -> bool {
        let is_due = self.next_look(now).is_some_and(|due| due <= now);
        if is_due {
            (self.looking, self.looked) = (true, Some(now));
            self.keep.clone_from(&offload.keep);
            self.program = offload.engine;
        }
        is_due
    }

    /// Takes note that a look came to nothing, for no fault of the engine's.
    pub(super) fn lost_look(&mut self) {
        self.looking = false;
    }

    /// Takes in a look that was begun then.
    pub(super) fn looked(&mut self, begun: Duration, mut seen: EngineSeen) {
        self.looking = false;
        match &mut seen {
            EngineSeen::Answers(view) => {
                self.see_pinned(begun, view);
                self.silent = 0;
                self.answered.get_or_insert(begun);
                self.see_loaded(begun, view);
                self.models.seen(view);
            }
            EngineSeen::Silent(_) => {
                self.silent = self.silent.saturating_add(1);
            }
        }
        self.seen = Some((Arc::new(seen), begun));
    }

    /// A model that a client has kept for good is in use, whenever it was asked last, and one that we had kept so is only when it is asked: what counts as
    /// use is another time than before. One that is to be kept and stays for good is ours, whoever asked for it; one that does not stay for good is
    /// nobody's. What leaves `keep` may be called by another name from then on.
    fn see_pinned(&mut self, begun: Duration, view: &mut EngineView) {
        let stays = |model: &LoadedModel| model.expires_usec.is_some_and(|at| at >= FOR_EVER);
        let program = self.program;
        let mut pinned = BTreeSet::new();
        for model in view.loaded.iter_mut().filter(|model| stays(model)) {
            let mut names = self.keep.iter().chain(&self.pinned);
            let is_ours = names.any(|name| program.is_same_model(name, &model.name));
            model.is_pinned = is_ours;
            if is_ours {
                pinned.insert(model.name.clone());
            } else {
                let since = u64::try_from(begun.as_micros()).unwrap_or(u64::MAX);
                model.expires_usec = Some(u64::MAX.saturating_sub(since));
            }
        }
        self.pinned = pinned;
    }

    fn see_loaded(&mut self, begun: Duration, view: &EngineView) {
        let is_loaded = |name: &String| view.loaded.iter().any(|model| model.name == *name);
        self.given_up.retain(|name| !is_loaded(name));
        let before = std::mem::take(&mut self.steady.0);
        let now: Vec<LoadedModel> = view.loaded.iter().map(lasting).collect();
        if before != now {
            self.steady.1 = begun;
        }
        self.steady.0 = now;
    }

    /// Returns a model that it is to be asked about, and its digest; the question is then under way.
    pub(super) fn begin_show(&mut self, now: Duration, offload: &Offload) -> Option<(String, String)> {
        let EngineSeen::Answers(view) = &*self.seen.as_ref().filter(|_| self.is_up)?.0 else { return None };
        self.models.begin(now, view, &offload.keep)
    }

    /// Takes in what a model is made of.
    pub(super) fn shown(
        &mut self,
        now: Duration,
        model: String,
        digest: String,
        shown: Result<nixmox_core::offload::gguf::Header, String>,
    ) {
        self.estimates.forget(&model);
        self.models.shown(now, model, digest, shown);
        self.changes = self.changes.saturating_add(1);
    }

    fn scene<'a>(
        &'a self,
        now: Duration,
        given: &'a Given,
        (engine, seen_at): (&'a EngineSeen, Duration),
        measured: &'a Measured,
    ) -> Scene<'a> {
        Scene {
            offload: &given.offload,
            share: &given.share,
            now,
            budget: given.budget,
            pressure: &given.pressure,
            rooms: &given.rooms,
            used: given.used,
            used_at: given.used_at,
            engine,
            seen_at,
            models: self.models.known(),
            measured,
            parallel: given.parallel,
            kv: given.kv,
            overhead: given.overhead,
            context: given.context,
            estimates: &self.estimates,
            memory: &self.memory,
        }
    }

    /// Decides what it is to do, where something is known that was not. Returns the step that is begun with it, and why.
    pub(super) fn decide(&mut self, now: Duration, given: &Given, measured: &Measured) -> Option<(Step, String)> {
        self.over_since = given.is_over().then(|| self.over_since.unwrap_or(now));
        let (engine, seen_at) = self.seen.clone()?;
        let basis = (given.clone(), seen_at, self.changes);
        if self.basis.as_ref() == Some(&basis) && self.again_at.is_none_or(|at| at > now) {
            return None;
        }
        let verdict = arbiter::decide(&self.scene(now, given, (&engine, seen_at), measured));
        self.basis = Some(basis);
        if self.step.is_some() && verdict.step.is_some() {
            // The one that is under way was given up, and is not over all the same: another one follows when it is.
            self.again_at = Some(now.saturating_add(LOOK_INTERVAL_PRESSED));
            self.verdict = Some(Verdict { step: None, memory: self.memory.clone(), ..verdict });
            return None;
        }
        self.memory.clone_from(&verdict.memory);
        self.again_at = verdict.again_at.map(|at| at.max(now.saturating_add(AGAIN_MIN)));
        let was_elastic = self.verdict.as_ref().is_none_or(|verdict| verdict.is_elastic);
        if was_elastic && !verdict.is_elastic && matches!(*engine, EngineSeen::Answers(_)) {
            self.inelastic_until = now.saturating_add(INELASTIC);
        }
        let step = verdict.step.clone();
        let why = verdict.why.clone();
        self.verdict = Some(verdict);
        let step = step?;
        self.step = Some((step.clone(), now));
        self.again_at = None;
        Some((step, why))
    }

    /// Takes note that nothing is decided of it for now.
    pub(super) fn undecided(&mut self) {
        self.again_at = None;
        self.basis = None;
    }

    /// Takes note that the answer to a step was lost: looks tell what came of it. Returns how long it took.
    pub(super) fn lost_step(&mut self, now: Duration) -> Duration {
        let since = self.step.take().map_or(now, |(_, since)| since);
        self.stepped = Some(now);
        self.changes = self.changes.saturating_add(1);
        now.saturating_sub(since)
    }

    /// Takes in that a step is over; returns how long it took.
    pub(super) fn stepped(&mut self, now: Duration, step: &Step, result: Result<(), String>) -> Duration {
        let took = self.lost_step(now);
        match (step, result) {
            (Step::Load { model, keep, .. }, Ok(())) => {
                self.memory.answered(now);
                if *keep {
                    self.pinned.insert(model.clone())
                } else {
                    self.pinned.remove(model)
                };
                self.given_up.retain(|other| other != model);
            }
            (Step::Unload { model }, Ok(())) => {
                self.memory.answered(now);
                if !self.given_up.contains(model) {
                    self.given_up.push(model.clone());
                }
                let excess = self.given_up.len().saturating_sub(GIVEN_UP_MAX);
                self.given_up.drain(..excess);
            }
            (Step::Load { .. } | Step::Unload { .. }, Err(cause)) => self.memory.failed(&cause, now),
        }
        took
    }

    /// Returns what is to be told of models that are not where they should be: that it lasts, and that it is over.
    pub(super) fn news_of_incidents(&mut self, now: Duration, given: &Given, measured: &Measured) -> Vec<String> {
        let Some((engine, seen_at)) = self.seen.clone() else { return Vec::new() };
        if self.incidents_at == Some(seen_at) || !matches!(*engine, EngineSeen::Answers(_)) {
            return Vec::new();
        }
        let scene = self.scene(now, given, (&engine, seen_at), measured);
        let found = watchdog::incidents(&scene);
        if self.estimates.is_short() {
            // What was found is not all; the next round goes on.
            return Vec::new();
        }
        // What is just loaded again is no news, until it is seen where it went.
        let is_open = |name: &String| watchdog::is_repairing(&scene, name);
        let open: Vec<String> = self.incidents.keys().filter(|name| is_open(name)).cloned().collect();
        self.incidents_at = Some(seen_at);
        let mut before = std::mem::take(&mut self.incidents);
        let mut news = Vec::new();
        for incident in found {
            let model = incident.model.clone();
            let looks = before.remove(&model).map_or(1, |lasting| lasting.looks.saturating_add(1));
            if looks == INCIDENT_LOOKS {
                let hint = if incident.hint.is_empty() { String::new() } else { format!("; {}", incident.hint) };
                news.push(format!("{model} is not where it should be: {}{hint}", incident.found));
            }
            self.incidents.insert(model, Lasting { incident, looks });
        }
        for name in open {
            if let Some((name, lasting)) = before.remove_entry(&name) {
                self.incidents.insert(name, lasting);
            }
        }
        let over = before.into_iter().filter(|(_, lasting)| lasting.looks >= INCIDENT_LOOKS);
        news.extend(over.map(|(model, _)| format!("{model} is where it should be again, or not loaded any more")));
        news
    }

    /// Returns what loads turned out to take, where nothing else can explain it.
    pub(super) fn measure(&mut self, given: &Given) -> Vec<(Load, Bytes)> {
        let (models, since) = &self.steady;
        let is_settled = given.used_at >= since.saturating_add(SETTLED)
            && self.stepped.is_none_or(|stepped| given.used_at >= stepped.saturating_add(SETTLED));
        let is_same_after = self
            .seen
            .as_ref()
            .is_some_and(|(seen, at)| *at >= given.used_at && matches!(**seen, EngineSeen::Answers(_)));
        if !is_settled || !is_same_after || self.step.is_some() || self.measured_at == given.used_at {
            return Vec::new();
        }
        let Some(used) = given.used else { return Vec::new() };
        self.measured_at = given.used_at;
        shares(models, used)
            .into_iter()
            .filter_map(|(model, bytes)| Some((self.load_of(model, given)?, bytes)))
            .collect()
    }

    /// Returns how a model is loaded, where all of it is known.
    fn load_of(&self, model: &LoadedModel, given: &Given) -> Option<Load> {
        let setting = self.memory.setting(&model.name);
        let all = self.models.layers_all(&model.name)?;
        let layers = self.layers_of(model).filter(|layers| *layers > 0)?.min(all);
        let context = model.context.or(setting.and_then(|setting| setting.context)).or(given.offload.context)?;
        let of = if model.digest.is_empty() { &model.name } else { &model.digest };
        Some(Load { model: of.clone(), context, parallel: given.parallel, kv: given.kv, layers })
    }

    /// Returns how many layers of a loaded model are on GPUs, where that is known.
    fn layers_of(&self, model: &LoadedModel) -> Option<u32> {
        let all = self.models.layers_all(&model.name);
        if model.size_vram == Some(Bytes(0)) {
            return Some(0);
        }
        if let Some(Setting { layers: Layers::Exactly(layers), .. }) = self.memory.setting(&model.name) {
            return Some(all.map_or(layers, |all| all.min(layers)));
        }
        let (size, on_gpus) = model.size.zip(model.size_vram)?;
        all.filter(|_| on_gpus >= size)
    }

    /// Returns when there is something to be done though nothing happens.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let elastic = [self.unknown_until(), self.inelastic_until].into_iter().filter(|at| *at > now);
        let show = self.models.next_due(now).filter(|_| self.is_up && self.answered.is_some());
        self.next_look(now).into_iter().chain(self.again_at).chain(elastic).chain(show).min()
    }
}

/// Returns a loaded model without what changes while it is loaded the same.
fn lasting(model: &LoadedModel) -> LoadedModel {
    LoadedModel { busy: None, expires_usec: None, is_pinned: false, ..model.clone() }
}

/// Divides what is in use among models: each has what the engine counts for it, and an equal part of what it does not count, such as
/// the driver's own. Nothing where the engine does not count, or counts more than there is.
fn shares(models: &[LoadedModel], used: Bytes) -> Vec<(&LoadedModel, Bytes)> {
    let counted: Option<Vec<u64>> = models.iter().map(|model| Some(model.size_vram?.0)).collect();
    let Some(counted) = counted else { return Vec::new() };
    let on_gpus = counted.iter().filter(|bytes| **bytes > 0).count();
    let sum = counted.iter().copied().fold(0, u64::saturating_add);
    let Some(rest) = used.0.checked_sub(sum) else { return Vec::new() };
    let Some(part) = rest.checked_div(u64::try_from(on_gpus).unwrap_or(u64::MAX)) else { return Vec::new() };
    let of = |(model, counted): (_, u64)| (model, Bytes(counted.saturating_add(part)));
    models.iter().zip(counted).filter(|(_, counted)| *counted > 0).map(of).collect()
}
