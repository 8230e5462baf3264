//! Runners: loaded one at a time, used by several requests, ended by timers and by each other.
//!
//! ```text
//!  request ─ usable runner? ─yes─▶ used ─▶ last request ends: its time to stay begins ─▶ due ─▶ unloaded ─late─▶ memory is free
//!                │no                                                                       ▲
//!                ▼ one at a time                                                           │
//!          other options, too many, or no room: another one is due ────────────────────────┘ waited for, then from the beginning
//! ```
//!
//! What `keep_alive: 0` asks for is answered at once: a busy runner is due when its last request ends.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::gpus::{Gpu, Gpus, Held};
use crate::library::Model;
use crate::place::{Placed, place};

/// How long the next load waits at most for the memory of what was unloaded.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
/// Steps that are kept.
const STEPS_MAX: usize = 4096;

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Runners that were started.
    pub loads: u64,
    /// Those that ended.
    pub unloads: u64,
    /// Those that ended because a request wanted other options.
    pub reloads: u64,
    /// Those that ended to make room for another.
    pub evictions: u64,
    /// Loads that failed for want of memory.
    pub failures: u64,
    /// Requests that were computed to their end.
    pub requests: u64,
}

/// How a model is to be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Layers on GPUs; `None` or below zero: as many as fit.
    pub(crate) num_gpu: Option<i64>,
    /// Tokens of context of one request; `None`: the engine's own.
    pub(crate) num_ctx: Option<u64>,
    /// How long it stays; `None`: as before, or as the environment says.
    pub(crate) keep_alive: Option<Duration>,
}

/// Why a request came to nothing: a status and a text.
pub(crate) type Refused = (u16, String);

/// What `/api/ps` tells of a runner.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    pub(crate) placed: Placed,
    pub(crate) context: u64,
    pub(crate) expires: SystemTime,
    /// Told by nothing but `/test/runners`.
    pub(crate) requests: usize,
}

/// The simulator.
pub struct Engine {
    config: Config,
    gpus: Box<dyn Gpus>,
    /// The program whose process stands for a runner, with its arguments; empty: this process.
    runner: Vec<String>,
    context: OnceLock<u64>,
    /// Whether it finds no GPUs, as after a discovery that took too long.
    is_blind: AtomicBool,
    begun: Instant,
    state: Mutex<State>,
    /// Something changed.
    changed: Condvar,
    /// Held by the one request that loads.
    loading: Mutex<()>,
}

#[derive(Default)]
struct State {
    runners: BTreeMap<String, Runner>,
    /// Of what was unloaded, until the driver has it back, by runner.
    leaving: BTreeMap<u64, Vec<Held>>,
    counters: Counters,
    steps: Vec<String>,
    last: u64,
}

struct Runner {
    id: u64,
    model: Model,
    num_gpu: i64,
    num_ctx: u64,
    is_context_auto: bool,
    is_loading: bool,
    placed: Placed,
    process: Option<Child>,
    held: Vec<Held>,
    requests: usize,
    stays: Duration,
    /// When it is unloaded; `None` while it is used or loaded.
    due: Option<Instant>,
    /// When it was to be unloaded as its last request ended; `None`: none has yet.
    expires: Option<SystemTime>,
}

/// A use of a runner; it ends with this.
pub(crate) struct Used {
    engine: Arc<Engine>,
    key: String,
    id: u64,
    /// Whether all of the model is on GPUs.
    pub(crate) is_whole: bool,
}

