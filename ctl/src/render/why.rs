//! Everything that is known about why a service is in the state it is in.

use nixmox_api::{GpuService, LastEnd, OomKills, ServiceState, ServiceStatus, ServiceUsage};

use super::failure::{declared_at, probe};
use super::offload;
use super::quantity::{age, day, elapsed, limit, percent, size, time_of_day};
use super::report::Report;
use super::state;
use super::style::{Paint, Style};
use super::text::{clean, cut};
use crate::context::Moment;
use crate::why::{Excerpt, Link, Story, advice};

/// The longest line of a manifest that is shown.
const EXCERPT_MAX: usize = 200;

/// Returns the text about a service; of one that waits, with the root of its waiting below it.
pub(crate) fn why(story: &Story<'_>, moment: &Moment, width: Option<usize>, style: Style) -> String {
    let Some(first) = story.chain.first() else {
        return alone(story.service, Some(story), story.excerpt.as_ref(), moment, width, style);
    };
    let rows = Report::new("").row("gate", gate(first, moment)).rows("also", &first.others);
    let rows = rows.row("from", from(story.service, story.excerpt.as_ref()));
    let then = story.chain.iter().skip(1).map(|link| waits(link, moment));
    let rows = rows.rows("then", then).row("root", root(story, moment)).rows("log", &story.service.log);
    let rows = last(story.service, rows, moment);
    let mut text = head(story.service, moment, style) + &rows.rows_text(width, style);
    if let Some(root) = story.root() {
        text.push('\n');
        text.push_str(&alone(root, None, story.root_excerpt.as_ref(), moment, width, style));
    }
    text
}

/// Returns what is known of a service by itself; `story`: with what is asked for those alone that are named.
fn alone(
    service: &ServiceStatus,
    story: Option<&Story<'_>>,
    excerpt: Option<&Excerpt>,
    moment: &Moment,
    width: Option<usize>,
    style: Style,
) -> String {
    let asked = probe(service);
    // What the probe was told, and who holds it, stands there already.
    let reason = if asked.contains(&service.reason) || service.held_by.is_some() { "" } else { &service.reason };
    let drift = service.drift.iter().map(|drift| match drift.corrected_in {
        Some(0) => format!("{}; corrected now", drift.what),
        Some(seconds) => format!("{}; corrected in {seconds}s", drift.what),
        None => format!("{}; not corrected by itself", drift.what),
    });
    let advice = advice(service, excerpt);
    let more = format!("nixmoxctl logs {} -n 50", service.name);
    let more = if advice.iter().any(|line| line.contains(&more)) { String::new() } else { more };
    let held = service.held_by.as_ref().map(|by| format!("by {by}, {}", since(service, moment)));
    let rows = Report::new("")
        .row("why", reason)
        .row("held", held.unwrap_or_default())
        .row("probe", probed(service, asked, moment))
        .row("next", next(service, moment))
        .row("pressure", pressure(story.and_then(|story| story.usage)))
        .row("oom", killed(service, moment))
        .row("gpu", granted(service))
        .row("gives", gives(story.and_then(|story| story.gpu)))
        .rows("models", story.and_then(|story| story.offload).map(offload::told).unwrap_or_default())
        .rows("drift", drift);
    let rows = last(service, rows, moment)
        .rows("log", &service.log)
        .row("from", from(service, excerpt))
        .rows("try", advice)
        .row("more", more);
    head(service, moment, style) + &rows.rows_text(width, style)
}

fn head(service: &ServiceStatus, moment: &Moment, style: Style) -> String {
    let (symbol, word, paint) = state::of_state(service.state);
    let ago = service.since.map(|at| format!(" for {}", age(moment.now().saturating_sub(at)))).unwrap_or_default();
    let since = since(service, moment);
    let since = if since.is_empty() { since } else { format!(", {since}") };
    let name = style.paint(Paint::Bold, &clean(&service.name));
    format!("{} {name}   {word}{ago}{since}\n", style.paint(paint, symbol))
}

/// Returns `since 13:58`; empty when nobody knows.
fn since(service: &ServiceStatus, moment: &Moment) -> String {
    service.since.map(|at| format!("since {}", day(at, moment.now(), &moment.zone))).unwrap_or_default()
}

/// Returns the gate that is not met, and since when.
fn gate(link: &Link<'_>, moment: &Moment) -> String {
    let gate = format!("{}: {}", link.needed, link.condition);
    match link.status {
        None => format!("{gate}; no stack that is up declares it"),
        Some(needed) => {
            let since = since(needed, moment);
            format!("{gate}, not met {since}").trim_end().to_owned()
        }
    }
}

fn waits(link: &Link<'_>, moment: &Moment) -> String {
    let since = since(link.waiting, moment);
    let told = format!("{} waits for {}: {}, {since}", link.waiting.name, link.needed, link.condition);
    told.trim_end_matches([' ', ',']).to_owned()
}

/// Returns what everything waits for, in one line.
fn root(story: &Story<'_>, moment: &Moment) -> String {
    let Some(link) = story.chain.last() else { return String::new() };
    let Some(root) = link.status else { return format!("{} is not up", link.needed) };
    let because = match (probe(root), root.reason.as_str()) {
        (probe, "") => probe,
        // A failed start says more than the last answer.
        (_, reason) if root.state == ServiceState::Failed => reason.to_owned(),
        (probe, reason) if probe.is_empty() => reason.to_owned(),
        (probe, _) => probe,
    };
    let told = format!("{} is {} {}", root.name, root.state.word(), since(root, moment));
    let told = told.trim_end();
    if because.is_empty() { told.to_owned() } else { format!("{told}: {because}") }
}

