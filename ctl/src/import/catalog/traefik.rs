//! `traefik`: arguments become its static configuration, labels of the other services its routes.
//!
//! Traefik learns of containers from Docker's labels; here the labels are read once and written down. Names in
//! Traefik's configuration count without regard to case, so they stay as they are.

use crate::import::compose::Probe;
use crate::import::draft::{Draft, Neighbour};
use crate::import::nix::Nix;
use crate::import::secret;

/// Static configuration, as the module has it.
const STATIC: &str = "services.traefik.staticConfigOptions";

/// Routes that come from labels, as the module has them.
const ROUTES: &str = "services.traefik.dynamicConfigOptions";

/// Keys whose value is a list, written with commas.
const LISTS: [&str; 8] = [
    "resolvers",
    "entrypoints",
    "middlewares",
    "trustedips",
    "sourcerange",
    "addresses",
    "methods",
    "insecureskipverify",
];

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.traefik.enable", true);
    draft.keeps("/etc/traefik", "/etc/traefik");
    let config = ["yml", "yaml", "toml"].map(|ending| format!("/etc/traefik/traefik.{ending}"));
    let file = draft.mounted().find(|target| config.iter().any(|file| file == target)).map(ToOwned::to_owned);
    let ports = if let Some(file) = file {
        draft.set("services.traefik.staticConfigFile", file);
        draft.changed(
            "its own configuration file is used; what it says about Docker finds none",
            "write routes into a file of its file provider",
        );
        Vec::new()
    } else {
        let ports = arguments(draft);
        routes(draft);
        ports
    };
    let secrets = draft.secret_names(|_| true);
    if let Some(credential) = draft.secret_lines(&secrets) {
        draft.set("services.traefik.environmentFiles", vec![Draft::of_system(&credential)]);
    }
    for (name, value) in draft.take_all(|name| name != "TZ" && !name.starts_with("TRAEFIK_")) {
        draft.set_in("systemd.services.traefik.environment", &[&name], value);
    }
    for port in if ports.is_empty() { vec![80, 443] } else { ports } {
        draft.listens(port);
    }
    draft.probe = Some(Probe::Unit("traefik.service".to_owned()));
}

/// Takes the arguments; returns the ports of its entry points.
fn arguments(draft: &mut Draft<'_>) -> Vec<u16> {
    let line = draft.command_line();
    let words = draft.command(&["traefik"]);
    let (mut ports, mut refused) = (Vec::new(), Vec::new());
    for word in &words {
        let bare = word.trim_start_matches('-');
        let (key, value) = bare.split_once('=').unwrap_or((bare, "true"));
        let lower = key.to_ascii_lowercase();
        if lower.starts_with("providers.docker") || lower.starts_with("providers.swarm") {
            continue;
        }
        let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !key.is_empty();
        if !is_key || secret::is_name(&lower) || secret::is_value(value) {
            refused.push(lower);
            continue;
        }
        let mut value = value.to_owned();
        if lower.starts_with("entrypoints.") && lower.ends_with(".address") {
            ports.extend(
                value.trim_end_matches("/tcp").rsplit(':').next().and_then(|port| port.parse::<u16>().ok()),
            );
        }
        // Certificates are kept where the module may write.
        if lower.ends_with(".acme.storage")
            && let Some((folder, name)) = value.rsplit_once('/').filter(|(folder, _)| !folder.is_empty())
        {
            draft.keeps(folder, "/var/lib/traefik");
            value = format!("/var/lib/traefik/{name}");
        }
        set(draft, STATIC, key, &value);
    }
    if words.iter().any(|word| word.to_ascii_lowercase().contains("providers.docker")) {
        draft.changed("there is no Docker that tells it of services: the labels of this file are its routes", "");
    }
    if !refused.is_empty() {
        let reason = "an argument holds a secret, or is not of the form `--name=value`; it is not written";
        draft.not_mapped("command", line, reason, "services.traefik.staticConfigOptions in service.nix");
    }
    ports
}

