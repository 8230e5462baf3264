//! From nftables objects back to the table of published ports.
//!
//! What the comments say is taken, the table is built anew from it, and only when that is what was listed, rule by
//! rule and in order, is it returned: a rule that somebody added, changed or removed makes the table not ours.

use std::net::{IpAddr, Ipv4Addr};

use nftables::schema::{NfListObject, NfObject, Nftables};
use nixmox_core::model::{Addresses, Port, Protocol};
use nixmox_core::network::{FirewallTable, Forward, Guest};

use super::ruleset::{FORWARD_CHAINS, GUEST_CHAIN, objects};

/// Returns the table that was listed; `None` when it is not exactly one of ours.
pub(super) fn table(listed: &Nftables<'static>) -> Option<FirewallTable> {
    let mut found = Vec::new();
    let mut table = FirewallTable::default();
    for object in listed.objects.iter() {
        let NfObject::ListObject(object) = object else { return None };
        match object {
            NfListObject::MetainfoObject(_) => continue,
            NfListObject::Rule(rule) => {
                if let Some(comment) = &rule.comment {
                    if FORWARD_CHAINS.contains(&rule.chain.as_ref()) {
                        table.forwards.insert(forward(comment)?);
                    } else if rule.chain == GUEST_CHAIN {
                        table.guests.insert(guest(comment)?);
                    }
                }
            }
            // Not our enum. Whatever else there is is compared below.
            _ => {}
        }
        found.push(without_handle(object.clone()));
    }
    (found == objects(&table)).then_some(table)
}

fn without_handle(mut object: NfListObject<'static>) -> NfListObject<'static> {
    match &mut object {
        NfListObject::Table(table) => table.handle = None,
        NfListObject::Chain(chain) => chain.handle = None,
        NfListObject::Rule(rule) => rule.handle = None,
        // Not our enum: nothing else is in a table of ours.
        _ => {}
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
