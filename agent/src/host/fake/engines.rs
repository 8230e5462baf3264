//! Engines in simulated guests: they load models, take memory of the simulated GPUs for them, and give it back later than they say.
//!
//! ```text
//!             load, ask                      unload, expired           memory_delay
//!  available ───────────▶ loaded (on n layers) ─────────────▶ leaving ──────────────▶ its memory is free
//!                            ▲    │ unload while busy: answered at once, done when it is not busy any more
//!                            └────┘
//! ```
//!
//! An engine lives as long as its container's instance: a new one has nothing loaded. What a model takes is exact: so much for each
//! layer, for each token of context as far as its layers are on the GPU, and once for itself.

mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_core::model::{ActiveState, Bytes, ContainerName, Engine, GpuId, InvocationId, Offload};
use nixmox_core::offload::arbiter::{Setting, Step};
use nixmox_core::offload::engine::Version;
use nixmox_core::offload::estimate::Layers;
use nixmox_core::offload::gguf::Header;
use nixmox_core::offload::seen::{EngineSeen, EngineView, LoadedModel};
use tokio::time::Instant;

pub use model::FakeModel;

use super::{Fake, Simulated, State};
use crate::guest_helper::engine::time::FOR_EVER;
use crate::host::StepError;
use crate::host::engine::{LOAD_LIMIT, LOOK_LIMIT, SHOW_LIMIT, engine_error};

/// When simulated hosts begin, in microseconds since 1970.
const BEGAN_USEC: u64 = 1_800_000_000_000_000;
/// The wait between looks whether a request has finished.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What runs models in a simulated container. The default is a newest Ollama without models, which answers at once.
#[derive(Clone, Debug)]
pub struct FakeEngine {
    /// What it is.
    pub kind: Engine,
    /// The version that it says; `None`: none that can be read.
    pub version: Option<Version>,
    /// Whether models can be loaded and unloaded one by one.
    pub is_multi: bool,
    /// The GPU that it uses, as `use_vram` names it.
    pub gpu: String,
    /// The models that it could load.
    pub models: BTreeMap<String, FakeModel>,
    /// Memory of the GPU that it leaves free when it chooses the layers by itself.
    pub leaves_free: u64,
    /// Memory that it never takes more than when it chooses the layers by itself.
    pub takes_at_most: u64,
    /// Time that a load takes.
    pub load_time: Duration,
    /// Time from the end of a model to its memory being free.
    pub memory_delay: Duration,
    /// How long a model stays loaded that nobody asks; `None`: for ever.
    pub keep_alive: Option<Duration>,
    /// Whether it puts everything on the CPU by itself, as one does that cannot open its GPU.
    pub is_blind: bool,
    /// Why it does nothing of what it is asked; `None`: it does.
    pub refuses: Option<String>,
    /// Whether it answers nothing.
    pub hangs: bool,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            kind: Engine::Ollama,
            version: Some(Version(0, 30, 0)),
            is_multi: true,
            gpu: "GPU-0".to_owned(),
            models: BTreeMap::new(),
            leaves_free: 0,
            takes_at_most: u64::MAX,
            load_time: Duration::ZERO,
            memory_delay: Duration::ZERO,
            keep_alive: Some(Duration::from_mins(5)),
            is_blind: false,
            refuses: None,
            hangs: false,
        }
    }
}

/// How often an engine was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineCalls {
    /// How it stands.
    pub looks: u64,
    /// What a model is made of, in their order.
    pub shown: Vec<String>,
    /// To do something, in their order; what it refused is among them.
    pub steps: Vec<Step>,
    /// Models that it really loaded, those included that somebody else asked.
    pub loads: u64,
    /// Models that really went.
    pub unloads: u64,
}

/// An engine and what it has done.
#[derive(Debug)]
pub(super) struct Running {
    engine: FakeEngine,
    began: Instant,
    /// Of which instance of the container the rest is.
    instance: Option<InvocationId>,
    loaded: Vec<Loaded>,
    /// Memory of models that are gone, and until when it is not free.
    leaving: Vec<(Instant, u64)>,
    calls: EngineCalls,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    model: FakeModel,
    /// Layers on the GPU.
    layers: u32,
    context: u32,
    /// What was asked, of which an engine makes a load of its own.
    setting: Setting,
    is_busy: bool,
    is_to_go: bool,
    /// How long it stays that nobody asks; `None`: for good.
    stays: Option<Duration>,
    /// When it was loaded, or the last request ended.
    used: Instant,
}

impl Loaded {
    fn vram(&self) -> u64 {
        self.model.on_gpu(self.layers, self.context)
    }

    fn expires(&self) -> Option<Instant> {
        self.stays.map(|stays| self.used + stays)
    }
}

