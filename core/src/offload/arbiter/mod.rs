//! What an engine is to do next: give memory back, step by step, and take it again.
//!
//! ```text
//!                      more is used than it may              60 s of calm, room for it
//!   all as it should ───────────────────────▶ give back ───────────────────────────▶ take again ──▶ all as it should
//!                                              │  ▲                                     │
//!                          one step, then wait │  │ seen: it is gone, and so is         │ one step, then wait until it is loaded;
//!                                              ▼  │ its memory, by the driver           │ taken back soon after: the next waits longer
//!                                             under way ◀──────────────────────────────┘
//! ```
//!
//! The order in which memory is given back (`relief`): models that are not to be kept, by least recent use; then those to be kept, the one named
//! last first: fewer layers, a smaller context, the CPU where that is allowed, unloaded. When nothing helps, the engine is not elastic, and its
//! service counts as any other. `recovery` takes again, `memory` is what is remembered between two rounds, `size` what models take.
//!
//! Level-triggered: a round looks at everything anew. A step that is under way is not repeated before it was seen to be done, was reported to
//! have failed ([`Memory::failed`]), or took too long.

mod estimates;
mod memory;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod properties;
mod recovery;
mod relief;
#[cfg(test)]
mod simulator;
mod size;
#[cfg(test)]
mod tests;
mod text;
mod under_way;

use std::collections::BTreeMap;
use std::time::Duration;

pub use estimates::Estimates;
pub use memory::Memory;
pub(super) use recovery::REPAIRS_MAX;
pub(super) use size::Sizes;

use super::estimate::{KvType, Layers, Room};
use super::model::Model;
use super::seen::{EngineSeen, EngineView, LoadedModel};
use crate::model::{Bytes, Engine, GpuShare, Offload};
use text::span;
use under_way::UnderWay;

/// How long an engine that gave memory back may say nothing before it counts as one that does not.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long estimates may take, over many rounds, until an engine counts as one that does not give back.
const UNFINISHED_MAX: Duration = Duration::from_mins(1);
/// What an engine may use beyond its budget while nobody waits for it: buffers grow a little, and estimates are no measurements.
const SLACK_PERCENT: u64 = 2;
const SLACK_MIN: u64 = 64 << 20;
/// How long a model may stay loaded beyond `idle_unload` before we unload it: the engine does so by itself.
const IDLE_GRACE: Duration = Duration::from_mins(1);
/// How long a model stays that was to be kept and no longer is, where no `idle_unload` says it: as long as Ollama keeps any.
const IDLE_USUAL: Duration = Duration::from_mins(5);

/// What is known of a service's engine now.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What is asked of it.
    pub offload: &'a Offload,
    /// What it may have of the GPUs.
    pub share: &'a GpuShare,
    /// Time since the agent began.
    pub now: Duration,
    /// Video memory that it may hold now, over all of its GPUs; `None`: as much as it likes.
    pub budget: Option<Bytes>,
    /// Why that is less than it wants, and for whom; empty: it is not.
    pub pressure: &'a str,
    /// Its GPUs, in their order, with what is free of each; empty where nobody knows.
    pub rooms: &'a [Room],
    /// What its processes use, by the driver; `None`: the driver does not tell.
    pub used: Option<Bytes>,
    /// When that was seen, as `now`: a step is confirmed only by what was seen after it.
    pub used_at: Duration,
    /// What the engine says.
    pub engine: &'a EngineSeen,
    /// When it said so, as `now`.
    pub seen_at: Duration,
    /// What is known of its models, by the engine's name for them.
    pub models: &'a BTreeMap<String, Model>,
    /// What loads were measured to take.
    pub measured: &'a Measured,
    /// What its environment says: requests at the same time (0: nothing, so as many as `llama-server` takes by itself), and how keys and values are kept.
    pub parallel: u32,
    /// See `parallel`.
    pub kv: KvType,
    /// What the engine was told at its start to leave of each GPU (`OLLAMA_GPU_OVERHEAD`); 0: nothing.
    pub overhead: Bytes,
    /// Tokens of context that its environment gives to a request which names none; `None`: it says nothing.
    pub context: Option<u32>,
    /// What its models were estimated to take, by [`super::estimate::estimate`].
    pub estimates: &'a Estimates,
    /// What was decided before.
    pub memory: &'a Memory,
}

/// What an engine is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give a model's memory back as soon as its requests are finished.
    Unload {
        /// The model; never empty.
        model: String,
    },
    /// Load a model, or load it anew in another way.
    Load {
        /// The model; never empty.
        model: String,
        /// How.
        setting: Setting,
        /// Whether it is to stay loaded though nobody asks it.
        keep: bool,
    },
}

