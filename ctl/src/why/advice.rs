//! What to try: commands that can be typed, and what to look at, for the state that a service is in.

use nixmox_api::{ServiceState, ServiceStatus};

use super::Excerpt;
use crate::render::limit;

/// The agent's word that a service is not started again by itself.
const GAVE_UP: &str = "restart policy forbids";

/// Returns what to try, the best first; nothing for a service that is well.
/// `excerpt` is the line of the manifest that matters.
pub(crate) fn advice(service: &ServiceStatus, excerpt: Option<&Excerpt>) -> Vec<String> {
    let name = &service.name;
    let log = format!("nixmoxctl logs {name} -n 50");
    let mut lines = Vec::new();
    // The agent's own hint, unless it leads here.
    let own =
        (!service.hint.is_empty() && !service.hint.starts_with("nixmoxctl why")).then(|| service.hint.clone());
    lines.extend(own);
    lines.extend(of_memory(service, excerpt));
    match service.state {
        ServiceState::Stopped => lines.push(format!("nixmoxctl start {name}")),
        ServiceState::Unhealthy => {
            lines.extend(of_probe(service));
            lines.push(log);
            lines.push(format!("nixmoxctl restart {name}"));
        }
        ServiceState::Starting if service.probe_failures > 0 => lines.extend(of_probe(service)),
        ServiceState::Failed if service.reason.contains(GAVE_UP) => {
            lines.push(log);
            lines.push(format!("nixmoxctl start {name}    once that is mended"));
        }
        ServiceState::Failed if service.restart_at.is_some() => {
            if lines.is_empty() {
                lines.push(log);
            }
            lines.push(format!("nixmoxctl start {name}    does not wait for the next attempt"));
        }
        ServiceState::Failed => lines.push(format!("nixmoxctl start {name}    once that is mended")),
        ServiceState::Waiting
        | ServiceState::Stopping
        | ServiceState::Starting
        | ServiceState::Healthy
        | ServiceState::Completed => {}
    }
    if !service.drift.is_empty() {
        lines.push(format!("nixmoxctl up {name}    puts it right now; or declare what it is"));
    }
    // One command that stands twice is one.
    let mut seen = Vec::new();
    lines.retain(|line| {
        let command = line.split("    ").next().unwrap_or_default().to_owned();
        let is_new = !seen.contains(&command);
        seen.push(command);
        is_new
    });
    lines
}

/// Returns what to do where the kernel killed processes for want of memory.
fn of_memory(service: &ServiceStatus, excerpt: Option<&Excerpt>) -> Vec<String> {
    let Some(kills) = service.oom_kills.as_ref().filter(|kills| kills.count > 0) else { return Vec::new() };
    let line = excerpt.filter(|excerpt| excerpt.text.as_ref().is_some_and(|text| text.contains("memory_max")));
    let place = line.map_or(&service.declared_at, |excerpt| &excerpt.place);
    // Of the limits that may have been short, this one is declared here.
    let raise =
        kills.why.contains("; limit ").then(|| format!("raise `limits.memory_max` at {place}, if it needs more"));
    raise.into_iter().chain(["nixmoxctl top    shows what uses memory".to_owned()]).collect()
}

/// Returns what the answer of the last probe says.
fn of_probe(service: &ServiceStatus) -> Option<String> {
    if service.probe.contains(" pressure ") && service.probe.contains("(some, avg10)") {
        return Some(
            "nixmoxctl top    shows who uses what; its `limits` may be too low, or `health.pressure`".to_owned(),
        );
    }
    let (asked, told) = service.probe.rsplit_once(" -> ")?;
    let name = &service.name;
    let told = told.to_ascii_lowercase();
    if told.contains("refused") {
        Some(format!("nothing listens there: systemctl -M {name} --failed"))
    } else if told.contains("timed out") || told.contains("no answer within") {
        Some("it does not answer in time: a longer `health.timeout`, if it only is slow".to_owned())
    } else if told.starts_with('5') {
        Some("it answers, and says that it is ill: its own log has the cause".to_owned())
    } else if told.starts_with('4') {
        Some(format!("it answers, but not at that address: is `{asked}` right?"))
    } else if service.state == ServiceState::Unhealthy && service.start_period_ms > 0 {
        let period = limit(service.start_period_ms);
        Some(format!("a longer `health.start_period` (now {period}), if its first start only is slow"))
    } else {
        None
    }
}
