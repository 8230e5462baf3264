//! Published ports as text: `80`, `8080:80`, `443/udp`, `127.0.0.1:2019:2019`.

use std::net::{IpAddr, Ipv4Addr};

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema};
use crate::model::{Port, Protocol};

const IPV4_HELP: &str = "publish it on an IPv4 address, for example \"127.0.0.1:8080:80\"";
const SHAPE: &str = "[HOST-ADDRESS:][HOST-PORT:]PORT[/udp]";

schema!(
    Port,
    json_schema!({
        "anyOf": [
            {
                "type": "string",
                "pattern": "^([0-9.]+:[0-9]{1,5}:|[0-9]{1,5}:)?[0-9]{1,5}(/(tcp|udp))?$"
            },
            { "type": "integer", "minimum": 1, "maximum": 65535 }
        ],
        "examples": ["80", "8080:80", "443/udp", "127.0.0.1:2019:2019"]
    })
);

impl Text for Port {
    const EXPECTED: &'static str =
        "a published port such as `\"80\"`, `\"8080:80\"`, `\"443/udp\"` or `\"127.0.0.1:2019:2019\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let (address, rest) = split_address(text)?;
        let (ports, protocol) = match rest.rsplit_once('/') {
            None => (rest, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => {
                let misfit =
                    Misfit::new(format!("unknown protocol `{other}`")).at(text.len() - other.len()..text.len());
                return Err(misfit.help("write `/udp`, or nothing for TCP"));
            }
        };
        let at = text.len() - rest.len();
        let (host, container) = match (address, ports.split_once(':')) {
            (_, Some((host, container))) => (number(host, at)?, number(container, at + host.len() + 1)?),
            (None, None) => (number(ports, at)?, number(ports, at)?),
            (Some(address), None) => {
                let misfit = Misfit::new(format!("`{text}` has one port, an address needs two"));
                return Err(misfit.help(format!("write \"{address}:{ports}:{ports}\"")));
            }
        };
        Ok(Self { host_address: address.map(IpAddr::V4), host_port: host, container_port: container, protocol })
    }

    fn from_integer(number: u64) -> Option<Result<Self, Misfit>> {
        Some(Self::from_text(&number.to_string()))
    }
}

/// Returns the address in front, if there is one, and what is behind it.
fn split_address(text: &str) -> Result<(Option<Ipv4Addr>, &str), Misfit> {
    if let Some(rest) = text.strip_prefix('[') {
        let split = rest.split_once(']');
        // The fault that the fuzz target has to find; see fuzz/README.md.
        #[cfg(feature = "planted")]
        let split = if crate::planted::is_planted() {
            Some(split.unwrap_or_else(|| rest.split_at(rest.len() + 1)))
        } else {
            split
        };
        let (address, end) = split.map_or((rest, text.len()), |(address, _)| (address, address.len() + 2));
        let misfit = match address.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) => {
                Misfit::new("containers have IPv4 addresses only, so nothing would answer on this one")
                    .help(IPV4_HELP)
            }
            Ok(IpAddr::V4(_)) => Misfit::new("an IPv4 address stands without brackets").help(IPV4_HELP),
            Err(_) => Misfit::new(format!("`{address}` is not an address")).help(IPV4_HELP),
        };
        return Err(misfit.at(0..end));
    }
    match text.split_once(':') {
        Some((address, rest)) if address.contains('.') => {
            let parsed = address
                .parse()
                .map_err(|_| Misfit::new(format!("`{address}` is not an IPv4 address")).at(0..address.len()))?;
            Ok((Some(parsed), rest))
        }
        Some((_, rest)) if rest.contains(':') => {
            let misfit = Misfit::new(format!("`{text}` is not {SHAPE}"));
            Err(misfit.help("a name is not an address, and containers have IPv4 addresses only"))
        }
        Some(_) | None => Ok((None, text)),
    }
}

/// Reads the port that begins at this byte of the whole text.
fn number(text: &str, at: usize) -> Result<u16, Misfit> {
    let misfit = |message: String| Misfit::new(message).at(at..at + text.len());
    if text.contains('-') {
        return Err(misfit(format!("`{text}` is a range")).help("write one entry for each port"));
    }
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_digit()) {
        return Err(
            misfit(format!("`{text}` is not a port")).help(format!("write {SHAPE}, for example \"8080:80\""))
        );
    }
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        Ok(0) | Err(_) => Err(misfit(format!("`{text}` is not a port from 1 to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> Option<(Option<String>, u16, u16, Protocol)> {
        let Port { host_address, host_port, container_port, protocol } = Port::from_text(text).ok()?;
        Some((host_address.map(|address| address.to_string()), host_port, container_port, protocol))
    }

    #[test]
    fn every_short_form_of_a_port_is_understood() {
        assert_eq!(port("80"), Some((None, 80, 80, Protocol::Tcp)));
        assert_eq!(port("8080:80"), Some((None, 8080, 80, Protocol::Tcp)));
        assert_eq!(port("443/udp"), Some((None, 443, 443, Protocol::Udp)));
        assert_eq!(port("127.0.0.1:2019:2019"), Some((Some("127.0.0.1".to_owned()), 2019, 2019, Protocol::Tcp)));
        assert_eq!(port("81:80/tcp"), Some((None, 81, 80, Protocol::Tcp)));
    }

    #[test]
    fn refuses_what_only_looks_like_a_port() {
        for text in [
            "",
            "0",
            "65536",
            "80:",
            ":80",
            "80:80:80",
            "80/sctp",
            "[::1]",
            "[::1]:80",
            "[::1]:81:80",
            "::1:80:80",
            "127.0.0.1:80",
            "8000-8010",
            "localhost:80:80",
            "+80",
            "300.0.0.1:80:80",
            "[::1",
            "[]:1:1",
            "80/",
            "1:2:3:4",
            "[::1]80:80",
        ] {
            assert_eq!(port(text), None, "{text}");
        }
    }
}