impl Step {
    /// Returns the model that it is about.
    #[must_use]
    pub fn model(&self) -> &str {
        match self {
            Self::Unload { model } | Self::Load { model, .. } => model,
        }
    }
}

/// How a model is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Layers on GPUs; `Exactly(0)`: on the CPU.
    pub layers: Layers,
    /// Tokens of context; `None`: the engine's own.
    pub context: Option<u32>,
}

/// What is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is to be done now; `None`: nothing.
    pub step: Option<Step>,
    /// Why that, or why nothing, in one line with the numbers; empty: all is as it should be.
    pub why: String,
    /// Whether it can be made to give memory back without being stopped. Where not, it counts as any other service.
    pub is_elastic: bool,
    /// What is to be known next time.
    pub memory: Memory,
    /// When to be asked again though nothing happens, as `now`; `None`: no need.
    pub again_at: Option<Duration>,
}

/// What loads were measured to take on the GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured(pub BTreeMap<Load, Bytes>);

/// A way in which a model was loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Load {
    /// What it is: its digest, or its name where there is none.
    pub model: String,
    /// Tokens of context.
    pub context: u32,
    /// Requests at the same time; 0: what `llama-server` takes by itself.
    pub parallel: u32,
    /// How keys and values are kept.
    pub kv: KvType,
    /// Layers on GPUs.
    pub layers: u32,
}

/// What a rung of the ladder found to do.
enum Found {
    /// This, and why.
    Step(Step, String),
    /// Nothing yet: why, and when to look again.
    Wait(String, Option<Duration>),
    /// Nothing, and nothing will come of waiting: why.
    Exhausted(String),
    /// Nothing is to be done; when that may change.
    Nothing(Option<Duration>),
}

/// Why a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To give memory back.
    Relief,
    /// To take it again, or for the first time.
    Promotion,
    /// To bring a model to the GPU that the engine put elsewhere.
    Repair,
    /// Because nobody asks the model.
    Idle,
}

/// Decides what an engine is to do next. The same scene is decided the same.
#[must_use]
pub fn decide(scene: &Scene<'_>) -> Verdict {
    let mut memory = scene.memory.clone();
    let view = match scene.engine {
        EngineSeen::Answers(view) => view,
        EngineSeen::Silent(reason) => return silent(scene, memory, reason),
    };
    memory.observe(scene, view);
    let excess = excess(scene, view, &memory);
    memory.weigh(scene, excess);
    let judge = Judge { scene, view, memory, excess };
    let verdict = if view.is_multi { judge.multi() } else { judge.single() };
    if scene.estimates.is_short() { unfinished(scene) } else { verdict }
}

/// Decides nothing yet: more is to be estimated than one round may. An engine that tells of other models all the time does not hold that up for ever.
fn unfinished(scene: &Scene<'_>) -> Verdict {
    let mut memory = scene.memory.clone();
    let since = *memory.unfinished_since.get_or_insert(scene.now);
    let is_elastic = (memory.was_elastic || memory.is_new()) && scene.now < since.saturating_add(UNFINISHED_MAX);
    let why = format!("estimates what its models take, for {}", span(scene.now.saturating_sub(since)));
    Verdict { step: None, why, is_elastic, memory, again_at: Some(scene.now) }
}

/// Decides of an engine that does not answer. For a moment that means nothing: nobody is stopped for one answer that was lost.
fn silent(scene: &Scene<'_>, mut memory: Memory, reason: &str) -> Verdict {
    let since = *memory.silent_since.get_or_insert(scene.now);
    let lost_at = since.saturating_add(SILENCE_MAX);
    let is_elastic = memory.was_elastic && scene.now < lost_at;
    memory.was_elastic = is_elastic;
    let silent_for = span(scene.now.saturating_sub(since));
    let why = match reason {
        "" => format!("the engine has not answered for {silent_for}"),
        reason => format!("the engine has not answered for {silent_for}: {reason}"),
    };
    Verdict { step: None, why, is_elastic, memory, again_at: is_elastic.then_some(lost_at) }
}

/// Returns by how much more is used than may be, or what models are counted or estimated to use where the driver does not tell. While nobody waits
/// for it, a little is nothing.
fn excess(scene: &Scene<'_>, view: &EngineView, memory: &Memory) -> Bytes {
    let Some(budget) = scene.budget else { return Bytes(0) };
    let is_asked = !scene.pressure.is_empty() || budget.0 == 0;
    let used = scene.used.unwrap_or_else(|| counted(scene, view, memory));
    let over = used.0.saturating_sub(budget.0);
    if over == 0 && is_shrunk(scene) && scene.used.is_none() && has_unknown(scene, view, memory) {
        // Whatever it has, it may be too much: it goes in its order.
        return Bytes(1);
    }
    Bytes(if is_asked || over > slack(budget.0) { over } else { 0 })
}

