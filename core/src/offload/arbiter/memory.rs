//! What is remembered between two rounds: the step under way, and of each model what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::estimate::Layers;
use super::super::seen::{EngineView, LoadedModel};
use super::under_way::{Progress, UnderWay, is_returning};
use super::{Purpose, Scene, Setting, Sizes, Step, kept, loaded, slack};
use crate::model::Bytes;

/// Loads of a model: one in this time, and so many at once. In any hour there are 63 of a model at most.
pub(super) const LOAD_EVERY: Duration = Duration::from_mins(1);
pub(super) const LOAD_BURST: u32 = 3;
/// What is taken back within this time was loaded too early; a model that comes back within it was loaded by a client.
const SOON: Duration = Duration::from_mins(10);
/// The first wait after a promotion that was taken back, and after a failure; each doubles up to the last.
const BACKOFF: Duration = Duration::from_mins(1);
const BACKOFF_MAX: Duration = Duration::from_hours(1);
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_mins(10);
/// How long a model is seen to be right before the next repair of it begins anew; longer than the watchdog waits.
const SETTLED: Duration = Duration::from_mins(2);
/// What is said of a failure, in characters.
const REASON_MAX: usize = 200;

/// What the arbiter remembers of a service; nothing of it outlives the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    models: BTreeMap<String, Known>,
    under_way: Option<UnderWay>,
    /// The largest budget since it last became noticeably less; none is the largest.
    budget: Option<u64>,
    /// When memory was asked for last: more was used than may be, or the budget became noticeably smaller.
    pub(super) disturbed: Option<Duration>,
    /// Since when more is used than may be.
    pub(super) over_since: Option<Duration>,
    /// When a step was last seen to be done: what the driver told before says nothing of what is used now.
    pub(super) changed_at: Option<Duration>,
    /// What models had that were seen to be gone, and when: it comes back by itself.
    leaving: Vec<(Duration, Bytes)>,
    pub(super) silent_since: Option<Duration>,
    /// Since when no decision came to its end.
    pub(super) unfinished_since: Option<Duration>,
    /// What was said last of it.
    pub(super) was_elastic: bool,
}

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) is_loaded: bool,
    /// Since when it is loaded.
    pub(super) loaded_at: Duration,
    /// When it was asked last, as far as that can be seen.
    pub(super) used_at: Duration,
    expires_usec: Option<u64>,
    /// When it was last seen to be one that is kept.
    pub(super) kept_at: Duration,
    /// Its digest, where the engine said one.
    pub(super) digest: String,
    /// What the engine counted of it on the GPUs last.
    vram: Option<Bytes>,
    /// What it took when all of it was on the GPUs, as the engine counts.
    pub(super) size: Option<Bytes>,
    /// How it was loaded by us, as long as it is; `None`: the engine or a client did as they like.
    pub(super) setting: Option<Setting>,
    /// How it was to be loaded by a step that was not answered: that may still come.
    late: Option<Setting>,
    /// A client brought the larger context back.
    pub(super) is_context_undone: bool,
    /// Since when it was asked to give memory back, and has not.
    pub(super) asked_since: Option<Duration>,
    /// When it last gave memory back.
    relieved_at: Option<Duration>,
    /// How often clients loaded it again soon after that.
    pub(super) returns: u32,
    /// When we loaded it, or with more, as long as nothing was taken back.
    promoted_at: Option<Duration>,
    /// How many promotions in a row were taken back soon.
    strikes: u32,
    /// How many repairs in a row changed nothing.
    pub(super) repairs: u32,
    /// How it is to be loaded when it is gone: a repair had it unloaded for that, since an engine does not load anew for the same.
    pub(super) again: Option<Setting>,
    /// Whether it answered a request when it was seen last.
    is_busy: bool,
    /// Not loaded by us before.
    pub(super) wait_until: Duration,
    /// Steps in a row that failed, when the next may follow, and what was said of the last.
    pub(super) failures: u32,
    pub(super) retry_at: Duration,
    pub(super) failure: String,
    pub(super) loads: Bucket,
}

