//! `healthcheck`: how health is found out, as far as it can be asked from outside of the container.

use super::quantity::milliseconds;
use super::shape::{Log, is_true, words};
use crate::import::yaml::{Node, Value};

/// A question that the agent can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::import) enum Probe {
    /// A GET of a URL in the container's network.
    Http(String),
    /// A TCP port of the container.
    Tcp(u16),
    /// A unit of the guest's systemd.
    Unit(String),
}

/// What a service says about its health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::import) struct Health {
    /// Whether it is not to be asked at all.
    pub(in crate::import) is_off: bool,
    /// The question, where it is one for the agent; else the catalog has one.
    pub(in crate::import) probe: Option<Probe>,
    /// Times in milliseconds by the manifest's key, and how often, each in the range that the manifest takes.
    pub(in crate::import) times: Vec<(&'static str, u64)>,
    /// Failures in a row that are too many.
    pub(in crate::import) retries: Option<u64>,
}

/// Compose's key, the manifest's, and the milliseconds that the manifest takes.
const TIMES: [(&str, &str, u64, u64); 3] = [
    ("interval", "interval", 100, 3_600_000),
    ("timeout", "timeout", 10, 600_000),
    ("start_period", "start_period", 0, 86_400_000),
];

/// Programs that ask a database how it is: the unit of the guest is asked instead.
const ASK_THE_UNIT: [&str; 9] = [
    "pg_isready",
    "mysqladmin",
    "mariadb-admin",
    "healthcheck.sh",
    "redis-cli",
    "valkey-cli",
    "/healthcheck",
    "traefik",
    "ollama",
];

/// Returns what is said about health.
pub(super) fn read(node: &Node, log: &mut Log<'_>) -> Health {
    let mut health = Health::default();
    let Value::Map(entries) = &node.value else {
        log.misshapen("healthcheck", node, "a mapping");
        return health;
    };
    for (key, node) in entries {
        match key.text.as_str() {
            "disable" => health.is_off |= is_true(node),
            "test" => read_test(node, &mut health, log),
            "retries" => {
                let retries = node.text().and_then(|text| text.parse::<u64>().ok());
                health.retries = retries.map(|retries| retries.clamp(1, 1000));
            }
            "start_interval" => {
                log.changed(
                    "healthcheck.start_interval",
                    key.line,
                    "while a service starts it is asked every 100 ms and less often from then on",
                    "",
                );
            }
            name => match TIMES.iter().find(|(compose, ..)| *compose == name) {
                None => log.not_mapped("healthcheck", key.line, "the manifest has no such key", ""),
                Some((_, key, least, most)) => match node.text().and_then(milliseconds) {
                    // 0 is Compose's way to say the default.
                    Some(0) => {}
                    Some(time) => health.times.push((key, time.clamp(*least, *most))),
                    None => log.not_mapped(&format!("healthcheck.{name}"), node.line, "this is not a time", ""),
                },
            },
        }
    }
    health
}

fn read_test(node: &Node, health: &mut Health, log: &mut Log<'_>) {
    let is_list = matches!(node.value, Value::List(_));
    let all = words("healthcheck.test", node, log);
    let command: Vec<String> = match all.split_first() {
        Some((first, _)) if is_list && first == "NONE" => {
            health.is_off = true;
            return;
        }
        Some((first, rest)) if is_list && (first == "CMD" || first == "CMD-SHELL") => {
            rest.iter().flat_map(|part| part.split_whitespace()).map(ToOwned::to_owned).collect()
        }
        Some(_) | None => all.iter().flat_map(|part| part.split_whitespace()).map(ToOwned::to_owned).collect(),
    };
    health.probe = probe(&command).filter(|_| !node.holds_secret());
    let is_known = health.probe.is_some()
        || command
            .iter()
            .any(|word| ASK_THE_UNIT.iter().any(|known| word.trim_matches(['"', '\'']).ends_with(known)));
    if !is_known {
        let reason = "its command belongs to the image; the service is asked over its port or its unit instead";
        log.changed("healthcheck.test", node.line, reason, "health = { exec = [...] } runs a program of the guest");
    }
}

/// Returns the URL that a command such as `curl -f http://localhost:8080/health` fetches, as a question.
fn probe(command: &[String]) -> Option<Probe> {
    let fetches = command.iter().any(|word| matches!(word.trim_matches(['"', '\'']), "curl" | "wget"));
    let url = command
        .iter()
        .map(|word| word.trim_matches(['"', '\'', ';', '(', ')']))
        .find(|word| word.starts_with("http://"))?;
    let authority = url.strip_prefix("http://")?.split(['/', '?']).next()?;
    let host = authority.split(':').next()?;
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0");
    let is_plain = url.chars().all(|c| c.is_ascii_alphanumeric() || ":/.-_~%".contains(c));
    (fetches && is_here && is_plain).then(|| Probe::Http(url.replacen(host, "localhost", 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetched_url_is_the_question() {
        let of = |text: &str| probe(&text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>());
        let http = |url: &str| Some(Probe::Http(url.to_owned()));
        assert_eq!(
            of("curl -f http://127.0.0.1:8080/healthcheck || exit 1"),
            http("http://localhost:8080/healthcheck")
        );
        assert_eq!(of("wget --spider \"http://localhost/status.php\""), http("http://localhost/status.php"));
        assert_eq!(of("curl http://other/"), None);
        assert_eq!(of("curl -u a:b http://a:b@localhost/"), None);
        assert_eq!(of("pg_isready -U x"), None);
    }
}
