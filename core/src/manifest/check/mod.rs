//! What services mean together: names, dependencies, ports, addresses.

mod addresses;
mod cycle;
mod dependencies;
mod names;
mod ports;

pub(super) use addresses::addresses;
pub(super) use cycle::cycles;
pub(super) use dependencies::dependencies;
pub(super) use names::names;
pub(super) use ports::{overlap, ports};
