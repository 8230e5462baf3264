//! Health probes: from a declared probe to a question to the guest.

use std::time::Duration;

use nixmox_core::model::{ContainerName, Probe};

use super::Live;
use crate::guest_helper::{Question, Request};
use crate::host::{ProbeResult, StepError, line};

impl Live {
    pub(super) async fn probe_container(
        &self,
        name: &ContainerName,
        probe: Option<&Probe>,
        timeout: Duration,
    ) -> ProbeResult {
        let question = match probe {
            None | Some(Probe::Ready) => Question::Ready,
            Some(Probe::Http(url)) => Question::Http(url.clone()),
            Some(Probe::Tcp(port)) => Question::Tcp(*port),
            Some(Probe::Unit(unit)) => Question::Unit(unit.clone()),
            Some(Probe::Exec(command)) => Question::Exec(command.clone()),
        };
        let unhealthy =
            |why: &str| ProbeResult { healthy: false, output: line::clean(&format!("{question} -> {why}")) };
        match self.leader(name).await {
            Ok(Some(leader)) => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                self.guests.ask(&Request { leader, unit: name.unit(), timeout_ms, question }).await
            }
            Ok(None) => unhealthy("the container does not run"),
            Err(error) => unhealthy(&error.to_string()),
        }
    }

    /// Returns the guest's PID 1 when the container's unit is active and a machine is registered for it.
    pub(super) async fn leader(&self, name: &ContainerName) -> Result<Option<u32>, StepError> {
        let active = self.systemd.is_active(name).await?;
        if !active {
            return Ok(None);
        }
        let machine = self.machined.machine(name).await?;
        Ok(machine.filter(|machine| machine.unit == name.unit()).map(|machine| machine.leader))
    }
}
