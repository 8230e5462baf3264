//! Services for tests inside a testbed.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use nixmox_core::container::{self, Files, Layout};
use nixmox_core::model::{Addresses, Assigned, ContainerName, GpuStanding, Service, System};

/// The variable that holds the systems in the store: `NAME=PATH`, separated by commas.
pub(crate) const SYSTEMS: &str = "NIXMOX_TEST_SYSTEMS";

/// Parses a container's name.
pub(crate) fn name(text: &str) -> ContainerName {
    text.parse().expect("a name")
}

/// Returns a service of the stack `test` with the system of this name and a private network.
pub(crate) fn assigned(text: &str, system: &str, number: u8) -> Assigned {
    let systems = std::env::var(SYSTEMS).expect("set by the test outside");
    let none = format!("/nix/store/{}-none", "0".repeat(32));
    let path = systems.split(',').find_map(|entry| entry.strip_prefix(system)?.strip_prefix('='));
    let system = System::Store(path.unwrap_or(&none).parse().expect("a store path"));
    let service = Service::new(name(text), "test".parse().expect("a stack"), system);
    let addresses = Addresses { host: Ipv4Addr::new(10, 233, number, 1), local: Ipv4Addr::new(10, 233, number, 2) };
    Assigned { service, addresses: Some(addresses), gpu: GpuStanding::None }
}

/// Returns the texts of a service.
pub(crate) fn files(assigned: &Assigned) -> Files {
    let layout = Layout { agent: PathBuf::from("/usr/bin/true"), conf_in_run: false, copy_resolv_conf: false };
    container::files(assigned, &layout).expect("the texts can be carried")
}
