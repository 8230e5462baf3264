//! `vaultwarden/server`: its variables are the module's settings, under the same names.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Variables of the image itself, or of the place that the module chooses.
const OF_THE_IMAGE: [&str; 7] =
    ["DATA_FOLDER", "ROCKET_ADDRESS", "ROCKET_PORT", "WEB_VAULT_FOLDER", "ROCKET_PROFILE", "TZ", "DEBIAN_FRONTEND"];

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    let port: u16 = draft.take("ROCKET_PORT").and_then(|port| port.parse().ok()).unwrap_or(80);
    draft.set("services.vaultwarden.enable", true);
    draft.set("services.vaultwarden.config.ROCKET_ADDRESS", "0.0.0.0");
    draft.set("services.vaultwarden.config.ROCKET_PORT", port);
    if port < 1024 {
        // As Docker has it: the user of the module may listen there too.
        draft.set_in("boot.kernel.sysctl", &["net.ipv4.ip_unprivileged_port_start"], Nix::Int(0));
    }
    for (name, value) in draft.take_all(|name| !OF_THE_IMAGE.contains(&name)) {
        draft.set_in("services.vaultwarden.config", &[&name], Nix::typed(&value));
    }
    let secrets = draft.secret_names(|name| !OF_THE_IMAGE.contains(&name));
    let backend = database(draft, &secrets);
    if backend != "sqlite" {
        draft.set("services.vaultwarden.dbBackend", backend);
    }
    if let Some(credential) = draft.secret_lines(&secrets) {
        draft.set("services.vaultwarden.environmentFile", Draft::of_system(&credential));
    }
    draft.drops(&OF_THE_IMAGE[..5]);
    draft.keeps("/data", "/var/lib/vaultwarden");
    draft.listens(port);
    let authority = if port == 80 { "localhost".to_owned() } else { format!("localhost:{port}") };
    draft.probe = Some(Probe::Http(format!("http://{authority}/alive")));
}

/// Returns the module's word for the database that its address names.
fn database(draft: &mut Draft<'_>, secrets: &[String]) -> &'static str {
    let of = |address: &str| match address.split(':').next() {
        Some("postgresql" | "postgres") => "postgresql",
        Some("mysql") => "mysql",
        Some(_) | None => "sqlite",
    };
    if secrets.iter().any(|name| name == "DATABASE_URL") {
        return draft.secret_value("DATABASE_URL").map_or("sqlite", of);
    }
    let address = ["services", "vaultwarden", "config", "DATABASE_URL"];
    match draft.module.get(&address) {
        Some(Nix::Text(address)) => of(address),
        Some(_) | None => "sqlite",
    }
}