impl Running {
    /// Lets go what is over by now.
    fn catch_up(&mut self, instance: Option<InvocationId>) {
        let now = Instant::now();
        if self.instance != instance {
            self.instance = instance;
            // Its processes are gone, and the memory of those at once.
            self.loaded.clear();
            self.leaving.clear();
        }
        let is_over = |model: &Loaded| {
            !model.is_busy && (model.is_to_go || model.expires().is_some_and(|expires| expires <= now))
        };
        while let Some(at) = self.loaded.iter().position(is_over) {
            self.take_out(at);
        }
        self.leaving.retain(|(until, _)| *until > now);
    }

    fn take_out(&mut self, at: usize) {
        let gone = self.loaded.remove(at);
        self.calls.unloads += 1;
        self.leaving.push((Instant::now() + self.engine.memory_delay, gone.vram()));
    }

    fn vram(&self) -> u64 {
        self.loaded.iter().map(Loaded::vram).chain(self.leaving.iter().map(|(_, bytes)| *bytes)).sum()
    }

    fn view(&self) -> EngineView {
        let usec = |at: Instant| {
            let since = at.saturating_duration_since(self.began).as_micros();
            BEGAN_USEC.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
        };
        let of_ollama = self.engine.kind == Engine::Ollama;
        let loaded = self.loaded.iter().map(|loaded| LoadedModel {
            name: loaded.name.clone(),
            digest: if of_ollama { format!("digest of {}", loaded.name) } else { String::new() },
            size: of_ollama.then(|| Bytes(loaded.model.size(loaded.context))),
            size_vram: of_ollama.then(|| Bytes(loaded.vram())),
            context: Some(loaded.context),
            busy: (!of_ollama).then_some(loaded.is_busy),
            expires_usec: of_ollama.then(|| loaded.expires().map_or_else(|| FOR_EVER + usec(loaded.used), usec)),
            is_pinned: false,
        });
        let version = self.engine.version;
        EngineView {
            version,
            version_text: version.map(|Version(a, b, c)| format!("{a}.{b}.{c}")).unwrap_or_default(),
            loaded: loaded.collect(),
            available: self.engine.models.keys().cloned().collect(),
            is_multi: self.engine.is_multi,
        }
    }

    /// Loads a model, or leaves it as it is where it is loaded so already. `room` is the GPU's memory that is free.
    fn load(&mut self, name: &str, setting: Setting, stays: Option<Duration>, room: u64) -> Result<(), String> {
        let model = *self.engine.models.get(name).ok_or_else(|| format!("model '{name}' not found"))?;
        let context = setting.context.unwrap_or(model.context);
        if let Some(loaded) = self.loaded.iter_mut().find(|loaded| loaded.name == name)
            && loaded.setting == setting
        {
            (loaded.is_to_go, loaded.stays, loaded.used) = (false, stays, Instant::now());
            return Ok(());
        }
        let before = self.loaded.iter().position(|loaded| loaded.name == name);
        // What is loaded anew has its own memory to take from.
        let room = room.saturating_add(before.and_then(|at| self.loaded.get(at)).map_or(0, Loaded::vram));
        let layers = match setting.layers {
            _ if self.engine.is_blind => 0,
            Layers::Exactly(layers) => layers.min(model.layers),
            Layers::Auto => {
                let own = self.engine.takes_at_most.saturating_sub(self.loaded.iter().map(Loaded::vram).sum());
                model.layers_within(room.saturating_sub(self.engine.leaves_free).min(own), context)
            }
        };
        if model.on_gpu(layers, context) > room {
            return Err("llama runner process has terminated: cudaMalloc failed: out of memory".to_owned());
        }
        if let Some(at) = before {
            self.loaded.remove(at);
        }
        self.calls.loads += 1;
        let name = name.to_owned();
        self.loaded.push(Loaded {
            name,
            model,
            layers,
            context,
            setting,
            is_busy: false,
            is_to_go: false,
            stays,
            used: Instant::now(),
        });
        Ok(())
    }
}

/// What a request of somebody else loads a model with.
const OF_ITS_OWN: Setting = Setting { layers: Layers::Auto, context: None };

impl Fake {
    /// Puts an engine into a container, in place of the one that it has; nothing is loaded, and no call was made.
    ///
    /// # Panics
    /// When no GPU can be named as its GPU is.
    pub fn set_engine(&self, name: &ContainerName, engine: FakeEngine) {
        let _checked = gpu_of(&engine);
        let calls = EngineCalls::default();
        let (loaded, leaving) = (Vec::new(), Vec::new());
        let running = Running { engine, began: Instant::now(), instance: None, loaded, leaving, calls };
        self.state().engines.insert(name.clone(), running);
    }

