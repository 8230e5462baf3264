//! What an engine is to do next: give memory back, step by step, and take it again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::estimate::{KvType, Layers};
use super::model::Model;
use super::seen::EngineSeen;
use crate::model::{Bytes, GpuShare, Offload};

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
    /// How many GPUs it has.
    pub gpus: usize,
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
    /// What its environment says: requests at the same time, and how keys and values are kept.
    pub parallel: u32,
    /// See `parallel`.
    pub kv: KvType,
    /// What was decided before.
    pub memory: &'a Memory,
}

/// What an engine is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give a model's memory back as soon as its requests are finished.
    Unload {
        /// The model.
        model: String,
    },
    /// Load a model, or load it anew in another way.
    Load {
        /// The model.
        model: String,
        /// How.
        setting: Setting,
        /// Whether it is to stay loaded though nobody asks it.
        keep: bool,
    },
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

/// What the arbiter remembers of a service; nothing of it outlives the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {}

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
    /// Requests at the same time.
    pub parallel: u32,
    /// How keys and values are kept.
    pub kv: KvType,
    /// Layers on GPUs.
    pub layers: u32,
}

/// Decides what an engine is to do next. The same scene is decided the same.
#[must_use]
pub fn decide(_scene: &Scene<'_>) -> Verdict {
    todo!()
}
