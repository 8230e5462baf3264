//! Plain values for tests: a service that declares as little as possible.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{
    Addresses, Assigned, ContainerName, Kind, Limits, Network, Origin, PrivateUsers, Restart, RestartPolicy,
    Service, StackName, StorePath, System,
};

pub(crate) fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

pub(crate) fn store_path(letter: char, name: &str) -> StorePath {
    format!("/nix/store/{}-{name}", letter.to_string().repeat(32)).parse().unwrap()
}

/// A service of the stack `cloud` with nothing but a name and a system.
pub(crate) fn service(text: &str) -> Service {
    Service {
        name: name(text),
        stack: "cloud".parse::<StackName>().unwrap(),
        origin: Origin::default(),
        kind: Kind::Service,
        system: System::Store(store_path('a', text)),
        depends_on: BTreeMap::new(),
        health: None,
        limits: Limits::default(),
        network: Network::Private { address: None },
        ports: Vec::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
        credentials: BTreeMap::new(),
        environment: BTreeMap::new(),
        devices: Vec::new(),
        capabilities: Vec::new(),
        ephemeral: false,
        private_users: PrivateUsers::No,
        nspawn_flags: Vec::new(),
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: Duration::from_secs(1),
            delay_max: Duration::from_mins(5),
            attempts_max: None,
        },
    }
}

/// The same with the addresses `10.233.N.1` and `10.233.N.2`.
pub(crate) fn assigned(text: &str, n: u8) -> Assigned {
    let addresses = Addresses { host: Ipv4Addr::new(10, 233, n, 1), local: Ipv4Addr::new(10, 233, n, 2) };
    Assigned { service: service(text), addresses: Some(addresses) }
}
