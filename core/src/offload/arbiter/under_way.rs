//! The step under way: what is waited for, and when it is done.

use std::time::Duration;

use super::super::seen::{EngineView, LoadedModel};
use super::text::span;
use super::{Purpose, Scene, Setting, Step, loaded};
use crate::model::Bytes;

/// How late memory comes back after a model is gone.
pub(super) const RETURN_MAX: Duration = Duration::from_secs(10);
/// When an unload that shows no effect is asked for again: it may have been lost. A model that answers a request stays as well, and one that
/// is asked twice is unloaded once.
pub(super) const UNLOAD_RETRY: Duration = Duration::from_mins(1);
/// How long a load may take (Ollama's `OLLAMA_LOAD_TIMEOUT` is 5 minutes without progress).
const LOAD_MAX: Duration = Duration::from_mins(10);
/// A load whose answer was lost is taken for done when the model is seen to be there as long after it was asked for.
const LOAD_SETTLES: Duration = Duration::from_secs(30);
/// How soon a step under way is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A step that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnderWay {
    pub(super) step: Step,
    pub(super) purpose: Purpose,
    pub(super) asked_at: Duration,
    /// What was used then, what is to come back, and what is to be taken beyond what it had.
    pub(super) used: Option<Bytes>,
    pub(super) expected: Option<Bytes>,
    pub(super) taken: Option<Bytes>,
    /// How the model was loaded then, in what the engine counted.
    pub(super) before: Option<(Option<Bytes>, Option<u32>)>,
    /// How it was loaded by us before.
    pub(super) prior: Option<Setting>,
    /// When the engine answered.
    pub(super) answered_at: Option<Duration>,
    /// When the model was first seen to be gone.
    pub(super) gone_at: Option<Duration>,
    /// When another instance of it was first seen in place of the one that is to have more.
    pub(super) left_at: Option<Duration>,
}

/// What became of a step.
pub(super) enum Progress {
    Waits,
    Done,
    /// It shows no effect, and may be asked for again.
    Lost,
    Failed(String),
}

impl UnderWay {
    /// Returns what comes back of a model that was loaded anew, beside what it has now: all that it had, or, where it is to have less, as much
    /// as it is to have less.
    pub(super) fn leaves(&self) -> Bytes {
        let had = self.before.and_then(|(had, _)| had);
        if self.purpose == Purpose::Relief { self.expected } else { had }.unwrap_or_default()
    }

    /// Returns whether it takes memory, and is not done.
    pub(super) fn takes(&self) -> bool {
        matches!(self.purpose, Purpose::Promotion | Purpose::Repair) && self.answered_at.is_none()
    }

    /// Returns what is waited for, in one line.
    pub(super) fn tells(&self, now: Duration) -> String {
        let model = self.step.model();
        let since = span(now.saturating_sub(self.asked_at));
        match (&self.step, self.gone_at) {
            (Step::Load { .. }, _) => format!("loads `{model}` since {since}"),
            (Step::Unload { .. }, None) => format!("waits until `{model}` is unloaded, asked {since} ago"),
            (Step::Unload { .. }, Some(_)) => format!("waits for the memory of `{model}` to come back"),
        }
    }

    /// Returns when a step that was asked for is looked at again.
    pub(super) fn again_at(scene: &Scene<'_>) -> Duration {
        scene.now.saturating_add(LOOK_AGAIN)
    }

    pub(super) fn progress(&mut self, scene: &Scene<'_>, view: &EngineView) -> Progress {
        let found = loaded(view).find(|model| model.name == self.step.model());
        match &self.step {
            Step::Unload { .. } => self.unloads(scene, found),
            Step::Load { .. } => self.loads(scene, found),
        }
    }

    fn unloads(&mut self, scene: &Scene<'_>, found: Option<&LoadedModel>) -> Progress {
        let is_fresh = scene.seen_at > self.asked_at;
        if !is_fresh {
            return Progress::Waits;
        }
        if found.is_some() {
            let is_late = scene.now >= self.asked_at.saturating_add(UNLOAD_RETRY);
            // Once gone, it is another instance that somebody else loaded: the memory of the first is on its way all the same.
            return if self.gone_at.is_some() {
                self.returns(scene)
            } else if is_late {
                Progress::Lost
            } else {
                Progress::Waits
            };
        }
        self.returns(scene)
    }

