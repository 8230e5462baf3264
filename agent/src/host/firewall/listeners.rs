//! Ports of the host that other programs listen on.
//!
//! A published port would take such a port's packets away without a word of the kernel, so it is looked for before the
//! start. Containers with a network of their own are not seen here, and not meant.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nixmox_core::model::{Port, Protocol};
use procfs::net::{TcpState, UdpState};
use procfs::process::FDTarget;

use crate::host::StepError;

/// A socket that waits for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    protocol: Protocol,
    address: SocketAddr,
    inode: u64,
}

/// Checks that nobody listens on a port that is to be published. Blocks: reads `/proc`.
///
/// # Errors
/// `PortTaken` with the program, for the first port that is.
pub(in crate::host) fn check_ports_free(ports: &[Port]) -> Result<(), StepError> {
    if ports.is_empty() {
        return Ok(());
    }
    let listeners = listeners();
    for port in ports {
        if let Some(listener) = listeners.iter().find(|listener| is_taken_by(port, listener)) {
            return Err(StepError::PortTaken {
                address: port.host_address.unwrap_or(listener.address.ip()),
                port: port.host_port,
                protocol: port.protocol,
                owner: owner(listener.inode).unwrap_or_else(|| "another program".to_owned()),
            });
        }
    }
    Ok(())
}

/// Returns whether packets to a published port would have been this listener's.
fn is_taken_by(port: &Port, listener: &Listener) -> bool {
    if port.protocol != listener.protocol || port.host_port != listener.address.port() {
        return false;
    }
    match (port.host_address, listener.address.ip()) {
        // All IPv4 addresses are published. A socket on :: takes IPv4 as well, unless it says IPV6_V6ONLY, which
        // /proc does not show.
        (None, IpAddr::V4(_)) => true,
        (None, IpAddr::V6(address)) => address.is_unspecified() || address.to_ipv4_mapped().is_some(),
        (Some(published), IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => published.is_ipv4(),
        (Some(published), IpAddr::V6(address)) if address.is_unspecified() => {
            published.is_ipv4() || published.is_ipv6()
        }
        (Some(published), address) => published == address.to_canonical(),
    }
}

fn listeners() -> Vec<Listener> {
    let tcp = [procfs::net::tcp(), procfs::net::tcp6()].into_iter().flatten().flatten();
    let tcp = tcp.filter(|entry| entry.state == TcpState::Listen).map(|entry| Listener {
        protocol: Protocol::Tcp,
        address: entry.local_address,
        inode: entry.inode,
    });
    // A socket with a peer of its own (a query of a resolver) waits for that peer alone.
    let udp = [procfs::net::udp(), procfs::net::udp6()].into_iter().flatten().flatten();
    let udp = udp.filter(|entry| entry.state == UdpState::Close).map(|entry| Listener {
        protocol: Protocol::Udp,
        address: entry.local_address,
        inode: entry.inode,
    });
    tcp.chain(udp).collect()
}

/// Returns the program that holds a socket, as `NAME (pid N)`.
fn owner(inode: u64) -> Option<String> {
    for process in procfs::process::all_processes().ok()?.flatten() {
        let Ok(mut fds) = process.fd() else { continue };
        let holds = fds.any(|fd| fd.is_ok_and(|fd| matches!(fd.target, FDTarget::Socket(held) if held == inode)));
        if holds {
            let name = process.stat().map_or_else(|_| "a program".to_owned(), |stat| stat.comm);
            return Some(format!("{} (pid {})", crate::host::line::clean(&name), process.pid));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(host_address: Option<&str>, host_port: u16, protocol: Protocol) -> Port {
        let host_address = host_address.map(|text| text.parse().unwrap());
        Port { host_address, host_port, container_port: 80, protocol }
    }

    #[test]
    fn names_the_program_that_listens_on_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let error = check_ports_free(&[port(None, number, Protocol::Tcp)]).unwrap_err();
        let StepError::PortTaken { port: taken, owner, .. } = error else { panic!("{error}") };
        assert_eq!(taken, number);
        assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
        check_ports_free(&[port(None, number, Protocol::Udp)]).unwrap();
        check_ports_free(&[port(Some("127.0.0.2"), number, Protocol::Tcp)]).unwrap();
        drop(listener);
        check_ports_free(&[port(None, number, Protocol::Tcp)]).unwrap();
    }

    #[test]
    fn a_socket_with_a_peer_takes_no_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        check_ports_free(&[port(None, number, Protocol::Udp)]).unwrap_err();
        socket.connect("127.0.0.1:9").unwrap();
        check_ports_free(&[port(None, number, Protocol::Udp)]).unwrap();
    }

    #[test]
    fn addresses_decide_who_takes_a_port() {
        let taken = |published: Option<&str>, listening: &str| {
            let address = SocketAddr::new(listening.parse().unwrap(), 80);
            let listener = Listener { protocol: Protocol::Tcp, address, inode: 0 };
            is_taken_by(&port(published, 80, Protocol::Tcp), &listener)
        };
        assert!(taken(None, "0.0.0.0") && taken(None, "::") && taken(None, "192.168.1.5"));
        assert!(!taken(None, "::1"), "published ports are IPv4");
        assert!(taken(Some("127.0.0.1"), "0.0.0.0") && taken(Some("127.0.0.1"), "::"));
        assert!(taken(Some("127.0.0.1"), "127.0.0.1") && !taken(Some("127.0.0.1"), "192.168.1.5"));
    }
}
