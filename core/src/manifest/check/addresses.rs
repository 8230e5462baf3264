//! Addresses: fixed ones inside the pool, of one service each and with one beside them for the host, and enough for all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::super::diagnostic::{Diagnostic, Place};
use super::super::resolve::{Candidate, SystemRef};
use super::super::source::Span;
use crate::model::{AddressPool, Network};
use crate::network::{self, AllocateError};

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
    // What was complained about above would be once more.
    let refused = |candidate: &Candidate<'_>, address: Option<Ipv4Addr>| {
        address.is_some_and(|address| taken.get(&address).is_none_or(|(first, _)| first.name() != candidate.name()))
    };
    let requests = candidates.iter().filter_map(|candidate| {
        let service = &candidate.declared.service;
        let Network::Private { address: fixed } = service.network else { return None };
        let numbered = service.system != SystemRef::Adopted && !refused(candidate, fixed);
        numbered.then(|| (candidate.name().clone(), network::Request { pool, fixed }))
    });
    let nobody = (BTreeMap::new(), BTreeSet::new());
    let unnumbered = network::allocate(&requests.collect(), &nobody.0, &nobody.1).err().unwrap_or_default();
    let mut is_full = false;
    for error in unnumbered {
        // Told once: the first that finds no room stands for all.
        let exhausted = matches!(error, AllocateError::PoolExhausted { .. });
        if exhausted && std::mem::replace(&mut is_full, true) {
            continue;
        }
        let Some(candidate) = candidates.iter().find(|candidate| candidate.name() == error.name()) else {
            continue;
        };
        let fixed = taken.values().find(|(owner, _)| owner.name() == error.name()).map(|(_, span)| *span);
        let message = match &error {
            AllocateError::PoolExhausted { .. } => error.to_string(),
            AllocateError::Taken { address, .. } => {
                format!("no address beside {address} is left, and the host needs one for its end of the link")
            }
        };
        let error_at = Diagnostic::error(candidate.source, fixed.unwrap_or(&candidate.span), message);
        findings.push(error_at.help(error.help()));
    }
}
