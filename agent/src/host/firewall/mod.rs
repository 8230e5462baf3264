//! The nftables table `inet nixmox`: published ports and the way out for containers.
//!
//! Owns that table alone, as a pure function of `FirewallTable` (`ruleset`), replaced in one transaction and read back
//! into one (`read`). Rules of others are only looked at, for what stands in our way (`obstacles`). Containers have
//! IPv4 addresses, so everything here is IPv4: a port published on an IPv6 address is in the table, and leads nowhere.
//!
//! ```text
//! LAN ────▶ prerouting: DNAT ──▶ forward ──▶ ve-NAME          localhost ──▶ output: DNAT ──▶ postrouting ──▶ ve-NAME
//! ve-NAME ─▶ guard: nothing to 127.0.0.0/8 ──▶ forward ──▶ postrouting: masquerade ──▶ LAN
//! ```

mod listeners;
mod nft;
mod obstacles;
mod read;
mod ruleset;

use std::sync::{Mutex, PoisonError};

use nixmox_core::network::FirewallTable;

use super::{StepError, netlink};

use obstacles::Dropping;

pub(super) use listeners::check_ports_free;
pub(super) use obstacles::{of_kernel, on_ipv6};
pub(super) use ruleset::protocol;

/// The firewall of the host.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    /// What was read last, and of which ruleset: the kernel numbers them.
    last: Mutex<Option<(u32, Seen)>>,
}

/// What there is in the host's ruleset.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Our table; `None` when it is missing or holds anything that is not ours.
    pub(super) table: Option<FirewallTable>,
    /// The chains of others that drop forwarded packets, each with the way out.
    pub(super) obstacles: Vec<String>,
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
        // told, and what of others stands in the way is as it was.
        let ours = before.map(|before| before.wrapping_add(1));
        if let Some(after) = generation().await.filter(|after| Some(*after) == ours)
            && let Some(known) = self.known(before)
        {
            let table = Some(table.clone()).filter(|table| !table.is_empty());
            self.keep(after, Seen { table, ..known });
        }
        Ok(())
    }

    /// Reads our table, and what of others stands in its way. Asks nft only when the ruleset changed since it was asked
    /// last.
    pub(super) async fn read(&self) -> Seen {
        // Before the table: a change in between makes the next look read again.
        let generation = generation().await;
        if let Some(seen) = self.known(generation) {
            return seen;
        }
        match look().await {
            Ok(seen) => {
                if let Some(generation) = generation {
                    self.keep(generation, seen.clone());
                }
                seen
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the firewall table");
                Seen::default()
            }
        }
    }

    /// Returns what was read of this ruleset.
    fn known(&self, generation: Option<u32>) -> Option<Seen> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, seen) = last.as_ref()?;
        (Some(*known) == generation).then(|| seen.clone())
    }

    fn keep(&self, generation: u32, seen: Seen) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((generation, seen));
    }
}

async fn look() -> Result<Seen, StepError> {
    let (listed, chains) = futures_util::join!(nft::list_table(), nft::list_chains());
    let table = listed?.and_then(|listed| read::table(&listed));
    // What others have is not what ours depends on: where it cannot be read, nothing is said of it.
    let unreadable = |error: StepError| tracing::debug!(%error, "cannot read the chains of others");
    let chains = chains.map_err(unreadable).ok().flatten();
    let mut obstacles = Vec::new();
    for dropping in chains.iter().flat_map(obstacles::dropping) {
        let Dropping { family, table, chain } = &dropping;
        let rules = nft::list_chain(family, table, chain).await.map_err(unreadable).ok().flatten();
        if rules.is_some_and(|rules| !obstacles::accepts_guests(&rules)) {
            obstacles.push(dropping.to_string());
        }
    }
    Ok(Seen { table, obstacles })
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