/// Tokens for loads, by when there are as many as there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket(Duration);

impl Bucket {
    /// Returns when there is a token; in the past, where there is one.
    pub(super) fn ready_at(self) -> Duration {
        self.0.saturating_sub(LOAD_EVERY.saturating_mul(LOAD_BURST.saturating_sub(1)))
    }

    fn take(&mut self, now: Duration) {
        self.0 = self.0.max(now).saturating_add(LOAD_EVERY);
    }
}

impl Memory {
    /// Notes that the engine has carried out the step that was decided last, as far as it says.
    pub fn answered(&mut self, now: Duration) {
        if let Some(step) = &mut self.under_way {
            step.answered_at.get_or_insert(now);
        }
    }

    /// Notes that the step that was decided last failed, and why, in one line.
    pub fn failed(&mut self, why: &str, now: Duration) {
        if let Some(under_way) = self.under_way.take() {
            self.note_failure(&under_way, why, now);
        }
    }

    /// Returns how a model was loaded by us; `None`: it was not, or is no longer.
    #[must_use]
    pub fn setting(&self, model: &str) -> Option<Setting> {
        self.models.get(model)?.setting
    }

    /// Returns the model that a step is under way for.
    #[must_use]
    pub fn is_busy_with(&self) -> Option<&str> {
        self.under_way.as_ref().map(|step| step.step.model())
    }

    /// Returns whether anything was decided yet.
    pub(super) fn is_new(&self) -> bool {
        self.budget.is_none()
    }

    pub(super) fn under_way(&self) -> Option<&UnderWay> {
        self.under_way.as_ref()
    }

    /// Returns since when a model is loaded; `None`: it is not.
    pub(in super::super) fn since(&self, model: &str) -> Option<Duration> {
        self.models.get(model).filter(|known| known.is_loaded).map(|known| known.loaded_at)
    }

    /// Returns what is known of a model; of one that was never seen, nothing.
    pub(super) fn known(&self, model: &str) -> Known {
        self.models.get(model).cloned().unwrap_or_default()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &Known)> {
        self.models.iter().map(|(name, known)| (name.as_str(), known))
    }

    /// Takes in what the engine says.
    pub(super) fn observe(&mut self, scene: &Scene<'_>, view: &EngineView) {
        let was_silent = self.silent_since.take().is_some();
        self.unfinished_since = None;
        let loads = |step: &UnderWay| match &step.step {
            Step::Load { model, .. } => Some(model.clone()),
            Step::Unload { .. } => None,
        };
        let ours = self.under_way.as_ref().and_then(loads);
        let keep = kept(scene.offload);
        for model in loaded(view) {
            let known = self.models.entry(model.name.clone()).or_default();
            if keep.contains(&model.name) {
                known.kept_at = scene.now;
            }
            known.see(scene, model, ours.as_ref() == Some(&model.name));
            if was_silent && model.expires_usec.is_none() {
                // Nobody saw whether it was asked meanwhile.
                known.used_at = scene.seen_at;
            }
        }
        self.leaving.retain(|(at, _)| is_returning(scene, *at));
        let sizes = Sizes::new(scene, view);
        for (name, known) in &mut self.models {
            let is_ours = ours.as_ref() == Some(name);
            if !loaded(view).any(|model| model.name == *name) {
                if std::mem::take(&mut known.is_loaded) {
                    let setting = known.setting.unwrap_or(Setting { layers: Layers::Auto, context: None });
                    let had = known.vram.or_else(|| sizes.need(name, known, setting)).unwrap_or_default();
                    self.leaving.push((scene.seen_at, had));
                }
                known.asked_since = known.asked_since.filter(|_| is_ours);
                known.setting = known.setting.filter(|_| is_ours);
            }
            known.forget(scene.now);
        }
        if let Some(mut step) = self.under_way.take() {
            let was_gone = step.gone_at.or(step.left_at).is_some();
            let progress = step.progress(scene, view);
            if let (false, Some(at), Step::Load { .. }) = (was_gone, step.gone_at.or(step.left_at), &step.step) {
                self.leaving.push((at, step.leaves()));
            }
            match progress {
                Progress::Waits => self.under_way = Some(step),
                Progress::Done => self.settle(&step, scene),
                Progress::Lost => {}
                Progress::Failed(why) => {
                    let late = self.setting(step.step.model()).filter(|_| step.answered_at.is_none());
                    self.note_failure(&step, &why, scene.now);
                    if let Some(known) = self.models.get_mut(step.step.model()) {
                        known.late = late;
                    }
                }
            }
        }
        let busy = self.is_busy_with().map(str::to_owned);
        let is_needed = |name: &String, known: &mut Known| {
            known.is_loaded || keep.contains(name) || busy.as_ref() == Some(name) || known.is_fresh(scene.now)
        };
        self.models.retain(is_needed);
    }