    /// Returns whether the memory of what was there before has come back.
    fn returns(&mut self, scene: &Scene<'_>) -> Progress {
        let gone_at = *self.gone_at.get_or_insert(scene.seen_at);
        let Some(used) = scene.used else { return Progress::Done };
        let is_back = |before: Bytes| {
            let expected = self.expected.map_or(1, |expected| expected.0 / 4 * 3);
            used.0 <= before.0.saturating_sub(expected)
        };
        let told = scene.used_at > self.asked_at;
        // What counts is when it was looked at; a driver that does not tell is not waited for here.
        let is_late = scene.used_at >= gone_at.saturating_add(RETURN_MAX)
            || scene.now >= gone_at.saturating_add(RETURN_MAX.saturating_mul(3));
        if (told && self.used.is_none_or(is_back)) || is_late {
            return Progress::Done;
        }
        Progress::Waits
    }

    /// Returns whether a model that was loaded anew is all that is there of it: what it had before may still be counted, or not be counted yet
    /// beside what it has now.
    fn replaces(&mut self, scene: &Scene<'_>) -> Progress {
        let since = *self.gone_at.get_or_insert(scene.seen_at);
        let Some(used) = scene.used else { return Progress::Done };
        let is_over = scene.budget.is_some_and(|most| used > most);
        let told_at = if is_over { since.saturating_add(RETURN_MAX) } else { since };
        let is_late = scene.now >= since.saturating_add(RETURN_MAX.saturating_mul(3));
        if scene.used_at >= told_at || is_late { Progress::Done } else { Progress::Waits }
    }

    fn loads(&mut self, scene: &Scene<'_>, found: Option<&LoadedModel>) -> Progress {
        if let Some(answered_at) = self.answered_at {
            if scene.seen_at <= answered_at {
                return Progress::Waits;
            }
            return match found {
                Some(_) if self.purpose == Purpose::Relief => self.returns(scene),
                Some(_) if self.before.is_some() => self.replaces(scene),
                Some(_) => Progress::Done,
                None => Progress::Failed("it was answered to be loaded, and is not".to_owned()),
            };
        }
        let is_other = found.is_some_and(|model| self.before != Some((model.size_vram, model.context)));
        if is_other && self.before.is_some() && self.purpose != Purpose::Relief {
            // Whether anybody says so or not, it is another instance: what the first had is on its way back.
            self.left_at.get_or_insert(scene.seen_at);
        }
        let is_late = scene.now >= self.asked_at.saturating_add(LOAD_MAX);
        if is_other && scene.seen_at >= self.asked_at.saturating_add(LOAD_SETTLES) {
            // It may have waited for a request until now, and what it had before be on its way back.
            if self.purpose == Purpose::Relief {
                return self.returns(scene);
            }
            // Ollama tells of a model while it still loads it.
            if is_late || self.is_taken(scene) {
                return Progress::Done;
            }
        }
        if is_late {
            return Progress::Failed(format!("no answer within {}", span(LOAD_MAX)));
        }
        Progress::Waits
    }

    /// Returns whether the driver shows what was to be taken, or nobody can tell.
    fn is_taken(&self, scene: &Scene<'_>) -> bool {
        let Some(((before, taken), used)) = self.used.zip(self.taken).zip(scene.used) else { return true };
        used.0 >= before.0.saturating_add(taken.0 / 4 * 3)
    }
}

/// Returns whether memory of what was seen to be gone then may still be among what the driver told.
pub(super) fn is_returning(scene: &Scene<'_>, gone_at: Duration) -> bool {
    let told = scene.used.is_none_or(|_| scene.used_at < gone_at.saturating_add(RETURN_MAX));
    told && scene.now < gone_at.saturating_add(RETURN_MAX.saturating_mul(3))
}
