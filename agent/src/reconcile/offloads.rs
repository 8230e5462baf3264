//! What the reconcile task knows of engines that run models: what they say, what was decided, and what was measured.
//!
//! Engines are asked, and have models loaded and unloaded, beside the rounds and only while their containers are up: one that hangs
//! holds nothing up. What they are to do is `core::offload`'s to decide, anew whenever something is known that was not; this
//! file keeps what such a decision needs, begins what comes of it, and tells what nobody asked for. `engine` is what is known of
//! one instance, `models` what its models are made of, and `loads` what loads were measured to take, which alone outlives it.

mod beside;
mod engine;
mod given;
mod loads;
mod models;
mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use nixmox_core::model::{
    ActiveState, Bytes, Container, ContainerName, Desired, GpuStanding, InvocationId, Observed,
};
use nixmox_core::offload::arbiter::{Load, Step};
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::EngineSeen;
use tokio::task::{self, JoinError, JoinSet};

use super::gpus::{Gpus, News};
use crate::chain::chain;
use crate::host::{Host, StepError};
use crate::state::Notes;
pub(super) use beside::Beside;
pub(super) use engine::Engine;
use given::Given;
pub(super) use given::conditions;
use loads::Loads;

/// Models are estimated in one round by so many layers, for all engines together: a decision takes up to a hundred estimates of each model, and
/// a model is what its file says. What is left to do is done in the next rounds, half a second apart.
const ESTIMATES_MAX: u32 = 1000;

/// Names an engine for as long as its container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Of {
    name: ContainerName,
    invocation: InvocationId,
}

/// What an engine is asked, beside the rounds.
#[derive(Clone, Debug)]
enum Work {
    /// How it stands; since when the question is under way.
    Look(Duration),
    /// What a model is made of: its name, and its digest as the engine had it.
    Show(String, String),
    /// To do something.
    Step(Step),
}

/// What came of it.
#[derive(Debug)]
enum Answer {
    Seen(EngineSeen),
    Shown(Result<Header, StepError>),
    Stepped(Result<(), StepError>),
    /// Nothing, for no fault of the engine's.
    Lost,
}

/// Something that was asked, and is over.
#[derive(Debug)]
pub(super) struct Ended {
    of: Of,
    work: Work,
    answer: Answer,
}

/// A step that is over, for the figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) word: &'static str,
    pub(super) time: Duration,
    pub(super) failed: bool,
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Offloads {
    engines: BTreeMap<ContainerName, Engine>,
    loads: Loads,
    tasks: JoinSet<Answer>,
    under_way: HashMap<task::Id, (Of, Work)>,
    /// Who could give memory back when GPUs were given out last.
    elastic: BTreeSet<ContainerName>,
}

impl Offloads {
    /// Begins with what was noted before.
    pub(super) fn new(notes: &Notes) -> Self {
        Self { loads: Loads::new(&notes.measured), ..Self::default() }
    }

    /// Follows the instances of containers: what is known of one that is gone is forgotten. Returns who can give memory back.
    pub(super) fn follow(
        &mut self,
        now: Duration,
        desired: &Desired,
        observed: &Observed,
    ) -> &BTreeSet<ContainerName> {
        let instance = |name: &ContainerName| running(observed.containers.get(name)?);
        self.engines.retain(|name, engine| {
            let is_asked_for =
                desired.services.get(name).is_some_and(|assigned| assigned.service.offload.is_some());
            is_asked_for && instance(name).is_some_and(|(invocation, _)| invocation == engine.invocation)
        });
        for (name, assigned) in &desired.services {
            let Some((invocation, is_up)) = instance(name).filter(|_| assigned.service.offload.is_some()) else {
                continue;
            };
            let engine = self.engines.entry(name.clone()).or_insert_with(|| Engine::new(invocation, now));
            engine.is_up = is_up;
        }
        self.elastic = self.elastic_at(now);
        &self.elastic
    }

    fn elastic_at(&self, now: Duration) -> BTreeSet<ContainerName> {
        let elastic = self.engines.iter().filter(|(_, engine)| engine.is_elastic(now));
        elastic.map(|(name, _)| name.clone()).collect()
    }

