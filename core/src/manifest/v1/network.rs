//! How a container is reached.

use std::net::Ipv4Addr;

use crate::manifest::form::{List, table, table_form, word};
use crate::model::Port;

/// Which network a container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own, behind a veth pair, with an address from the pool.
    #[default]
    Private,
    /// Its own, on a bridge of the host.
    Bridge,
    /// The host's.
    Host,
}

word!(NetworkMode {
    Private "private" "A network of its own: an address from the pool, NAT to the outside, published ports.",
    Bridge "bridge" "A veth pair on a bridge of the host; the guest gets its address there.",
    Host "host" "The host's own network: no isolation, no published ports.",
});

table! {
    /// How the container is reached.
    #[foreign(
        "network_mode" => "write `mode`",
        "expose" => "services of a stack reach each other on every port; `ports` publishes one on the host",
        "publish" => "write `ports`",
        "ipv4_address" => "write `address`",
        "hostname" => "the host name is the service's name",
        "aliases" => "names resolve by the service's name only",
    )]
    pub struct Network {
        /// Which network it has.
        #[key(Default("\"private\""), Restart, "network = { mode = \"bridge\", bridge = \"br0\" }")]
        pub mode: NetworkMode,

        /// A fixed address from the stack's pool, not its first or last; only with `mode = "private"`.
        #[key(Means("one is taken from the pool and kept"), Restart, "network = { address = \"10.233.7.2\" }")]
        pub address: Ipv4Addr,

        /// The bridge on the host that the container is a port of: an interface name of at most 15 characters.
        /// Needed with `mode = "bridge"`, and only there.
        #[key(Means("no bridge"), Restart, "network = { mode = \"bridge\", bridge = \"br0\" }")]
        pub bridge: String,

        /// Ports published on the host, for the local network and for the host's own `localhost`; only with `mode =
        /// "private"`. `"80"` publishes port 80 as it is, `"8080:80"` the container's 80 as 8080, `"443/udp"` is
        /// UDP, `"127.0.0.1:2019:2019"` publishes on one IPv4 address only. A number is the same as
        /// its text.
        #[key(Default("[]"), Live, "network = { ports = [\"80\", \"443/udp\", \"127.0.0.1:2019:2019\"] }")]
        pub ports: List<Port>,
    }
}

table_form!(Network, "a table such as `{ ports = [\"80\"] }`");
