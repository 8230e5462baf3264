//! `nextcloud`: with the web server that the module brings; database and Redis are other services.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Variables that are settings of config.php.
const SETTINGS: [(&str, &str); 10] = [
    ("OVERWRITEPROTOCOL", "overwriteprotocol"),
    ("OVERWRITEHOST", "overwritehost"),
    ("OVERWRITECLIURL", "overwrite.cli.url"),
    ("OVERWRITEWEBROOT", "overwritewebroot"),
    ("MAIL_FROM_ADDRESS", "mail_from_address"),
    ("MAIL_DOMAIN", "mail_domain"),
    ("SMTP_HOST", "mail_smtphost"),
    ("SMTP_PORT", "mail_smtpport"),
    ("SMTP_SECURE", "mail_smtpsecure"),
    ("SMTP_NAME", "mail_smtpname"),
];

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.nextcloud.enable", true);
    domains(draft);
    if draft.image().tag.contains("fpm") {
        draft.changed(
            "the module brings a web server, on port 80",
            "the web server of the Compose file that asked port 9000 is not needed",
        );
    }
    database(draft);
    admin(draft);
    let mut secret = Secret::default();
    redis(draft, &mut secret);
    settings(draft, &mut secret);
    if let Some(line) = secret.line {
        let content = serde_json::Value::Object(secret.content).to_string();
        let holds = format!("JSON such as {}", secret.holds.join(" and "));
        let credential = draft.made_secret("nextcloud-secrets.json", &content, &holds, line);
        draft.set("services.nextcloud.secretFile", Draft::of_system(&credential));
    }
    draft.keeps("/var/www/html", "/var/lib/nextcloud");
    draft.keeps("/var/www/html/custom_apps", "/var/lib/nextcloud/store-apps");
    draft.has_not(
        "/var/www/html/themes",
        "the program itself lies in the store",
        "the theming app changes colours and logos",
    );
    draft.has_not(
        "/usr/local/etc/php",
        "PHP is set up by the module",
        "services.nextcloud.phpOptions in service.nix",
    );
    draft.listens(80);
    draft.probe = Some(Probe::Http("http://localhost/status.php".to_owned()));
    draft.start_period = Some(300_000);
}

fn domains(draft: &mut Draft<'_>) {
    let domains = draft.take("NEXTCLOUD_TRUSTED_DOMAINS").unwrap_or_default();
    let mut domains: Vec<String> =
        domains.split([' ', ',']).filter(|domain| !domain.is_empty()).map(ToOwned::to_owned).collect();
    let host = domains.iter().find(|domain| !domain.contains(['*', ':'])).cloned();
    let host = host.unwrap_or_else(|| draft.name().to_owned());
    domains.retain(|domain| *domain != host);
    // For the health check, and for the proxies of the stack.
    for own in ["localhost".to_owned(), draft.name().to_owned()] {
        if own != host && !domains.contains(&own) {
            domains.push(own);
        }
    }
    draft.set("services.nextcloud.hostName", host);
    draft.set("services.nextcloud.settings.trusted_domains", domains);
    if let Some(proxies) = draft.take("TRUSTED_PROXIES") {
        let proxies: Vec<&str> = proxies.split_whitespace().collect();
        draft.set("services.nextcloud.settings.trusted_proxies", proxies);
    }
}

fn database(draft: &mut Draft<'_>) {
    let mut kind = "sqlite";
    for (prefix, name) in [("MYSQL", "mysql"), ("POSTGRES", "pgsql")] {
        let host = draft.take(&format!("{prefix}_HOST"));
        let database = draft.take(&format!("{prefix}_{}", if prefix == "MYSQL" { "DATABASE" } else { "DB" }));
        let user = draft.take(&format!("{prefix}_USER"));
        let credential =
            draft.secret(&[&format!("{prefix}_PASSWORD")], &format!("{}-password", prefix.to_ascii_lowercase()));
        let Some(host) = host else { continue };
        kind = name;
        draft.set("services.nextcloud.config.dbhost", host);
        for (option, value) in [("dbname", database), ("dbuser", user)] {
            if let Some(value) = value {
                draft.set(&format!("services.nextcloud.config.{option}"), value);
            }
        }
        if let Some(credential) = credential {
            draft.set("services.nextcloud.config.dbpassFile", Draft::of_system(&credential));
        }
    }
    draft.drops(&["SQLITE_DATABASE"]);
    draft.set("services.nextcloud.config.dbtype", kind);
}

