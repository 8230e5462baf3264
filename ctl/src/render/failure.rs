//! The complaint about a service that is not as asked for: which gate, the last probe, the log, the manifest line.

use nixmox_api::{ServiceState, ServiceStatus};

use super::quantity::{age, day, limit};
use super::report::Report;
use crate::context::Moment;

/// The log lines that are shown, counted from the last.
const LOG_LINES: usize = 5;

/// Returns the complaint about a service. `held_back` names the services that are not started because of it.
pub(crate) fn failure(status: &ServiceStatus, moment: &Moment, was_healthy: bool, held_back: &[&str]) -> Report {
    let name = &status.name;
    let of_health = status.state == ServiceState::Unhealthy;
    let what = match status.state {
        ServiceState::Unhealthy if was_healthy => format!("{name} does not stay healthy"),
        ServiceState::Unhealthy if status.start_period_ms > 0 => {
            format!("{name} did not become healthy within {}", limit(status.start_period_ms))
        }
        ServiceState::Unhealthy => format!("{name} did not become healthy"),
        ServiceState::Failed if status.restarts > 1 => {
            format!("{name} failed {} times in a row", status.restarts)
        }
        ServiceState::Waiting => format!("{name} waits"),
        ServiceState::Stopping => format!("{name} did not stop"),
        ServiceState::Healthy => format!("{name} runs, but could not be changed"),
        ServiceState::Failed | ServiceState::Stopped | ServiceState::Starting | ServiceState::Completed => {
            format!("{name} failed")
        }
    };
    // What answers well is not the matter.
    let probe = if status.state == ServiceState::Healthy { String::new() } else { probe(status) };
    let reason = if probe.contains(&status.reason) { "" } else { &status.reason };
    let first = status.log.len().saturating_sub(LOG_LINES);
    let next = match held_back {
        [] => String::new(),
        names => format!("not started: {}", names.join(", ")),
    };
    Report::new(what)
        .row("gate", probe)
        .row("why", reason)
        .row("for", since(status, moment))
        .rows("log", status.log.iter().skip(first))
        .row("from", declared_at(status, of_health))
        .row("next", next)
        .row("try", try_line(status))
}

/// Returns the complaint about a service that is not started because of others, which are not part of the work, or for want of room on
/// a GPU.
pub(crate) fn blocked(status: &ServiceStatus, blockers: &[&str]) -> Report {
    Report::new(format!("{} was not started", status.name))
        .row("gate", status.waits_for.join(", "))
        .row("why", &status.reason)
        .row("from", declared_at(status, false))
        .rows("try", blockers.iter().map(|name| format!("nixmoxctl why {name}")))
        .row("try", if blockers.is_empty() { status.hint.as_str() } else { "" })
}

/// Returns for how long a service is not well, and since when; empty for one that may still become so.
fn since(status: &ServiceStatus, moment: &Moment) -> String {
    match (status.state, status.since) {
        (ServiceState::Unhealthy | ServiceState::Failed, Some(at)) => {
            let now = moment.now();
            format!("{}, since {}", age(now.saturating_sub(at)), day(at, now, &moment.zone))
        }
        (
            ServiceState::Unhealthy
            | ServiceState::Failed
            | ServiceState::Waiting
            | ServiceState::Stopping
            | ServiceState::Healthy
            | ServiceState::Stopped
            | ServiceState::Starting
            | ServiceState::Completed,
            _,
        ) => String::new(),
    }
}

/// Returns the last probe with the number of tries; empty when there was none.
pub(crate) fn probe(status: &ServiceStatus) -> String {
    match (status.probe.as_str(), status.probe_failures) {
        ("", _) => String::new(),
        (probe, 0) => probe.to_owned(),
        (probe, 1) => format!("{probe} (1 try)"),
        (probe, tries) => format!("{probe} ({tries} tries)"),
    }
}

/// Returns what to do about a service: the agent's word, else where more is said.
pub(crate) fn try_line(status: &ServiceStatus) -> String {
    if status.hint.is_empty() { format!("nixmoxctl why {}", status.name) } else { status.hint.clone() }
}

/// Returns `nixmox.toml:18 [services.nextcloud.health]`; empty when nobody knows.
pub(super) fn declared_at(status: &ServiceStatus, of_health: bool) -> String {
    let of_health = of_health && !status.health_declared_at.is_empty();
    let place = if of_health { &status.health_declared_at } else { &status.declared_at };
    let file = place.rsplit_once(':').map_or(place.as_str(), |(file, _line)| file);
    // An included file is one service at its root; its sections do not repeat the service's name.
    let section = match (file.ends_with("service.toml"), of_health) {
        (true, true) => " [health]".to_owned(),
        (true, false) => String::new(),
        (false, true) => format!(" [services.{}.health]", status.name),
        (false, false) => format!(" [services.{}]", status.name),
    };
    if place.is_empty() { String::new() } else { format!("{place}{section}") }
}
