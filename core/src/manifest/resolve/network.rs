//! How a container is reached: which keys go with which mode.

use super::Scope;
use crate::manifest::form::{Entry, Misfit};
use crate::manifest::v1::{self, NetworkMode};
use crate::model::{Network, Port};

/// Longest name of a network interface (`IFNAMSIZ` of the kernel, less the final NUL).
const INTERFACE_LENGTH_MAX: usize = 15;

/// The network and its ports.
pub(super) struct Reached {
    pub(super) network: Network,
    pub(super) ports: Vec<Port>,
}

/// Returns how the container is reached.
pub(super) fn resolve(scope: &mut Scope<'_>, written: Option<&v1::Network>) -> Reached {
    let Some(written) = written else {
        return Reached { network: Network::Private { address: None }, ports: Vec::new() };
    };
    let mode = written.mode.get().copied().unwrap_or_default();
    let bridge = bridge(scope, written, mode);
    if mode != NetworkMode::Private && !matches!(written.mode, Entry::Unreadable) {
        let (word, where_instead) = match mode {
            NetworkMode::Private => ("private", ""),
            NetworkMode::Bridge => {
                ("bridge", "the guest has its address and its open ports on the bridge's network")
            }
            NetworkMode::Host => ("host", "the guest listens on the host itself"),
        };
        for key in written.keys.iter().filter(|key| matches!(key.value, "ports" | "address")) {
            let error = scope.error(&key.span, format!("`{}` has no meaning with `mode = \"{word}\"`", key.value));
            scope.report(error.help(format!("leave it out: {where_instead}")));
        }
    }
    let network = match (mode, bridge) {
        (NetworkMode::Private, _) => Network::Private { address: written.address.get().copied() },
        (NetworkMode::Bridge, Some(bridge)) => Network::Bridge(bridge),
        // What is missing was complained about.
        (NetworkMode::Bridge, None) | (NetworkMode::Host, _) => Network::Host,
    };
    let ports = written.ports.get().into_iter().flatten().map(|port| port.value.clone()).collect();
    Reached { network, ports }
}

fn bridge(scope: &mut Scope<'_>, written: &v1::Network, mode: NetworkMode) -> Option<String> {
    let readable = !matches!(written.mode, Entry::Unreadable);
    let Some(bridge) = written.bridge.located() else {
        if mode == NetworkMode::Bridge
            && written.bridge.is_absent()
            && let Some(mode) = written.mode.located()
        {
            let error = scope.error(&mode.span, "`mode = \"bridge\"` needs a `bridge`");
            scope.report(error.help("for example `network = { mode = \"bridge\", bridge = \"br0\" }`"));
        }
        return None;
    };
    if mode != NetworkMode::Bridge && readable {
        let key = written.keys.iter().find(|key| key.value == "bridge");
        let error = scope.error(key.map_or(&bridge.span, |key| &key.span), "`bridge` needs `mode = \"bridge\"`");
        scope.report(error);
    }
    let name = bridge.value.as_str();
    // What the kernel takes is wider (`dev_valid_name`); nobody names a bridge so.
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let valid = !name.is_empty()
        && name.len() <= INTERFACE_LENGTH_MAX
        && !name.starts_with(['-', '.'])
        && name.chars().all(known);
    let misfit = || {
        Misfit::new(format!("`{name}` is not the name of a bridge"))
            .help("1 to 15 letters, digits, `-`, `_` and `.`, for example \"br0\"")
    };
    scope.fit(bridge, valid.then(|| name.to_owned()).ok_or_else(misfit))
}
