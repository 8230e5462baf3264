//! Published ports, names, several stacks on one host, saved plans and exit codes, with real connections and real commands.
//!
//! All tests share one booted host. Those that disturb every service of it, or need that nobody makes a generation
//! meanwhile, have it to themselves.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says what it expected")]

mod codes;
mod from;
mod names;
mod ports;
mod repair;
mod saved;
mod stacks;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use nixmox_testbed::Behaviour;
use nixmox_tests::shared::{Host, Shared};

/// Longest wait for anything that takes no restart, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

static SHARED: Shared = Shared::new();
static LAN: Mutex<()> = Mutex::new(());
static WHOLE_HOST: RwLock<()> = RwLock::new(());

/// Returns the host, for a test that disturbs nothing but services of its own.
fn host() -> (Arc<Host>, RwLockReadGuard<'static, ()>) {
    (boot(), WHOLE_HOST.read().unwrap_or_else(PoisonError::into_inner))
}

/// Returns the host to a test that runs alone on it.
fn whole_host() -> (Arc<Host>, RwLockWriteGuard<'static, ()>) {
    (boot(), WHOLE_HOST.write().unwrap_or_else(PoisonError::into_inner))
}

fn boot() -> Arc<Host> {
    let host = SHARED.host("network").expect("the host boots");
    let _one = LAN.lock().unwrap_or_else(PoisonError::into_inner);
    host.add_lan().expect("the local network is made");
    host
}

/// Returns the table of a service that answers HTTP on port 80, is asked for its health there, and has these keys.
fn web(host: &Host, name: &str, keys: &str) -> String {
    let system = host.guest("web", &Behaviour::new().http(80)).expect("a system");
    service(name, &system, keys)
}

/// The same with a system of its own.
fn service(name: &str, system: &str, keys: &str) -> String {
    format!(
        "[services.{name}]\nsystem = \"{system}\"\n{keys}\n[services.{name}.health]\nhttp = \"http://localhost/\"\ninterval = \"1s\""
    )
}
