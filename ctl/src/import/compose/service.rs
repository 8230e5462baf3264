//! A service of a Compose file: what is read of it whatever its image is.

use super::depends_on::{self, Dependency};
use super::environment::{self, Environment};
use super::health::{self, Health};
use super::limits::{self, Limits};
use super::ports::{self, Port};
use super::shape::{Log, is_true, items, words};
use super::unsupported::{self, Known};
use super::volumes::{self, Places, Tmpfs, Volume};
use super::{Files, Surroundings};
use crate::import::image::Image;
use crate::import::interpolate::Variables;
use crate::import::toml::Toml;
use crate::import::yaml::{Key, Node, Value};

/// What is read of a service.
#[derive(Clone, Debug)]
pub(in crate::import) struct Service {
    /// What the Compose file calls it.
    pub(in crate::import) compose_name: String,
    /// What the stack calls it: a host name.
    pub(in crate::import) name: String,
    /// Its image.
    pub(in crate::import) image: Image,
    /// The line of `image`.
    pub(in crate::import) image_line: usize,
    /// Its variables.
    pub(in crate::import) environment: Environment,
    /// The command; absent where the image's own is meant.
    pub(in crate::import) command: Option<Command>,
    /// What is published.
    pub(in crate::import) ports: Vec<Port>,
    /// What is mounted.
    pub(in crate::import) volumes: Vec<Volume>,
    /// Memory file systems.
    pub(in crate::import) tmpfs: Vec<Tmpfs>,
    /// What it waits for.
    pub(in crate::import) depends_on: Vec<Dependency>,
    /// How its health is found out.
    pub(in crate::import) health: Health,
    /// Limits.
    pub(in crate::import) limits: Limits,
    /// What happens after it ended; absent: the manifest's default.
    pub(in crate::import) restart: Option<Toml>,
    /// Device nodes.
    pub(in crate::import) devices: Vec<String>,
    /// Capabilities beside the usual ones.
    pub(in crate::import) capabilities: Vec<String>,
    /// Flags of systemd-nspawn.
    pub(in crate::import) flags: Vec<String>,
    /// Whether it has the host's network.
    pub(in crate::import) has_host_network: bool,
    /// Files with secrets, by the name under `/run/secrets` that the image knows, and the line.
    pub(in crate::import) secret_files: Vec<(String, String, usize)>,
    /// Labels by name, for images that read those of others. Values may hold secrets.
    pub(in crate::import) labels: Vec<(String, String, usize)>,
}

/// The command of a service.
#[derive(Clone, Debug)]
pub(in crate::import) struct Command {
    /// Its words; never none.
    pub(in crate::import) words: Vec<String>,
    /// Where it stands.
    pub(in crate::import) line: usize,
    /// Whether a secret went into one of them; which is not known.
    pub(in crate::import) holds_secret: bool,
}

/// What surrounds a service while it is read.
pub(super) struct Around<'a> {
    pub(super) places: &'a Places<'a>,
    pub(super) files: &'a Files,
    pub(super) surroundings: &'a Surroundings<'a>,
    pub(super) variables: &'a Variables<'a>,
}

/// Returns what is read of a service; `None`: it cannot be mapped at all, and the log says why.
pub(super) fn read(
    key: &Key,
    name: String,
    node: &Node,
    around: &Around<'_>,
    log: &mut Log<'_>,
) -> Option<Service> {
    let (image, image_line) = image(key, node, log)?;
    let mut service = Service {
        compose_name: key.text.clone(),
        name,
        image,
        image_line,
        environment: Environment::new(),
        command: None,
        ports: Vec::new(),
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        depends_on: Vec::new(),
        health: Health::default(),
        limits: Limits::default(),
        restart: None,
        devices: Vec::new(),
        capabilities: Vec::new(),
        flags: Vec::new(),
        has_host_network: false,
        secret_files: Vec::new(),
        labels: Vec::new(),
    };
    for (key, node) in node.entries() {
        if !service.limits.read(&key.text, node, log) {
            service.read_key(key, node, around, log);
        }
    }
    if service.has_host_network {
        // As Compose does: what listens there listens on the host.
        service.ports.clear();
    }
    Some(service)
}

