//! An engine on a card, as far as the arbiter can tell: memory comes back late, busy runners finish first, answers are lost, clients load
//! what they like.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::engine::Version;
use super::super::estimate::{Ask, Estimate, KvType, Layers, Parts, Room};
use super::super::gguf::{Tensor, TensorType, Value};
use super::super::model::Model;
use super::super::seen::{EngineSeen, EngineView, LoadedModel};
use super::{Estimates, Measured, Memory, Scene, Step, Verdict};
use crate::model::{Bytes, CpuFallback, Engine, GpuDevices, GpuShare, Offload};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
/// What each runner takes that no engine counts.
const CONTEXT_OF_DRIVER: u64 = 200 * MIB;
/// How long a model stays that nobody asks.
const KEEP_ALIVE: u64 = 300;
/// Ends after this, in microseconds, are those of models that stay for good.
const FOR_EVER: u64 = 1 << 62;
/// Keys and values of a layer, per token.
const CACHE: u64 = 2048;
/// Buffers to compute in.
const COMPUTE: u64 = 100 * MIB;

pub(super) fn offload(keep: &[&str]) -> Offload {
    Offload {
        engine: Engine::Ollama,
        url: String::new(),
        keep: keep.iter().map(|name| (*name).to_owned()).collect(),
        idle_unload: None,
        context: None,
        request_grace: Some(Duration::from_secs(30)),
        cpu_fallback: CpuFallback::Refuse,
    }
}

pub(super) fn share(vram: u64) -> GpuShare {
    GpuShare { vendor: None, devices: GpuDevices::All, vram: Some(Bytes(vram)), vram_min: None, priority: 50 }
}

/// A model with layers of this size, its output among them.
pub(super) fn model(layers: u32, layer: u64) -> Model {
    let tensor =
        |name: String| Tensor { name, kind: TensorType::from_number(0).unwrap(), shape: vec![1], bytes: layer };
    Model {
        architecture: "llama".to_owned(),
        name: None,
        layers: (0..layers - 1).map(|number| vec![tensor(format!("blk.{number}.weight"))]).collect(),
        input: Vec::new(),
        output: vec![tensor("output.weight".to_owned())],
        is_tied: false,
        projector: Vec::new(),
        others: Vec::new(),
        metadata: BTreeMap::from([("general.architecture".to_owned(), Value::Text("llama".to_owned()))]),
    }
}

/// The estimator of these models: weights, keys and values by layer, and buffers.
pub(super) fn estimate(model: &Model, ask: &Ask) -> Estimate {
    let all = u32::try_from(model.layers.len()).unwrap() + 1;
    let layers = match ask.layers {
        Layers::Auto => all,
        Layers::Exactly(layers) => layers.min(all),
    };
    let layer = model.output.first().map_or(0, |tensor| tensor.bytes);
    let weights = Bytes(u64::from(layers) * layer);
    let cache = Bytes(u64::from(layers) * CACHE * u64::from(ask.context));
    let compute = Bytes(if layers > 0 { COMPUTE } else { 0 });
    let overhead = Bytes(if layers > 0 { CONTEXT_OF_DRIVER } else { 0 });
    let gpus = vec![Parts { layers, weights, cache, compute, overhead }];
    let host = Parts::default();
    Estimate { formula: "simulated", layers, layers_all: all, context: ask.context, gpus, host, doubts: Vec::new() }
}

/// A model that is loaded.
#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) layers: u32,
    pub(super) context: u32,
    /// Until when it answers a request.
    pub(super) busy_until: u64,
    pub(super) used_at: u64,
    /// Until when it is being loaded.
    pub(super) loads_until: u64,
    /// Layers that it was told to have; `None`: as it likes.
    told: Option<u32>,
    unload: bool,
    again: Option<(Layers, Option<u32>)>,
    answers: bool,
    pub(super) stays: Stays,
}

/// How long a model stays that nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stays {
    AWhile,
    /// For good, because it was loaded to be kept.
    Ours,
    /// For good, because a client wants it so.
    Theirs,
}

impl Stays {
    fn kept(keep: bool) -> Self {
        if keep { Self::Ours } else { Self::AWhile }
    }
}

