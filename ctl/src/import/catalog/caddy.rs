//! `caddy`: the Caddyfile stays where it is on the host, and is mounted.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Where the image's folder of configuration lies in the guest: NixOS makes a file of its own in /etc/caddy.
const CONFIG: &str = "/etc/compose/caddy";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.caddy.enable", true);
    let has_config = draft.mounted().any(|target| target == "/etc/caddy" || target == "/etc/caddy/Caddyfile");
    if has_config {
        draft.set("services.caddy.configFile", format!("{CONFIG}/Caddyfile"));
        draft.set("services.caddy.adapter", "caddyfile");
        let line = draft.command_line();
        let words = draft.command(&["caddy"]);
        let is_usual = |word: &String| {
            matches!(
                word.as_str(),
                "run" | "--config" | "--adapter" | "caddyfile" | "/etc/caddy/Caddyfile" | "--watch"
            )
        };
        if !words.iter().all(is_usual) {
            let way_out = "services.caddy in service.nix";
            draft.not_mapped("command", line, "the module has options in place of arguments", way_out);
        }
    } else {
        let site = ["root * /usr/share/caddy", "file_server"].map(ToOwned::to_owned);
        draft.set_in("services.caddy.virtualHosts", &[":80", "extraConfig"], Nix::Script(site.into()));
    }
    // A Caddyfile may name any variable: `{$DOMAIN}`.
    for (name, value) in draft.take_all(|name| name != "TZ") {
        draft.set_in("systemd.services.caddy.environment", &[&name], value);
    }
    let secrets = draft.secret_names(|_| true);
    if let Some(credential) = draft.secret_lines(&secrets) {
        draft.set("services.caddy.environmentFile", Draft::of_system(&credential));
    }
    draft.keeps("/etc/caddy", CONFIG);
    draft.keeps("/usr/share/caddy", "/usr/share/caddy");
    draft.keeps("/data", "/var/lib/caddy");
    draft.has_not("/config", "Caddy keeps only a copy of its configuration there", "");
    draft.listens(80);
    draft.listens(443);
    draft.listens_udp(443);
    draft.probe = Some(Probe::Unit("caddy.service".to_owned()));
}