/// Returns the image, unless something stands against mapping the service as a whole.
fn image(key: &Key, node: &Node, log: &mut Log<'_>) -> Option<(Image, usize)> {
    let mut refuse = |line: usize, reason: &str, way_out: &str| {
        log.not_mapped("image", line, reason, way_out);
        None
    };
    if !matches!(node.value, Value::Map(_)) {
        return refuse(key.line, "the service has no content", "");
    }
    let line_of = |name: &str| node.entries().iter().find(|(key, _)| key.text == name).map(|(key, _)| key.line);
    if let Some(line) = line_of("extends") {
        let way_out = "put it together first: docker compose config | nixmoxctl import compose -";
        return refuse(line, "it is made of another service with `extends`", way_out);
    }
    if let Some(line) = line_of("profiles") {
        return refuse(
            line,
            "it has a profile, so that `docker compose up` does not start it",
            "take `profiles` away and import again",
        );
    }
    if let Some(line) = line_of("build") {
        let way_out = "write a NixOS module for what its Dockerfile does, in services/NAME/service.nix";
        return refuse(
            line,
            "its image is built from a Dockerfile, which says what to run but not as what service",
            way_out,
        );
    }
    // Its own network in place of another's could go around a VPN, which nobody would notice.
    let mode = node.get("network_mode").and_then(Node::text).unwrap_or_default();
    if mode == "none" || mode.starts_with("service:") || mode.starts_with("container:") {
        let way_out = "put both programs into one service.nix, so that they have one network";
        return refuse(
            line_of("network_mode").unwrap_or(key.line),
            "it has no network of its own, and a container of ours has one",
            way_out,
        );
    }
    let Some((line, text)) = line_of("image").zip(node.get("image").and_then(Node::text)) else {
        return refuse(key.line, "it has no image", "");
    };
    match Image::parse(text) {
        Some(image) => Some((image, line)),
        None => refuse(line, "this is not the name of an image", ""),
    }
}

impl Service {
    fn read_key(&mut self, key: &Key, node: &Node, around: &Around<'_>, log: &mut Log<'_>) {
        match key.text.as_str() {
            "image" => {}
            "environment" => self.environment.extend(environment::read(node, around.variables, log)),
            "env_file" => {
                // What stands in the file itself goes before what it names, whichever comes first.
                for (name, variable) in environment::read_files(node, around.places, around.surroundings, log) {
                    self.environment.entry(name).or_insert(variable);
                }
            }
            "command" => {
                let words = words("command", node, log);
                let command = Command { words, line: key.line, holds_secret: node.holds_secret() };
                self.command = Some(command).filter(|command| !command.words.is_empty());
            }
            "entrypoint" => {
                let way_out = "what it does beside starting the program belongs into service.nix";
                log.not_mapped("entrypoint", key.line, "the NixOS module starts the program itself", way_out);
            }
            "ports" => self.ports = ports::read(node, log),
            "volumes" => {
                let (volumes, tmpfs) = volumes::read(node, around.places, log);
                self.volumes.extend(volumes);
                self.tmpfs.extend(tmpfs);
            }
            "tmpfs" => self.tmpfs.extend(volumes::read_tmpfs(node, log)),
            "depends_on" => self.depends_on = depends_on::read(node, log),
            "healthcheck" => self.health = health::read(node, log),
            "restart" => self.restart = restart(node, log),
            "devices" => self.read_devices(node, log),
            "cap_add" => self.read_capabilities(node, log),
            "ulimits" => self.flags.extend(limits::ulimits(node, log)),
            "sysctls" => limits::sysctls(node, log),
            "network_mode" => self.read_network_mode(key, node, log),
            "networks" => read_networks(node, log),
            "secrets" => self.read_secrets(node, around.files, log),
            "configs" => self.read_configs(node, around.files, log),
            "labels" => {
                for pair in super::shape::pairs("labels", node, log) {
                    let value = pair.value.unwrap_or_default();
                    if value.is_secret {
                        log.not_mapped("labels", pair.line, "a label holds a secret; it is not written", "");
                    } else {
                        self.labels.push((pair.name, value.text, pair.line));
                    }
                }
            }
            name @ ("container_name" | "hostname") => {
                if node.text().is_some_and(|text| text != self.compose_name && text != self.name) {
                    log.changed(
                        name,
                        key.line,
                        "a service is found by its own name only",
                        "use the service's name in addresses",
                    );
                }
            }
            // What Compose writes for "no".
            "privileged" | "read_only" | "oom_kill_disable" if !is_true(node) => {}
            "scale" if node.text() == Some("1") => {}
            other => match unsupported::key(other) {
                Known::WithoutLoss => {}
                Known::Lost { reason, way_out } => log.not_mapped(other, key.line, reason, way_out),
            },
        }
    }

