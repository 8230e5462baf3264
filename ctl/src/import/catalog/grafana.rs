//! `grafana/grafana`: its `GF_` variables are Grafana's own, and go before its settings.

use crate::import::compose::Probe;
use crate::import::draft::Draft;

/// What the key is called that Grafana encrypts what it stores with.
const KEY: &str = "grafana-security-secret-key";

/// The key of an image that is told none, which everybody knows.
const KEY_OF_THE_IMAGE: &str = "SW2YcwTIb9zpOOhoPsMm";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.grafana.enable", true);
    draft.set("services.grafana.settings.server.http_addr", "0.0.0.0");
    draft.drops(&[
        "GF_SERVER_HTTP_ADDR",
        "GF_PATHS_DATA",
        "GF_PATHS_LOGS",
        "GF_PATHS_PLUGINS",
        "GF_PATHS_PROVISIONING",
    ]);
    let port: u16 = draft.take("GF_SERVER_HTTP_PORT").and_then(|port| port.parse().ok()).unwrap_or(3000);
    draft.set("services.grafana.settings.server.http_port", port);
    key(draft);
    let secrets = draft.secret_names(|name| name.starts_with("GF_"));
    let files = draft.names(|name| name.starts_with("GF_") && name.ends_with("__FILE"));
    let files = files.iter().map(|name| name.trim_end_matches("__FILE").to_owned());
    for name in files.chain(secrets) {
        let credential = name.trim_start_matches("GF_").to_ascii_lowercase().replace('_', "-");
        if let Some(credential) = draft.secret(&[&name], &format!("grafana-{credential}")) {
            let file = draft.load("grafana", &credential);
            draft.set_in("systemd.services.grafana.environment", &[&name], format!("$__file{{{file}}}"));
        }
    }
    for (name, value) in draft.take_all(|name| name.starts_with("GF_")) {
        draft.set_in("systemd.services.grafana.environment", &[&name], value);
    }
    draft.keeps("/var/lib/grafana", "/var/lib/grafana");
    draft.has_not(
        "/etc/grafana/provisioning",
        "the module writes what is provisioned",
        "services.grafana.provision in service.nix",
    );
    draft.has_not(
        "/etc/grafana/grafana.ini",
        "the module writes its own grafana.ini",
        "services.grafana.settings in service.nix",
    );
    draft.listens(port);
    draft.probe = Some(Probe::Http(format!("http://localhost:{port}/api/health")));
}

/// Names the key, for which the module has no default (NixOS 26.05).
fn key(draft: &mut Draft<'_>) {
    let line = draft.command_line();
    let credential = draft.secret(&["GF_SECURITY_SECRET_KEY"], KEY).unwrap_or_else(|| {
        let holds = format!("{KEY_OF_THE_IMAGE}, the image's own key, to keep data, or else one of your own");
        draft.made_secret(KEY, KEY_OF_THE_IMAGE, &holds, line)
    });
    let file = draft.load("grafana", &credential);
    draft.set("services.grafana.settings.security.secret_key", format!("$__file{{{file}}}"));
}
