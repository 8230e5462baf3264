//! The words of a status: states, reasons, drift, events, each in one line for people.

use std::collections::BTreeMap;
use std::time::Duration;

use nixmox_api::{Drift, ServiceState, ServiceStatus, Status};
use nixmox_core::manifest::HostConflict;
use nixmox_core::model::{
    ChangeKind, Condition, Container, ContainerName, GpuStanding, Port, Reason, Subject, Word,
};
use nixmox_core::status::{self, State};

use super::offloads::Engine;
use super::report::Scene;
use super::supervise::Correction;

pub(super) fn wire_state(state: State) -> ServiceState {
    match state {
        State::Healthy => ServiceState::Healthy,
        State::Unhealthy => ServiceState::Unhealthy,
        State::Starting => ServiceState::Starting,
        State::Waiting => ServiceState::Waiting,
        State::Stopping => ServiceState::Stopping,
        State::Stopped => ServiceState::Stopped,
        State::Failed => ServiceState::Failed,
        State::Completed => ServiceState::Completed,
    }
}

/// Returns why a service is in its state and what to do about it, each in one line.
pub(super) fn reason(
    scene: &Scene<'_>,
    name: &ContainerName,
    container: &Container,
    state: State,
) -> (String, String) {
    let watched = scene.supervisor.of(name);
    let limit = scene.desired.services.get(name).and_then(|assigned| assigned.service.limits.memory_max);
    // Before the failure of a start, which does not know why the guest died.
    if state == State::Failed
        && let Some(cause) = watched.and_then(|watched| watched.oom.cause_of_end(container, limit))
    {
        let blocked = blocked(scene, name, |reason| !matches!(reason, Reason::NotRunning { .. }));
        let reason = if blocked.is_empty() { cause } else { format!("{cause}; {blocked}") };
        return (reason, format!("nixmoxctl why {name}"));
    }
    if let Some(failure) = watched.and_then(|watched| watched.failure.as_ref()) {
        return (failure.message.clone(), failure.hint.clone());
    }
    let probe = || {
        let tracker = watched.and_then(super::supervise::Watched::health);
        tracker.map(|tracker| tracker.last_output().to_owned()).unwrap_or_default()
    };
    let reason = match state {
        State::Unhealthy | State::Starting => probe(),
        State::Waiting => {
            let gates = status::waits_for(name, scene.plan);
            let standing = scene.desired.services.get(name).map(|assigned| &assigned.gpu);
            if let Some(GpuStanding::Waiting { why, hint, .. }) = standing.filter(|_| gates.is_empty()) {
                return (why.clone(), hint.clone());
            }
            let gate =
                |(name, condition): &(ContainerName, Condition)| format!("{name} to be {}", condition.as_word());
            let gates: Vec<String> = gates.iter().map(gate).collect();
            if gates.is_empty() && container.exit.as_ref().is_some_and(|exit| exit.stopped) {
                return (
                    "stopped by somebody, not through NixMox; it is started again soon".to_owned(),
                    format!("keep it stopped: nixmoxctl stop {name}"),
                );
            }
            if gates.is_empty() {
                blocked(scene, name, |_| true)
            } else {
                format!("waits for {}", gates.join(", "))
            }
        }
        State::Failed => {
            if let Some(obstacle) = in_the_way(scene, name) {
                return obstacle;
            }
            let blocked = blocked(scene, name, |_| true);
            let ended = container.exit.as_ref().map(|exit| format!("ended with {}", exit.how()));
            // The plan's reason says how it ended, too.
            if blocked.is_empty() { ended.unwrap_or_default() } else { blocked }
        }
        State::Healthy => scene.offloads.of(name).and_then(Engine::note).unwrap_or_default(),
        State::Stopping => match scene.desired.services.get(name).map(|assigned| &assigned.gpu) {
            Some(GpuStanding::Yielding { to, why, .. }) => {
                reason_text(&Reason::GpuYields { to: to.clone(), why: why.clone() })
            }
            // It is to end already, and what it gave way to has its place.
            Some(GpuStanding::Waiting { why, .. }) => why.clone(),
            Some(
                GpuStanding::None
                | GpuStanding::Granted(_)
                | GpuStanding::Kept { .. }
                | GpuStanding::Shrinking { .. },
            )
            | None => String::new(),
        },
        State::Completed => String::new(),
        State::Stopped => {
            scene.desired.holds.get(name).map(|hold| format!("stopped by {}", hold.by)).unwrap_or_default()
        }
    };
    let hint = match state {
        State::Stopped => format!("nixmoxctl start {name}"),
        State::Failed | State::Unhealthy => format!("nixmoxctl why {name}"),
        State::Healthy | State::Starting | State::Waiting | State::Stopping | State::Completed => String::new(),
    };
    (reason, hint)
}