/// What goes wrong with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is done, and nobody is told.
    LostAnswer,
    /// It never reaches the engine.
    LostStep,
    /// It fails.
    Fails,
}

/// What a server says of requests under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requests {
    Told,
    Hidden,
}

/// An engine and what it runs on.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) offload: Offload,
    pub(super) share: GpuShare,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) running: BTreeMap<String, Runner>,
    /// Memory that comes back, by when.
    pub(super) leaving: Vec<(u64, u64)>,
    pub(super) budget: Option<u64>,
    pub(super) pressure: String,
    /// How late memory comes back, and the driver tells.
    pub(super) returns_in: u64,
    pub(super) lag: u64,
    /// Seconds per GiB that is loaded.
    pub(super) load_time: u64,
    /// What the estimate is wrong by, in percent of what is really taken.
    pub(super) error: i64,
    pub(super) is_multi: bool,
    pub(super) is_silent: bool,
    pub(super) tells_driver: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) memory: Memory,
    answers: Vec<(u64, Result<(), String>)>,
    history: Vec<(u64, u64)>,
    /// Requests that were cut short.
    pub(super) cut: usize,
    /// So many loads end on the CPU, whatever was asked for.
    pub(super) lost_gpu: u32,
    /// When the engine last unloaded a model by itself.
    pub(super) expired_at: u64,
    /// When it was silent last.
    pub(super) silent_at: u64,
    /// What it is told to leave of its GPU, and the context that it takes by itself.
    pub(super) overhead: u64,
    pub(super) context: u32,
    /// Whether a server tells of requests.
    pub(super) requests: Requests,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offload, models, budget, returns_in, lag, load_time, error, is_multi, tells_driver, .. } = self;
        let models: Vec<String> =
            models.iter().map(|(name, model)| format!("{name} {}M", model.output[0].bytes * 16 / MIB)).collect();
        write!(
            f,
            "{offload:?} {models:?} {budget:?} returns in {returns_in}, lag {lag}, loads {load_time}, error {error}, multi {is_multi}, \
             driver {tells_driver}"
        )
    }
}

impl World {
    pub(super) fn new(keep: &[&str], vram: u64, models: &[(&str, u64)]) -> Self {
        let models = models.iter().map(|(name, size)| ((*name).to_owned(), model(16, size * MIB / 16))).collect();
        Self {
            now: 1000,
            offload: offload(keep),
            share: share(vram),
            models,
            running: BTreeMap::new(),
            leaving: Vec::new(),
            budget: Some(vram),
            pressure: String::new(),
            returns_in: 3,
            lag: 0,
            load_time: 2,
            error: 0,
            is_multi: true,
            is_silent: false,
            tells_driver: true,
            faults: Vec::new(),
            memory: Memory::default(),
            answers: Vec::new(),
            history: Vec::new(),
            cut: 0,
            lost_gpu: 0,
            expired_at: 0,
            silent_at: 0,
            overhead: 0,
            context: 32_768,
            requests: Requests::Told,
        }
    }

    /// Says what a model was made for.
    pub(super) fn train(&mut self, name: &str, tokens: u32) {
        let model = self.models.get_mut(name).unwrap();
        model.metadata.insert("llama.context_length".to_owned(), Value::Unsigned(tokens.into()));
    }

    /// Returns what a runner takes, as the engine counts.
    pub(super) fn counted(&self, name: &str, layers: u32, context: u32) -> u64 {
        let layer = self.models[name].output[0].bytes;
        let weights = u64::from(layers) * layer;
        let sum = weights + u64::from(layers) * CACHE * u64::from(context) + if layers > 0 { COMPUTE } else { 0 };
        u64::try_from(i64::try_from(sum).unwrap() * (100 + self.error) / 100).unwrap()
    }

    /// Returns what it really takes.
    pub(super) fn takes(&self, name: &str, runner: &Runner) -> u64 {
        if runner.layers == 0 || runner.loads_until > self.now {
            return 0;
        }
        self.counted(name, runner.layers, runner.context) + CONTEXT_OF_DRIVER
    }

