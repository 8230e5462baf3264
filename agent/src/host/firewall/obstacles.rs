//! What of the host stands in the way of forwarded packets: of published ports, and of the containers' way out.
//!
//! A packet must pass every table. One that drops forwarded packets by policy cannot be overruled from ours, so it is
//! named, with what to do about it, until that was done.

use std::fmt;
use std::net::IpAddr;

use nixmox_core::network::FirewallTable;
use serde_json::Value;

use super::ruleset::{GUEST_LINKS, TABLE};

/// kernel, networking/ip-sysctl.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// Returns what is said of a kernel that forwards nothing.
pub(in crate::host) fn of_kernel() -> Option<String> {
    let forwards = std::fs::read_to_string(IP_FORWARD).map_or(true, |text| text.trim() != "0");
    (!forwards).then(|| "the kernel forwards no packets: sysctl net.ipv4.ip_forward=1, and sysctl.d(5)".to_owned())
}

/// A chain that drops forwarded packets by policy.
pub(super) struct Dropping {
    pub(super) family: &'static str,
    pub(super) table: String,
    pub(super) chain: String,
}

impl fmt::Display for Dropping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain } = self;
        write!(
            f,
            "chain {chain} of the nftables table `{family} {table}` drops forwarded packets by policy; accept the \
             containers' there: nft insert rule {family} {table} {chain} iifname \"{GUEST_LINKS}\" accept; nft insert \
             rule {family} {table} {chain} oifname \"{GUEST_LINKS}\" accept"
        )
    }
}

/// Finds them. `chains`: those of all tables, as nft lists them (libnftables-json(5)).
pub(super) fn dropping(chains: &Value) -> Vec<Dropping> {
    let chains = chains["nftables"].as_array().into_iter().flatten().filter_map(|object| object.get("chain"));
    let drops = chains.filter_map(|chain| {
        let is = |key: &str, word: &str| chain[key].as_str() == Some(word);
        let family = ["ip", "inet"].into_iter().find(|family| is("family", family))?;
        let (table, name) = (chain["table"].as_str()?, chain["name"].as_str()?);
        let drops = is("hook", "forward") && is("policy", "drop") && table != TABLE;
        drops.then(|| Dropping { family, table: table.to_owned(), chain: name.to_owned() })
    });
    drops.collect()
}

/// Returns whether some rule of a listed chain treats packets by the names of containers' links, and accepts them or
/// has another chain decide: then its owner thought of them, and what exactly passes is theirs to say.
///
/// Read without types: rules of others may hold what the crate does not know.
pub(super) fn accepts_guests(chain: &Value) -> bool {
    let objects = chain["nftables"].as_array().into_iter().flatten();
    let mut rules = objects.filter_map(|object| object["rule"]["expr"].as_array());
    let of_guests = |statement: &Value| {
        let link = statement["match"]["left"]["meta"]["key"].as_str();
        let names = &statement["match"]["right"];
        let mut names = names["set"].as_array().into_iter().flatten().chain([names]).filter_map(Value::as_str);
        matches!(link, Some("iifname" | "oifname")) && names.any(|name| name.starts_with("ve-"))
    };
    let passes =
        |statement: &Value| ["accept", "jump", "goto"].iter().any(|verdict| statement.get(verdict).is_some());
    rules.any(|rule| rule.iter().any(passes) && rule.iter().any(of_guests))
}

/// Returns what is said of ports that are published where containers have no address.
pub(in crate::host) fn on_ipv6(table: &FirewallTable) -> Vec<String> {
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
