//! The rules that every decision has to keep, and how each is checked.

use std::collections::BTreeMap;

use super::super::memory::{LOAD_BURST, LOAD_EVERY};
use super::super::relief::FAILURES_MAX;
use super::super::simulator::{MIB, World};
use super::super::under_way::RETURN_MAX;
use super::super::{Layers, Setting, Step, Verdict};
use crate::model::{Bytes, Engine};

/// How long more may be used than may be while it is said to give back: requests take up to 40 s, loads up to 40 s, memory comes back 9 s
/// later, steps get lost, and three models do so one after the other.
const OVER_MAX: u64 = 400;
/// What a load may be repeated after, without a word from the engine.
const REPEAT: u64 = 60;

/// What must be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A step names a model that there is.
    Names,
    /// Nothing is unloaded for nothing.
    Needless,
    /// What is on its way back is waited for.
    Confirmed,
    /// What is least needed goes first.
    Order,
    /// No request is cut short.
    Busy,
    /// Memory comes back in bounded time, or it says that it cannot.
    Bounded,
    /// Loads of a model are few.
    Loads,
    /// No step is repeated without an answer.
    Repeats,
    /// Reasons are told in one line.
    Words,
    /// A router loads and unloads models as a whole.
    Whole,
    /// What is decided depends on the scene alone.
    Deterministic,
    /// In the end what is to be kept is loaded as well as it fits.
    Recovers,
}

#[derive(Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) text: String,
}

pub(super) fn broken<T>(rule: Rule, text: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { rule, text: text.into() })
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Watch {
    /// Loads by model.
    loads: BTreeMap<String, Vec<u64>>,
    pub(super) last: Option<(Step, u64)>,
    /// What was reported or seen since.
    pub(super) is_answered: bool,
    over_since: Option<u64>,
}

fn held(world: &World, name: &str) -> u64 {
    world.running.get(name).map_or(0, |runner| {
        if runner.loads_until > world.now { 0 } else { world.counted(name, runner.layers, runner.context) }
    })
}

fn is_kept(world: &World, name: &str) -> bool {
    world.offload.keep.iter().any(|kept| kept == name)
}

impl Watch {
    /// Checks a decision before it is carried out.
    pub(super) fn check(&mut self, world: &World, verdict: &Verdict) -> Result<(), Violation> {
        let told = world.told().1;
        let over = world.budget.map_or(0, |budget| told.saturating_sub(budget));
        // While nobody waits, a little is nothing.
        let slack = world.budget.map_or(0, |budget| (budget / 50).max(64 * MIB));
        let excess = if world.pressure.is_empty() && over <= slack { 0 } else { over };
        self.bounded(world, verdict)?;
        let Some(step) = &verdict.step else { return Ok(()) };
        let name = step.model();
        if !world.models.contains_key(name) {
            return broken(Rule::Names, format!("{step:?}"));
        }
        if verdict.why.is_empty() || verdict.why.contains('\n') || !verdict.why.contains(name) {
            return broken(Rule::Words, format!("{step:?}: {}", verdict.why));
        }
        if !world.is_multi {
            return broken(Rule::Names, "a server with a single model is asked for another");
        }
        self.repeats(world, step)?;
        if let Step::Load { setting, .. } = step {
            self.loads(world, name)?;
            let as_its_preset_says = Setting { layers: Layers::Auto, context: None };
            if world.offload.engine == Engine::LlamaServer && *setting != as_its_preset_says {
                return broken(Rule::Whole, format!("{step:?} for a router"));
            }
        }
        if world.offload.engine == Engine::LlamaServer
            && world
                .running
                .get(name)
                .is_some_and(|runner| runner.busy_until > world.now && runner.loads_until <= world.now)
        {
            return broken(Rule::Busy, format!("{step:?}"));
        }
        if world.tells_driver && excess == 0 {
            return needless(world, step);
        }
        if world.tells_driver && excess > 0 {
            given(world, step, excess)?;
        }
        Ok(())
    }

    fn bounded(&mut self, world: &World, verdict: &Verdict) -> Result<(), Violation> {
        let is_over = world.budget.is_some_and(|budget| world.used() > budget) && !world.pressure.is_empty();
        let is_busy = world.running.values().any(|runner| runner.busy_until > world.now);
        let may_wait = is_busy && world.offload.request_grace.is_none();
        let is_over = is_over && world.tells_driver && verdict.is_elastic && !may_wait;
        self.over_since = is_over.then(|| self.over_since.unwrap_or(world.now));
        if self.over_since.is_some_and(|since| world.now - since > OVER_MAX) {
            return broken(
                Rule::Bounded,
                format!("{} for {OVER_MAX} s: {}", Bytes(world.used()).roughly(), verdict.why),
            );
        }
        if verdict.is_elastic && !world.is_multi && !is_busy && !world.is_silent {
            return broken(Rule::Bounded, "a server with a single model gives nothing back");
        }
        Ok(())
    }

    fn repeats(&mut self, world: &World, step: &Step) -> Result<(), Violation> {
        let is_answered = std::mem::take(&mut self.is_answered);
        let last = self.last.replace((step.clone(), world.now));
        let Some((last, at)) = last.filter(|(last, _)| last == step) else { return Ok(()) };
        let is_open = match &last {
            Step::Unload { model } => world.running.contains_key(model),
            Step::Load { .. } => false,
        };
        if world.now - at < REPEAT && is_open && !is_answered {
            return broken(Rule::Repeats, format!("{step:?} after {} s", world.now - at));
        }
        Ok(())
    }

