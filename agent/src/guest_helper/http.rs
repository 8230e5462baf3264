//! Requests of a guest in HTTP/1.1, and what answers them: of a health probe the status, of an engine its body as well.
//!
//! A client of its own, on purpose: it needs no name resolution (the address is the guest's), no TLS and no redirects, and what
//! answers is hostile until proven otherwise. A probe reads the status line and nothing more; see `message` for the rest.

pub(super) mod message;

use std::io::{ErrorKind, Read, Write};
use std::net::IpAddr;

use super::enter::{Guest, own_addresses};
use super::{Deadline, Found, Trouble, tcp};

/// Longest status line that is read: RFC 9112 section 3 asks for 8000 bytes of a request line; statuses are shorter.
const STATUS_LINE_BYTES_MAX: usize = 8192;
/// Statuses from here on are unhealthy.
const UNHEALTHY_FROM: u16 = 400;

pub(super) fn get(guest: &Guest, url: &str, deadline: Deadline) -> Result<Found, Trouble> {
    let url = Url::parse(url).ok_or_else(|| Trouble::Url(url.to_owned()))?;
    guest.enter_network()?;
    let status = request(&url.addresses(), &url, deadline)?;
    Ok(Found { healthy: status < UNHEALTHY_FROM, text: status.to_string() })
}

fn request(addresses: &[IpAddr], url: &Url<'_>, deadline: Deadline) -> Result<u16, Trouble> {
    let mut stream = tcp::open(addresses, url.port, deadline)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: nixmox\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.target, url.host
    );
    stream.set_write_timeout(Some(deadline.left()?)).map_err(Trouble::Io)?;
    stream.write_all(request.as_bytes()).map_err(timed)?;
    let mut line = Vec::new();
    let mut buffer = [0; 1024];
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_BYTES_MAX {
        stream.set_read_timeout(Some(deadline.left()?)).map_err(Trouble::Io)?;
        match stream.read(&mut buffer).map_err(timed)? {
            0 => break,
            read => line.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    status(&line).ok_or(Trouble::NotHttp)
}

fn timed(error: std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Trouble::TimedOut,
        _ => Trouble::Io(error),
    }
}

/// Reads a status line: RFC 9112 section 4.
fn status(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.split(|byte| *byte == b'\n').next()?.get(..12)?).ok()?;
    let code = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 "))?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

/// The parts of an `http://` URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    /// Host and port as written, for `Host:`.
    pub(super) host: &'a str,
    /// The host, when it is an address other than loopback.
    address: Option<IpAddr>,
    pub(super) port: u16,
    /// Path and query.
    target: String,
}

impl<'a> Url<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?;
        // A line break would be a header of its own.
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, target) = rest.split_at_checked(end)?;
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()?),
            Some(_) | None => (host, 80),
        };
        if name.is_empty() || port == 0 || host.contains('@') {
            return None;
        }
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse().ok();
        Some(Self { host, address: address.filter(|address: &IpAddr| !address.is_loopback()), port, target })
    }

    /// Returns where it is asked, in this order. To be called in the guest's network namespace.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        // An address is asked as it is; a name stands for the container, and chooses a virtual host.
        self.address.map_or_else(own_addresses, |address| vec![address])
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |text: &'static str| Url::parse(text).map(|url| (url.host, url.address, url.port, url.target));
        assert_eq!(url("http://localhost"), Some(("localhost", None, 80, "/".to_owned())));
        assert_eq!(url("http://a.b:81/x?y#z"), Some(("a.b:81", None, 81, "/x?y".to_owned())));
        assert_eq!(url("http://[::1]:81?q"), Some(("[::1]:81", None, 81, "/?q".to_owned())));
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(url("http://10.0.0.1/"), Some(("10.0.0.1", address, 80, "/".to_owned())));
        for bad in ["https://x/", "http://", "http://:80/", "http://x:99999/", "http://x/a b", "http://x/\r\nA: b"]
        {
            assert_eq!(Url::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_a_status_line_is_one() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"HTTP/1.0 503\n"), Some(503));
        for bad in [&b"HTTP/1.1 9"[..], b"SSH-2.0-OpenSSH_9.9\n", b"HTTP/1.1 999 x\n", b"", b"\xff\xff\xff\xff\n"] {
            assert_eq!(status(bad), None, "{bad:?}");
        }
    }

    /// Answers one connection with these bytes, then waits for its end.
    fn answering(bytes: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\nHost: localhost\r\n"));
            stream.write_all(bytes).unwrap();
            let _ = stream.read(&mut request);
        });
        port
    }

    fn ask(port: u16, limit: Duration) -> Result<u16, Trouble> {
        let url = Url { host: "localhost", address: None, port, target: "/health".to_owned() };
        request(&[IpAddr::from([127, 0, 0, 1])], &url, Deadline(Instant::now() + limit))
    }

    #[test]
    fn the_status_counts_and_the_rest_is_not_waited_for() {
        let limit = Duration::from_secs(5);
        assert_eq!(ask(answering(b"HTTP/1.1 503 Busy\r\n"), limit).unwrap(), 503);
        assert!(matches!(ask(answering(b"220 mail ready\r\n"), limit), Err(Trouble::NotHttp)));
        let silent = ask(answering(b"HTTP/1.1 2"), Duration::from_millis(50));
        assert!(matches!(silent, Err(Trouble::TimedOut)), "{silent:?}");
    }
}
