//! Whether packets from the host's loopback addresses leave through a container's link, which ports published on localhost need.
//!
//! `route_localnet` of a link (kernel, networking/ip-sysctl) works in both directions: what keeps a guest from the services on the host's
//! loopback is the `guard` chain of our table alone. So it is set only on links of our own containers that the table leads to, only
//! while that table is in place and whole, and unset before the table goes. A ruleset that is flushed while no agent runs is the one
//! gap: the next agent closes it at its first look.

use std::collections::BTreeMap;
use std::io;
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
        open.retain(|name, running| running.loopback.is_open == Some(true) && !reached.contains(name));
        let shut: BTreeMap<ContainerName, Running> = self
            .blocking(move |_| {
                for (name, running) in &mut open {
                    running.let_loopback_in(name, false);
                }
                Ok(open)
            })
            .await?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, shut) in shut {
            running.entry(name).and_modify(|running| running.loopback = shut.loopback);
        }
        Ok(())
    }
}

/// What was done about the link of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loopback {
    /// Whether packets from the host's loopback addresses leave through it; `None`: nothing was done about that.
    is_open: Option<bool>,
    /// Whether it was said that this fails.
    warned: bool,
}

impl Running {
    fn let_loopback_in(&mut self, name: &ContainerName, open: bool) {
        // Its link is there, and has its addresses, once it is active.
        if open && !self.is_active {
            return;
        }
        let (is_active, value) = (self.is_active, if open { "1" } else { "0" });
        self.loopback.follow(name, open, || match netlink::link(&format!("ve-{name}"))? {
            Some(link) => std::fs::write(link.ipv4_settings().join("route_localnet"), value).map(|()| true),
            // One that starts may get it yet.
            None => Ok(is_active),
        });
    }
}

impl Loopback {
    /// Sets it once: who changes it later means to. What fails, or is not done yet (`false`), is tried at the next look.
    fn follow(&mut self, name: &ContainerName, open: bool, set: impl FnOnce() -> io::Result<bool>) {
        if self.is_open == Some(open) {
            return;
        }
        match set() {
            Ok(true) => *self = Self { is_open: Some(open), warned: false },
            Err(error) if !self.warned => {
                self.warned = true;
                let effect = if open {
                    "its ports will not answer on localhost"
                } else {
                    "it may reach the host's loopback"
                };
                tracing::warn!(container = %name, %error, "cannot set route_localnet: {effect}");
            }
            Ok(false) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_set_is_tried_again_until_it_is_and_then_left_alone() {
        let name: ContainerName = "web".parse().unwrap();
        let mut loopback = Loopback::default();
        loopback.follow(&name, true, || Ok(true));
        loopback.follow(&name, false, || Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(loopback.is_open, Some(true), "it is open still");
        assert!(loopback.warned);
        loopback.follow(&name, false, || Ok(false));
        let mut tries = 0;
        for _ in 0..3 {
            loopback.follow(&name, false, || {
                tries += 1;
                Ok(true)
            });
        }
        assert_eq!((tries, loopback.is_open, loopback.warned), (1, Some(false), false));
    }
}
