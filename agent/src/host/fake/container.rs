//! One simulated container.

use nixmox_core::container::Files;
use nixmox_core::model::{ActiveState, Assigned, ConfFile, Container, DropIn, ExitRecord, InvocationId};
use tokio::time::Instant;

use super::HealthBehaviour;
use crate::host::Usage;

/// A container, as it is observed, and since when.
#[derive(Debug, Default)]
pub(super) struct Simulated {
    pub(super) seen: Container,
    active_since: Option<Instant>,
}

impl Simulated {
    pub(super) fn active(&self) -> ActiveState {
        self.seen.active
    }

    /// Writes the files, which set the live properties of what runs.
    pub(super) fn write(&mut self, assigned: &Assigned, files: &Files) {
        if let Some(conf) = &files.conf {
            self.seen.conf = ConfFile::Ours(conf.clone());
        }
        self.seen.drop_in = DropIn::Ours(files.drop_in.clone());
        self.seen.reload_pending = false;
        if !self.active().has_processes() {
            return;
        }
        self.seen.limits.clone_from(&assigned.service.limits);
        self.seen.devices.clone_from(&assigned.service.devices);
        self.seen.devices.sort();
    }

    /// Removes the files; returns whether anything is left.
    pub(super) fn remove(&mut self) -> bool {
        let foreign_machine = self.seen.foreign_machine;
        let conf = match std::mem::replace(&mut self.seen.conf, ConfFile::Absent) {
            ConfFile::Absent | ConfFile::Ours(_) => ConfFile::Absent,
            kept @ (ConfFile::Foreign | ConfFile::Link) => kept,
        };
        *self = Self { seen: Container { foreign_machine, conf, ..Container::default() }, ..Self::default() };
        self.seen != Container::default()
    }

    /// Begins an instance with these files.
    pub(super) fn begin(&mut self, invocation: InvocationId, assigned: &Assigned, files: &Files) {
        self.seen.active = ActiveState::Activating;
        self.seen.stopped_by_agent = false;
        self.seen.invocation = Some(invocation);
        self.write(assigned, files);
        let ours = matches!(self.seen.conf, ConfFile::Ours(_));
        self.seen.started_with = ours.then(|| files.spec.clone());
    }

    pub(super) fn become_active(&mut self) {
        self.seen.active = ActiveState::Active;
        self.active_since = Some(Instant::now());
    }

    pub(super) fn begin_stop(&mut self) {
        self.seen.active = ActiveState::Deactivating;
        self.seen.stopped_by_agent = true;
    }

    /// Ends the instance; `ExecStopPost=` writes how. systemd forgets a unit that did not fail, and what was set on
    /// one that does not run.
    pub(super) fn end(&mut self, status: u8, stopped: bool) {
        // 133 is a reboot (`SuccessExitStatus=` of the template).
        let failed = !matches!(status, 0 | 133);
        self.seen.active = if failed { ActiveState::Failed } else { ActiveState::Inactive };
        self.active_since = None;
        (self.seen.limits, self.seen.devices, self.seen.reload_pending) = Default::default();
        self.seen.active_since = None;
        let spec = self.seen.started_with.take();
        if let Some(invocation) = self.seen.invocation {
            let result = if failed { "exit-code" } else { "success" }.to_owned();
            self.seen.exit = Some(ExitRecord { invocation, spec, result, status: status.to_string(), stopped });
        }
        self.seen.invocation = self.seen.invocation.filter(|_| failed);
    }

    pub(super) fn is_healthy(&self, health: HealthBehaviour) -> bool {
        match (health, self.active_since) {
            (HealthBehaviour::After(time), Some(since)) => since.elapsed() >= time,
            (HealthBehaviour::After(_), None) | (HealthBehaviour::Never, _) => false,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { invocation: self.seen.invocation, memory_current: Some(1 << 20), ..Usage::default() }
    }
}
