//! `ports`: what is published on the host.

use std::net::IpAddr;

use super::shape::Log;
use crate::import::yaml::{Node, Value};

/// How many ports a range stands for at most.
const RANGE_MAX: u16 = 64;

/// Ports one by one, as the container has them and as the host does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::import) struct Port {
    /// The IPv4 address it is published on; absent: all.
    pub(in crate::import) address: Option<String>,
    /// The port of the host.
    pub(in crate::import) host: u16,
    /// The port of the container.
    pub(in crate::import) container: u16,
    /// Whether it is UDP.
    pub(in crate::import) is_udp: bool,
    /// Where it stands.
    pub(in crate::import) line: usize,
}

/// Returns the published ports.
pub(super) fn read(node: &Node, log: &mut Log<'_>) -> Vec<Port> {
    if !matches!(node.value, Value::List(_) | Value::Null) {
        log.misshapen("ports", node, "a list");
    }
    let mut ports: Vec<Port> = Vec::new();
    for item in node.items() {
        let read = match &item.value {
            Value::Scalar(scalar) => short(&scalar.text, item.line, log),
            Value::Map(_) => long(item, log),
            Value::Null | Value::List(_) => {
                log.misshapen("ports", item, "a text or a mapping");
                Vec::new()
            }
        };
        for port in read {
            let is_same = |known: &Port| Port { line: 0, ..known.clone() } == Port { line: 0, ..port.clone() };
            if !ports.iter().any(is_same) {
                ports.push(port);
            }
        }
    }
    ports
}

fn short(text: &str, line: usize, log: &mut Log<'_>) -> Vec<Port> {
    let (bare, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    // An IPv6 address stands in brackets and holds colons of its own.
    let (address, ports) = match bare.rsplit_once("]:") {
        Some((address, ports)) => (Some(address.trim_start_matches('[')), ports),
        None => match bare.rmatch_indices(':').nth(1) {
            Some((at, _)) => (bare.get(..at), bare.get(at + 1..).unwrap_or_default()),
            None => (None, bare),
        },
    };
    let (host, container) = match ports.split_once(':') {
        Some((host, container)) => (host, container),
        None => ("", ports),
    };
    expand(Written { address, host, container, protocol }, line, log)
}

fn long(node: &Node, log: &mut Log<'_>) -> Vec<Port> {
    let text = |key| node.get(key).and_then(Node::text).unwrap_or_default();
    let address = Some(text("host_ip")).filter(|address| !address.is_empty());
    let protocol = Some(text("protocol")).filter(|protocol| !protocol.is_empty()).unwrap_or("tcp");
    let written = Written { address, host: text("published"), container: text("target"), protocol };
    expand(written, node.line, log)
}

/// A port, or a range, as it is written.
#[derive(Clone, Copy)]
struct Written<'a> {
    address: Option<&'a str>,
    host: &'a str,
    container: &'a str,
    protocol: &'a str,
}

fn expand(written: Written<'_>, line: usize, log: &mut Log<'_>) -> Vec<Port> {
    let mut refuse = |reason: &str, way_out: &str| {
        log.not_mapped("ports", line, reason, way_out);
        Vec::new()
    };
    let is_udp = match written.protocol {
        "tcp" => false,
        "udp" => true,
        _ => return refuse("only TCP and UDP are published", ""),
    };
    let address = match written.address.map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(IpAddr::V4(address))) if address.is_unspecified() => None,
        Some(Ok(IpAddr::V4(address))) => Some(address.to_string()),
        Some(Ok(IpAddr::V6(_))) => {
            return refuse("containers have IPv4 addresses only", "publish it on an IPv4 address in service.toml");
        }
        Some(Err(_)) => {
            return refuse(
                "it is published on something that is not an address",
                "see docs/manifest.md, network.ports",
            );
        }
    };
    let Some((first, last)) = range(written.container) else {
        return refuse("this is not a port of the container", "see docs/manifest.md, network.ports");
    };
    let host = if written.host.is_empty() { Some((first, last)) } else { range(written.host) };
    let Some((host_first, host_last)) = host else {
        return refuse("this is not a port of the host", "see docs/manifest.md, network.ports");
    };
    let count = last - first;
    if count >= RANGE_MAX {
        return refuse(
            &format!("the range has more than {RANGE_MAX} ports"),
            "name the ports that are needed in service.toml, or set network.mode = \"host\"",
        );
    }
    if host_last - host_first != count {
        return refuse(
            "the range of the host is not as long as that of the container",
            "name each port in service.toml",
        );
    }
    if written.host.is_empty() {
        let reason = "Compose picks a free port of the host; here it is the container's own";
        log.changed("ports", line, reason, "");
    }
    let port = |offset| Port {
        address: address.clone(),
        host: host_first + offset,
        container: first + offset,
        is_udp,
        line,
    };
    (0..=count).map(port).collect()
}

/// Returns the first and the last port of `80` or `8080-8090`.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::finding::Findings;
    use crate::import::yaml;

    fn ports(text: &str) -> (Vec<String>, Vec<String>) {
        let node = yaml::parse(text).unwrap().unwrap();
        let mut findings = Findings::new("compose.yml");
        let ports = read(&node, &mut Log { findings: &mut findings, service: "web" });
        let shown = |port: &Port| {
            let address = port.address.as_ref().map(|address| format!("{address}:")).unwrap_or_default();
            format!("{address}{}:{}{}", port.host, port.container, if port.is_udp { "/udp" } else { "" })
        };
        (ports.iter().map(shown).collect(), findings.sorted().into_iter().map(|finding| finding.reason).collect())
    }

    #[test]
    fn every_form_is_understood() {
        let (ports, said) = ports(
            "- 8080:80\n- '127.0.0.1:53:53/udp'\n- 0.0.0.0:443:443\n- 3000-3002:13000-13002\n- {target: 22, published: '2222', host_ip: 192.168.1.1}\n- 8080:80\n",
        );
        let expected = [
            "8080:80",
            "127.0.0.1:53:53/udp",
            "443:443",
            "3000:13000",
            "3001:13001",
            "3002:13002",
            "192.168.1.1:2222:22",
        ];
        assert_eq!(ports, expected);
        assert_eq!(said, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_understood_is_told() {
        let (ports, said) = ports(
            "- '[::1]:80:80'\n- a:b:c\n- 80:\n- 1-500:1-500\n- 1-3:1-2\n- 70000:80\n- 0:0\n- 80/sctp\n- []\n- {published: 1}\n- 80\n",
        );
        assert_eq!(ports, ["80:80"]);
        assert_eq!(said.len(), 11, "{said:?}");
    }
}
