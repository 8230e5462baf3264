//! Models that should be on the GPU and are not.
//!
//! Three things tell: the engine counts a part of a model elsewhere though there is room for it, it counts memory on the GPUs that the driver
//! does not see, or it counts nothing and the driver sees far less than such a model takes. What was loaded with less on purpose (the arbiter's settings), and what gives memory back just now, is right where it is.

use std::time::Duration;

use super::arbiter::{Memory, REPAIRS_MAX, Scene, Sizes};
use super::estimate::Layers;
use super::seen::{EngineSeen, EngineView, LoadedModel};
use crate::model::{Bytes, CpuFallback, Engine};

/// How long a model is given to come to the GPU after it appeared: engines list what they are still loading.
const SETTLES: Duration = Duration::from_secs(30);
/// What is not counted on GPUs of a model that is there as a whole: what turns tokens into vectors stays in the machine's memory, and some
/// versions count it.
const HOST_PERCENT: u64 = 10;
/// The driver sees less than the engine counts when it is less than this part of it: buffers that are counted may not all be there yet.
const SEEN_PERCENT: u64 = 50;

/// A model that should be on the GPU and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The model.
    pub model: String,
    /// What was found, in one line with the numbers.
    pub found: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

/// Returns which models are not where they should be.
#[must_use]
pub fn incidents(scene: &Scene<'_>) -> Vec<Incident> {
    let view = match scene.engine {
        EngineSeen::Answers(view) => view,
        EngineSeen::Silent(_) => return Vec::new(),
    };
    let wrong = checked(scene, view, scene.memory);
    wrong.into_iter().map(|(model, wrong)| wrong.told(scene, scene.memory.repairs(&model.name), model)).collect()
}

/// Returns whether a repair of a model is not over: it is unloaded or loaded for that, or was loaded too lately for anybody to tell.
#[must_use]
pub fn is_repairing(scene: &Scene<'_>, model: &str) -> bool {
    let is_new = || match scene.memory.since(model) {
        Some(since) => scene.seen_at.saturating_sub(since) < SETTLES,
        None => scene.memory.is_to_be_loaded(model),
    };
    scene.memory.repairs(model) > 0 && (scene.memory.is_busy_with() == Some(model) || is_new())
}

/// Returns the names of models that the engine put elsewhere though there is room.
pub(super) fn misplaced(scene: &Scene<'_>, view: &EngineView, memory: &Memory) -> Vec<String> {
    let is_elsewhere = |wrong: &Wrong| match wrong {
        Wrong::Elsewhere { .. } => true,
        // Nothing is gained by loading it again: what the engine says of it is not so, or it cannot be told how.
        Wrong::Unseen { .. } | Wrong::Absent { .. } => false,
    };
    let wrong = checked(scene, view, memory).into_iter().filter(|(_, wrong)| is_elsewhere(wrong));
    wrong.map(|(model, _)| model.name.clone()).collect()
}

/// What is wrong with a model.
enum Wrong {
    /// The engine counts this of it on the GPUs, and there is room for all.
    Elsewhere { vram: Bytes, size: Bytes, free: Option<Bytes> },
    /// The engine counts this on the GPUs for all of its models, and the driver sees less.
    Unseen { counted: Bytes, used: Bytes },
    /// The engine counts nothing. The model takes this by the estimate, the budget would hold it, and this is all that the driver sees.
    Absent { need: Bytes, used: Bytes },
}

impl Wrong {
    fn told(&self, scene: &Scene<'_>, repairs: u32, model: &LoadedModel) -> Incident {
        let (found, hint) = match self {
            Self::Elsewhere { vram, size, free } => {
                let place = match vram {
                    Bytes(0) => format!("it is on the CPU, {} in all", size.roughly()),
                    vram => format!("{} of {} are on the GPU", vram.roughly(), size.roughly()),
                };
                let free = free
                    .map_or_else(String::new, |free| format!(", though {} of the budget are free", free.roughly()));
                (format!("{place}{free}"), hint(scene, repairs, *vram))
            }
            Self::Unseen { counted, used } => (
                format!("the engine counts {} on the GPU, the driver sees {}", counted.roughly(), used.roughly()),
                "look at `nixmoxctl doctor`: the engine has lost the GPU, or another one than it was given"
                    .to_owned(),
            ),
            Self::Absent { need, used } => {
                let found = match used {
                    Bytes(0) => format!("nothing of it is on the GPU, where it takes {}", need.roughly()),
                    used => format!(
                        "nothing of it is on the GPU, or little: it takes {}, and the driver sees {} of all",
                        need.roughly(),
                        used.roughly()
                    ),
                };
                (found, hint(scene, repairs, Bytes(0)))
            }
        };
        Incident { model: model.name.clone(), found, hint }
    }
}

