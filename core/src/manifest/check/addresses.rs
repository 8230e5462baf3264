//! Addresses: fixed ones inside the pool, of one service each and with one beside them for the host, and enough for all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::super::diagnostic::{Diagnostic, Place};
use super::super::resolve::{Candidate, SystemRef};
use super::super::source::Span;
use crate::model::{AddressPool, Network};
use crate::network;

/// Complains about fixed addresses that cannot be assigned.
pub(in super::super) fn addresses(candidates: &[Candidate<'_>], pool: AddressPool, findings: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<Ipv4Addr, (&Candidate<'_>, &Span)> = BTreeMap::new();
    for candidate in candidates {
        let Network::Private { .. } = candidate.declared.service.network else { continue };
        let written = candidate.written.network.get().and_then(|network| network.address.located());
        let Some(located) = written else { continue };
        let address = located.value;
        let error = |message: String| Diagnostic::error(candidate.source, &located.span, message);
        if !pool.contains(address) {
            let error = error(format!("{address} is not in the stack's pool, {pool}"));
            findings.push(error.help("choose one in it, or set `stack.address_pool`"));
        } else if address == pool.network() || address == pool.broadcast() {
            let error = error(format!("{address} is the first or last address of the pool, {pool}"));
            findings.push(error.help("these two mean the network as a whole"));
        } else if let Some((other, span)) = taken.get(&address) {
            let error = error(format!("`{}` and `{}` have the address {address}", other.name(), candidate.name()));
            let error = error.label("again here").related(Place::new(other.source, span, "first here"));
            findings.push(error.help("choose another, or leave it out: one is assigned and kept"));
        } else {
            taken.insert(address, (candidate, &located.span));
        }
    }
    let fixed = taken.iter().map(|(address, (candidate, _))| (candidate.name().clone(), *address));
    let requests = fixed.map(|(name, address)| (name, network::Request { pool, fixed: Some(address) })).collect();
    let lonely = network::allocate(&requests, &BTreeMap::new(), &BTreeSet::new()).err().unwrap_or_default();
    for error in lonely {
        let Some((candidate, span)) = taken.values().find(|(candidate, _)| candidate.name() == error.name()) else {
            continue;
        };
        let message = format!("both neighbours of this address are taken, and the host needs one: {error}");
        findings.push(Diagnostic::error(candidate.source, span, message).help(error.help()));
    }
    let numbered = |candidate: &&Candidate<'_>| {
        let service = &candidate.declared.service;
        matches!(service.network, Network::Private { .. }) && service.system != SystemRef::Adopted
    };
    let capacity = network::capacity(pool);
    if let Some(candidate) = candidates.iter().filter(numbered).nth(capacity) {
        let message = format!("no address is left in {pool}, which has room for {capacity} services");
        let error = Diagnostic::error(candidate.source, &candidate.span, message);
        findings.push(error.help("set `stack.address_pool` to a larger range"));
    }
}
