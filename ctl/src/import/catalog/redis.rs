//! `redis` and `valkey`: one server without a name, on its usual port.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;
use crate::import::secret;

/// Where the options of the server are: its name is empty.
const SERVER: &str = "services.redis.servers";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    if draft.image().name.starts_with("valkey") {
        draft.needs("pkgs");
        draft.set("services.redis.package", Nix::Raw("pkgs.valkey"));
    }
    set(draft, "enable", true);
    set(draft, "bind", "0.0.0.0");
    let by_variable = draft.secret(&["REDIS_PASSWORD"], "redis-password");
    let line = draft.command_line();
    let words = draft.command_with_secrets(&["redis-server", "valkey-server"]);
    let by_command = arguments(draft, &words, line);
    match by_command.or(by_variable) {
        Some(credential) => {
            let file = draft.load("redis", &credential);
            set(draft, "requirePassFile", file);
        }
        // Without a password Redis answers only the machine itself; the other services are other machines.
        None => set_in(draft, &["settings", "protected-mode"], "no"),
    }
    draft.drops(&["ALLOW_EMPTY_PASSWORD"]);
    draft.keeps("/data", "/var/lib/redis");
    draft.has_not(
        "/usr/local/etc/redis",
        "the module writes its own redis.conf",
        "services.redis.servers.\"\".settings in service.nix",
    );
    draft.has_not(
        "/etc/redis",
        "the module writes its own redis.conf",
        "services.redis.servers.\"\".settings in service.nix",
    );
    draft.listens(6379);
    draft.probe = Some(Probe::Unit("redis.service".to_owned()));
}

/// Takes `--name value` of the command; returns the credential of `--requirepass`.
fn arguments(draft: &mut Draft<'_>, words: &[String], line: usize) -> Option<String> {
    let way_out = "services.redis.servers.\"\".settings in service.nix";
    let mut password = None;
    let mut saves = Vec::new();
    let mut rest = words;
    while let Some((first, behind)) = rest.split_first() {
        let Some(name) = first.strip_prefix("--").filter(|name| !name.is_empty()) else {
            draft.not_mapped("command", line, "it is no argument of the form `--name value`", way_out);
            return password;
        };
        let end = behind.iter().position(|word| word.starts_with("--")).unwrap_or(behind.len());
        let (values, next) = behind.split_at(end);
        rest = next;
        let value = values.join(" ");
        match name {
            "requirepass" if !value.is_empty() => {
                let holds = "the password behind --requirepass of the command";
                password = Some(draft.made_secret("redis-password", &value, holds, line));
            }
            "appendonly" => set(draft, "appendOnly", value == "yes"),
            "save" => saves.extend(save(&value)),
            "loglevel" => set(draft, "logLevel", value),
            "databases" => set(draft, "databases", Nix::typed(&value)),
            "port" | "bind" | "dir" | "protected-mode" | "daemonize" => {
                draft.not_mapped("command", line, &format!("--{name} is the module's to say"), way_out);
            }
            name if secret::is_name(name)
                || secret::is_value(&value)
                || name.contains("auth")
                || name == "user" =>
            {
                draft.not_mapped(
                    "command",
                    line,
                    &format!("--{name} holds a secret, which is not written"),
                    way_out,
                );
            }
            name => set_in(draft, &["settings", name], Nix::typed(&value)),
        }
    }
    if !saves.is_empty() {
        set(draft, "save", Nix::List(saves));
    }
    password
}

/// Returns `[ seconds changes ]` of each pair.
fn save(value: &str) -> Vec<Nix> {
    let numbers: Vec<i64> = value.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers.chunks_exact(2).map(|pair| Nix::List(pair.iter().map(|number| Nix::Int(*number)).collect())).collect()
}

fn set(draft: &mut Draft<'_>, option: &str, value: impl Into<Nix>) {
    set_in(draft, &[option], value);
}

fn set_in(draft: &mut Draft<'_>, path: &[&str], value: impl Into<Nix>) {
    let path: Vec<&str> = [""].iter().chain(path).copied().collect();
    draft.set_in(SERVER, &path, value);
}
