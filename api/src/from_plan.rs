//! From a plan to the wire: what happens to a service and why, as words for programs and lines for people.

use nixmox_core::{model, status};

use crate::{Reason, ServiceState};

impl From<&model::Reason> for Reason {
    fn from(reason: &model::Reason) -> Self {
        let (kind, text) = match reason {
            model::Reason::New => ("new", "nothing of it is there yet".to_owned()),
            model::Reason::NotRunning { ended: None } => ("not_running", "does not run".to_owned()),
            model::Reason::NotRunning { ended: Some(ended) } => {
                ("not_running", format!("does not run: ended with {ended}"))
            }
            model::Reason::StartedOutside => ("started_outside", "runs, but NixMox did not start it".to_owned()),
            model::Reason::Field(field) => ("field", format!("{} changed", field.key())),
            model::Reason::Limit { key, from, to } => ("limit", format!("{key} {from} -> {to}")),
            model::Reason::DeviceRules => ("device_rules", "devices changed".to_owned()),
            model::Reason::Files => ("files", "its files on the host are missing or were changed".to_owned()),
            model::Reason::Requested => ("requested", "a restart was asked for".to_owned()),
            model::Reason::Unhealthy => ("unhealthy", "unhealthy, and declared to be restarted then".to_owned()),
            model::Reason::Held => ("held", "held by `stop`".to_owned()),
            model::Reason::Undeclared => ("undeclared", "no stack declares it any more".to_owned()),
            model::Reason::BackOff => ("back_off", "waits before the next attempt".to_owned()),
            model::Reason::GaveUp => ("gave_up", "its restart policy forbids a further start".to_owned()),
            model::Reason::ForeignJob => ("foreign_job", "somebody else's job is queued on its unit".to_owned()),
            model::Reason::ForeignMachine => {
                ("foreign_machine", "a machine of the same name runs that is not ours".to_owned())
            }
            model::Reason::ForeignConf => {
                ("foreign_conf", "a conf file of the same name is there that NixMox did not write".to_owned())
            }
            model::Reason::Stopping => ("stopping", "the host shuts down".to_owned()),
            model::Reason::GpuWaits(why) => ("gpu_waits", why.clone()),
            model::Reason::GpuYields { to, why } => ("gpu_yields", format!("gives way to {to}: {why}")),
            model::Reason::GpuLost(nodes) => {
                let nodes: Vec<String> = nodes.iter().map(|node| node.display().to_string()).collect();
                ("gpu_lost", format!("cannot use {}", nodes.join(", ")))
            }
            model::Reason::Uncarriable(why) => ("uncarriable", why.clone()),
        };
        Self { kind: kind.to_owned(), text }
    }
}

/// Returns the word of `Planned.change`.
#[must_use]
pub fn change_word(kind: model::ChangeKind) -> &'static str {
    match kind {
        model::ChangeKind::Unchanged => "unchanged",
        model::ChangeKind::Create => "create",
        model::ChangeKind::Live => "live",
        model::ChangeKind::Restart => "restart",
        model::ChangeKind::Remove => "remove",
        model::ChangeKind::Hold => "hold",
        model::ChangeKind::Blocked => "blocked",
    }
}

impl From<status::State> for ServiceState {
    fn from(state: status::State) -> Self {
        match state {
            status::State::Healthy => Self::Healthy,
            status::State::Unhealthy => Self::Unhealthy,
            status::State::Starting => Self::Starting,
            status::State::Waiting => Self::Waiting,
            status::State::Stopping => Self::Stopping,
            status::State::Stopped => Self::Stopped,
            status::State::Failed => Self::Failed,
            status::State::Completed => Self::Completed,
        }
    }
}