    /// Changes how an engine is; what it has loaded stays.
    ///
    /// # Panics
    /// When the container has none.
    pub fn change_engine(&self, name: &ContainerName, change: impl FnOnce(&mut FakeEngine)) {
        self.with_engine(name, |running, _| change(&mut running.engine));
    }

    /// Returns what an engine was asked so far; nothing, where the container has none.
    #[must_use]
    pub fn engine_calls(&self, name: &ContainerName) -> EngineCalls {
        self.state().engines.get(name).map(|running| running.calls.clone()).unwrap_or_default()
    }

    /// Begins a request of somebody: loads the model as the engine does by itself, where it is not loaded, and is under way until
    /// `finish_model`.
    ///
    /// # Panics
    /// When it cannot be loaded, or the container has no engine.
    pub fn ask_model(&self, name: &ContainerName, model: &str) {
        self.with_engine(name, |running, room| {
            let at = running.loaded.iter().position(|loaded| loaded.name == model);
            if at.is_none() {
                let stays = running.engine.keep_alive;
                running.load(model, OF_ITS_OWN, stays, room).unwrap_or_else(|why| panic!("{model}: {why}"));
            }
            if let Some(loaded) = running.loaded.iter_mut().find(|loaded| loaded.name == model) {
                (loaded.is_busy, loaded.is_to_go) = (true, false);
            }
        });
    }

    /// Ends the request of somebody; from now on it counts how long nobody asks. Nothing to do where none is under way.
    pub fn finish_model(&self, name: &ContainerName, model: &str) {
        self.with_engine(name, |running, _| {
            if let Some(loaded) = running.loaded.iter_mut().find(|loaded| loaded.name == model && loaded.is_busy) {
                loaded.is_busy = false;
                loaded.used = Instant::now();
            }
        });
    }

    /// Returns how many layers of each loaded model are on the GPU, by name.
    #[must_use]
    pub fn loaded_layers(&self, name: &ContainerName) -> BTreeMap<String, u32> {
        let mut layers = BTreeMap::new();
        self.with_engine(name, |running, _| {
            layers.extend(running.loaded.iter().map(|loaded| (loaded.name.clone(), loaded.layers)));
        });
        layers
    }

    /// Does something with an engine that has caught up, and what is free on its GPU.
    fn with_engine(&self, name: &ContainerName, work: impl FnOnce(&mut Running, u64)) {
        let room = self.room_of(name);
        let mut state = self.state();
        let running = state.engine_of(name).unwrap_or_else(|| panic!("{name} has no engine"));
        work(running, room);
    }

    /// Returns what is free on the GPU of an engine; all there is, where its memory is not known.
    fn room_of(&self, name: &ContainerName) -> u64 {
        let inventory = self.gpus_now();
        let gpu = self.state().engines.get(name).map(|running| gpu_of(&running.engine));
        let gpu = inventory.gpus.iter().find(|known| Some(&known.id) == gpu.as_ref());
        let memory = gpu.and_then(|gpu| gpu.memory.as_ref());
        memory.map_or(u64::MAX, |memory| memory.total.0.saturating_sub(memory.used.0))
    }

    /// Returns why an engine does not answer; nothing: it does.
    fn silence(&self, name: &ContainerName, offload: &Offload) -> Option<String> {
        let mut state = self.state();
        let is_active =
            state.containers.get(name).is_some_and(|container| container.active() == ActiveState::Active);
        if !is_active {
            return Some("the container does not run".to_owned());
        }
        match state.engine_of(name) {
            None => Some("connection refused".to_owned()),
            Some(running) if running.engine.kind != offload.engine => {
                Some("it answers, but not as this engine does".to_owned())
            }
            Some(running) => running.engine.hangs.then(|| "no answer in time".to_owned()),
        }
    }

    /// As `silence`; one that answers nothing takes all of the time for that.
    async fn silence_within(&self, name: &ContainerName, offload: &Offload, limit: Duration) -> Option<String> {
        tokio::task::yield_now().await;
        let silence = self.silence(name, offload);
        let hangs = self.state().engines.get(name).is_some_and(|running| running.engine.hangs);
        if silence.is_some() && hangs {
            tokio::time::sleep(limit).await;
        }
        silence
    }

