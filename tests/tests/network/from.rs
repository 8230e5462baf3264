//! Where a connection comes from, and whether it is answered.

use anyhow::Result;
use nixmox_testbed::Testbed;

use crate::LIMIT;

/// Seconds that a refused connection is waited for: nothing that answers here needs more than milliseconds.
const REFUSED: u32 = 1;

/// A place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From<'a> {
    /// The host itself.
    Host,
    /// The other machine of the local network.
    Lan,
    /// A running container of this name.
    Container(&'a str),
}

impl From<'_> {
    /// Returns the start of a command line that runs the rest there, with the host's programs.
    pub(crate) fn prefix(self) -> String {
        match self {
            Self::Host => String::new(),
            Self::Lan => "ip netns exec lan".to_owned(),
            Self::Container(name) => format!("nsenter -t $(machinectl show {name} -P Leader) -n"),
        }
    }

    /// Returns a script that succeeds when an HTTP server answers.
    fn http(self, address: &str, port: u16) -> String {
        format!("{} curl -sf --noproxy '*' --max-time {REFUSED} http://{address}:{port}/", self.prefix())
    }

    /// Returns a script that succeeds when a datagram comes back, from the address and port that it was sent to: the
    /// kernel gives a connected socket no other.
    fn udp(self, address: &str, port: u16) -> String {
        // One read takes a whole datagram, and `read` of bash would take a byte of each.
        let socket = format!(
            "exec 3<>/dev/udp/{address}/{port}; echo ping >&3; timeout {REFUSED} dd bs=64 count=1 status=none <&3 | grep -qx ping"
        );
        format!("{} bash -ec '{socket}'", self.prefix())
    }
}

/// What connections are made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To<'a> {
    /// An HTTP server at this address and port.
    Http(&'a str, u16),
    /// One that sends datagrams back.
    Udp(&'a str, u16),
}

fn script(from: From<'_>, to: To<'_>) -> String {
    match to {
        To::Http(address, port) => from.http(address, port),
        To::Udp(address, port) => from.udp(address, port),
    }
}

/// Waits until a connection is answered.
pub(crate) fn answers(bed: &Testbed, from: From<'_>, to: To<'_>) -> Result<()> {
    bed.wait_until(&script(from, to), LIMIT).map(drop)
}

/// Fails when a connection is answered.
pub(crate) fn is_silent(bed: &Testbed, from: From<'_>, to: To<'_>) -> Result<()> {
    // Where nothing can be run, nothing answers either.
    bed.succeed(&format!("{} true", from.prefix()))?;
    bed.fail(&script(from, to)).map(drop)
}

/// Waits until no rule names a port of the host; whether it answers tells nothing once its container has ended.
pub(crate) fn is_unpublished(bed: &Testbed, port: u16) -> Result<()> {
    let script = format!("rules=$(nft list ruleset) && ! grep -w {port} <<< $rules");
    bed.wait_until(&script, LIMIT).map(drop)
}