/// Returns the last probe, and when it was answered.
fn probed(service: &ServiceStatus, asked: String, moment: &Moment) -> String {
    match service.probe_at.filter(|_| !asked.is_empty()) {
        None => asked,
        Some(at) => {
            let ago = age(moment.now().saturating_sub(at));
            let time = time_of_day(at.saturating_mul(1_000_000), &moment.zone);
            format!("{asked}, at {time}, {ago} ago")
        }
    }
}

/// Returns how much of the last ten seconds some of it waited, and for what.
fn pressure(usage: Option<&ServiceUsage>) -> String {
    let Some(usage) = usage else { return String::new() };
    let kinds = [("cpu", usage.cpu_pressure), ("memory", usage.memory_pressure), ("io", usage.io_pressure)];
    let told = kinds.into_iter().filter_map(|(kind, told)| Some(format!("{kind} {}%", percent(told?.some_avg10))));
    let told: Vec<String> = told.collect();
    if told.is_empty() { String::new() } else { format!("{} (some, avg10)", told.join(", ")) }
}

/// Returns which GPUs it has, and how much of their memory; that it waits for some is its reason.
fn granted(service: &ServiceStatus) -> String {
    let Some(gpu) = service.gpu.as_ref().filter(|gpu| !gpu.gpus.is_empty()) else { return String::new() };
    let used = match (gpu.used, gpu.budget) {
        (None, None) => String::new(),
        (Some(used), None) => format!("; {} of its memory in use", size(used)),
        (None, Some(budget)) => format!("; up to {} of its memory", size(budget)),
        (Some(used), Some(budget)) => format!("; {} of {} of its memory in use", size(used), size(budget)),
    };
    format!("{}{used}", gpu.gpus.join(", "))
}

/// Returns why it is to give video memory back; empty where it is not.
fn gives(gpu: Option<&GpuService>) -> String {
    let Some(gpu) = gpu.filter(|gpu| gpu.state == "shrinking") else { return String::new() };
    match (gpu.budget, gpu.reason.as_str()) {
        (None, reason) => reason.to_owned(),
        (Some(budget), "") => format!("back what is above {}", size(budget)),
        (Some(budget), reason) => format!("back what is above {}: {reason}", size(budget)),
    }
}

/// Returns what was killed last for want of memory, when, and how often that was; without what the reason says already.
fn killed(service: &ServiceStatus, moment: &Moment) -> String {
    let Some(OomKills { count, at, why, .. }) = &service.oom_kills else { return String::new() };
    let why = if service.reason.contains(why.as_str()) { "" } else { why.as_str() };
    let at = at
        .map(|at| format!("{} ago, {}", age(moment.now().saturating_sub(at)), day(at, moment.now(), &moment.zone)));
    let count = match count {
        0 => "in a run before".to_owned(),
        1 => String::new(),
        count => format!("{count} processes in this run"),
    };
    let parts = [why.to_owned(), at.unwrap_or_default(), count].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("; ")
}

/// Returns what happens next by itself.
fn next(service: &ServiceStatus, moment: &Moment) -> String {
    match (service.state, service.restart_at) {
        (_, Some(at)) => {
            let time = time_of_day(at.saturating_mul(1_000_000), &moment.zone);
            format!("it is started again in {}, at {time}", age(at.saturating_sub(moment.now())))
        }
        (ServiceState::Failed, None) => "it is not started again by itself".to_owned(),
        (ServiceState::Starting, None) if service.start_period_ms > 0 => {
            let passed = service.since.map_or(0, |at| moment.now().saturating_sub(at)).saturating_mul(1000);
            format!("{} of its start period of {} are over", elapsed(passed), limit(service.start_period_ms))
        }
        (
            ServiceState::Healthy
            | ServiceState::Unhealthy
            | ServiceState::Starting
            | ServiceState::Waiting
            | ServiceState::Stopping
            | ServiceState::Stopped
            | ServiceState::Completed,
            None,
        ) => String::new(),
    }
}

/// Adds how the last instance ended, and how often that was.
fn last(service: &ServiceStatus, rows: Report, moment: &Moment) -> Report {
    let ended = service.last_end.as_ref().map(|end| match end {
        // That it was stopped is all that `held` says.
        LastEnd { kind, .. } if kind == "asked" && service.held_by.is_some() => String::new(),
        // The reason of a failure says the same.
        LastEnd { why, .. } if service.state == ServiceState::Failed && service.reason.contains(why) => {
            String::new()
        }
        LastEnd { at: Some(at), why, .. } => {
            let ago = age(moment.now().saturating_sub(*at));
            format!("ended {ago} ago, {}: {why}", day(*at, moment.now(), &moment.zone))
        }
        LastEnd { at: None, why, .. } => format!("ended before the agent was started: {why}"),
    });
    let again = match service.restarts {
        0 => String::new(),
        1 => "started anew once since it was last well".to_owned(),
        times => format!("started anew {times} times since it was last well"),
    };
    rows.row("last", ended.unwrap_or_default()).row("again", again)
}

/// Returns the line of the manifest that matters: where it is, and what stands there.
fn from(service: &ServiceStatus, excerpt: Option<&Excerpt>) -> String {
    match excerpt {
        Some(Excerpt { place, text: Some(text) }) => format!("{place} | {}", cut(&clean(text.trim()), EXCERPT_MAX)),
        Some(_) | None => declared_at(service, service.state == ServiceState::Unhealthy),
    }
}