/// Returns how a service stands with the GPUs that it asks for, in a word.
pub(super) fn gpu_word(standing: &GpuStanding, held: bool) -> &'static str {
    match standing {
        _ if held => "held",
        GpuStanding::None | GpuStanding::Waiting { .. } => "waiting",
        GpuStanding::Granted(_) | GpuStanding::Kept { .. } => "granted",
        GpuStanding::Shrinking { .. } => "shrinking",
        GpuStanding::Yielding { .. } => "yielding",
    }
}

/// Returns what of others keeps a service from starting, and the way out; `None`: nothing does.
fn in_the_way(scene: &Scene<'_>, name: &ContainerName) -> Option<(String, String)> {
    let change = scene.plan.changes.get(name).filter(|change| change.kind == ChangeKind::Blocked)?;
    let conflict = change.reasons.iter().find_map(|reason| match reason {
        Reason::ForeignMachine => Some(HostConflict::NameOfMachine { service: name.clone() }),
        Reason::ForeignConf => Some(HostConflict::NameOfContainer { service: name.clone() }),
        Reason::New
        | Reason::NotRunning { .. }
        | Reason::StartedOutside
        | Reason::Field(_)
        | Reason::Limit { .. }
        | Reason::DeviceRules
        | Reason::Files
        | Reason::Requested
        | Reason::Unhealthy
        | Reason::Held
        | Reason::Undeclared
        | Reason::BackOff
        | Reason::GaveUp
        | Reason::ForeignJob
        | Reason::Stopping
        | Reason::GpuWaits(_)
        | Reason::GpuYields { .. }
        | Reason::GpuLost(_)
        | Reason::Uncarriable(_) => None,
    })?;
    Some((conflict.to_string(), conflict.help()))
}

fn blocked(scene: &Scene<'_>, name: &ContainerName, is_told: impl Fn(&Reason) -> bool) -> String {
    let Some(change) = scene.plan.changes.get(name).filter(|change| change.kind == ChangeKind::Blocked) else {
        return String::new();
    };
    let told = change.reasons.iter().filter(|reason| is_told(reason));
    told.map(reason_text).collect::<Vec<_>>().join("; ")
}

/// Returns a reason as a line for people.
pub(super) fn reason_text(reason: &Reason) -> String {
    nixmox_api::Reason::from(reason).text
}

/// Returns the differences from what is declared that nobody asked for.
pub(super) fn drift(scene: &Scene<'_>, name: &ContainerName) -> Vec<Drift> {
    if !scene.supervisor.of(name).is_some_and(super::supervise::Watched::drifts) {
        return Vec::new();
    }
    let correction = scene.supervisor.correction(scene.now, &Subject::Service(name.clone()), scene.policy);
    let corrected_in = match correction {
        Correction::Now => Some(0),
        Correction::In(left) => Some(left.as_secs()),
        Correction::Never => None,
    };
    let change = scene.plan.changes.get(name);
    let told = |reason: &&Reason| !matches!(reason, Reason::BackOff | Reason::GaveUp);
    let drift = |reason: &Reason| Drift {
        what: match reason {
            Reason::Limit { key, from, to } => format!("{key} is {from}, declared {to}"),
            other => reason_text(other),
        },
        corrected_in,
    };
    change.into_iter().flat_map(|change| &change.reasons).filter(told).map(drift).collect()
}

