//! A machine on the same local network as the testbed's host: a network namespace behind a veth pair.
//!
//! What it sends arrives on an interface of the host that is not loopback, as traffic of other machines does.

use std::ffi::OsStr;

use anyhow::Result;

use crate::{bed::Testbed, exec::Output};

/// Address of the host on the local network.
pub const LAN_HOST_ADDRESS: &str = "192.0.2.1";
/// Address of the other machine.
pub const LAN_CLIENT_ADDRESS: &str = "192.0.2.2";

impl Testbed {
    /// Makes the local network: interface `lan0` on the host, network namespace `lan` for the other machine. Safe to repeat.
    pub fn add_lan(&self) -> Result<()> {
        self.succeed(&format!(
            "ip netns list | grep -qw lan && exit 0; set -e
             ip netns add lan
             ip link add lan0 type veth peer name eth0 netns lan
             ip addr add {LAN_HOST_ADDRESS}/24 dev lan0
             ip link set lan0 up
             ip -n lan addr add {LAN_CLIENT_ADDRESS}/24 dev eth0
             ip -n lan link set lo up
             ip -n lan link set eth0 up
             ip -n lan route add default via {LAN_HOST_ADDRESS}"
        ))
        .map(|_| ())
    }

    /// Runs a program on the other machine, as root; the file system is the host's.
    pub fn exec_from_lan<S: AsRef<OsStr>>(&self, argv: &[S]) -> Result<Output> {
        let prefix = ["ip", "netns", "exec", "lan"];
        let argv: Vec<&OsStr> = prefix.iter().map(OsStr::new).chain(argv.iter().map(AsRef::as_ref)).collect();
        self.exec(&argv)
    }
}