    fn loads(&mut self, world: &World, name: &str) -> Result<(), Violation> {
        let loads = self.loads.entry(name.to_owned()).or_default();
        loads.push(world.now);
        for window in [LOAD_EVERY.as_secs(), 3600] {
            let most = u64::from(LOAD_BURST) + window / LOAD_EVERY.as_secs();
            let count = loads.iter().filter(|at| world.now - **at < window).count() as u64;
            if count > most {
                return broken(Rule::Loads, format!("{name}: {count} within {window} s"));
            }
        }
        Ok(())
    }
}

/// Checks that what is done while nothing is asked for takes nothing away.
fn needless(world: &World, step: &Step) -> Result<(), Violation> {
    let Step::Unload { model } = step else { return Ok(()) };
    let used_at = world.running.get(model).map_or(0, |runner| runner.used_at);
    let idle = world.offload.idle_unload.map_or(u64::MAX, |idle| idle.as_secs());
    // Ollama does not say who is asked just now, and lets it finish.
    if !is_kept(world, model) && world.running.get(model).is_some_and(|runner| runner.busy_until > world.now) {
        return Ok(());
    }
    if is_kept(world, model) || world.now.saturating_sub(used_at) < idle {
        return broken(Rule::Needless, format!("{step:?}"));
    }
    Ok(())
}

/// Checks what is asked to give memory back.
fn given(world: &World, step: &Step, excess: u64) -> Result<(), Violation> {
    let on_its_way: u64 = world
        .leaving
        .iter()
        .filter(|(at, _)| *at <= world.now + RETURN_MAX.as_secs() - 2)
        .map(|(_, bytes)| bytes)
        .sum();
    let name = step.model();
    let is_reload = matches!(step, Step::Load { .. });
    // The driver's figures are late.
    let still = world.used().saturating_sub(world.budget.unwrap_or(u64::MAX)).min(excess);
    // What a model had that is being loaded anew is taken again.
    let is_theirs = world.now - world.expired_at <= 2 * RETURN_MAX.as_secs();
    let is_loading = is_theirs || world.running.values().any(|runner| runner.loads_until > world.now);
    if on_its_way > 0 && on_its_way >= still && still > 0 && !is_loading {
        return broken(Rule::Confirmed, format!("{step:?}: {} comes back by itself", Bytes(on_its_way).roughly()));
    }
    if is_reload && !world.running.contains_key(name) {
        return broken(Rule::Needless, format!("{step:?} while memory is asked for"));
    }
    // Figures of another moment say nothing of the order.
    if world.used() != world.told().1 || world.memory.is_busy_with().is_some() {
        return Ok(());
    }
    let is_idle = |other: &&String| {
        let runner = &world.running[*other];
        // One that was asked, and is not seen to do it, may be busy.
        // Nor can one whose unloads fail.
        let known = world.memory.known(other);
        if known.asked_since.is_some() || known.failures >= FAILURES_MAX {
            return false;
        }
        runner.loads_until.max(runner.busy_until) <= world.now && **other != name && held(world, other) > 0
    };
    let others: Vec<&String> =
        world.running.keys().filter(|other| !is_kept(world, other)).filter(is_idle).collect();
    if is_kept(world, name) && !others.is_empty() {
        return broken(Rule::Order, format!("{step:?} before {others:?}"));
    }
    let sooner = |other: &&&String| {
        let (used_at, own) = (world.running[**other].used_at, world.running[name].used_at);
        let is_server = world.offload.engine == Engine::LlamaServer;
        // A server tells of requests while they last, and what it has is estimated.
        let is_known = !is_server || used_at.min(own) > world.silent_at;
        let enough = if is_server { excess / 9 * 10 } else { excess };
        // What was seen within one round is as old.
        is_known && used_at + 4 < own && held(world, other) >= enough
    };
    if world.running.contains_key(name)
        && world.running[name].busy_until + 4 < world.now
        && let Some(other) = others.iter().find(sooner)
    {
        return broken(Rule::Order, format!("{step:?} before {other}, which was asked longer ago and is enough"));
    }
    Ok(())
}

/// Checks that what is to be kept is loaded as a whole where there is room for it beside the others.
pub(super) fn recovered(world: &World) -> Result<(), Violation> {
    if !world.is_multi {
        return Ok(());
    }
    let vram = world.share.vram.map_or(0, |vram| vram.0);
    for name in &world.offload.keep {
        let others = world.running.iter().filter(|(other, _)| *other != name);
        let others: u64 = others.map(|(other, runner)| world.takes(other, runner)).sum();
        let need = world.counted(name, 16, 32_768) + 200 * MIB;
        let runner = world.running.get(name);
        let is_whole = runner.is_some_and(|runner| runner.layers == 16 && runner.context == 32_768);
        // The estimate is wrong by 4 percent at most.
        if !is_whole && others + need <= vram / 100 * 94 {
            let (need, others) = (Bytes(need).roughly(), Bytes(others).roughly());
            return broken(
                Rule::Recovers,
                format!("{name}: {runner:?}, {need} beside {others} of {}", Bytes(vram).roughly()),
            );
        }
    }
    Ok(())
}