fn hint(scene: &Scene<'_>, repairs: u32, vram: Bytes) -> String {
    if repairs >= REPAIRS_MAX {
        return format!(
            "it was loaded again {repairs} times without effect, and is not any more: `nixmoxctl doctor` tells whether the GPU can be opened; \
             then restart the service"
        );
    }
    let repair = match (scene.offload.engine, scene.offload.cpu_fallback) {
        (Engine::Ollama, CpuFallback::Warn | CpuFallback::Refuse) => "it is loaded again with more layers",
        (Engine::Ollama, CpuFallback::Allow) => "`cpu_fallback = \"warn\"` has it loaded again",
        (Engine::LlamaServer, _) => "restart the service",
    };
    match vram {
        Bytes(0) => {
            format!("{repair}; where that does not help, `nixmoxctl doctor` tells whether the GPU can be opened")
        }
        _some => repair.to_owned(),
    }
}

/// Returns the models that are wrong.
fn checked<'a>(scene: &Scene<'_>, view: &'a EngineView, memory: &Memory) -> Vec<(&'a LoadedModel, Wrong)> {
    let counted: u64 =
        view.loaded.iter().filter_map(|model| model.size_vram).fold(0, |sum, size| sum.saturating_add(size.0));
    let used = scene.used.filter(|_| scene.used_at > scene.seen_at.saturating_sub(SETTLES));
    let is_over = used.zip(scene.budget).is_some_and(|(used, budget)| used > budget);
    let settled = |model: &&LoadedModel| {
        let since = memory.since(&model.name);
        let is_old = since.is_some_and(|since| scene.seen_at.saturating_sub(since) >= SETTLES);
        !model.name.is_empty() && is_old && memory.is_busy_with() != Some(&model.name)
    };
    let unseen = |model: &LoadedModel| {
        let used = used?;
        let is_less = u128::from(used.0) * 100 < u128::from(counted) * u128::from(SEEN_PERCENT);
        let is_counted = model.size_vram.is_some_and(|vram| vram.0 > 0);
        // A step that is under way moves memory.
        (is_less && is_counted && memory.is_busy_with().is_none())
            .then_some(Wrong::Unseen { counted: Bytes(counted), used })
    };
    let sizes = Sizes::new(scene, view);
    let absent = |model: &LoadedModel| {
        let used = used.filter(|_| model.size_vram.is_none() && memory.is_busy_with().is_none())?;
        let need = memory.need(&sizes, model)?;
        let is_less = u128::from(used.0) * 100 < u128::from(need.0) * u128::from(SEEN_PERCENT);
        let has_room = scene.budget.is_none_or(|budget| need <= budget);
        (is_less && has_room).then_some(Wrong::Absent { need, used })
    };
    let wrong = |model: &'a LoadedModel| {
        let elsewhere = elsewhere(scene, view, memory, model, counted).filter(|_| !is_over);
        let wrong = elsewhere.or_else(|| unseen(model)).or_else(|| absent(model))?;
        Some((model, wrong))
    };
    view.loaded.iter().filter(settled).filter_map(wrong).collect()
}

/// Returns whether a part of a model is elsewhere that has room on the GPUs.
fn elsewhere(
    scene: &Scene<'_>,
    view: &EngineView,
    memory: &Memory,
    model: &LoadedModel,
    counted: u64,
) -> Option<Wrong> {
    let sizes = Sizes::new(scene, view);
    let all = sizes.layers_all(&model.name);
    let has = memory.layers(&sizes, model);
    // What was to be there, as a part of all: less on purpose is right, less than that is not.
    let wanted = memory.setting(&model.name).and_then(|setting| match setting.layers {
        Layers::Auto => None,
        Layers::Exactly(layers) => Some(layers),
    });
    let is_part = wanted.filter(|wanted| all.is_none_or(|all| *wanted < all));
    let on_purpose = is_part.is_some_and(|wanted| has.is_none_or(|has| has >= wanted));
    let (vram, size) = (model.size_vram?, model.size?);
    let input = scene.models.get(&model.name).map_or(0, |model| super::model::bytes(&model.input));
    let host = (size.0 / 100).saturating_mul(HOST_PERCENT).max(input);
    if on_purpose || vram.0.saturating_add(host) >= size.0 {
        return None;
    }
    let free = scene.budget.map(|budget| Bytes(budget.0.saturating_sub(scene.used.map_or(counted, |used| used.0))));
    let due =
        is_part.zip(all).map_or(size.0, |(part, all)| (size.0 / u64::from(all.max(1))).saturating_mul(part.into()));
    let missing = due.saturating_sub(vram.0).saturating_sub(input);
    // Of what the engine counts on the CPU a part stays there; the rest must have room.
    (free.is_none_or(|free| free.0 >= missing)).then_some(Wrong::Elsewhere { vram, size, free })
}