    /// Waits until a model can be loaded anew: a request that is under way finishes first.
    async fn until_idle(&self, name: &ContainerName, model: &str, setting: Setting) -> Result<(), String> {
        let end = Instant::now() + LOAD_LIMIT;
        loop {
            let is_in_the_way = self.state().engine_of(name).is_some_and(|running| {
                let mut loaded = running.loaded.iter();
                loaded.any(|loaded| loaded.name == model && loaded.is_busy && loaded.setting != setting)
            });
            if !is_in_the_way {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err("no answer in time".to_owned());
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    pub(super) async fn look_at_engine_of(&self, name: &ContainerName, offload: &Offload) -> EngineSeen {
        if let Some(running) = self.state().engines.get_mut(name) {
            running.calls.looks += 1;
        }
        if let Some(why) = self.silence_within(name, offload, LOOK_LIMIT).await {
            return EngineSeen::Silent(why);
        }
        match self.state().engine_of(name) {
            Some(running) => EngineSeen::Answers(running.view()),
            None => EngineSeen::Silent("connection refused".to_owned()),
        }
    }

    pub(super) async fn show_model_of(
        &self,
        name: &ContainerName,
        offload: &Offload,
        model: &str,
    ) -> Result<Header, StepError> {
        let failed = |cause: &str| engine_error(name, offload.engine, &format!("show {model}"), cause);
        if let Some(running) = self.state().engines.get_mut(name) {
            running.calls.shown.push(model.to_owned());
        }
        if let Some(why) = self.silence_within(name, offload, SHOW_LIMIT).await {
            return Err(failed(&why));
        }
        let state = self.state();
        let is_it = |known: &str| offload.engine.is_same_model(known, model);
        let models = state.engines.get(name).map(|running| &running.engine.models);
        let known = models.and_then(|models| models.iter().find(|(known, _)| is_it(known)));
        let known = known.map(|(_, model)| model);
        let known = known.ok_or_else(|| failed(&format!("model '{model}' not found")))?;
        if known.is_told { Ok(known.header(model)) } else { Err(failed("this version does not tell tensors")) }
    }

    pub(super) async fn change_model_of(
        &self,
        name: &ContainerName,
        offload: &Offload,
        step: &Step,
    ) -> Result<(), StepError> {
        let asked = crate::host::engine::words_of(step);
        let failed = |cause: &str| engine_error(name, offload.engine, &asked, cause);
        if let Some(running) = self.state().engines.get_mut(name) {
            running.calls.steps.push(step.clone());
        }
        if let Some(why) = self.silence_within(name, offload, LOAD_LIMIT).await {
            return Err(failed(&why));
        }
        let (refuses, is_multi, load_time, keep_alive) = {
            let state = self.state();
            let Some(running) = state.engines.get(name) else { return Err(failed("connection refused")) };
            let engine = &running.engine;
            (engine.refuses.clone(), engine.is_multi, engine.load_time, engine.keep_alive)
        };
        if let Some(why) = refuses {
            return Err(failed(&why));
        }
        if !is_multi {
            return Err(failed("it has one model, as long as it runs"));
        }
        match step {
            Step::Unload { model } => {
                let mut state = self.state();
                let running = state.engine_of(name).ok_or_else(|| failed("connection refused"))?;
                if !running.engine.models.contains_key(model) {
                    return Err(failed(&format!("model '{model}' not found")));
                }
                if let Some(loaded) = running.loaded.iter_mut().find(|loaded| loaded.name == *model) {
                    loaded.is_to_go = true;
                }
                // Whatever is idle goes at once.
                let _caught_up = state.engine_of(name);
                Ok(())
            }
            Step::Load { model, setting, keep } => {
                let end = Instant::now() + LOAD_LIMIT;
                self.until_idle(name, model, *setting).await.map_err(|why| failed(&why))?;
                let loaded = tokio::time::timeout_at(end, tokio::time::sleep(load_time)).await;
                // Who asked is gone, and so is the load.
                loaded.map_err(|_late| failed("no answer in time"))?;
                let idle = offload.idle_unload.or(keep_alive);
                let stays = idle.filter(|_| !keep);
                let room = self.room_of(name);
                let mut state = self.state();
                let running = state.engine_of(name).ok_or_else(|| failed("the container ended"))?;
                running.load(model, *setting, stays, room).map_err(|why| failed(&why))
            }
        }
    }
}

impl State {
    /// Returns the engine of a container as it is now.
    pub(super) fn engine_of(&mut self, name: &ContainerName) -> Option<&mut Running> {
        let container = self.containers.get(name);
        let alive = container.filter(|container| container.active().has_processes());
        let instance = alive.and_then(|container: &Simulated| container.seen.invocation);
        let running = self.engines.get_mut(name)?;
        running.catch_up(instance);
        Some(running)
    }

    /// Returns what the engine of a container uses of a GPU now.
    pub(super) fn vram_of_engine(&mut self, name: &ContainerName) -> Option<(GpuId, Bytes)> {
        let running = self.engine_of(name)?;
        let bytes = running.vram();
        (bytes > 0).then(|| (gpu_of(&running.engine), Bytes(bytes)))
    }
}

fn gpu_of(engine: &FakeEngine) -> GpuId {
    engine.gpu.parse().unwrap_or_else(|_| panic!("{} names no GPU", engine.gpu))
}

#[cfg(test)]
mod tests;
