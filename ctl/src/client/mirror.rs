//! The snapshot as a watching client holds it: the agent's first one, with every later update folded in.

use nixmox_api::{HostStatus, ServiceStatus, Status, Update, UpdateKind};

/// A copy of the agent's snapshot that updates keep current.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirror {
    status: Status,
    /// The number of the last update; `None` before the first.
    number: Option<u64>,
}

impl Mirror {
    /// Folds an update in.
    pub(crate) fn take(&mut self, update: &Update) {
        self.number = Some(update.number);
        if let Some(status) = &update.status {
            self.status = status.clone();
        }
        if let Some(host) = &update.host {
            self.status.host = host.clone();
        }
        if let Some(stacks) = &update.stacks {
            self.status.stacks.clone_from(stacks);
        }
        match update.kind {
            UpdateKind::Snapshot => {}
            UpdateKind::Event if update.service.is_empty() => {}
            UpdateKind::Event => self.replace(&update.service, update.current.as_ref()),
        }
    }

    /// Returns the snapshot.
    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// Returns the host's part of it.
    pub(crate) fn host(&self) -> &HostStatus {
        &self.status.host
    }

    /// Returns a service's part of it; `None` when the agent knows nothing of it.
    pub(crate) fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.status.services.iter().find(|service| service.name == name)
    }

    /// Returns the number of the last update; `None` before the first.
    pub(crate) fn number(&self) -> Option<u64> {
        self.number
    }

    fn replace(&mut self, name: &str, current: Option<&ServiceStatus>) {
        let services = &mut self.status.services;
        let place = services.iter().position(|service| service.name == name);
        match (place.and_then(|index| services.get_mut(index)), current) {
            (Some(old), Some(new)) => *old = new.clone(),
            (None, Some(new)) => services.push(new.clone()),
            (_, None) => services.retain(|service| service.name != name),
        }
    }
}
