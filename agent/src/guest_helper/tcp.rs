//! Does a TCP port of the guest accept a connection?

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};

use super::enter::{Guest, own_addresses};
use super::{Deadline, Found, Trouble};

pub(super) fn connect(guest: &Guest, port: u16, deadline: Deadline) -> Result<Found, Trouble> {
    guest.enter_network()?;
    let stream = open(&own_addresses(), port, deadline)?;
    let address =
        stream.peer_addr().map_or_else(|_| "connected".to_owned(), |peer| format!("{} connected", peer.ip()));
    Ok(Found { healthy: true, text: address })
}

/// Connects to the first of these addresses that accepts: services listen on loopback, on the container's address, or
/// on all of them.
pub(super) fn open(addresses: &[IpAddr], port: u16, deadline: Deadline) -> Result<TcpStream, Trouble> {
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), deadline.left()?) {
            Ok(stream) => return Ok(stream),
            // IPv6 may be off, which says nothing about the service: the refusal before it does.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => return Err(Trouble::TimedOut),
            Err(error) => last = error,
        }
    }
    Err(Trouble::Io(plain(last)))
}

/// The words of the kernel without the number.
fn plain(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::ConnectionRefused => io::Error::new(ErrorKind::ConnectionRefused, "connection refused"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_service_that_listens_on_its_address_alone_is_found() {
        let only_there = IpAddr::from([127, 0, 0, 7]);
        let listener = TcpListener::bind((only_there, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let deadline = Deadline(Instant::now() + Duration::from_secs(5));
        let loopback = [IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()];
        let error = open(&loopback, port, deadline).unwrap_err();
        assert_eq!(error.to_string(), "connection refused");
        open(&[&loopback[..], &[only_there]].concat(), port, deadline).unwrap();
    }
}
