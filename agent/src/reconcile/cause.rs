//! Who caused what happens to a service: whoever asked for it last, until it is as asked; else the agent, and why.
//!
//! Memory that may be lost: what a restarted agent finds, it says it found.

use std::collections::{BTreeMap, BTreeSet};

use nixmox_api::Caller;

/// The name by which the agent goes where it acts by itself.
const AGENT: &str = "agent";

/// Who caused something, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// A user's name, or `agent`.
    pub(super) by: String,
    /// What a user asked for: `up`, `down`, `rollback`, `start`, `stop`, `restart`; of the agent: `rollback`, `boot`,
    /// `agent-start`, `crash`, `gpu`, `health`, `memory`, `drift`, `back-off`; empty: nothing of that.
    pub(super) why: &'static str,
    /// The number of the last event before the request, or before the start of the agent: what has the same came of one
    /// request. 0: of none.
    pub(super) request: u64,
}

/// What is not as asked yet.
#[derive(Debug)]
pub(super) struct Causes {
    open: BTreeMap<String, Cause>,
    /// Who made the current generation.
    generation: Cause,
    /// What an agent that has just started says of what it finds; `None` once it has looked.
    start: Option<Cause>,
    /// Who is not given the GPUs that it asks for, now.
    without_gpus: BTreeSet<String>,
}

impl Causes {
    /// Returns those of an agent that has just started.
    pub(super) fn new(first_of_boot: bool, number: u64) -> Self {
        let start = if first_of_boot { "boot" } else { "agent-start" };
        let start = Cause { request: number, ..by_agent(start) };
        Self { open: BTreeMap::new(), generation: start.clone(), start: Some(start), without_gpus: BTreeSet::new() }
    }

    /// Takes note of a request about these services.
    pub(super) fn asked<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        caller: &Caller,
        verb: &'static str,
        number: u64,
    ) {
        let by = if caller.name == super::trials::AGENT { AGENT } else { caller.name.as_str() };
        let cause = Cause { by: by.to_owned(), why: verb, request: number };
        self.open.extend(names.into_iter().map(|name| (name.to_owned(), cause.clone())));
        self.generation = cause;
    }

    /// Returns who caused an event, and keeps in mind what that leads to. The host's has no service.
    pub(super) fn of(&mut self, service: &str, event: &str) -> Cause {
        if service.is_empty() {
            let start = self.start.clone();
            let asked = matches!(event, "generation" | "rollback").then(|| self.generation.clone());
            return asked.or(start).unwrap_or_else(|| by_agent(event_cause(event)));
        }
        let cause = match (self.open.get(service), &self.start) {
            (Some(cause), _) => cause.clone(),
            (None, Some(start)) => start.clone(),
            (None, None) if matches!(event, "stopping" | "waiting") && self.without_gpus.contains(service) => {
                by_agent("gpu")
            }
            (None, None) => by_agent(event_cause(event)),
        };
        let next = match event {
            "failed" => Some(Cause { request: cause.request, ..by_agent("back-off") }),
            "drift" | "unhealthy" if !self.open.contains_key(service) => Some(cause.clone()),
            _ if self.start.is_some() => Some(cause.clone()),
            _ => None,
        };
        if let Some(next) = next {
            self.open.insert(service.to_owned(), next);
        }
        cause
    }

    /// Takes note of who is not given the GPUs that it asks for: it is stopped, or waits, for no other reason.
    pub(super) fn see_without_gpus(&mut self, names: BTreeSet<String>) {
        self.without_gpus = names;
    }

    /// Forgets what is about services that are as asked, or gone: all but these.
    pub(super) fn settle(&mut self, open: &BTreeSet<String>) {
        self.start = None;
        self.open.retain(|name, _| open.contains(name));
    }
}

fn by_agent(why: &'static str) -> Cause {
    Cause { by: AGENT.to_owned(), why, request: 0 }
}

/// Returns what an event of which nobody asked comes from.
fn event_cause(event: &str) -> &'static str {
    match event {
        "failed" | "waiting" => "crash",
        "unhealthy" => "health",
        "oom" => "memory",
        "drift" => "drift",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(causes: &mut Causes, event: &str) -> String {
        let Cause { by, why, .. } = causes.of("web", event);
        format!("{by} {why}").trim().to_owned()
    }

    fn settle(causes: &mut Causes, settled: &[&str]) {
        let open = ["web"].into_iter().filter(|name| !settled.contains(name)).map(str::to_owned);
        causes.settle(&open.collect());
    }

    fn anna() -> Caller {
        Caller { uid: 1000, name: "anna".to_owned() }
    }

    #[test]
    fn who_asked_causes_all_until_it_is_as_asked() {
        let mut causes = Causes::new(false, 3);
        settle(&mut causes, &["web"]);
        causes.asked(["web"], &anna(), "up", 7);
        for event in ["stopping", "starting", "started"] {
            assert_eq!(told(&mut causes, event), "anna up");
            settle(&mut causes, &[]);
        }
        assert_eq!(told(&mut causes, "healthy"), "anna up");
        settle(&mut causes, &["web"]);
        assert_eq!(told(&mut causes, "unhealthy"), "agent health");
        let generation = causes.of("", "generation");
        assert_eq!((generation.by.as_str(), generation.request), ("anna", 7));
    }

    #[test]
    fn what_died_is_started_again_by_the_agent() {
        let mut causes = Causes::new(false, 3);
        settle(&mut causes, &["web"]);
        assert_eq!(told(&mut causes, "failed"), "agent crash");
        settle(&mut causes, &[]);
        assert_eq!(told(&mut causes, "starting"), "agent back-off");
        settle(&mut causes, &["web"]);
        assert_eq!(told(&mut causes, "drift"), "agent drift");
        settle(&mut causes, &[]);
        assert_eq!(told(&mut causes, "stopping"), "agent drift");
        causes.asked(["web"], &anna(), "start", 9);
        assert_eq!(told(&mut causes, "failed"), "anna start");
        let again = causes.of("web", "starting");
        assert_eq!(
            (again.by.as_str(), again.why, again.request),
            ("agent", "back-off", 9),
            "it is not hers, and came of it"
        );
    }

    #[test]
    fn who_gives_way_on_a_gpu_did_not_crash() {
        let mut causes = Causes::new(false, 3);
        settle(&mut causes, &["web"]);
        causes.see_without_gpus(BTreeSet::from(["web".to_owned()]));
        assert_eq!([told(&mut causes, "stopping"), told(&mut causes, "waiting")], ["agent gpu"; 2]);
        assert_eq!(told(&mut causes, "failed"), "agent crash");
        causes = Causes::new(false, 3);
        settle(&mut causes, &["web"]);
        assert_eq!(told(&mut causes, "waiting"), "agent crash");
    }

    #[test]
    fn an_agent_that_starts_says_so_of_what_it_finds_and_brings_up() {
        let mut causes = Causes::new(true, 3);
        assert_eq!(told(&mut causes, "waiting"), "agent boot");
        settle(&mut causes, &[]);
        assert_eq!(told(&mut causes, "healthy"), "agent boot");
        settle(&mut causes, &["web"]);
        assert_eq!(told(&mut causes, "stopping"), "agent");
        assert_eq!(told(&mut Causes::new(false, 3), "healthy"), "agent agent-start");
    }
}
