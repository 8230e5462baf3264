//! The critical chain of the last `up` or boot: which services the whole waited for, and where their time went.
//!
//! Pure: events in, chain out. A service goes through stages, each an event that ends it:
//!
//! ```text
//! asked ── waits for what it needs ──▶ starting ── start job, guest boots ──▶ started ── asked how it is ──▶ healthy
//! ```
//!
//! The chain is followed backwards: from the service that was ready last, to the one of those that it needs whose
//! readiness let it start, and so on.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::journal::{Entry, Event};

/// What events say of one service, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Course {
    /// Its name.
    pub(crate) name: String,
    /// When its start began.
    pub(crate) starting: Option<u64>,
    /// When its guest was up.
    pub(crate) started: Option<u64>,
    /// When it was healthy, or completed.
    pub(crate) ready: Option<u64>,
    /// Whether a start failed meanwhile.
    pub(crate) failed: bool,
    /// What it needs, each with the condition.
    needs: Vec<(String, String)>,
}

/// What became of the last `up` or boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Analysis {
    /// Who asked, and for what.
    pub(crate) by: String,
    /// `up` or `boot`.
    pub(crate) cause: String,
    /// When it began, in microseconds since 1970.
    pub(crate) began: u64,
    /// When the last service of the chain was ready; `None`: it is not yet.
    pub(crate) ended: Option<u64>,
    /// The critical chain, first to last.
    pub(crate) chain: Vec<Course>,
    /// The other services, by when they were ready.
    pub(crate) others: Vec<Course>,
}

/// What a chain is made of: what brings up a whole. `restart` and `start` are about some of it.
const CAUSES: [&str; 2] = ["up", "boot"];

impl Course {
    /// Returns when it fulfilled a condition.
    fn fulfilled(&self, condition: &str) -> Option<u64> {
        if condition == "started" { self.started } else { self.ready }
    }

    /// Returns when it was as far as it came.
    pub(crate) fn last(&self) -> Option<u64> {
        self.ready.or(self.started).or(self.starting)
    }
}

/// Returns what the newest `up` or boot led to; `None`: none of these events is of one.
///
/// Events are in their order.
pub(crate) fn analyze(entries: &[Entry]) -> Option<Analysis> {
    let events: Vec<(u64, &Event)> =
        entries.iter().filter_map(|entry| Some((entry.at_usec, entry.event.as_ref()?))).collect();
    let is_first = |event: &Event| CAUSES.contains(&event.cause.as_str()) && event.word == "starting";
    let (_, last) = events.iter().rfind(|(_, event)| is_first(event))?;
    let of_it: Vec<_> = events.iter().filter(|(_, event)| event.request == last.request).collect();
    let began = of_it.first()?.0;
    let mut courses: BTreeMap<&str, Course> = BTreeMap::new();
    for (at, event) in of_it.iter().filter(|(_, event)| !event.service.is_empty()) {
        let course = courses.entry(&event.service).or_default();
        course.name.clone_from(&event.service);
        if !event.needs.is_empty() {
            course.needs.clone_from(&event.needs);
        }
        if course.ready.is_some() {
            continue;
        }
        match event.word.as_str() {
            "starting" => course.starting = course.starting.or(Some(*at)),
            "started" => course.started = Some(*at),
            "healthy" | "completed" => course.ready = Some(*at),
            "failed" | "unhealthy" => course.failed = true,
            _ => {}
        }
    }
    // What was not started was there already.
    courses.retain(|_, course| course.starting.is_some() || course.started.is_some() || course.failed);
    let mut chain = Vec::new();
    // What failed is why others are not ready, and what is not ready why the whole is not.
    let end = courses.values().max_by_key(|course| {
        let is_ready = course.ready.is_some();
        (!is_ready, !is_ready && course.failed, course.ready)
    });
    let mut next = end.cloned();
    while let Some(course) = next {
        let begins = course.starting.or(course.started).unwrap_or(u64::MAX);
        let gate = course.needs.iter().filter_map(|(name, condition)| {
            let needed = courses.get(name.as_str())?;
            Some((needed.fulfilled(condition), needed))
        });
        // The last that let it start; of a service that could not, what is not there yet.
        let gate = gate.max_by_key(|(at, _)| at.map_or(u64::MAX, |at| at.min(begins)));
        next = gate
            .map(|(_, needed)| needed.clone())
            .filter(|needed| !is_in(&chain, needed) && needed.name != course.name);
        chain.push(course);
    }
    chain.reverse();
    let mut others: Vec<Course> = courses.into_values().filter(|course| !is_in(&chain, course)).collect();
    others.sort_by_key(|course| (course.ready.unwrap_or(u64::MAX), course.name.clone()));
    let ended = chain.last().and_then(|course| course.ready);
    Some(Analysis { by: last.by.clone(), cause: last.cause.clone(), began, ended, chain, others })
}

fn is_in(chain: &[Course], course: &Course) -> bool {
    chain.iter().any(|other| other.name == course.name)
}
