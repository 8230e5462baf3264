//! Whether packets from the host's loopback addresses leave through a container's link, which ports published on localhost need.
//!
//! `route_localnet` of a link (kernel, networking/ip-sysctl) works in both directions: what keeps a guest from the services on the host's
//! loopback is the `guard` chain of our table alone. So it is set only on links of our own containers that the table leads to, only
//! while that table is in place and whole, and unset before the table goes. A ruleset that is flushed while no agent runs is the one
//! gap: the next agent closes it at its first look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use nixmox_core::model::{ConfFile, ContainerName};
use nixmox_core::network::FirewallTable;

use super::Live;
use super::observe::Running;
use crate::host::{StepError, netlink};

/// Makes the links of running containers as the table that is in place wants them. Touches none that is not ours.
pub(super) fn follow<'a>(
    table: Option<&FirewallTable>,
    conf: impl Fn(&ContainerName) -> Option<&'a ConfFile>,
    running: &mut BTreeMap<ContainerName, Running>,
) {
    let reached = table.map(FirewallTable::reached_from_loopback).unwrap_or_default();
    for (name, running) in running {
        match conf(name) {
            Some(ConfFile::Ours(_)) => running.let_loopback_in(name, reached.contains(name)),
            Some(ConfFile::Absent | ConfFile::Foreign | ConfFile::Link) | None => {}
        }
    }
}

impl Live {
    /// Shuts out the host's loopback where the next table will not need it.
    pub(super) async fn shut_loopback_out(&self, next: &FirewallTable) -> Result<(), StepError> {
        let reached = next.reached_from_loopback();
        let mut open = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        open.retain(|name, running| running.loopback == Some(true) && !reached.contains(name));
        let shut: BTreeSet<ContainerName> = self
            .blocking(move |_| {
                for (name, running) in &mut open {
                    running.let_loopback_in(name, false);
                }
                Ok(open.into_keys().collect())
            })
            .await?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, running) in running.iter_mut().filter(|(name, _)| shut.contains(*name)) {
            running.loopback = Some(false);
        }
        Ok(())
    }
}

impl Running {
    /// Sets it once: who changes it later means to.
    fn let_loopback_in(&mut self, name: &ContainerName, open: bool) {
        // Its link is there, and has its addresses, once it is active.
        if self.loopback == Some(open) || open && !self.is_active {
            return;
        }
        self.loopback = Some(open);
        let set = netlink::link(&format!("ve-{name}")).and_then(|link| match link {
            Some(link) => std::fs::write(link.ipv4_settings().join("route_localnet"), if open { "1" } else { "0" }),
            None => Ok(()),
        });
        if let Err(error) = set {
            let effect =
                if open { "its ports will not answer on localhost" } else { "it may reach the host's loopback" };
            tracing::warn!(container = %name, %error, "cannot set route_localnet: {effect}");
        }
    }
}
