//! What runs models in a service, and what is asked of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What runs models in a service. Its video memory is the service's claim ([`super::GpuShare`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offload {
    /// The program.
    pub engine: Engine,
    /// Where it is reached from inside the container: `http://HOST[:PORT]`, without a path.
    pub url: String,
    /// Models to be kept loaded, in manifest order without duplicates: what is named first is given up last.
    pub keep: Vec<String>,
    /// How long a model stays loaded that nobody asks; `None`: as long as the engine keeps it by itself.
    pub idle_unload: Option<Duration>,
    /// Tokens that a request may have, with its answer; `None`: as many as the engine gives by itself.
    pub context: Option<u32>,
    /// How long a request under way may take to finish when its model is to give memory back; then the container is stopped.
    /// `None`: as long as it takes.
    pub request_grace: Option<Duration>,
    /// What a model on the CPU means that should be on the GPU.
    pub cpu_fallback: CpuFallback,
}

impl Offload {
    /// Tokens that can be asked for.
    pub const CONTEXT: RangeInclusive<u32> = 256..=10_000_000;
    /// The longest name of a model, in characters.
    pub const NAME_LENGTH_MAX: usize = 256;
    /// The longest time that a model may stay loaded unasked.
    pub const IDLE_MAX: Duration = Duration::from_hours(24 * 366);
    /// The longest time that a request may be waited for, where it is not waited for without an end.
    pub const GRACE_MAX: Duration = Duration::from_hours(24);

    /// Returns why this is not where an engine can be reached, `http://HOST[:PORT]`; `None`: it is.
    #[must_use]
    pub fn url_fault(url: &str) -> Option<&'static str> {
        let Some(authority) = url.strip_prefix("http://") else {
            return Some("the URL does not begin with http://");
        };
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, port))) => {
                if host.parse::<Ipv6Addr>().is_err() {
                    return Some("what is in brackets is not an IPv6 address");
                }
                (host, (!port.is_empty()).then(|| port.strip_prefix(':').unwrap_or_default()))
            }
            Some(None) => return Some("the bracket is not closed"),
            None => {
                let (host, port) =
                    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
                if host.chars().any(|c| !(c.is_ascii_alphanumeric() || "._-".contains(c))) {
                    return Some("a host has letters, digits, `.`, `-` and `_` only");
                }
                (host, port)
            }
        };
        // RFC 1035, 2.3.4: 255 octets with lengths, which are 253 characters.
        if host.is_empty() || host.len() > 253 {
            return Some("the URL has no host of 1 to 253 characters");
        }
        let is_port =
            |port: &str| port.chars().all(|c| c.is_ascii_digit()) && matches!(port.parse::<u16>(), Ok(1..));
        if port.is_some_and(|port| !is_port(port)) { Some("the URL has no port from 1 to 65535") } else { None }
    }

    /// Returns whether what is asked at this URL is in the container of this name, and of this address where it has a fixed one: any other
    /// name is that of another machine, which the container is not.
    #[must_use]
    pub fn is_inside(url: &str, name: &str, address: Option<Ipv4Addr>) -> bool {
        let authority = url.strip_prefix("http://").unwrap_or(url);
        let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _port)) => host,
            None => authority.split_once(':').map_or(authority, |(host, _port)| host),
        };
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(host)) => host.is_loopback() || address == Some(host),
            Ok(IpAddr::V6(host)) => host.is_loopback(),
            Err(_name) => host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case(name),
        }
    }

    /// Returns why this cannot be the name of a model; `None`: it can.
    #[must_use]
    pub fn name_fault(name: &str) -> Option<&'static str> {
        if name.is_empty() {
            Some("the name of a model is not empty")
        } else if name.chars().count() > Self::NAME_LENGTH_MAX {
            Some("the name of a model has at most 256 characters")
        } else if name.chars().any(char::is_control) {
            Some("the name of a model has no control characters")
        } else {
            None
        }
    }
}

/// A program that runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// Ollama.
    Ollama,
    /// llama.cpp's `llama-server`.
    LlamaServer,
}

impl Engine {
    /// Returns whether two names are of the same model: of Ollama's a tag may be left out, and case does not count. A port may stand before
    /// the last slash.
    #[must_use]
    pub fn is_same_model(self, one: &str, other: &str) -> bool {
        let whole = |name: &str| {
            let is_tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
            (name.to_owned() + if is_tagged { "" } else { ":latest" }).to_lowercase()
        };
        match self {
            Self::Ollama => whole(one) == whole(other),
            Self::LlamaServer => one == other,
        }
    }

    /// Returns where it listens when nobody says otherwise.
    #[must_use]
    pub fn default_url(self) -> &'static str {
        match self {
            Self::Ollama => "http://localhost:11434",
            Self::LlamaServer => "http://localhost:8080",
        }
    }
}

/// What a model on the CPU means that should be on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuFallback {
    /// Nothing: it is shown only.
    Allow,
    /// It is told by an event, and repaired where that is possible.
    Warn,
    /// Beside that, the service is unhealthy.
    Refuse,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_for_the_container_itself_is_inside() {
        let address = Some(Ipv4Addr::new(10, 233, 7, 2));
        for url in [
            "http://localhost",
            "http://LocalHost:11434",
            "http://127.0.0.1:11434",
            "http://127.8.9.1",
            "http://[::1]:8080",
            "http://llm:11434",
            "http://10.233.7.2:80",
        ] {
            assert!(Offload::is_inside(url, "llm", address), "{url}");
        }
        for url in [
            "http://10.233.7.3:11434",
            "http://0.0.0.0:11434",
            "http://[::2]:8080",
            "http://[fe80::1]",
            "http://ollama:11434",
            "http://localhost.example.org",
            "http://llm.lan",
            "http://127.0.0.1.example.org",
        ] {
            assert!(!Offload::is_inside(url, "llm", address), "{url}");
        }
        assert!(!Offload::is_inside("http://10.233.7.2", "llm", None), "an address from the pool may be another's");
    }
}
