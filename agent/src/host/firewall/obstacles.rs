//! What of the host stands in the way of published ports.
//!
//! A packet must pass every table. One that drops forwarded packets by policy cannot be overruled from ours, so it is
//! named, with what to do about it.

use std::net::IpAddr;

use nftables::schema::{NfListObject, NfObject, Nftables};
use nftables::types::{NfChainPolicy, NfFamily, NfHook};
use nixmox_core::network::FirewallTable;

use super::ruleset::TABLE;

/// kernel, networking/ip-sysctl.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Finds all of them. `chains`: those of all tables, when they could be listed.
pub(super) fn find(table: &FirewallTable, chains: Option<&Nftables<'_>>) -> Vec<String> {
    let forwarding = std::fs::read_to_string(IP_FORWARD).map_or(true, |text| text.trim() != "0");
    let mut found = Vec::new();
    if !forwarding {
        found.push("the kernel forwards no packets: set net.ipv4.ip_forward = 1 (sysctl.d(5))".to_owned());
    }
    found.extend(chains.into_iter().flat_map(dropping));
    found.extend(on_ipv6(table));
    found
}

fn dropping(chains: &Nftables<'_>) -> Vec<String> {
    let chains = chains.objects.iter().filter_map(|object| match object {
        NfObject::ListObject(NfListObject::Chain(chain)) => Some(chain),
        // Not our enums: everything else is no chain.
        _ => None,
    });
    let drops = chains.filter(|chain| {
        chain.hook == Some(NfHook::Forward)
            && chain.policy == Some(NfChainPolicy::Drop)
            && matches!(chain.family, NfFamily::IP | NfFamily::INet)
            && chain.table != TABLE
    });
    let name = |family: NfFamily| if family == NfFamily::IP { "ip" } else { "inet" };
    drops
        .map(|chain| {
            let family = name(chain.family);
            format!(
                "chain {0} of the nftables table `{family} {1}` drops forwarded packets by policy; accept ours there: \
                 nft insert rule {family} {1} {0} iifname \"ve-*\" accept; nft insert rule {family} {1} {0} oifname \
                 \"ve-*\" accept",
                chain.name, chain.table
            )
        })
        .collect()
}

fn on_ipv6(table: &FirewallTable) -> Vec<String> {
    let ports = table.forwards.iter().filter_map(|forward| match forward.port.host_address {
        Some(IpAddr::V6(address)) => Some((address, forward.port.host_port)),
        Some(IpAddr::V4(_)) | None => None,
    });
    let text = |(address, port)| {
        format!(
            "port {port} is published on [{address}], but containers have IPv4 addresses only: use one of those"
        )
    };
    ports.map(text).collect()
}