    /// Returns how much of what is used comes back by itself: models had it that are gone, and the engine counts it for no other.
    pub(super) fn returning(&self, scene: &Scene<'_>, counted: u64) -> u64 {
        let left = self.leaving.iter().filter(|(at, had)| is_returning(scene, *at) && had.0 > 0);
        let (left, least) = left.fold((0, u64::MAX), |(sum, least): (u64, u64), (_, had)| {
            (sum.saturating_add(had.0), least.min(had.0))
        });
        let unexplained = scene.used.map_or(0, |used| used.0.saturating_sub(counted));
        // A little that is less than any of them had is what the driver takes for those that are there.
        if unexplained < least / 4 * 3 { 0 } else { unexplained.min(left) }
    }

    /// Takes in how much too much is used.
    pub(super) fn weigh(&mut self, scene: &Scene<'_>, excess: Bytes) {
        let budget = scene.budget.map_or(u64::MAX, |budget| budget.0);
        // What a desktop uses goes up and down all the time.
        let has_fallen = self.budget.is_some_and(|most| budget < most.saturating_sub(slack(most)));
        if has_fallen || excess.0 > 0 {
            self.disturbed = Some(scene.now);
        }
        self.budget = Some(if has_fallen { budget } else { self.budget.unwrap_or(0).max(budget) });
        if excess.0 > 0 {
            self.over_since.get_or_insert(scene.now);
        } else {
            self.over_since = None;
            if self.under_way.is_none() {
                // Who is asked another time has all of its grace again.
                self.models.values_mut().for_each(|known| known.asked_since = None);
            }
        }
    }

    /// Notes that a step is asked for.
    pub(super) fn begin(&mut self, scene: &Scene<'_>, view: &EngineView, step: &Step, purpose: Purpose) {
        let found = loaded(view).find(|model| model.name == step.model());
        let sizes = Sizes::new(scene, view);
        let expected = found.and_then(|model| {
            let known = self.known(&model.name);
            let held = sizes.held(model, &known)?;
            let rest = match step {
                Step::Unload { .. } => Bytes(0),
                Step::Load { setting, .. } => sizes.need(&model.name, &known, *setting)?,
            };
            Some(Bytes(held.0.saturating_sub(rest.0)))
        });
        let taken = match step {
            Step::Unload { .. } => None,
            Step::Load { model, setting, .. } => {
                let known = self.known(model);
                let held = found.map_or(Some(Bytes(0)), |model| sizes.held(model, &known));
                let need = sizes.need(model, &known, *setting);
                need.zip(held).map(|(need, held)| Bytes(need.0.saturating_sub(held.0)))
            }
        };
        let left = self.under_way.take().map(|left| (left.step, left.prior));
        if let Some((Step::Load { model, setting, .. }, prior)) = left
            && model != step.model()
            && let Some(known) = self.models.get_mut(&model)
        {
            // It may still come, or never have arrived.
            (known.setting, known.late) = (prior, Some(setting));
        }
        self.under_way = Some(UnderWay {
            step: step.clone(),
            purpose,
            asked_at: scene.now,
            used: scene.used,
            expected,
            taken,
            before: found.map(|model| (model.size_vram, model.context)),
            prior: self.setting(step.model()),
            answered_at: None,
            gone_at: None,
            left_at: None,
        });
        let now = scene.now;
        let known = self.models.entry(step.model().to_owned()).or_default();
        if let Step::Load { setting, .. } = step {
            known.loads.take(now);
            (known.setting, known.late) = (Some(*setting), None);
        }
        match purpose {
            Purpose::Relief => {
                known.asked_since.get_or_insert(now);
                known.relieved_at = Some(now);
                if known.promoted_at.take().is_some_and(|at| now.saturating_sub(at) < SOON) {
                    known.wait_until = now.saturating_add(doubled(BACKOFF, known.strikes, BACKOFF_MAX));
                    known.strikes = known.strikes.saturating_add(1);
                }
            }
            Purpose::Promotion => known.promoted_at = Some(now),
            // The second half of one that is counted already.
            Purpose::Repair if matches!(step, Step::Load { .. }) && known.again.take().is_some() => {}
            Purpose::Repair => {
                known.wait_until = now.saturating_add(doubled(BACKOFF, known.repairs, BACKOFF_MAX));
                known.repairs = known.repairs.saturating_add(1);
            }
            Purpose::Idle => {}
        }
    }

