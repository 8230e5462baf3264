//! What others are told of one engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::model::{Bytes, CpuFallback, Offload};
use nixmox_core::offload::arbiter::Step;
use nixmox_core::offload::seen::{EngineSeen, LoadedModel};
use nixmox_core::offload::watchdog::Incident;
use nixmox_core::restart::GOOD_RUN;

use super::super::text::asked;
use super::{BUDGET_STEP, Engine, Given, INCIDENT_LOOKS};

/// For how long a model must have been on a GPU, without anything being found wrong with it: longer than the watchdog takes.
const PROVEN: Duration = Duration::from_secs(45);

impl Engine {
    /// Returns why its container is not well though it answers: a model is not where it should be, and that is refused.
    pub(in crate::reconcile) fn refusal(&self, offload: &Offload) -> Option<String> {
        let refuses = match offload.cpu_fallback {
            CpuFallback::Refuse => true,
            CpuFallback::Allow | CpuFallback::Warn => false,
        };
        let incident = self.incidents().next().filter(|_| refuses)?;
        Some(format!("{} is not where it should be: {}", incident.model, incident.found))
    }

    /// Returns which models are not where they should be, and have not been for a while.
    pub(in crate::reconcile) fn incidents(&self) -> impl Iterator<Item = &Incident> {
        let lasting = self.incidents.values().filter(|lasting| lasting.looks >= INCIDENT_LOOKS);
        lasting.map(|lasting| &lasting.incident)
    }

    /// Returns whether that its container is healthy says something where models on the CPU are refused: that one of them is where it should
    /// be was seen in this instance, or nothing else for long enough. One that has just been started is well until a model is loaded.
    pub(in crate::reconcile) fn is_proven(&self, now: Duration, offload: &Offload) -> bool {
        match offload.cpu_fallback {
            CpuFallback::Allow | CpuFallback::Warn => return true,
            CpuFallback::Refuse => {}
        }
        let (models, since) = &self.steady;
        let is_on_gpu = models.iter().any(|model| model.size_vram.is_some_and(|vram| vram.0 > 0));
        let is_seen = is_on_gpu && self.incidents_at.is_some_and(|at| at >= since.saturating_add(PROVEN));
        self.incidents.is_empty() && (is_seen || now >= self.began.saturating_add(GOOD_RUN))
    }

    /// Returns what is worth knowing of it just now, in one line; `None`: all is as it should be.
    pub(in crate::reconcile) fn note(&self) -> Option<String> {
        let shrunk = self.told_budget.as_ref().map(|given| {
            let budget = given.budget.map_or_else(String::new, |budget| format!("; may have {}", budget.roughly()));
            format!("gives video memory back for {}: {}{budget}", given.for_whom, given.pressure)
        });
        let incidents = self
            .incidents()
            .map(|incident| format!("{} is not where it should be: {}", incident.model, incident.found));
        let step = self.step.as_ref().map(|(step, _)| format!("now: {}", asked(step)));
        let notes: Vec<String> = shrunk.into_iter().chain(incidents).chain(step).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Returns what is to be told of its budget: each change once.
    pub(in crate::reconcile::offloads) fn news_of_budget(&mut self, given: &Given) -> Option<String> {
        let size = |budget: Option<Bytes>| budget.map_or_else(|| "all there is".to_owned(), Bytes::roughly);
        let change = |before: &Given| before.budget.zip(given.budget).map(|(before, now)| before.0.abs_diff(now.0));
        let is_large = |before: &Given| change(before).is_none_or(|change| change >= BUDGET_STEP);
        if given.for_whom.is_empty() {
            let before = self.told_budget.as_mut()?;
            let wants = given.share.vram;
            if given.budget.zip(wants).is_none_or(|(budget, wants)| budget >= wants) {
                self.told_budget = None;
                return Some(format!("may have {} of video memory again", size(given.budget)));
            }
            // What was given back went to somebody who still has it.
            if !is_large(before) {
                return None;
            }
            before.budget = given.budget;
            return Some(format!(
                "may have {} of video memory, of the {} that it asks for",
                size(given.budget),
                size(wants)
            ));
        }
        if self.told_budget.as_ref().is_some_and(|before| before.for_whom == given.for_whom && !is_large(before)) {
            return None;
        }
        self.told_budget = Some(given.clone());
        Some(format!(
            "shrinks to {} of video memory for {}: {}",
            size(given.budget),
            given.for_whom,
            given.pressure
        ))
    }

    /// Returns what is to be told when memory is asked for that it cannot be made to give back, once each time: what follows is that its container is
    /// stopped.
    pub(in crate::reconcile::offloads) fn news_of_elasticity(
        &mut self,
        now: Duration,
        is_asked: bool,
    ) -> Option<String> {
        let is_stiff = is_asked && !self.is_elastic(now);
        if std::mem::replace(&mut self.told_stiff, is_stiff) || !is_stiff {
            return None;
        }
        let decided =
            || self.verdict.as_ref().filter(|verdict| !verdict.is_elastic).map(|verdict| verdict.why.clone());
        let why = match self.seen().map(AsRef::as_ref) {
            Some(EngineSeen::Silent(reason)) if reason.is_empty() => "its engine does not answer".to_owned(),
            Some(EngineSeen::Silent(reason)) => format!("its engine does not answer: {reason}"),
            Some(EngineSeen::Answers(view)) if !view.is_multi => {
                "it has a single model, and gives back nothing while it runs".to_owned()
            }
            Some(EngineSeen::Answers(_)) => decided().unwrap_or_default(),
            None => "its engine has not been heard of".to_owned(),
        };
        let why = if why.is_empty() { why } else { format!(": {why}") };
        Some(format!("cannot be made to give video memory back{why}"))
    }

    /// Returns what it said last; `None`: nobody has asked yet.
    pub(in crate::reconcile) fn seen(&self) -> Option<&Arc<EngineSeen>> {
        self.seen.as_ref().map(|(seen, _)| seen)
    }

    /// Returns what was decided last and why, in one line; empty: nothing had to be.
    pub(in crate::reconcile) fn decision(&self) -> String {
        match (&self.step, &self.verdict) {
            (Some((step, _)), Some(verdict)) if verdict.why.is_empty() => asked(step),
            (Some((step, _)), Some(verdict)) => format!("{}: {}", asked(step), verdict.why),
            (_, Some(verdict)) => verdict.why.clone(),
            (Some((step, _)), None) => asked(step),
            (None, None) => String::new(),
        }
    }

    /// Returns the model that is being loaded.
    pub(in crate::reconcile) fn loading(&self) -> Option<&str> {
        match self.step.as_ref().map(|(step, _)| step) {
            Some(Step::Load { model, .. }) => Some(model),
            Some(Step::Unload { .. }) | None => None,
        }
    }

    /// Returns the models whose memory was taken back.
    pub(in crate::reconcile) fn given_up(&self) -> &[String] {
        &self.given_up
    }

    /// Returns for each loaded model how many layers are on GPUs and how many it has, where that is known.
    pub(in crate::reconcile) fn layers(&self) -> BTreeMap<String, (Option<u32>, Option<u32>)> {
        let of = |model: &LoadedModel| {
            (model.name.clone(), (self.layers_of(model), self.models.layers_all(&model.name)))
        };
        self.steady.0.iter().map(of).collect()
    }
}