/// Returns what happened between two statuses of a service: a word, and a line for people.
pub(super) fn difference(old: Option<&ServiceStatus>, new: &ServiceStatus) -> (&'static str, String) {
    let reason = |text: &str| {
        if new.reason.is_empty() { text.to_owned() } else { format!("{text}: {}", new.reason) }
    };
    let state = |status: &ServiceStatus| (status.state, status.invocation.clone());
    if old.map(state) == Some(state(new)) {
        let drifts = |status: &ServiceStatus| status.drift.iter().map(|d| d.what.clone()).collect::<Vec<_>>();
        if !new.drift.is_empty() && old.map(drifts) != Some(drifts(new)) {
            return ("drift", drifts(new).join("; "));
        }
        return ("changed", String::new());
    }
    // The instance of a start that was told already.
    let same_start = old.is_some_and(|old| old.state == ServiceState::Starting && old.invocation.is_none());
    match new.state {
        ServiceState::Healthy => ("healthy", "healthy".to_owned()),
        ServiceState::Unhealthy => ("unhealthy", reason("unhealthy")),
        ServiceState::Starting if same_start => ("changed", String::new()),
        ServiceState::Starting => ("starting", "starting".to_owned()),
        ServiceState::Waiting => ("waiting", reason("waiting")),
        ServiceState::Stopping => ("stopping", reason("stopping")),
        ServiceState::Stopped => ("stopped", reason("stopped")),
        ServiceState::Failed => ("failed", reason("failed")),
        ServiceState::Completed => ("completed", "completed".to_owned()),
    }
}

/// Returns a status in one line, for `systemctl status`.
pub(super) fn line(status: &Status) -> String {
    let Status { host, services, .. } = status;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for service in services {
        *counts.entry(service.state.word()).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    match host.warnings.len() {
        0 => {}
        1 => parts.push("1 warning".to_owned()),
        count => parts.push(format!("{count} warnings")),
    }
    let parts = if parts.is_empty() { "nothing is declared".to_owned() } else { parts.join(", ") };
    format!("generation {}: {parts}", host.generation)
}

pub(super) fn place(file: &str, line: u32) -> String {
    if line == 0 { file.to_owned() } else { format!("{file}:{line}") }
}

pub(super) fn with_hint(message: &str, hint: &str) -> String {
    if hint.is_empty() { message.to_owned() } else { format!("{message}; {hint}") }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a published port as short as the manifest writes it: two ports that are one are told once.
pub(super) fn port_text(port: &Port) -> String {
    let text = port.to_string();
    match text.split_once(':') {
        Some((_, once)) if port.host_address.is_none() && port.host_port == port.container_port => once.to_owned(),
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_for_systemd() {
        let host = nixmox_api::HostStatus {
            version: String::new(),
            generation: 41,
            generation_at: 0,
            generation_by: nixmox_api::Caller::default(),
            busy: false,
            warnings: Vec::new(),
        };
        let mut status = Status { sequence: 0, host, stacks: Vec::new(), services: Vec::new() };
        assert_eq!(line(&status), "generation 41: nothing is declared");
        let service =
            |name: &str, state| ServiceStatus { state, ..super::super::report::unknown(&name.parse().unwrap()) };
        status.services = vec![
            service("db", ServiceState::Healthy),
            service("web", ServiceState::Failed),
            service("wiki", ServiceState::Healthy),
        ];
        status.host.warnings.push("something".to_owned());
        assert_eq!(line(&status), "generation 41: 1 failed, 2 healthy, 1 warning");
    }
}
