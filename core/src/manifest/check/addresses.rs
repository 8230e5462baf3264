//! Fixed addresses: inside the pool, and of one service each.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::super::diagnostic::{Diagnostic, Place};
use super::super::resolve::Candidate;
use super::super::source::Span;
use crate::model::{AddressPool, Network};

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
}