fn admin(draft: &mut Draft<'_>) {
    let user = draft.take("NEXTCLOUD_ADMIN_USER").unwrap_or_else(|| "admin".to_owned());
    draft.set("services.nextcloud.config.adminuser", user);
    let line = draft.command_line();
    let name = "nextcloud-admin-password";
    let credential = draft.secret(&["NEXTCLOUD_ADMIN_PASSWORD"], name).unwrap_or_else(|| {
        // The image asks for it in the browser; the module wants to know it.
        let holds = "a password of your choice for the first user";
        draft.made_secret(name, "", holds, line)
    });
    draft.set("services.nextcloud.config.adminpassFile", Draft::of_system(&credential));
}

/// What goes into config.php and is a secret.
#[derive(Debug, Default)]
struct Secret {
    content: serde_json::Map<String, serde_json::Value>,
    holds: Vec<&'static str>,
    line: Option<usize>,
}

fn redis(draft: &mut Draft<'_>, secret: &mut Secret) {
    let Some(host) = draft.take("REDIS_HOST") else { return };
    draft.set("services.nextcloud.caching.redis", true);
    // The module runs a server of its own unless told otherwise.
    draft.set("services.nextcloud.configureRedis", false);
    let mut set = |path: &[&str], value: Nix| draft.set_in("services.nextcloud.settings", path, value);
    set(&["memcache.distributed"], "\\OC\\Memcache\\Redis".into());
    set(&["memcache.locking"], "\\OC\\Memcache\\Redis".into());
    set(&["redis", "host"], host.into());
    let port = draft.take("REDIS_HOST_PORT").and_then(|port| port.parse().ok()).unwrap_or(6379_u16);
    draft.set_in("services.nextcloud.settings", &["redis", "port"], port);
    if let Some((password, line)) = draft.take_secret("REDIS_HOST_PASSWORD") {
        secret.content.insert("redis".to_owned(), serde_json::json!({ "password": password }));
        secret.holds.push("{\"redis\":{\"password\":\"...\"}} (REDIS_HOST_PASSWORD)");
        secret.line = Some(line);
    }
}

fn settings(draft: &mut Draft<'_>, secret: &mut Secret) {
    for (variable, setting) in SETTINGS {
        if let Some(value) = draft.take(variable) {
            draft.set_in("services.nextcloud.settings", &[setting], Nix::typed_number(&value));
        }
    }
    if let Some((password, line)) = draft.take_secret("SMTP_PASSWORD") {
        secret.content.insert("mail_smtppassword".to_owned(), password.into());
        secret.holds.push("{\"mail_smtppassword\":\"...\"} (SMTP_PASSWORD)");
        secret.line.get_or_insert(line);
    }
    if let Some(size) = draft.take("PHP_UPLOAD_LIMIT") {
        draft.set("services.nextcloud.maxUploadSize", size);
    }
    if let Some(size) = draft.take("PHP_MEMORY_LIMIT") {
        draft.needs("lib");
        // The module sets it too, to the size of an upload.
        draft.set("services.nextcloud.phpOptions.memory_limit", Nix::Call("lib.mkForce", Box::new(size.into())));
    }
    draft.drops(&["APACHE_DISABLE_REWRITE_IP", "APACHE_BODY_LIMIT", "NEXTCLOUD_UPDATE", "NEXTCLOUD_INIT_HTACCESS"]);
}
