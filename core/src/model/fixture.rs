//! Plain values for tests: a service that declares as little as possible.

use std::net::Ipv4Addr;

use super::{Addresses, Assigned, ContainerName, GpuStanding, Service, StackName, StorePath, System};

pub(crate) fn name(text: &str) -> ContainerName {
    text.parse().unwrap()
}

pub(crate) fn store_path(letter: char, name: &str) -> StorePath {
    format!("/nix/store/{}-{name}", letter.to_string().repeat(32)).parse().unwrap()
}

/// A service of the stack `cloud` with nothing but a name and a system.
pub(crate) fn service(text: &str) -> Service {
    Service::new(name(text), "cloud".parse::<StackName>().unwrap(), System::Store(store_path('a', text)))
}

/// The same with the addresses `10.233.N.1` and `10.233.N.2`.
pub(crate) fn assigned(text: &str, n: u8) -> Assigned {
    let addresses = Addresses { host: Ipv4Addr::new(10, 233, n, 1), local: Ipv4Addr::new(10, 233, n, 2) };
    Assigned { service: service(text), addresses: Some(addresses), gpu: GpuStanding::None }
}
