//! One simulated container.

use nixmox_core::container::Files;
use nixmox_core::model::{ActiveState, Assigned, ConfFile, Container, DropIn, ExitRecord, InvocationId, SpecField};
use tokio::time::Instant;

use super::HealthBehaviour;
use crate::host::{Figures, Pressure, Usage};

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
        if self.seen.can_switch && self.active() == ActiveState::Active {
            let system = files.spec.get(SpecField::System);
            self.seen.started_with = self.seen.started_with.take().map(|spec| spec.with(SpecField::System, system));
        }
        self.seen.limits.clone_from(&assigned.service.limits);
        self.seen.devices = assigned.device_rules();
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
            let (status, oom_kills) = (status.to_string(), self.seen.oom_kills.take().unwrap_or_default());
            self.seen.exit = Some(ExitRecord { invocation, spec, result, status, stopped, oom_kills });
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
        let ran = self.ran_usec();
        Usage {
            invocation: self.seen.invocation,
            began_usec: None,
            active_since_usec: None,
            memory_current: Some(1 << 20),
            // A tenth of one CPU, from the first moment on.
            cpu_usec: Some(ran / 10),
            tasks_current: Some(3),
        }
    }

    /// Returns figures that grow as time passes: 4 KiB a second read and 8 written, 1 received and 2 sent.
    pub(super) fn figures(&self) -> Figures {
        let bytes = |per_second: u64| Some(self.ran_usec().saturating_mul(per_second) / 1_000_000);
        let limits = &self.seen.limits;
        let calm = Pressure {
            full_avg10: Some(0.0),
            some_total_usec: Some(0),
            full_total_usec: Some(0),
            ..Pressure::default()
        };
        let waits = Pressure { some_avg10: 1.5, some_total_usec: Some(self.ran_usec() / 67), ..calm };
        Figures {
            cpu_pressure: Some(waits),
            memory_swap_current: Some(0),
            memory_max: limits.memory_max.map(|limit| limit.0),
            memory_high: limits.memory_high.map(|limit| limit.0),
            memory_pressure: Some(calm),
            oom_kills: Some(0),
            io_read_bytes: bytes(4 << 10),
            io_write_bytes: bytes(8 << 10),
            io_pressure: Some(calm),
            tasks_max: limits.tasks_max,
            network_receive_bytes: bytes(1 << 10),
            network_transmit_bytes: bytes(2 << 10),
        }
    }

    fn ran_usec(&self) -> u64 {
        self.active_since.map_or(0, |since| u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
