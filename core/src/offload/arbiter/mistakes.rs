//! Mistakes that a policy like this one can make: each is planted, and has to be noticed.

use super::super::seen::EngineSeen;
use super::{Memory, Purpose, Scene, Step, Verdict, decide, excess, kept, loaded};
use crate::model::{Bytes, Engine, Offload};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// Nothing is done while a model is loaded.
    NotWhileLoaded,
    /// Models are unloaded though nobody asks for memory.
    UnloadsForNothing,
    /// The next step does not wait for the last.
    DoesNotConfirm,
    /// Nothing is remembered.
    Forgets,
    /// A model without a name is asked for.
    NoName,
    /// What is to be kept goes first.
    KeptFirst,
    /// What was asked last goes first.
    RecentFirst,
    /// All are asked for, however little is needed.
    AllOrNothing,
    /// What answers a request is interrupted.
    Interrupts,
    /// Loads are not counted, and nothing waits.
    NoRate,
    /// What was given up stays so.
    NeverPromotes,
    /// It always says that it can.
    AlwaysElastic,
    /// What the driver says is not looked at.
    IgnoresDriver,
    /// The budget is not looked at.
    IgnoresBudget,
    /// It says nothing.
    NoWords,
    /// Requests may take for ever, though it is declared otherwise.
    NoGrace,
    /// A router is told how to load a model.
    PartsForRouters,
    /// It is decided by more than the scene.
    Moody,
}

thread_local! {
    static MOOD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Decides with a mistake.
pub(super) fn mistaken(mistake: Mistake, scene: &Scene<'_>) -> Verdict {
    let mut scene = *scene;
    let mut engine = scene.engine.clone();
    let mut memory = scene.memory.clone();
    let mut offload = scene.offload.clone();
    match mistake {
        Mistake::DoesNotConfirm => memory.confirm(),
        Mistake::Forgets => memory = Memory::default(),
        Mistake::NoRate => memory.forgive(),
        Mistake::IgnoresDriver => scene.used = None,
        Mistake::IgnoresBudget => scene.budget = None,
        Mistake::NoGrace => offload.request_grace = None,
        Mistake::KeptFirst => offload.keep = others(&scene, &offload),
        Mistake::Interrupts => {
            if let EngineSeen::Answers(view) = &mut engine {
                view.loaded.iter_mut().for_each(|model| model.busy = None);
            }
        }
        Mistake::AllOrNothing => {
            scene.budget = scene.budget.map(|budget| if is_over(&scene) { Bytes(0) } else { budget });
        }
        _afterwards => {}
    }
    (scene.engine, scene.memory, scene.offload) = (&engine, &memory, &offload);
    let mut verdict = decide(&scene);
    spoil(mistake, &scene, &mut verdict);
    verdict
}

fn is_over(scene: &Scene<'_>) -> bool {
    scene.used.zip(scene.budget).is_some_and(|(used, budget)| used > budget)
}

/// Returns the models that are loaded and not to be kept.
fn others(scene: &Scene<'_>, offload: &Offload) -> Vec<String> {
    let EngineSeen::Answers(view) = scene.engine else { return Vec::new() };
    let keep = kept(offload);
    loaded(view).map(|model| model.name.clone()).filter(|name| !keep.contains(name)).collect()
}

/// Mistakes in what is decided.
fn spoil(mistake: Mistake, scene: &Scene<'_>, verdict: &mut Verdict) {
    let EngineSeen::Answers(view) = scene.engine else { return };
    let unload = |model: &str| Some(Step::Unload { model: model.to_owned() });
    match mistake {
        Mistake::NotWhileLoaded if !view.loaded.is_empty() => {
            (verdict.step, verdict.memory) = (None, scene.memory.clone());
        }
        Mistake::UnloadsForNothing if verdict.step.is_none() && scene.memory.under_way().is_none() => {
            if let Some(model) = loaded(view).find(|model| model.busy != Some(true)) {
                verdict.step = unload(&model.name);
                verdict.why = format!("unloads `{}`", model.name);
                verdict.memory.begin(scene, view, &Step::Unload { model: model.name.clone() }, Purpose::Idle);
            }
        }
        Mistake::NoName => {
            if let Some(Step::Unload { model }) = &mut verdict.step {
                model.clear();
            }
        }
        Mistake::RecentFirst => {
            let others = others(scene, scene.offload);
            let last = others.iter().max_by_key(|name| scene.memory.known(name).used_at);
            if let (Some(Step::Unload { model }), Some(last), true) = (&mut verdict.step, last, is_over(scene)) {
                model.clone_from(last);
                let mut memory = scene.memory.clone();
                memory.observe(scene, view);
                let over = excess(scene, view, &memory);
                memory.weigh(scene, over);
                memory.begin(scene, view, &Step::Unload { model: last.clone() }, Purpose::Relief);
                (verdict.memory, verdict.why) = (memory, format!("unloads `{last}`"));
            }
        }
        Mistake::NeverPromotes => {
            if let Some(Step::Load { .. }) = verdict.step {
                (verdict.step, verdict.memory) = (None, scene.memory.clone());
            }
        }
        Mistake::PartsForRouters => {
            if let Some(Step::Load { setting, .. }) = &mut verdict.step {
                setting.context = scene.offload.context;
            }
        }
        Mistake::AlwaysElastic => verdict.is_elastic = true,
        Mistake::NoWords => verdict.why.clear(),
        Mistake::Moody => {
            MOOD.set(!MOOD.get());
            if MOOD.get() && scene.offload.engine == Engine::Ollama {
                verdict.again_at = None;
            }
        }
        _before => {}
    }
}
