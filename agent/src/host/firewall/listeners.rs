//! Ports of the host that other programs listen on.
//!
//! A published port would take such a port's packets away without a word of the kernel, so it is looked for before the
//! start. Containers with a network of their own are not seen here, and not meant.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nixmox_core::model::{ContainerName, Port, Protocol};
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

/// Checks that nobody listens on a port that is to be published, but for programs of containers that are about to be
/// stopped. Blocks: reads `/proc`.
///
/// # Errors
/// `PortTaken` with the program, for the first port that is.
pub(in crate::host) fn check_ports_free(ports: &[Port], ending: &BTreeSet<ContainerName>) -> Result<(), StepError> {
    if ports.is_empty() {
        return Ok(());
    }
    let listeners = listeners();
    for port in ports {
        for listener in listeners.iter().filter(|listener| is_taken_by(port, listener)) {
            let owner = owner(listener.inode);
            let container = owner.as_ref().and_then(|owner| owner.container.as_ref());
            if container.is_some_and(|container| ending.contains(container)) {
                continue;
            }
            return Err(StepError::PortTaken {
                address: port.host_address.unwrap_or(listener.address.ip()),
                port: port.host_port,
                protocol: port.protocol,
                owner: owner.map_or_else(|| "another program".to_owned(), |owner| owner.program),
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

/// Who holds a socket.
struct Owner {
    /// The program, as `NAME (pid N)`, with its container.
    program: String,
    /// The container that it is part of; `None`: none.
    container: Option<ContainerName>,
}

/// Returns who holds a socket; `None` when nobody is found, such as the kernel itself.
fn owner(inode: u64) -> Option<Owner> {
    for process in procfs::process::all_processes().ok()?.flatten() {
        let Ok(mut fds) = process.fd() else { continue };
        let holds = fds.any(|fd| fd.is_ok_and(|fd| matches!(fd.target, FDTarget::Socket(held) if held == inode)));
        if holds {
            let name = process.stat().map_or_else(|_| "a program".to_owned(), |stat| stat.comm);
            let cgroups = process.cgroups().map(|groups| groups.0).unwrap_or_default();
            let container = cgroups.iter().find_map(|group| container_of(&group.pathname));
            let of = container.as_ref().map(|container| format!(" of container `{container}`")).unwrap_or_default();
            let program = format!("{} (pid {}){of}", crate::host::line::clean(&name), process.pid);
            return Some(Owner { program, container });
        }
    }
    None
}

/// Returns the container of a cgroup such as `/machine.slice/container@web.service/payload`.
fn container_of(cgroup: &str) -> Option<ContainerName> {
    cgroup.split('/').find_map(ContainerName::from_unit)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn port(host_address: Option<&str>, host_port: u16, protocol: Protocol) -> Port {
        let host_address = host_address.map(|text| text.parse().unwrap());
        Port { host_address, host_port, container_port: 80, protocol }
    }

    fn check_free(ports: &[Port]) -> Result<(), StepError> {
        check_ports_free(ports, &BTreeSet::new())
    }

    #[test]
    fn a_program_of_a_container_is_told_by_its_cgroup() {
        let of = |cgroup: &str| container_of(cgroup).map(|name| name.to_string());
        assert_eq!(of("/machine.slice/container@web-1.service/payload/system.slice").as_deref(), Some("web-1"));
        assert_eq!(of("/machine.slice/container@web.service").as_deref(), Some("web"));
        assert_eq!(of("/system.slice/caddy.service"), None);
    }

    #[test]
    fn names_the_program_that_listens_on_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let error = check_free(&[port(None, number, Protocol::Tcp)]).unwrap_err();
        let StepError::PortTaken { port: taken, owner, .. } = error else { panic!("{error}") };
        assert_eq!(taken, number);
        assert!(owner.ends_with(&format!("(pid {})", std::process::id())), "{owner}");
        check_free(&[port(None, number, Protocol::Udp)]).unwrap();
        check_free(&[port(Some("127.0.0.2"), number, Protocol::Tcp)]).unwrap();
        drop(listener);
        // A child that another test starts has the socket as well, until it executes its program.
        let begun = std::time::Instant::now();
        while let Err(error) = check_free(&[port(None, number, Protocol::Tcp)]) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{error}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn a_socket_with_a_peer_takes_no_port() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = socket.local_addr().unwrap().port();
        check_free(&[port(None, number, Protocol::Udp)]).unwrap_err();
        socket.connect("127.0.0.1:9").unwrap();
        check_free(&[port(None, number, Protocol::Udp)]).unwrap();
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