    /// Decides what every engine is to do next, and begins that, looks that are due, and questions about models. Returns what is to be
    /// told. `acting_on` are the containers with a step of their own under way, and without `may_act` engines are only looked at.
    pub(super) fn drive<H: Host>(
        &mut self,
        now: Duration,
        host: &Arc<H>,
        (desired, gpus): (&Desired, &Gpus),
        acting_on: &BTreeSet<ContainerName>,
        may_act: bool,
    ) -> Vec<News> {
        let (mut news, mut works) = (Vec::new(), Vec::new());
        let mut estimates = ESTIMATES_MAX;
        for (name, engine) in &mut self.engines {
            let Some(assigned) = desired.services.get(name) else { continue };
            let Some(offload) = &assigned.service.offload else { continue };
            let told = |text: String| News { service: Some(name.clone()), text };
            if let Some(given) = Given::of(assigned, gpus, engine.began) {
                news.extend(engine.news_of_budget(&given).map(told));
                self.loads.keep(engine.measure(&given));
                if may_act && engine.is_up && !acting_on.contains(name) {
                    engine.estimates.allow(estimates);
                    let step = engine.decide(now, &given, &self.loads.measured);
                    news.extend(engine.news_of_incidents(now, &given, &self.loads.measured).into_iter().map(told));
                    estimates = engine.estimates.left().unwrap_or(0);
                    if let Some((step, why)) = step {
                        news.push(told(text::begins(&step, &why)));
                        works.push((name.clone(), engine.invocation, offload.clone(), Work::Step(step)));
                    }
                } else {
                    engine.undecided();
                }
            } else {
                engine.undecided();
            }
            let is_asked = match &assigned.gpu {
                GpuStanding::Yielding { .. } => true,
                GpuStanding::Shrinking { .. } => engine.is_pressed(now),
                GpuStanding::None
                | GpuStanding::Waiting { .. }
                | GpuStanding::Granted(_)
                | GpuStanding::Kept { .. } => false,
            };
            news.extend(engine.news_of_elasticity(now, is_asked).map(told));
            if engine.begin_look(now, offload) {
                works.push((name.clone(), engine.invocation, offload.clone(), Work::Look(now)));
            }
            if let Some((model, digest)) = engine.begin_show(now, offload) {
                works.push((name.clone(), engine.invocation, offload.clone(), Work::Show(model, digest)));
            }
        }
        for (name, invocation, offload, work) in works {
            let (host, of, asked) = (Arc::clone(host), Of { name: name.clone(), invocation }, work.clone());
            let task = self.tasks.spawn(async move {
                match &asked {
                    Work::Look(_) => Answer::Seen(host.look_at_engine(&name, &offload).await),
                    Work::Show(model, _) => Answer::Shown(host.show_model(&name, &offload, model).await),
                    Work::Step(step) => Answer::Stepped(host.change_model(&name, &offload, step).await),
                }
            });
            self.under_way.insert(task.id(), (of, work));
        }
        news
    }

    /// Waits for the next of what was asked to be over. Never returns while there is none. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Ended {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(joined) => {
                    if let Some(ended) = self.joined(joined) {
                        return ended;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    fn joined(&mut self, joined: Result<(task::Id, Answer), JoinError>) -> Option<Ended> {
        let (id, answer) = match joined {
            Ok(joined) => joined,
            Err(error) => (error.id(), Answer::Lost),
        };
        let (of, work) = self.under_way.remove(&id)?;
        Some(Ended { of, work, answer })
    }

    /// Takes in what came of something that was asked. Returns what is to be told, and the step that is over with it.
    pub(super) fn take_in(&mut self, now: Duration, ended: Ended) -> (Option<News>, Option<Took>) {
        let Ended { of, work, answer } = ended;
        // An answer of an earlier instance says nothing about this one.
        let engine = self.engines.get_mut(&of.name).filter(|engine| engine.invocation == of.invocation);
        let Some(engine) = engine else { return (None, None) };
        match (work, answer) {
            (Work::Look(begun), Answer::Seen(seen)) => engine.looked(begun, seen),
            (Work::Look(_), _lost) => engine.lost_look(),
            (Work::Show(model, digest), Answer::Shown(shown)) => {
                engine.shown(now, model, digest, shown.map_err(|error| chain(&error)));
            }
            (Work::Show(model, digest), _lost) => {
                engine.shown(now, model, digest, Err("the question was lost".to_owned()));
            }
            (Work::Step(step), answer) => {
                let answer = match answer {
                    Answer::Stepped(result) => Some(result.map_err(|error| chain(&error))),
                    Answer::Seen(_) | Answer::Shown(_) | Answer::Lost => None,
                };
                let lost = || Err("the answer was lost, and looks tell what came of it".to_owned());
                let text = text::is_over(&step, answer.as_ref().unwrap_or(&lost()));
                let failed = !matches!(answer, Some(Ok(())));
                let time = match answer {
                    Some(result) => engine.stepped(now, &step, result),
                    None => engine.lost_step(now),
                };
                let took = Took { word: text::word(&step), time, failed };
                return (Some(News { service: Some(of.name), text }), Some(took));
            }
        }
        (None, None)
    }

    /// Returns when there is something to be done though nothing happens.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let soon = (self.elastic_at(now) != self.elastic).then_some(now);
        self.engines.values().filter_map(|engine| engine.next_due(now)).chain(soon).min()
    }

    /// Returns whether the memory of GPUs is to be looked at more often: it is to come back.
    pub(super) fn is_pressed(&self, now: Duration) -> bool {
        self.engines.values().any(|engine| engine.is_pressed(now))
    }

    /// Returns what is known of the engine of a service; `None`: it does not run, or has none.
    pub(super) fn of(&self, name: &ContainerName) -> Option<&Engine> {
        self.engines.get(name)
    }

    /// Returns what loads were measured to take.
    pub(super) fn measured(&self) -> Arc<Vec<(Load, Bytes)>> {
        self.loads.shared()
    }

    /// Puts what outlives this agent into the notes.
    pub(super) fn write_down(&self, notes: &mut Notes) {
        self.loads.write_down(&mut notes.measured);
    }
}

/// Returns the instance of a container that has processes, and whether it is up.
fn running(container: &Container) -> Option<(InvocationId, bool)> {
    let is_up = match container.active {
        ActiveState::Active => true,
        ActiveState::Activating => false,
        ActiveState::Inactive | ActiveState::Failed | ActiveState::Deactivating => return None,
    };
    Some((container.invocation?, is_up))
}
