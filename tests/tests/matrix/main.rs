//! What nixpkgs' own tests of containers assert, asserted of ours, on a real systemd. docs/nixos-containers.md names for each of them the
//! test that does.
//!
//! All tests share one booted host, on which each has a stack of its own. Those that take something away from every container have the
//! host to themselves.
#![allow(clippy::expect_used, reason = "a test says what it expected")]

mod disks;
mod life;
mod links;
mod machines;
mod names;
mod roots;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use nixmox_testbed::{Behaviour, Testbed};
use nixmox_tests::operator::Stack;
use nixmox_tests::shared::{Host, Shared};

/// Longest wait for anything that takes no restart.
const LIMIT: Duration = Duration::from_secs(20);

static SHARED: Shared = Shared::with_homelab();
static WHOLE_HOST: RwLock<()> = RwLock::new(());

/// Returns the host, for a test that disturbs nothing but services of its own.
fn host() -> (Arc<Host>, RwLockReadGuard<'static, ()>) {
    let held = WHOLE_HOST.read().unwrap_or_else(PoisonError::into_inner);
    (SHARED.host("matrix").expect("the host boots"), held)
}

/// Returns the host to a test that runs alone on it.
fn whole_host() -> (Arc<Host>, RwLockWriteGuard<'static, ()>) {
    let held = WHOLE_HOST.write().unwrap_or_else(PoisonError::into_inner);
    (SHARED.host("matrix").expect("the host boots"), held)
}

/// Returns the table of a service that answers HTTP on port 80, is asked for its health there, and has these keys.
fn web(host: &Host, name: &str, keys: &str) -> String {
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    format!(
        "[services.{name}]\nsystem = \"{system}\"\n{keys}\n[services.{name}.health]\nhttp = \"http://localhost/\"\ninterval = \"1s\""
    )
}

/// Returns the table of a service that boots a Debian and has these keys.
fn debian(bed: &Testbed, name: &str, keys: &str) -> String {
    let system = bed.homelab_systems().expect("its systems").remove("caddy").expect("caddy");
    format!(
        "[services.{name}]\nsystem = \"{system}\"\nhealth = {{ unit = \"caddy.service\", interval = \"1s\" }}\n{keys}"
    )
}

/// Runs a script in a guest that booted, by the guest's own systemd, and returns what it printed.
fn inside(bed: &Testbed, guest: &str, script: &str) -> String {
    bed.succeed(&format!("nixmoxctl exec {guest} -- sh -ec '{script}'")).expect("it runs inside")
}

/// Returns a property of a container's unit.
fn show(bed: &Testbed, name: &str, property: &str) -> String {
    bed.succeed(&format!("systemctl show -P {property} container@{name}")).expect("loaded")
}

/// Returns the address that a stack's status tells of a service.
fn address(stack: &Stack<'_>, name: &str) -> String {
    let address = stack.field(name, "address").expect("a status");
    assert!(!address.is_empty(), "{name} has an address");
    address
}

/// Returns a script that succeeds when an HTTP server answers the host there.
fn fetch(address: &str, port: u16) -> String {
    format!("curl -sf --noproxy '*' --max-time 1 http://{address}:{port}/")
}
