//! What a switch to another system would do in a running guest, as the guest's own `switch-to-configuration dry-activate` says.
//!
//! Asked beside the reconcile task, and for those alone who may change the service: it runs a program in the guest. Nothing is
//! decided by the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use nixmox_api::{PlanReply, Planned, Reason};
use nixmox_core::model::{ContainerName, Probe};

use crate::host::{Host, ProbeResult};

/// The kind of the reason that stands for a switch.
pub(super) const SWITCH: &str = "switch";
/// How long a guest may take for it.
const LIMIT: Duration = Duration::from_secs(30);

/// Adds to a plan what the guests that would be switched say about it; `systems` are the declared ones by service.
pub(super) async fn look(host: &impl Host, plan: &mut PlanReply, systems: &BTreeMap<String, String>) {
    let asked =
        plan.services.iter_mut().filter(|planned| planned.reasons.iter().any(|reason| reason.kind == SWITCH));
    join_all(asked.map(async |planned: &mut Planned| {
        let (Ok(name), Some(system)) = (planned.name.parse::<ContainerName>(), systems.get(&planned.name)) else {
            return;
        };
        let command = vec![format!("{system}/bin/switch-to-configuration"), "dry-activate".to_owned()];
        let answer = host.probe(&name, Some(&Probe::Exec(command)), LIMIT).await;
        planned.reasons.extend(said(&answer).map(|text| Reason { kind: "dry_activate".to_owned(), text }));
    }))
    .await;
}

/// Returns what a guest said, in one line; `None`: nothing.
fn said(answer: &ProbeResult) -> Option<String> {
    let said = answer.output.split_once(" -> ").map_or(answer.output.as_str(), |(_, said)| said);
    if !answer.healthy {
        return Some(format!("inside: dry-activate failed: {said}"));
    }
    said.strip_prefix("exit 0: ").map(|said| format!("inside: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_told_without_what_was_asked() {
        let said =
            |healthy, text: &str| said(&ProbeResult { healthy, output: format!("/x/y dry-activate -> {text}") });
        assert_eq!(
            said(true, "exit 0: would restart a.service").as_deref(),
            Some("inside: would restart a.service")
        );
        assert_eq!(said(true, "exit 0"), None);
        let failed = Some("inside: dry-activate failed: exit 1: no such thing");
        assert_eq!(said(false, "exit 1: no such thing").as_deref(), failed);
    }
}