    /// Notes that a model is unloaded only to be loaded again like this.
    pub(super) fn load_again(&mut self, model: &str, setting: Setting) {
        if let Some(known) = self.models.get_mut(model) {
            known.again = Some(setting);
        }
    }

    /// Returns how many layers of a loaded model are on GPUs, where that can be told.
    pub(in super::super) fn layers(&self, sizes: &Sizes<'_>, model: &LoadedModel) -> Option<u32> {
        sizes.has(model, &self.known(&model.name)).0
    }

    /// Returns what a loaded model is to take on GPUs; `None`: nobody knows.
    pub(in super::super) fn need(&self, sizes: &Sizes<'_>, model: &LoadedModel) -> Option<Bytes> {
        let known = self.known(&model.name);
        let setting = known.setting.unwrap_or(Setting { layers: Layers::Auto, context: model.context });
        sizes.need(&model.name, &known, setting)
    }

    /// Returns how many repairs of a model in a row changed nothing.
    pub(in super::super) fn repairs(&self, model: &str) -> u32 {
        self.models.get(model).map_or(0, |known| known.repairs)
    }

    /// Returns whether a model was unloaded only to be loaded again.
    pub(in super::super) fn is_to_be_loaded(&self, model: &str) -> bool {
        self.models.get(model).is_some_and(|known| known.again.is_some())
    }

    fn settle(&mut self, done: &UnderWay, scene: &Scene<'_>) {
        self.changed_at = Some(done.gone_at.or(done.answered_at).unwrap_or(scene.seen_at));
        let Some(known) = self.models.get_mut(done.step.model()) else { return };
        known.asked_since = None;
        known.failures = 0;
        known.failure.clear();
        if matches!(done.step, Step::Load { .. }) {
            known.loaded_at = scene.seen_at;
        }
    }

    fn note_failure(&mut self, failed: &UnderWay, why: &str, now: Duration) {
        let known = self.models.entry(failed.step.model().to_owned()).or_default();
        if known.is_busy && matches!(failed.step, Step::Unload { .. }) {
            // It finishes a request first: how long that may take is `request_grace`'s to say, and it goes on from when it was asked.
            return;
        }
        known.retry_at = now.saturating_add(doubled(RETRY, known.failures, RETRY_MAX));
        known.failures = known.failures.saturating_add(1);
        known.asked_since = None;
        known.failure = why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_MAX).collect();
        if matches!(failed.step, Step::Load { .. }) {
            (known.setting, known.promoted_at) = (failed.prior, None);
        }
    }
}

