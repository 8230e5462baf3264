//! From nftables objects back to the table of published ports.
//!
//! What the comments say is taken, the table is built anew from it, and only when that is what was listed, rule by
//! rule and in order, is it returned: a rule that somebody added, changed or removed makes the table not ours.

use std::net::{IpAddr, Ipv4Addr};

use nixmox_core::model::{Addresses, Port, Protocol};
use nixmox_core::network::{FirewallTable, Forward, Guest};
use serde_json::Value;

use super::ruleset::{FORWARD_CHAINS, GUEST_CHAIN, objects};

/// Returns the table that was listed; `None` when it is not exactly one of ours.
///
/// Compared as JSON: the crate's types would have to be read for all that nft can say, which takes more of the program
/// than all else that it does with them.
pub(super) fn table(listed: &Value) -> Option<FirewallTable> {
    let mut found = Vec::new();
    let mut table = FirewallTable::default();
    for object in listed["nftables"].as_array()? {
        if object.get("metainfo").is_some() {
            continue;
        }
        if let Some(comment) = object["rule"]["comment"].as_str() {
            let chain = object["rule"]["chain"].as_str()?;
            if FORWARD_CHAINS.contains(&chain) {
                table.forwards.insert(forward(comment)?);
            } else if chain == GUEST_CHAIN {
                table.guests.insert(guest(comment)?);
            }
        }
        found.push(without_handle(object.clone()));
    }
    let ours: Option<Vec<Value>> =
        objects(&table).into_iter().map(|object| serde_json::to_value(object).ok()).collect();
    (Some(found) == ours).then_some(table)
}

/// Takes away what the kernel numbers objects with.
fn without_handle(mut object: Value) -> Value {
    for (_, inner) in object.as_object_mut().into_iter().flatten() {
        if let Some(fields) = inner.as_object_mut() {
            fields.remove("handle");
        }
    }
    object
}

fn forward(comment: &str) -> Option<Forward> {
    let (on, to) = comment.split_once(' ')?;
    let (on, protocol) = on.rsplit_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let (host_address, host_port) = match on.rsplit_once(':') {
        None => (None, on),
        Some((address, port)) => {
            let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
            (Some(address.parse::<IpAddr>().ok()?), port)
        }
    };
    let (to, container_port) = to.split_once(':')?;
    let (host_port, container_port) = (host_port.parse().ok()?, container_port.parse().ok()?);
    Some(Forward { port: Port { host_address, host_port, container_port, protocol }, to: to.parse().ok()? })
}

fn guest(comment: &str) -> Option<Guest> {
    let mut words = comment.split(' ');
    let name = words.next()?.parse().ok()?;
    let mut address = || words.next()?.parse::<Ipv4Addr>().ok();
    Some(Guest { name, addresses: Addresses { host: address()?, local: address()? } })
}