    fn read_devices(&mut self, node: &Node, log: &mut Log<'_>) {
        for item in items("devices", node, log) {
            let mut parts = item.text.split(':');
            let host = parts.next().unwrap_or_default().trim_end_matches('/');
            let guest = parts.next().unwrap_or(host).trim_end_matches('/');
            let access: String = parts.next().unwrap_or("rw").chars().filter(|c| "rwm".contains(*c)).collect();
            let is_plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "/_.-+@".contains(c));
            if !host.starts_with("/dev/") || !is_plain || host.contains("..") {
                log.not_mapped(
                    "devices",
                    item.line,
                    "it is not a device node below /dev",
                    "write `devices` in service.toml",
                );
            } else if host != guest {
                log.not_mapped(
                    "devices",
                    item.line,
                    "a device node has the same name in the container",
                    "an udev rule of the host gives it another name",
                );
            } else {
                // The folder of the graphics cards: what programs use is the render node in it.
                let node = if host == "/dev/dri" { "/dev/dri/renderD128" } else { host };
                if host == "/dev/dri" {
                    log.changed(
                        "devices",
                        item.line,
                        "device nodes are named one by one: the first render node is",
                        "name others in service.toml",
                    );
                }
                let device =
                    if access == "rw" || access.is_empty() { node.to_owned() } else { format!("{node}:{access}") };
                if !self.devices.iter().any(|known| known.split(':').next() == Some(node)) {
                    self.devices.push(device);
                }
            }
        }
    }

    fn read_capabilities(&mut self, node: &Node, log: &mut Log<'_>) {
        for item in items("cap_add", node, log) {
            let upper = item.text.to_ascii_uppercase();
            let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if nixmox_core::model::CAPABILITIES.contains(&name.as_str()) {
                self.capabilities.push(name);
            } else {
                log.not_mapped(
                    "cap_add",
                    item.line,
                    "this is not one capability",
                    "name each one that is needed under `capabilities` in service.toml",
                );
            }
        }
    }

    fn read_network_mode(&mut self, key: &Key, node: &Node, log: &mut Log<'_>) {
        match node.text() {
            Some("host") => {
                self.has_host_network = true;
                let reason =
                    "the host's own network: nothing is isolated, and other services are not found by name from it";
                log.changed(
                    "network_mode",
                    key.line,
                    reason,
                    "leave `network` out of service.toml, and publish ports",
                );
            }
            Some("bridge" | "default") | None => {}
            Some(_) => log.not_mapped(
                "network_mode",
                key.line,
                "there are no named networks",
                "network = { mode = \"bridge\", bridge = \"br0\" } for a bridge of the host",
            ),
        }
    }

    fn read_secrets(&mut self, node: &Node, files: &Files, log: &mut Log<'_>) {
        for item in node.items() {
            let source = item.text().or_else(|| item.get("source").and_then(Node::text)).unwrap_or_default();
            let target = item.get("target").and_then(Node::text).unwrap_or(source);
            let target = target.rsplit('/').next().unwrap_or_default();
            match files.secrets.get(source) {
                Some(path) => self.secret_files.push((target.to_owned(), path.clone(), item.line)),
                None => log.not_mapped(
                    "secrets",
                    item.line,
                    "the file that holds this secret is not named under the `secrets` of the file",
                    "write `credentials` in service.toml",
                ),
            }
        }
    }

    fn read_configs(&mut self, node: &Node, files: &Files, log: &mut Log<'_>) {
        for item in node.items() {
            let source = item.text().or_else(|| item.get("source").and_then(Node::text)).unwrap_or_default();
            let target =
                item.get("target").and_then(Node::text).map_or_else(|| format!("/{source}"), ToOwned::to_owned);
            match files.configs.get(source) {
                Some(path) if target.starts_with('/') => self.volumes.push(Volume {
                    source: path.clone(),
                    target,
                    is_read_only: true,
                    is_named: false,
                    line: item.line,
                }),
                Some(_) | None => log.not_mapped(
                    "configs",
                    item.line,
                    "it is not a file on the host",
                    "write `mounts` in service.toml",
                ),
            }
        }
    }
}

fn restart(node: &Node, log: &mut Log<'_>) -> Option<Toml> {
    let text = node.text().unwrap_or("no");
    match text.split_once(':').unwrap_or((text, "")) {
        ("no" | "false", _) => Some("no".into()),
        // A service that is stopped is held, also over a reboot: `unless-stopped` is what there is.
        ("always" | "unless-stopped", _) => None,
        ("on-failure", attempts) => match attempts.parse::<u64>() {
            Ok(attempts @ 1..) => Some(Toml::Table(vec![
                ("policy".to_owned(), "on-failure".into()),
                ("attempts_max".to_owned(), Toml::Int(attempts)),
            ])),
            Ok(0) | Err(_) => Some("on-failure".into()),
        },
        (_, _) => {
            log.not_mapped(
                "restart",
                node.line,
                "this is not a policy that Compose has",
                "`restart` in service.toml",
            );
            None
        }
    }
}

fn read_networks(node: &Node, log: &mut Log<'_>) {
    for (key, node) in node.entries() {
        for (option, _) in node.entries() {
            let (reason, way_out) = match option.text.as_str() {
                "aliases" => ("a service is found by its own name only", "use the service's name in addresses"),
                "ipv4_address" => (
                    "addresses come from the stack's pool",
                    "network = { address = ... } in service.toml, from that pool",
                ),
                _ => ("the network between services is the agent's to make", ""),
            };
            log.not_mapped(&format!("networks.{}.{}", key.text, option.text), option.line, reason, way_out);
        }
    }
}
