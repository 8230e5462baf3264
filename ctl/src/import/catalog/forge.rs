//! `forgejo` and `gitea`: variables such as `GITEA__server__ROOT_URL` are settings; the database may be another
//! service.

use super::host_and_port;
use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Which of the two, where their modules differ.
struct Forge {
    /// Where its options are.
    option: &'static str,
    /// Its unit, its user, and the names of its folders.
    unit: &'static str,
    /// Whether any setting can be a file with a secret.
    has_secrets: bool,
}

/// Writes the module of Forgejo.
pub(super) fn forgejo(draft: &mut Draft<'_>) {
    let forge = Forge { option: "services.forgejo", unit: "forgejo", has_secrets: true };
    forge.write(draft);
    draft.keeps("/data", "/var/lib/forgejo");
    draft.keeps("/var/lib/gitea", "/var/lib/forgejo");
}

/// Writes the module of Gitea.
pub(super) fn gitea(draft: &mut Draft<'_>) {
    let forge = Forge { option: "services.gitea", unit: "gitea", has_secrets: false };
    forge.write(draft);
    draft.keeps("/data", "/var/lib/gitea");
    draft.keeps("/var/lib/gitea", "/var/lib/gitea");
}

/// Takes `FORGEJO__section__KEY` apart.
fn setting(name: &str) -> Option<(String, String)> {
    let rest = name.strip_prefix("FORGEJO__").or_else(|| name.strip_prefix("GITEA__"))?;
    let (section, key) = rest.split_once("__")?;
    // How environment-to-ini has characters that a variable's name has not.
    let plain = |text: &str| {
        text.replace("_0X2E_", ".").replace("_0x2E_", ".").replace("_0X2D_", "-").replace("_0x2D_", "-")
    };
    Some((plain(section), plain(key)))
}

impl Forge {
    fn write(&self, draft: &mut Draft<'_>) {
        self.set(draft, "enable", true);
        self.database(draft);
        self.set(draft, "settings.server.HTTP_ADDR", "0.0.0.0");
        self.ssh(draft);
        for (name, value) in draft.take_all(|name| setting(name).is_some() && !name.ends_with("__FILE")) {
            let Some((section, key)) = setting(&name) else { continue };
            let is_ours = matches!(
                (section.as_str(), key.as_str()),
                ("server", "HTTP_ADDR" | "HTTP_PORT" | "APP_DATA_PATH" | "SSH_LISTEN_PORT" | "START_SSH_SERVER")
                    | ("repository", "ROOT")
            );
            if !is_ours {
                let option = format!("{}.settings", self.option);
                draft.set_in(&option, &[&section, &key], Nix::typed(&value));
            }
        }
        self.secrets(draft);
        draft.drops(&["USER_UID", "USER_GID", "USER"]);
        draft.changed(
            "its folders are laid out otherwise than in the image",
            "for what is there already: copy git/repositories and gitea/ of the volume into repositories and data",
        );
        draft.listens(3000);
        draft.probe = Some(Probe::Http("http://localhost:3000/api/healthz".to_owned()));
        draft.start_period = Some(120_000);
    }

    fn set(&self, draft: &mut Draft<'_>, option: &str, value: impl Into<Nix>) {
        draft.set(&format!("{}.{option}", self.option), value);
    }

    fn database(&self, draft: &mut Draft<'_>) {
        let take = |draft: &mut Draft<'_>, key: &str| {
            let names = ["FORGEJO", "GITEA"].map(|forge| format!("{forge}__database__{key}"));
            draft.take_any(&names.each_ref().map(String::as_str))
        };
        self.set(draft, "database.createDatabase", false);
        let kind = match take(draft, "DB_TYPE").as_deref() {
            Some("postgres") => "postgres",
            Some("mysql") => "mysql",
            Some(_) | None => "sqlite3",
        };
        self.set(draft, "database.type", kind);
        let address = take(draft, "HOST");
        let (name, user) = (take(draft, "NAME"), take(draft, "USER"));
        let names = ["FORGEJO__database__PASSWD", "GITEA__database__PASSWD"];
        // A file of the image's own kind: two underscores.
        let credential = draft.secret(&names.map(|name| name), "database-password");
        if kind == "sqlite3" {
            draft.drops(&["FORGEJO__database__PATH", "GITEA__database__PATH"]);
            return;
        }
        if let Some(address) = address {
            let (host, port) = host_and_port(&address);
            self.set(draft, "database.host", host);
            if let Some(port) = port {
                self.set(draft, "database.port", port);
            }
        }
        for (option, value) in [("database.name", name), ("database.user", user)] {
            if let Some(value) = value {
                self.set(draft, option, value);
            }
        }
        if let Some(credential) = credential {
            let file =
                if self.has_secrets { Draft::of_system(&credential) } else { draft.load(self.unit, &credential) };
            self.set(draft, "database.passwordFile", file);
        }
    }

    /// The image has an SSH server on port 22; here it is the program's own, which needs no root.
    fn ssh(&self, draft: &mut Draft<'_>) {
        let Some(published) = draft.published(22).or_else(|| draft.published(2222)) else { return };
        self.set(draft, "settings.server.START_SSH_SERVER", true);
        self.set(draft, "settings.server.SSH_LISTEN_PORT", 2222_u16);
        self.set(draft, "settings.server.BUILTIN_SSH_SERVER_USER", "git");
        self.set(draft, "settings.server.SSH_PORT", published);
        draft.moves_port(22, 2222);
    }

    fn secrets(&self, draft: &mut Draft<'_>) {
        if !self.has_secrets {
            return;
        }
        for name in draft.secret_names(|name| setting(name).is_some()) {
            let Some((section, key)) = setting(&name) else { continue };
            let credential =
                format!("{}-{}", section.replace('.', "-"), key.replace('_', "-")).to_ascii_lowercase();
            if let Some(credential) = draft.secret(&[&name], &credential) {
                let option = format!("{}.secrets", self.option);
                draft.set_in(&option, &[&section, &key], Draft::of_system(&credential));
            }
        }
    }
}
