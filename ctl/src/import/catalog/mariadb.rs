//! `mariadb` and `mysql`: a user with a password and its database, reachable from the other services.

use super::is_identifier;
use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;
use crate::import::secret;

/// The unit that makes the user.
const UNIT: &str = "mysql-user";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    if draft.image().name == "mysql" {
        draft.changed(
            "MariaDB takes MySQL's place",
            "services.mysql.package = pkgs.mysql84; in service.nix for MySQL itself",
        );
    }
    draft.needs("pkgs");
    draft.set("services.mysql.enable", true);
    draft.set("services.mysql.package", Nix::Raw("pkgs.mariadb"));
    draft.set("services.mysql.settings.mysqld.bind-address", "0.0.0.0");
    settings(draft);
    user(draft);
    if !draft.names(|name| matches!(name, "MYSQL_ROOT_PASSWORD" | "MARIADB_ROOT_PASSWORD")).is_empty() {
        draft.changed("root has no password: it comes in through the socket, from inside of the guest alone", "");
    }
    for name in [
        "ROOT_PASSWORD",
        "ROOT_PASSWORD_FILE",
        "RANDOM_ROOT_PASSWORD",
        "ALLOW_EMPTY_ROOT_PASSWORD",
        "ALLOW_EMPTY_PASSWORD",
        "ROOT_HOST",
    ] {
        draft.drops(&[&format!("MYSQL_{name}"), &format!("MARIADB_{name}")]);
    }
    draft.drops(&[
        "MARIADB_AUTO_UPGRADE",
        "MARIADB_DISABLE_UPGRADE_BACKUP",
        "MYSQL_INITDB_SKIP_TZINFO",
        "MARIADB_INITDB_SKIP_TZINFO",
    ]);
    draft.keeps("/var/lib/mysql", "/var/lib/mysql");
    draft.keeps("/config", "/var/lib/mysql");
    draft.has_not(
        "/docker-entrypoint-initdb.d",
        "scripts of the image's first start are not run",
        "services.mysql.initialScript in service.nix",
    );
    draft.has_not(
        "/etc/mysql",
        "the module writes its own my.cnf",
        "services.mysql.settings.mysqld in service.nix",
    );
    draft.listens(3306);
    draft.probe = Some(Probe::Unit("mysql.service".to_owned()));
}

/// Takes `--name=value` of the command.
fn settings(draft: &mut Draft<'_>) {
    let line = draft.command_line();
    for word in draft.command(&["mysqld", "mariadbd"]) {
        let setting = word.strip_prefix("--").map(|setting| setting.split_once('=').unwrap_or((setting, "")));
        match setting {
            Some((name, value)) if is_identifier(name) && !secret::is_name(name) => {
                let value = if value.is_empty() { Nix::Bool(true) } else { Nix::typed(value) };
                draft.set_in("services.mysql.settings.mysqld", &[name], value);
            }
            Some(_) | None => draft.not_mapped(
                "command",
                line,
                "an argument is none of the form `--name=value`",
                "services.mysql.settings.mysqld in service.nix",
            ),
        }
    }
}

fn user(draft: &mut Draft<'_>) {
    let line = draft.command_line();
    let user = draft.take_any(&["MARIADB_USER", "MYSQL_USER"]);
    let database = draft.take_any(&["MARIADB_DATABASE", "MYSQL_DATABASE"]);
    let credential = draft.secret(&["MARIADB_PASSWORD", "MYSQL_PASSWORD"], "mysql-password");
    let names = [user.as_deref(), database.as_deref()];
    if names.into_iter().flatten().any(|name| !is_identifier(name)) {
        draft.not_mapped(
            "environment.MYSQL_USER",
            line,
            "the name of the user or of the database is not made of letters, digits, `_` and `-`",
            "services.mysql.ensureUsers and ensureDatabases in service.nix",
        );
        return;
    }
    if let Some(database) = &database {
        draft.set("services.mysql.ensureDatabases", vec![database.as_str()]);
    }
    let (Some(user), Some(credential)) = (user, credential) else { return };
    let mut script = vec![
        // Quotes and backslashes of the password, for a string of SQL.
        format!(
            "password=$(sed -e 's/\\\\/\\\\\\\\/g' -e \"s/'/\\\\\\\\'/g\" \"$CREDENTIALS_DIRECTORY/{credential}\")"
        ),
        "mariadb <<SQL".to_owned(),
        format!("CREATE USER IF NOT EXISTS '{user}'@'%';"),
        format!("ALTER USER '{user}'@'%' IDENTIFIED BY '$password';"),
    ];
    if let Some(database) = database {
        script.push(format!("GRANT ALL PRIVILEGES ON \\`{database}\\`.* TO '{user}'@'%';"));
    }
    script.push("SQL".to_owned());
    draft.needs("config");
    let mut set = |option: &str, value: Nix| draft.set(&format!("systemd.services.{UNIT}.{option}"), value);
    set("wantedBy", vec!["multi-user.target"].into());
    set("requires", vec!["mysql.service"].into());
    set("after", vec!["mysql.service"].into());
    set("path", Nix::List(vec![Nix::Raw("config.services.mysql.package")]));
    set("serviceConfig.Type", "oneshot".into());
    set("serviceConfig.RemainAfterExit", true.into());
    set("script", Nix::Script(script));
    draft.load(UNIT, &credential);
}