    pub(super) fn used(&self) -> u64 {
        let running: u64 = self.running.iter().map(|(name, runner)| self.takes(name, runner)).sum();
        running + self.leaving.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Returns what the driver told last.
    pub(super) fn told(&self) -> (u64, u64) {
        let told = self.history.iter().rev().find(|(at, _)| at + self.lag <= self.now);
        told.copied().unwrap_or((self.now, self.used()))
    }

    pub(super) fn view(&self) -> EngineSeen {
        if self.is_silent {
            return EngineSeen::Silent("connection refused".to_owned());
        }
        let is_server = self.offload.engine == Engine::LlamaServer;
        let loaded = self.running.iter().map(|(name, runner)| {
            let vram = self.counted(name, runner.layers, runner.context);
            // A server counts nothing, and has no time at which it unloads a model.
            let is_here = runner.loads_until <= self.now && !is_server;
            // It is put off when a request has finished.
            let used_at = if runner.busy_until > self.now { runner.loads_until } else { runner.used_at };
            LoadedModel {
                name: name.clone(),
                digest: format!("sha-{name}"),
                size: is_here.then(|| Bytes(self.counted(name, 16, runner.context))),
                size_vram: is_here.then_some(Bytes(vram)),
                context: Some(runner.context),
                busy: (is_server && self.requests == Requests::Told).then_some(runner.busy_until > self.now),
                is_pinned: runner.stays == Stays::Ours && !is_server,
                expires_usec: match runner.stays {
                    Stays::AWhile => Some((used_at + KEEP_ALIVE) * 1_000_000),
                    Stays::Ours => Some(FOR_EVER + used_at * 1_000_000),
                    // It counts as in use at every look.
                    Stays::Theirs => Some(u64::MAX - self.now * 1_000_000),
                }
                .filter(|_| !is_server),
            }
        });
        EngineSeen::Answers(EngineView {
            version: Some(Version(0, 30, 0)),
            version_text: "0.30.0".to_owned(),
            loaded: loaded.collect(),
            available: self.models.keys().cloned().collect(),
            is_multi: self.is_multi,
        })
    }

    /// Lets somebody look at the scene.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        let (engine, (used_at, used)) = (self.view(), self.told());
        let rooms = [Room { total: Bytes(24 * GIB), free: Bytes(24 * GIB) }];
        let measured = Measured::default();
        look(&Scene {
            offload: &self.offload,
            share: &self.share,
            now: Duration::from_secs(self.now),
            budget: self.budget.map(Bytes),
            pressure: &self.pressure,
            rooms: &rooms,
            used: self.tells_driver.then_some(Bytes(used)),
            used_at: Duration::from_secs(used_at),
            engine: &engine,
            seen_at: Duration::from_secs(self.now),
            models: &self.models,
            measured: &measured,
            parallel: 1,
            kv: KvType::F16,
            overhead: Bytes(self.overhead),
            context: None,
            estimates: &Estimates::new(estimate),
            memory: &self.memory,
        })
    }

    /// Lets a client ask a model: it is loaded where it is not, as the engine likes.
    pub(super) fn ask(&mut self, name: &str, seconds: u64) {
        if !self.running.contains_key(name) {
            self.load(name, Layers::Auto, None, Stays::AWhile);
        }
        let until = self.running[name].loads_until.max(self.now) + seconds;
        let runner = self.running.get_mut(name).unwrap();
        (runner.busy_until, runner.used_at) = (runner.busy_until.max(until), until);
    }