/// Returns what is nothing of a budget while nobody waits for it.
fn slack(budget: u64) -> u64 {
    (budget / 100).saturating_mul(SLACK_PERCENT).max(SLACK_MIN)
}

/// Returns what all that is loaded has on the GPUs, as far as anybody knows.
fn counted(scene: &Scene<'_>, view: &EngineView, memory: &Memory) -> Bytes {
    let sizes = Sizes::new(scene, view);
    let held = loaded(view).filter_map(|model| sizes.held(model, &memory.known(&model.name)));
    Bytes(held.fold(0, |sum: u64, held| sum.saturating_add(held.0)))
}

/// Returns whether there is a model of which nobody knows what it has.
fn has_unknown(scene: &Scene<'_>, view: &EngineView, memory: &Memory) -> bool {
    let sizes = Sizes::new(scene, view);
    loaded(view).any(|model| sizes.held(model, &memory.known(&model.name)).is_none())
}

/// Returns whether it may have less than it is declared to.
fn is_shrunk(scene: &Scene<'_>) -> bool {
    scene.budget.is_some_and(|budget| {
        budget.0 == 0 || !scene.pressure.is_empty() || scene.share.vram.is_some_and(|whole| budget < whole)
    })
}

/// Returns the models that are loaded, each name once: one without a name cannot be asked for anything.
fn loaded(view: &EngineView) -> impl Iterator<Item = &LoadedModel> {
    let is_first = |index: usize, model: &LoadedModel| {
        view.loaded.iter().position(|other| other.name == model.name).is_none_or(|first| first == index)
    };
    let named = view.loaded.iter().enumerate().filter(|(_, model)| !model.name.is_empty());
    named.filter(move |(index, model)| is_first(*index, model)).map(|(_, model)| model)
}

/// Returns the models to be kept, in their order, each once. Whoever asks the engine tells its models by these names.
fn kept(offload: &Offload) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in offload.keep.iter().filter(|name| !name.is_empty()) {
        if !kept.iter().any(|known| offload.engine.is_same_model(known, name)) {
            kept.push(name.clone());
        }
    }
    kept
}

/// What a decision is made of.
struct Judge<'a> {
    scene: &'a Scene<'a>,
    view: &'a EngineView,
    memory: Memory,
    excess: Bytes,
}

