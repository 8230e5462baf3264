//! `postgres`: a role with a password and its database, reachable from the other services.

use super::is_identifier;
use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;
use crate::import::secret;

/// Major versions of NixOS 26.05.
const VERSIONS: [(u32, &str); 5] = [
    (14, "pkgs.postgresql_14"),
    (15, "pkgs.postgresql_15"),
    (16, "pkgs.postgresql_16"),
    (17, "pkgs.postgresql_17"),
    (18, "pkgs.postgresql_18"),
];

/// The unit that gives the role its password.
const UNIT: &str = "postgresql-role";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.postgresql.enable", true);
    package(draft);
    draft.set("services.postgresql.enableTCPIP", true);
    let method = draft.take("POSTGRES_HOST_AUTH_METHOD").filter(|method| is_identifier(method));
    let method = method.unwrap_or_else(|| "scram-sha-256".to_owned());
    draft.set("services.postgresql.authentication", Nix::Script(vec![format!("host all all all {method}")]));
    if let Some(arguments) = draft.take("POSTGRES_INITDB_ARGS") {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        draft.set("services.postgresql.initdbArgs", arguments);
    }
    settings(draft);
    role(draft);
    // initdb and the entry point of the image.
    draft.drops(&["PGDATA"]);
    draft.keeps("/var/lib/postgresql/data", "/var/lib/postgresql");
    draft.keeps("/var/lib/postgresql", "/var/lib/postgresql");
    draft.has_not(
        "/docker-entrypoint-initdb.d",
        "scripts of the image's first start are not run",
        "services.postgresql.initialScript in service.nix",
    );
    draft.listens(5432);
    draft.probe = Some(Probe::Unit("postgresql.service".to_owned()));
}

fn package(draft: &mut Draft<'_>) {
    let image = draft.image().clone();
    let major = image.major().or_else(|| image.tag.strip_prefix("pg")?.split('-').next()?.parse().ok());
    match VERSIONS.iter().find(|(version, _)| Some(*version) == major) {
        Some((_, package)) => {
            draft.needs("pkgs");
            draft.set("services.postgresql.package", Nix::Raw(package));
        }
        None if major.is_some() => draft.changed(
            "NixOS 26.05 has versions 14 to 18 of PostgreSQL; its default is used",
            "services.postgresql.package in service.nix",
        ),
        None => {}
    }
    let extension = match image.name.as_str() {
        "pgvector/pgvector" => Some("ps: [ ps.pgvector ]"),
        "postgis/postgis" => Some("ps: [ ps.postgis ]"),
        _ => None,
    };
    if let Some(extension) = extension {
        draft.set("services.postgresql.extensions", Nix::Raw(extension));
    }
}

/// Takes `-c name=value` of the command.
fn settings(draft: &mut Draft<'_>) {
    let line = draft.command_line();
    let words = draft.command(&["postgres"]);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let setting = match word.as_str() {
            "-c" => rest.next().map(String::as_str),
            word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
        };
        match setting.and_then(|setting| setting.split_once('=')) {
            Some((name, value)) if is_identifier(name) && !secret::is_name(name) => {
                draft.set_in("services.postgresql.settings", &[name], Nix::typed(value));
            }
            Some(_) | None => draft.not_mapped(
                "command",
                line,
                "an argument is none of the form `-c name=value`",
                "services.postgresql.settings in service.nix",
            ),
        }
    }
}

fn role(draft: &mut Draft<'_>) {
    let line = draft.command_line();
    let user = draft.take("POSTGRES_USER").unwrap_or_else(|| "postgres".to_owned());
    let database = draft.take("POSTGRES_DB").unwrap_or_else(|| user.clone());
    if !is_identifier(&user) || !is_identifier(&database) {
        draft.not_mapped(
            "environment.POSTGRES_USER",
            line,
            "the name of the role or of the database is not made of letters, digits, `_` and `-`",
            "services.postgresql.ensureUsers and ensureDatabases in service.nix",
        );
        return;
    }
    if database != "postgres" {
        draft.set("services.postgresql.ensureDatabases", vec![database.as_str()]);
    }
    if user != "postgres" {
        let mut ensured = Nix::Set(vec![("name".to_owned(), user.as_str().into())]);
        if user == database {
            ensured.set(&["ensureDBOwnership"], true.into());
        }
        draft.set("services.postgresql.ensureUsers", Nix::List(vec![ensured]));
    }
    let credential = draft.secret(&["POSTGRES_PASSWORD"], "postgres-password");
    let mut sql = Vec::new();
    if let Some(credential) = &credential {
        sql.push(format!("\\set password `cat \"$CREDENTIALS_DIRECTORY/{credential}\"`"));
        sql.push(format!("ALTER ROLE \"{user}\" LOGIN PASSWORD :'password';"));
    }
    if user != database && database != "postgres" && user != "postgres" {
        sql.push(format!("ALTER DATABASE \"{database}\" OWNER TO \"{user}\";"));
    }
    if sql.is_empty() {
        return;
    }
    let script = ["psql --no-psqlrc --set=ON_ERROR_STOP=1 <<'SQL'".to_owned()].into_iter().chain(sql);
    unit(draft, script.chain(["SQL".to_owned()]).collect());
    if let Some(credential) = credential {
        draft.load(UNIT, &credential);
    }
}

fn unit(draft: &mut Draft<'_>, script: Vec<String>) {
    draft.needs("config");
    let mut set = |option: &str, value: Nix| draft.set(&format!("systemd.services.{UNIT}.{option}"), value);
    set("wantedBy", vec!["multi-user.target"].into());
    set("requires", vec!["postgresql.service"].into());
    // Since 25.11 roles and databases are made by a unit of its own.
    set("after", vec!["postgresql.service", "postgresql-setup.service"].into());
    set("path", Nix::List(vec![Nix::Raw("config.services.postgresql.package")]));
    set("serviceConfig.Type", "oneshot".into());
    set("serviceConfig.RemainAfterExit", true.into());
    set("serviceConfig.User", "postgres".into());
    set("script", Nix::Script(script));
}
