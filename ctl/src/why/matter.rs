//! Which part of a service's declaration matters for the state that it is in.

use nixmox_api::{ServiceState, ServiceStatus};

/// A part of a declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matter {
    /// A key, wherever it stands in the service's tables.
    Key(String),
    /// The health check.
    Health,
    /// The service as a whole.
    Heading,
}

/// What a reason of the agent says, and the key that it is about.
const REASONS: [(&str, &str); 7] = [
    ("mount source", "mounts"),
    ("nothing is mounted", "mounts"),
    ("of the credential", "credentials"),
    ("the device `", "devices"),
    ("in the Nix store", "system"),
    ("is taken: ", "ports"),
    ("restart policy", "restart"),
];

/// Returns which part matters.
pub(crate) fn matter(service: &ServiceStatus) -> Matter {
    let key = |key: &str| Matter::Key(key.to_owned());
    match service.state {
        ServiceState::Waiting if !service.waits_for.is_empty() => return key("depends_on"),
        ServiceState::Unhealthy | ServiceState::Starting if !service.health_declared_at.is_empty() => {
            return Matter::Health;
        }
        ServiceState::Failed
        | ServiceState::Waiting
        | ServiceState::Unhealthy
        | ServiceState::Starting
        | ServiceState::Healthy
        | ServiceState::Stopping
        | ServiceState::Stopped
        | ServiceState::Completed => {}
    }
    if service.state == ServiceState::Waiting && service.gpu.as_ref().is_some_and(|gpu| gpu.state == "waiting") {
        return key("gpu");
    }
    if let Some((_, about)) = REASONS.iter().find(|(words, _)| service.reason.contains(words)) {
        return key(about);
    }
    let kills = service.oom_kills.as_ref().filter(|kills| kills.count > 0 && kills.why.contains("; limit "));
    if kills.is_some() && (service.state == ServiceState::Healthy || service.reason.starts_with("out of memory")) {
        return key("memory_max");
    }
    // `memory_max is 6G, declared 4G`
    let limit = service.drift.iter().find_map(|drift| drift.what.split_once(" is ").map(|(limit, _)| limit));
    limit.map_or(Matter::Heading, key)
}

#[cfg(test)]
mod tests {
    use nixmox_api::{Drift, GpuStatus};

    use super::*;
    use crate::testing::sample::service;

    #[test]
    fn what_the_agent_says_leads_to_the_key() {
        let failed = |reason: &str| {
            matter(&ServiceStatus { state: ServiceState::Failed, reason: reason.to_owned(), ..service("web") })
        };
        let key = |key: &str| Matter::Key(key.to_owned());
        assert_eq!(failed("the mount source `/srv/x` does not exist on this host"), key("mounts"));
        assert_eq!(failed("port 80/tcp is taken: nginx (71) listens on 0.0.0.0:80"), key("ports"));
        assert_eq!(
            failed("does not run: ended with exit-code 3; its restart policy forbids a further start"),
            key("restart")
        );
        assert_eq!(failed("`container@web.service` did not start: exit-code 1"), Matter::Heading);
        let drift = vec![Drift { what: "memory_max is 6G, declared 4G".to_owned(), corrected_in: None }];
        assert_eq!(matter(&ServiceStatus { drift, ..service("web") }), key("memory_max"));
    }

    #[test]
    fn a_gate_and_a_check_come_first() {
        let check = |state| ServiceStatus { state, health_declared_at: "a:2".to_owned(), ..service("web") };
        assert_eq!(matter(&check(ServiceState::Unhealthy)), Matter::Health);
        let waits = ServiceStatus { waits_for: vec!["db: healthy".to_owned()], ..check(ServiceState::Waiting) };
        assert_eq!(matter(&waits), Matter::Key("depends_on".to_owned()));
        assert_eq!(matter(&check(ServiceState::Healthy)), Matter::Heading);
        let gpu =
            |state: &str| Some(GpuStatus { state: state.to_owned(), gpus: Vec::new(), budget: None, used: None });
        let waits = ServiceStatus { gpu: gpu("waiting"), ..check(ServiceState::Waiting) };
        assert_eq!(matter(&waits), Matter::Key("gpu".to_owned()));
        let granted = ServiceStatus { gpu: gpu("granted"), ..check(ServiceState::Waiting) };
        assert_eq!(matter(&granted), Matter::Heading);
    }
}
