//! Health probes: from a declared probe to a question to the guest.

use std::time::Duration;

use nixmox_core::model::{ContainerName, Probe};
use tokio::time::{Instant, sleep, timeout_at};

use super::Live;
use crate::chain::chain;
use crate::guest_helper::{Question, Request};
use crate::host::{ProbeResult, StepError, line};

/// The wait before the host is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

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
        let end = Instant::now() + timeout;
        match timeout_at(end, self.leader_until(name, end)).await {
            Ok(Ok(Some(leader))) => {
                // What the host took of the time is not the guest's fault.
                let left = end.saturating_duration_since(Instant::now()).max(timeout / 2);
                let timeout_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                self.guests.ask(&Request { leader, unit: name.unit(), timeout_ms, question }).await
            }
            Ok(Ok(None)) => unhealthy("the container does not run"),
            Ok(Err(error)) => unhealthy(&chain(&error)),
            Err(_late) => unhealthy("the host's systemd does not answer"),
        }
    }

    /// Asks again while it is the host that does not answer: that says nothing about the guest.
    async fn leader_until(&self, name: &ContainerName, end: Instant) -> Result<Option<u32>, StepError> {
        loop {
            match self.leader(name).await {
                Err(error) if Instant::now() + ASK_PAUSE < end => {
                    tracing::debug!(%error, container = %name, "asked again");
                    sleep(ASK_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    /// Returns the guest's PID 1 when the container's unit is active and a machine is registered for it.
    pub(super) async fn leader(&self, name: &ContainerName) -> Result<Option<u32>, StepError> {
        // Closed at no time.
        let _turn = self.asks.acquire().await;
        let active = self.systemd.is_active(name).await?;
        if !active {
            return Ok(None);
        }
        let machine = self.machined.machine(name).await?;
        Ok(machine.filter(|machine| machine.unit == name.unit()).map(|machine| machine.leader))
    }
}