    /// Returns the context that a model gets: as much as it was made for at most.
    fn tokens(&self, name: &str, asked: Option<u32>) -> u32 {
        let trained =
            self.models[name].number("context_length").map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap());
        asked.or(self.offload.context).unwrap_or(self.context).min(trained)
    }

    fn load(&mut self, name: &str, layers: Layers, context: Option<u32>, stays: Stays) -> u64 {
        let told = if let Layers::Exactly(layers) = layers { Some(layers.min(16)) } else { None };
        let layers = if self.lost_gpu > 0 { 0 } else { told.unwrap_or(16) };
        self.lost_gpu = self.lost_gpu.saturating_sub(1);
        let context = self.tokens(name, context);
        let until = self.now + 1 + self.load_time * self.counted(name, layers, context) / GIB;
        let runner = Runner {
            layers,
            context,
            busy_until: 0,
            used_at: self.now,
            loads_until: until,
            told,
            unload: false,
            again: None,
            answers: false,
            stays,
        };
        self.running.insert(name.to_owned(), runner);
        until
    }

    fn end(&mut self, name: &str) {
        if let Some(runner) = self.running.get(name) {
            let bytes = self.takes(name, runner);
            self.leaving.push((self.now + self.returns_in, bytes));
            self.running.remove(name);
        }
    }

    /// Carries a step out.
    pub(super) fn carry_out(&mut self, step: &Step) {
        let fault = self.faults.pop();
        match fault {
            Some(Fault::LostStep) => return,
            Some(Fault::Fails) => return self.answers.push((self.now + 1, Err("500: no".to_owned()))),
            Some(Fault::LostAnswer) | None => {}
        }
        let cuts = self.offload.engine == Engine::LlamaServer;
        let answer_at = match step {
            Step::Unload { model } => {
                if let Some(runner) = self.running.get_mut(model) {
                    let is_busy = runner.busy_until > self.now || runner.loads_until > self.now;
                    if is_busy && !cuts {
                        runner.unload = true;
                    } else {
                        self.cut += usize::from(is_busy && runner.busy_until > self.now);
                        self.end(model);
                    }
                }
                self.now + 1
            }
            Step::Load { model, setting, keep } => {
                match (self.tokens(model, setting.context), self.running.get_mut(model)) {
                    (_, None) => self.load(model, setting.layers, setting.context, Stays::kept(*keep)),
                    (context, Some(runner)) => {
                        // As it likes is what it has, however that came.
                        let told = match setting.layers {
                            Layers::Exactly(layers) => Some(layers.min(16)),
                            Layers::Auto => runner.told,
                        };
                        runner.stays = Stays::kept(*keep);
                        if (told, context) != (runner.told, runner.context) {
                            runner.again = Some((told.map_or(Layers::Auto, Layers::Exactly), Some(context)));
                            runner.answers = fault.is_none();
                            // It is answered when it is loaded.
                            return;
                        }
                        runner.busy_until.max(runner.loads_until).max(self.now) + 1
                    }
                }
            }
        };
        if fault.is_none() {
            self.answers.push((answer_at, Ok(())));
        }
    }

    /// Lets time go on.
    pub(super) fn pass(&mut self, seconds: u64) {
        // It has a model until it is told otherwise.
        let is_server = self.offload.engine == Engine::LlamaServer;
        for _ in 0..seconds {
            self.now += 1;
            let now = self.now;
            self.leaving.retain(|(at, _)| *at > now);
            for name in self.running.keys().cloned().collect::<Vec<_>>() {
                let runner = &self.running[&name];
                if runner.busy_until > now || runner.loads_until > now {
                    continue;
                }
                let (again, answers, stays) = (runner.again, runner.answers, runner.stays);
                let is_over =
                    runner.unload || (stays == Stays::AWhile && !is_server && now >= runner.used_at + KEEP_ALIVE);
                if is_over && !runner.unload {
                    self.expired_at = now;
                }
                if is_over || again.is_some() {
                    self.end(&name);
                }
                if let (false, Some((layers, context))) = (is_over, again) {
                    let until = self.load(&name, layers, context, stays);
                    if answers {
                        self.answers.push((until, Ok(())));
                    }
                }
            }
            if self.is_silent {
                self.silent_at = now;
            }
            self.history.push((now, self.used()));
            if self.history.len() > 32 {
                self.history.remove(0);
            }
            let at = Duration::from_secs(now);
            for (_, answer) in self.answers.extract_if(.., |(at, _)| *at <= now) {
                match answer {
                    Ok(()) => self.memory.answered(at),
                    Err(why) => self.memory.failed(&why, at),
                }
            }
        }
    }

    /// Decides once, carries it out, and lets two seconds go by.
    pub(super) fn round(&mut self, planner: &dyn Fn(&Scene<'_>) -> Verdict) -> Verdict {
        let verdict = self.with(planner);
        self.memory = verdict.memory.clone();
        if let Some(step) = verdict.step.as_ref().filter(|step| self.models.contains_key(step.model())) {
            self.answers.clear();
            self.carry_out(step);
        }
        self.pass(2);
        verdict
    }
}
