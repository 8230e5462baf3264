//! The nftables table `inet nixmox`: published ports and the way out for containers.
//!
//! Owns that table alone, as a pure function of `FirewallTable` (`ruleset`), replaced in one transaction and read back
//! into one (`read`). Rules of others are only looked at, for what stands in our way (`obstacles`). Containers have
//! IPv4 addresses, so everything here is IPv4: a port published on an IPv6 address is in the table, and leads nowhere.
//!
//! ```text
//! LAN ────▶ prerouting: DNAT ──▶ forward ──▶ ve-NAME          localhost ──▶ output: DNAT ──▶ postrouting ──▶ ve-NAME
//! ve-NAME ─▶ forward ──▶ postrouting: masquerade ──▶ LAN      all but lo ─▶ guard: nothing to 127.0.0.0/8
//! ```

mod listeners;
mod nft;
mod obstacles;
mod read;
mod ruleset;

use std::sync::{Mutex, PoisonError};

use nixmox_core::network::FirewallTable;

use super::{StepError, netlink};

pub(super) use listeners::check_ports_free;
pub(super) use ruleset::protocol;

/// The firewall of the host.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    /// What was read last, and of which ruleset: the kernel numbers them.
    last: Mutex<Option<(u32, Option<FirewallTable>)>>,
}

impl Firewall {
    /// Replaces our table.
    ///
    /// # Errors
    /// `StepError::Firewall` with what nft said; the table is then as it was.
    pub(super) async fn replace(&self, table: &FirewallTable) -> Result<(), StepError> {
        let before = generation().await;
        nft::apply(&ruleset::replacement(table)).await?;
        // The kernel counts transactions. Where ours was the only one, the next look need not ask nft what it was just
        // told.
        let ours = before.map(|before| before.wrapping_add(1));
        if let Some(after) = generation().await.filter(|after| Some(*after) == ours) {
            let table = Some(table.clone()).filter(|table| !table.is_empty());
            self.keep(after, table);
        }
        Ok(())
    }

    /// Reads our table; `None` when it is missing or holds anything that is not ours.
    ///
    /// Asks nft only when the ruleset changed since it was asked last.
    pub(super) async fn read(&self) -> Option<FirewallTable> {
        // Before the table: a change in between makes the next look read again.
        let generation = generation().await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(generation), Some((known, table))) = (generation, last)
            && generation == known
        {
            return table;
        }
        let table = match nft::list_table().await {
            Ok(listed) => listed.and_then(|listed| read::table(&listed)),
            Err(error) => {
                tracing::warn!(%error, "cannot read the firewall table");
                return None;
            }
        };
        if let Some(generation) = generation {
            self.keep(generation, table.clone());
        }
        table
    }

    fn keep(&self, generation: u32, table: Option<FirewallTable>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, table));
    }

    /// Returns what keeps published ports from working though our table is right, each with the way out.
    pub(super) async fn obstacles(&self, table: &FirewallTable) -> Vec<String> {
        if table.is_empty() {
            return Vec::new();
        }
        let chains = nft::list_chains().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read the chains of others");
            None
        });
        obstacles::find(table, chains.as_ref())
    }
}

/// Returns the number of the kernel's ruleset; `None` where it has none.
async fn generation() -> Option<u32> {
    match tokio::task::spawn_blocking(netlink::ruleset_generation).await {
        Ok(Ok(generation)) => Some(generation),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the kernel does not number its rulesets");
            None
        }
        // The runtime shuts down.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests;
