//! Published ports that would meet on the host.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::diagnostic::{Diagnostic, Place};
use super::super::form::Located;
use super::super::resolve::Candidate;
use crate::model::{Network, Port, Protocol};

/// A published port with who publishes it.
type Published<'a> = (&'a Candidate<'a>, &'a Located<Port>);

/// Complains about each published port that an earlier one takes.
pub(in super::super) fn ports(candidates: &[Candidate<'_>], findings: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<(u16, Protocol), Vec<Published<'_>>> = BTreeMap::new();
    for candidate in candidates {
        if !matches!(candidate.declared.service.network, Network::Private { .. }) {
            continue;
        }
        let written = candidate.written.network.get().and_then(|network| network.ports.get());
        for port in written.into_iter().flatten() {
            let taken = taken.entry((port.value.host_port, port.value.protocol)).or_default();
            let Some((other, first)) = taken.iter().find(|(_, other)| overlap(&other.value, &port.value)) else {
                taken.push((candidate, port));
                continue;
            };
            let host_port = port.value.host_port;
            let message = if std::ptr::eq(*other, candidate) {
                format!("`{}` publishes port {host_port} twice", candidate.name())
            } else {
                format!("`{}` and `{}` publish port {host_port}", other.name(), candidate.name())
            };
            let error = Diagnostic::error(candidate.source, &port.span, message).label("again here");
            let error = error.related(Place::new(other.source, &first.span, "first here"));
            let container = port.value.container_port;
            let free = host_port.checked_add(8000).unwrap_or(8080);
            findings.push(error.help(format!("publish it elsewhere, for example \"{free}:{container}\"")));
        }
    }
}

/// Returns whether two published ports claim a common address, port and protocol of the host.
pub(in super::super) fn overlap(one: &Port, other: &Port) -> bool {
    let everywhere = |address: IpAddr| address.is_unspecified();
    let addresses = match (one.host_address, other.host_address) {
        (None, _) | (_, None) => true,
        (Some(one), Some(other)) => {
            one == other || (one.is_ipv4() == other.is_ipv4() && (everywhere(one) || everywhere(other)))
        }
    };
    addresses && one.host_port == other.host_port && one.protocol == other.protocol
}

#[cfg(test)]
mod tests {
    use super::super::super::form::Text as _;
    use super::*;

    #[test]
    fn ports_meet_on_a_common_address_only() {
        let port = |text: &str| match text.strip_suffix(" of IPv6") {
            // Of an older client; a manifest cannot say it any more.
            Some(address) => {
                Port { host_address: Some(address.parse().unwrap()), ..Port::from_text("80").unwrap() }
            }
            None => Port::from_text(text).unwrap(),
        };
        let meet = |one: &str, other: &str| overlap(&port(one), &port(other));
        assert!(meet("80", "127.0.0.1:80:8080"));
        assert!(meet("0.0.0.0:80:80", "127.0.0.1:80:80"));
        assert!(meet(":: of IPv6", "::1 of IPv6"));
        assert!(!meet("0.0.0.0:80:80", "::1 of IPv6"));
        assert!(!meet("127.0.0.1:80:80", "127.0.0.2:80:80"));
        assert!(!meet("443", "443/udp"));
        assert!(!meet("8080:80", "80"));
    }
}