impl Known {
    fn see(&mut self, scene: &Scene<'_>, model: &LoadedModel, is_ours: bool) {
        if !self.is_loaded {
            (self.loaded_at, self.used_at) = (scene.seen_at, scene.seen_at);
            if !is_ours {
                self.setting = None;
                if self.relieved_at.is_some_and(|at| scene.now.saturating_sub(at) < SOON) {
                    self.returns = self.returns.saturating_add(1);
                }
            }
        }
        if model.busy == Some(true) || (self.is_loaded && model.expires_usec != self.expires_usec) {
            self.used_at = scene.seen_at;
        }
        (self.is_loaded, self.expires_usec) = (true, model.expires_usec);
        self.vram = model.size_vram.or(self.vram);
        self.is_busy = model.busy == Some(true);
        if !model.digest.is_empty() && model.digest != self.digest {
            (self.digest, self.size) = (model.digest.clone(), None);
        }
        if model.size_vram.is_some_and(|vram| vram.0 > 0 && model.size.is_some_and(|size| size <= vram)) {
            self.size = model.size_vram;
        }
        if self.late.is_some_and(|late| shows(late, model)) && !self.setting.is_some_and(|has| shows(has, model)) {
            self.setting = self.late.take();
        }
        let asked = self.setting.and_then(|setting| setting.context);
        if !is_ours && asked.zip(model.context).is_some_and(|(asked, has)| has > asked) {
            // A client named another context, and the engine loaded it anew with that.
            (self.is_context_undone, self.setting) = (true, None);
        }
    }

    /// Forgets what is long over.
    fn forget(&mut self, now: Duration) {
        if self.promoted_at.is_some_and(|at| now.saturating_sub(at) >= SOON) {
            (self.promoted_at, self.strikes) = (None, 0);
        }
        if now >= self.wait_until {
            self.again = None;
        }
        if self.relieved_at.is_some_and(|at| now.saturating_sub(at) >= SOON) {
            (self.relieved_at, self.returns, self.is_context_undone) = (None, 0, false);
        }
    }

    /// Returns whether what is remembered of it still matters.
    fn is_fresh(&self, now: Duration) -> bool {
        self.relieved_at.is_some()
            || self.promoted_at.is_some()
            || self.wait_until.max(self.retry_at).max(self.loads.0) > now
    }

    /// Returns before when we do not load it: after what went wrong, and by the number of loads.
    pub(super) fn load_at(&self) -> Duration {
        self.wait_until.max(self.retry_at).max(self.loads.ready_at())
    }
}

impl Memory {
    /// Notes which models are where they should be: the next repair of one begins anew.
    pub(super) fn note_right(&mut self, now: Duration, is_wrong: impl Fn(&str) -> bool) {
        for (name, known) in &mut self.models {
            let is_settled = known.is_loaded && now.saturating_sub(known.loaded_at) >= SETTLED;
            if is_settled && !is_wrong(name) && self.under_way.is_none() {
                known.repairs = 0;
            }
        }
    }
}

/// Returns whether a model that is loaded in part is seen to be so, as far as the engine's count tells.
fn shows(setting: Setting, model: &LoadedModel) -> bool {
    let Some((vram, size)) = model.size_vram.zip(model.size) else { return false };
    match setting.layers {
        Layers::Exactly(0) => vram.0 == 0,
        Layers::Exactly(_) => vram.0 > 0 && vram < size,
        Layers::Auto => false,
    }
}

/// Returns a wait that doubles with each time.
fn doubled(first: Duration, times: u32, last: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(last)
}

#[cfg(test)]
impl Memory {
    /// Forgets the step under way, as if it were done.
    pub(super) fn confirm(&mut self) {
        (self.under_way, self.changed_at) = (None, None);
    }

    /// Forgets how often and how recently anything was done.
    pub(super) fn forgive(&mut self) {
        self.disturbed = None;
        for known in self.models.values_mut() {
            (known.loads, known.wait_until, known.retry_at, known.strikes) =
                (Bucket::default(), Duration::ZERO, Duration::ZERO, 0);
        }
    }
}
