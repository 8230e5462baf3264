//! `miniflux/miniflux`: its variables are the module's settings, the database is another service.

use super::url::Url;
use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.miniflux.enable", true);
    draft.set("services.miniflux.createDatabaseLocally", false);
    let port: u16 = draft.take("PORT").and_then(|port| port.parse().ok()).unwrap_or(8080);
    draft.drops(&["LISTEN_ADDR"]);
    draft.set("services.miniflux.config.LISTEN_ADDR", format!("0.0.0.0:{port}"));
    let create_admin = draft.take("CREATE_ADMIN").is_some_and(|value| value == "1" || value == "true");
    draft.set("services.miniflux.config.CREATE_ADMIN", create_admin);
    let mut secrets = draft.secret_names(|name| name != "DATABASE_URL");
    // The names that the Compose file has for the first user stay together.
    if create_admin && secrets.iter().any(|name| name == "ADMIN_PASSWORD") {
        secrets.sort();
    }
    let (lines, holds, line) = database(draft);
    let (mut content, mut all, mut from) = (lines, holds, line);
    for name in secrets {
        if let Some((value, line)) = draft.take_secret(&name) {
            content.extend([name.as_str(), "=", &value, "\n"]);
            all.push(format!("{name}=..."));
            from.get_or_insert(line);
        }
    }
    for (name, value) in draft.take_all(|name| name != "TZ") {
        draft.set_in("services.miniflux.config", &[&name], Nix::typed_number(&value));
    }
    if let Some(line) = from
        && let Some(credential) = draft.lines(&content, &all, line)
    {
        draft.set("services.miniflux.adminCredentialsFile", Draft::of_system(&credential));
    }
    draft.listens(port);
    draft.probe = Some(Probe::Http(format!("http://localhost:{port}/healthcheck")));
    draft.start_period = Some(120_000);
}

/// Sets the database's address without its password; returns the secret's lines, what they hold, and where it stands.
fn database(draft: &mut Draft<'_>) -> (String, Vec<String>, Option<usize>) {
    let option = "services.miniflux.config.DATABASE_URL";
    if let Some(open) = draft.take("DATABASE_URL") {
        draft.set(option, open);
        return (String::new(), Vec::new(), None);
    }
    let Some((address, line)) = draft.take_secret("DATABASE_URL") else {
        draft.set(option, "host=postgres user=miniflux dbname=miniflux sslmode=disable");
        draft.changed(
            "it names no database; `postgres` is assumed to be it",
            "services.miniflux.config.DATABASE_URL in service.nix",
        );
        return (String::new(), Vec::new(), None);
    };
    if let Some(Url { open, password: Some(password) }) = Url::parse(&address) {
        draft.set(option, open);
        let holds = "PGPASSWORD=... (the password in DATABASE_URL)".to_owned();
        return (format!("PGPASSWORD={password}\n"), vec![holds], Some(line));
    }
    // The file of lines goes before the settings.
    draft.set(option, "host=postgres");
    (format!("DATABASE_URL={address}\n"), vec!["DATABASE_URL=...".to_owned()], Some(line))
}