impl Judge<'_> {
    /// Decides of an engine that loads and unloads models one by one.
    fn multi(mut self) -> Verdict {
        if self.excess.0 > 0 {
            let found = self.give_back();
            return self.conclude(found, Purpose::Relief);
        }
        let waits =
            self.memory.under_way().map(|step| (step.tells(self.scene.now), UnderWay::again_at(self.scene)));
        if let Some((why, again_at)) = waits {
            return self.conclude(Found::Wait(why, Some(again_at)), Purpose::Promotion);
        }
        let mut again_at = None;
        let rungs = [
            (Purpose::Idle, Self::unload_idle as fn(&mut Self) -> Found),
            (Purpose::Promotion, Self::promote),
            (Purpose::Repair, Self::repair),
        ];
        let mut reasons = String::new();
        for (purpose, rung) in rungs {
            match rung(&mut self) {
                Found::Step(step, why) => return self.conclude(Found::Step(step, why), purpose),
                Found::Wait(why, at) => {
                    again_at = earlier(again_at, at);
                    if reasons.is_empty() {
                        reasons = why;
                    }
                }
                Found::Exhausted(why) if reasons.is_empty() => reasons = why,
                Found::Exhausted(_) => {}
                Found::Nothing(at) => again_at = earlier(again_at, at),
            }
        }
        self.conclude(Found::Wait(reasons, again_at), Purpose::Promotion)
    }

    /// Decides of an engine with a single model: it gives nothing back, but who is to be stopped may first finish what it does.
    fn single(mut self) -> Verdict {
        let Some(busy) = loaded(self.view).find(|model| model.busy == Some(true)).map(|model| model.name.clone())
        else {
            let why = if self.excess.0 > 0 {
                format!("{}: it has a single model, and gives back nothing while it runs", self.asked())
            } else {
                String::new()
            };
            self.memory.was_elastic = false;
            return Verdict { step: None, why, is_elastic: false, memory: self.memory, again_at: None };
        };
        let since = self.memory.over_since;
        let until = since.zip(self.scene.offload.request_grace).map(|(since, grace)| since.saturating_add(grace));
        let is_elastic = until.is_none_or(|until| self.scene.now < until);
        let why = match (since, until) {
            (None, _) => String::new(),
            (Some(_), Some(until)) if !is_elastic => {
                format!(
                    "{}: `{busy}` still answers a request after {}",
                    self.asked(),
                    span(until.saturating_sub(since.unwrap_or_default()))
                )
            }
            (Some(_), _) => format!("{}: waits for a request of `{busy}` to finish", self.asked()),
        };
        self.memory.was_elastic = is_elastic;
        Verdict { step: None, why, is_elastic, memory: self.memory, again_at: until.filter(|_| is_elastic) }
    }

    /// Returns what is asked of it, with the numbers.
    fn asked(&self) -> String {
        let budget = self.scene.budget.unwrap_or_default().roughly();
        let excess = if self.excess.0 > 1 { self.excess.roughly() } else { "what it has".to_owned() };
        match (self.scene.pressure, self.scene.used) {
            ("", Some(used)) => format!("gives back {excess}, uses {} and may {budget}", used.roughly()),
            ("", None) => format!("gives back {excess}, may {budget}"),
            (pressure, _) => format!("gives back {excess} ({pressure})"),
        }
    }

    /// Makes a verdict of what was found.
    fn conclude(mut self, found: Found, purpose: Purpose) -> Verdict {
        let (step, why, mut is_elastic, again_at) = match found {
            Found::Step(step, why) => {
                self.memory.begin(self.scene, self.view, &step, purpose);
                let again_at = Some(UnderWay::again_at(self.scene));
                (Some(step), why, true, again_at)
            }
            Found::Wait(why, again_at) => (None, why, true, again_at),
            Found::Exhausted(why) => (None, why, false, None),
            Found::Nothing(again_at) => (None, String::new(), true, again_at),
        };
        let mut why = why;
        if self.excess.0 > 0
            && let Some(hindrance) = self.hindrance()
        {
            is_elastic = false;
            why = if why.is_empty() { hindrance } else { format!("{why}; {hindrance}") };
        }
        self.memory.was_elastic = is_elastic;
        Verdict { step, why, is_elastic, memory: self.memory, again_at }
    }

    /// Unloads a model that nobody has asked for longer than is declared, where the engine has not: it would keep for good what it was told to.
    fn unload_idle(&mut self) -> Found {
        let mut again_at = None;
        let keep = kept(self.scene.offload);
        // Where nothing tells of its use it may be in use; and what a client has kept for good is to stay.
        let is_told = |model: &&LoadedModel| model.busy.is_some() || model.expires_usec.is_some();
        let idle_ones = loaded(self.view).filter(is_told);
        for model in idle_ones.filter(|model| !keep.contains(&model.name) && model.busy != Some(true)) {
            let (idle, reason) = match self.scene.offload.idle_unload {
                Some(idle) => (idle.saturating_add(IDLE_GRACE), format!("`idle_unload` is {}", span(idle))),
                None if model.is_pinned => (IDLE_USUAL, "it is no longer to be kept".to_owned()),
                None => continue,
            };
            let known = self.memory.known(&model.name);
            // What is known of its use may be older than that it is kept no longer.
            let due = known.used_at.max(known.kept_at).saturating_add(idle).max(known.retry_at);
            if self.scene.now < due {
                again_at = earlier(again_at, Some(due));
                continue;
            }
            let unused = span(self.scene.now.saturating_sub(known.used_at));
            let why = format!("unloads `{}`, idle for {unused}: {reason}", model.name);
            return Found::Step(Step::Unload { model: model.name.clone() }, why);
        }
        Found::Nothing(again_at)
    }

    /// Returns whether what the driver told is from before the last step was done: it says nothing of what is used now.
    fn is_outdated(&self) -> bool {
        self.scene.used.is_some() && self.memory.changed_at.is_some_and(|at| self.scene.used_at <= at)
    }

    fn sizes(&self) -> Sizes<'_> {
        Sizes::new(self.scene, self.view)
    }

    /// Returns whether models can be loaded in another way than the engine's own.
    fn has_settings(&self) -> bool {
        match self.scene.offload.engine {
            Engine::Ollama => true,
            // Its router loads a model by name, and nothing else can be said.
            Engine::LlamaServer => false,
        }
    }
}

/// Returns the earlier of two, where there are any.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