impl Engine {
    /// Starts a simulator. Its runners are processes of this program, which must do nothing and end when they are killed; where there is none, what they
    /// hold is this process's.
    pub fn start(config: Config, gpus: Box<dyn Gpus>, runner: &[&str]) -> Arc<Self> {
        let engine = Arc::new(Self {
            config,
            gpus,
            runner: runner.iter().map(|word| (*word).to_owned()).collect(),
            context: OnceLock::new(),
            is_blind: AtomicBool::new(false),
            begun: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
            loading: Mutex::default(),
        });
        let timers = Arc::clone(&engine);
        thread::spawn(move || timers.unload_what_is_due());
        engine
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how often things happened.
    pub fn counters(&self) -> Counters {
        self.state().counters
    }

    /// Returns what happened, oldest first: `SECONDS WHAT MODEL …`.
    pub(crate) fn steps(&self) -> Vec<String> {
        self.state().steps.clone()
    }

    /// Lets it find no GPUs from now on, or find them again; what is loaded stays where it is.
    pub fn blind(&self, is_blind: bool) {
        self.is_blind.store(is_blind, Ordering::Relaxed);
        self.note(&mut self.state(), if is_blind { "finds no GPUs" } else { "finds GPUs" });
    }

    /// Returns the runners, as `/api/ps` orders them.
    pub(crate) fn loaded(&self) -> Vec<Loaded> {
        let state = self.state();
        let loaded = |runner: &Runner| Loaded {
            model: runner.model.clone(),
            placed: runner.placed.clone(),
            context: runner.num_ctx,
            expires: runner.expires.unwrap_or_else(|| SystemTime::now() + runner.stays),
            requests: runner.requests,
        };
        let mut all: Vec<_> = state.runners.values().map(loaded).collect();
        all.sort_by_key(|loaded| std::cmp::Reverse(loaded.expires));
        all
    }

    /// Marks a model: it is unloaded as soon as nobody uses it. Returns at once.
    pub(crate) fn expire(&self, model: &Model) {
        let mut state = self.state();
        if let Some(runner) = state.runners.get_mut(&model.name) {
            runner.expire();
            let busy = runner.requests;
            self.note(&mut state, &format!("unload {} asked, {busy} requests under way", model.name));
        }
        self.changed.notify_all();
    }

    /// Returns a use of a model's runner, once it is loaded as asked.
    pub(crate) fn schedule(self: &Arc<Self>, model: &Model, ask: Ask) -> Result<Used, Refused> {
        if let Some(used) = self.try_use(model, ask) {
            return Ok(used);
        }
        // Whoever wants another runner waits behind who loads, and looks again then.
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_tried_alone = false;
        loop {
            if let Some(used) = self.try_use(model, ask) {
                return Ok(used);
            }
            let (is_there, others) = {
                let state = self.state();
                (state.runners.contains_key(&model.name), state.runners.len())
            };
            if is_there {
                self.state().counters.reloads += 1;
                self.end_and_wait(&model.name, "reload");
                continue;
            }
            let gpus = if self.is_blind.load(Ordering::Relaxed) { Vec::new() } else { self.gpus.look() };
            if others >= self.config.models_max(gpus.len()) {
                self.evict_one();
                continue;
            }
            let context =
                ask.num_ctx.unwrap_or_else(|| self.default_context()).clamp(4, model.train_context.max(4));
            let tokens = context * self.config.parallel();
            let layers = ask.num_gpu.and_then(|layers| u64::try_from(layers).ok());
            let placed = place(model, tokens, layers, &gpus, self.config.margin());
            match placed {
                Some(placed)
                    if others > 0 && layers.is_none() && self.has_no_room_beside(model, &placed, &gpus) =>
                {
                    self.evict_one();
                }
                Some(placed) => return Ok(self.load(model, ask, context, placed)),
                None if others > 0 && !has_tried_alone => {
                    has_tried_alone = true;
                    while !self.state().runners.is_empty() {
                        self.evict_one();
                    }
                }
                None => {
                    let mut state = self.state();
                    state.counters.failures += 1;
                    self.note(&mut state, &format!("out of memory {} with {layers:?} layers", model.name));
                    return Err((
                        500,
                        "llama runner process has terminated: cudaMalloc failed: out of memory".to_owned(),
                    ));
                }
            }
        }
    }

    /// Whether others have to go first: a model that is not alone is to be whole.
    fn has_no_room_beside(&self, model: &Model, placed: &Placed, gpus: &[Gpu]) -> bool {
        if gpus.is_empty() {
            return false;
        }
        let free: u64 = gpus.iter().map(|gpu| gpu.free).sum();
        // Before it is started at all, an estimate against four fifths of what is free.
        placed.layers < model.layers() || self.config.fits() && placed.size > free / 100 * 80
    }

    /// The context of requests that ask for none: found out once.
    fn default_context(&self) -> u64 {
        let all = || self.gpus.look().iter().map(|gpu| gpu.total).sum();
        *self.context.get_or_init(|| self.config.context(all()))
    }

    fn try_use(self: &Arc<Self>, model: &Model, ask: Ask) -> Option<Used> {
        let context = self.default_context();
        let is_loading = |state: &mut State| state.runners.get(&model.name).is_some_and(|runner| runner.is_loading);
        let mut state = self.changed.wait_while(self.state(), is_loading).unwrap_or_else(PoisonError::into_inner);
        let runner = state.runners.get_mut(&model.name)?;
        if runner.needs_reload(ask, context) {
            return None;
        }
        runner.requests += 1;
        // What was told before is told until the request ends.
        runner.due = None;
        runner.stays = ask.keep_alive.unwrap_or(runner.stays);
        let is_whole = runner.placed.layers == runner.model.layers();
        Some(Used { engine: Arc::clone(self), key: model.name.clone(), id: runner.id, is_whole })
    }

    fn load(self: &Arc<Self>, model: &Model, ask: Ask, context: u64, placed: Placed) -> Used {
        let process = self.runner.split_first().and_then(|(program, arguments)| {
            Command::new(program).args(arguments).stdin(Stdio::null()).spawn().ok()
        });
        let pid = process.as_ref().map_or(std::process::id(), Child::id);
        let held = placed.gpus.iter().map(|(gpu, bytes)| Held { pid, gpu: *gpu, bytes: *bytes }).collect();
        let is_whole = placed.layers == model.layers();
        let mut state = self.state();
        state.last += 1;
        let id = state.last;
        self.note(
            &mut state,
            &format!("load {} {}/{} layers, {context} tokens", model.name, placed.layers, model.layers()),
        );
        state.counters.loads += 1;
        let runner = Runner {
            id,
            model: model.clone(),
            num_gpu: ask.num_gpu.unwrap_or(-1).max(-1),
            num_ctx: context,
            is_context_auto: ask.num_ctx.is_none(),
            is_loading: true,
            placed,
            process,
            held,
            requests: 1,
            stays: ask.keep_alive.unwrap_or_else(|| self.config.keep_alive()),
            due: None,
            expires: None,
        };
        state.runners.insert(model.name.clone(), runner);
        self.tell(&state);
        drop(state);
        self.changed.notify_all();
        thread::sleep(self.config.load_takes);
        if let Some(runner) = self.state().runners.get_mut(&model.name) {
            runner.is_loading = false;
        }
        self.changed.notify_all();
        Used { engine: Arc::clone(self), key: model.name.clone(), id, is_whole }
    }

    /// Ends the runner that is missed least: an idle one before others, of those the one with the shortest time to stay.
    fn evict_one(&self) {
        let key = {
            let mut state = self.state();
            let runners = state.runners.iter();
            let key = runners
                .min_by_key(|(key, runner)| (runner.requests > 0, runner.stays, *key))
                .map(|(key, _)| key.clone());
            state.counters.evictions += u64::from(key.is_some());
            key
        };
        if let Some(key) = key {
            self.end_and_wait(&key, "evict");
        }
    }

    /// Lets a runner end once its requests have, and waits for that, and a while for its memory.
    fn end_and_wait(&self, key: &str, why: &str) {
        let mut state = self.state();
        let Some(runner) = state.runners.get_mut(key) else { return };
        let id = runner.id;
        runner.expire();
        self.note(&mut state, &format!("{why} {key}"));
        self.changed.notify_all();
        while state.runners.get(key).is_some_and(|runner| runner.id == id) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let is_leaving = |state: &mut State| state.leaving.contains_key(&id);
        let waited = self.changed.wait_timeout_while(state, RECOVERY_LIMIT, is_leaving);
        drop(waited);
    }

    /// Unloads one runner after another, when it is due, for ever.
    fn unload_what_is_due(self: Arc<Self>) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let next = state.runners.iter().filter_map(|(key, runner)| Some((runner.due?, key))).min();
            match next.map(|(due, key)| (due, key.clone())) {
                Some((due, key)) if due <= now => {
                    let Some(runner) = state.runners.remove(&key) else { continue };
                    state.counters.unloads += 1;
                    self.note(&mut state, &format!("unloaded {key}"));
                    let id = runner.id;
                    state.leaving.insert(id, runner.held.clone());
                    let engine = Arc::clone(&self);
                    thread::spawn(move || engine.give_back(runner));
                    self.changed.notify_all();
                    let is_leaving = |state: &mut State| state.leaving.contains_key(&id);
                    let waited = self.changed.wait_timeout_while(state, RECOVERY_LIMIT, is_leaving);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Some((due, _)) => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Gives back what an unloaded runner held, as late as it takes.
    fn give_back(&self, runner: Runner) {
        thread::sleep(self.config.memory_returns);
        if let Some(mut process) = runner.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        let mut state = self.state();
        state.leaving.remove(&runner.id);
        self.note(&mut state, &format!("memory of {} is back", runner.model.name));
        self.tell(&state);
        drop(state);
        self.changed.notify_all();
    }

    fn finish(&self, key: &str, id: u64) {
        let mut state = self.state();
        state.counters.requests += 1;
        if let Some(runner) = state.runners.get_mut(key).filter(|runner| runner.id == id) {
            runner.requests -= 1;
            if runner.requests == 0 {
                runner.due = Some(Instant::now() + runner.stays);
                runner.expires = Some(SystemTime::now() + runner.stays);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn tell(&self, state: &State) {
        let held: Vec<Held> = state
            .runners
            .values()
            .flat_map(|runner| &runner.held)
            .chain(state.leaving.values().flatten())
            .copied()
            .collect();
        self.gpus.hold(&held);
    }

    fn note(&self, state: &mut State, what: &str) {
        if state.steps.len() < STEPS_MAX {
            state.steps.push(format!("{:.2} {what}", self.begun.elapsed().as_secs_f64()));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// Whether a request wants what this runner is not; `context` is that of requests that ask for none.
    fn needs_reload(&self, ask: Ask, context: u64) -> bool {
        // Below zero, as where nothing is asked for, never forces one, whatever there is.
        let other_layers = ask.num_gpu.is_some_and(|layers| layers >= 0 && layers != self.num_gpu);
        let wanted = ask.num_ctx.unwrap_or(context).clamp(4, self.model.train_context.max(4));
        let is_auto = ask.num_ctx.is_none() && self.is_context_auto;
        other_layers || !is_auto && wanted != self.num_ctx
    }

    fn expire(&mut self) {
        self.stays = Duration::ZERO;
        self.expires = Some(SystemTime::now());
        if self.requests == 0 {
            self.due = Some(Instant::now());
        }
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.engine.finish(&self.key, self.id);
    }
}