/// Sets a value at a key such as `http.routers.x.rule`.
fn set(draft: &mut Draft<'_>, option: &str, key: &str, value: &str) {
    let path: Vec<String> = key.split('.').map(canonical).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let last = key.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    // An entry point and a middleware may themselves have the name of such a key.
    let is_list = LISTS.contains(&last.as_str()) && path.len() > 1;
    let value = if is_list {
        Nix::List(value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Nix::from).collect())
    } else {
        Nix::typed(value)
    };
    draft.set_in(option, &path, value);
}

/// Returns a name as Traefik's own documentation writes it, where it is one that all of them have.
fn canonical(name: &str) -> String {
    let known = [
        "entryPoints",
        "certificatesResolvers",
        "httpChallenge",
        "tlsChallenge",
        "dnsChallenge",
        "entryPoint",
        "caServer",
        "accessLog",
        "loadBalancer",
        "certResolver",
        "redirectScheme",
        "forwardAuth",
        "stripPrefix",
        "rateLimit",
    ];
    known.into_iter().find(|known| known.eq_ignore_ascii_case(name)).unwrap_or(name).to_owned()
}

/// Writes the labels of the other services as routes.
fn routes(draft: &mut Draft<'_>) {
    for neighbour in draft.neighbours() {
        routes_to(draft, neighbour);
    }
}

fn routes_to(draft: &mut Draft<'_>, neighbour: &Neighbour) {
    let mut routers: Vec<String> = Vec::new();
    let (mut served, mut has_routes, mut port) = (None, false, None);
    for (label, value, line) in &neighbour.labels {
        let Some(key) = label.strip_prefix("traefik.").filter(|key| key.starts_with("http.")) else { continue };
        let parts: Vec<&str> = key.split('.').collect();
        let lower = key.to_ascii_lowercase();
        let is_key = key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if !is_key
            || parts.last().is_some_and(|last| last.eq_ignore_ascii_case("users"))
            || secret::is_name(&lower)
            || secret::is_value(value)
        {
            let reason = "a label holds a secret, or a list; it is not written";
            draft.not_mapped_of(
                &neighbour.compose_name,
                "labels",
                *line,
                reason,
                "services.traefik.dynamicConfigOptions in its service.nix",
            );
            continue;
        }
        has_routes = true;
        match parts.as_slice() {
            [_, "services", name, ..] if lower.ends_with(".loadbalancer.server.port") => {
                (served, port) = (Some((*name).to_owned()), value.parse::<u16>().ok());
            }
            [_, "services", name, ..] => {
                served = Some((*name).to_owned());
                set(draft, ROUTES, key, value);
            }
            [_, "routers", name, rest @ ..] => {
                if !routers.iter().any(|known| known == name) {
                    routers.push((*name).to_owned());
                }
                // `tls=true` is a table with the defaults.
                if rest == ["tls"] {
                    let path = ["http", "routers", *name, "tls"];
                    if value == "true" && !has(draft, &path) {
                        draft.set_in(ROUTES, &path, Nix::Set(Vec::new()));
                    }
                } else {
                    set(draft, ROUTES, key, value);
                }
            }
            _ => set(draft, ROUTES, key, value),
        }
    }
    let Some(port) = port.or(neighbour.port).filter(|_| has_routes) else { return };
    let service = served.unwrap_or_else(|| neighbour.name.clone());
    let mut address = Nix::Set(Vec::new());
    address.set(&["url"], format!("http://{}:{port}", neighbour.name).into());
    draft.set_in(ROUTES, &["http", "services", &service, "loadBalancer", "servers"], Nix::List(vec![address]));
    for router in routers {
        let path = ["http", "routers", &router, "service"];
        if !has(draft, &path) {
            draft.set_in(ROUTES, &path, service.as_str());
        }
    }
}

/// Whether something is said at a path of the routes.
fn has(draft: &Draft<'_>, path: &[&str]) -> bool {
    let full: Vec<&str> = ROUTES.split('.').chain(path.iter().copied()).collect();
    draft.module.get(&full).is_some()
}
