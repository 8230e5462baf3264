//! The files of a stack: `nixmox.toml`, the flake that builds its guests, and `service.toml` of each service.

use super::compose::{Dependency, Probe, Service, duration, size};
use super::toml::Toml;

/// The release of NixOS that the catalog knows the options of.
const RELEASE: &str = "26.05";

/// The manifest's default, in milliseconds. The start is given it too, and a guest boots longer than an image's one
/// program, so that it is never made shorter.
const START_PERIOD: u64 = 60_000;

/// Returns the stack file.
pub(super) fn stack_file(stack: &str, from: &str) -> String {
    format!(
        "# Imported from {from}. The guests are built from flake.nix.\nformat = 1\n\n[stack]\n{}{}",
        Toml::from(stack).line("name"),
        Toml::texts(["services/*/service.toml"]).line("include"),
    )
}

/// Returns the flake: every folder of services/ is a guest.
pub(super) fn flake(stack: &str) -> String {
    format!(
        r#"# Every folder of services/ is a guest of the stack {stack}: `system = "../..\#NAME"` builds services/NAME/service.nix.
{{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-{RELEASE}";

  outputs =
    {{ nixpkgs, ... }}:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      guest =
        system: name:
        (nixpkgs.lib.nixosSystem {{
          inherit system;
          modules = [
            ./guest.nix
            (./services + "/${{name}}/service.nix")
          ];
        }}).config.system.build.toplevel;
      guests = system: builtins.mapAttrs (name: _: guest system name) (builtins.readDir ./services);
    in
    {{
      packages = nixpkgs.lib.genAttrs systems guests;
    }};
}}
"#
    )
    .replace("\\#", "#")
}

/// Returns what every guest has in common.
pub(super) fn guest() -> String {
    format!(
        r#"# What every guest brings.
{{ lib, ... }}:
{{
  boot.isNspawnContainer = true;
  # Names of the other services, and whom to ask for all others: the agent keeps both files.
  environment.etc.hosts.source = lib.mkForce "/run/host/nixmox/hosts";
  environment.etc."resolv.conf".source = lib.mkDefault "/run/host/nixmox/resolv.conf";
  # It would write that file too.
  networking.resolvconf.enable = false;
  # The template sets address and route before the guest's init: a DHCP client would wait for an answer that nobody gives.
  networking.useDHCP = false;
  # The release of the first start; it stays when nixpkgs moves on.
  system.stateVersion = "{RELEASE}";
}}
"#
    )
}

/// What a service's manifest is made of.
pub(super) struct Parts<'a> {
    /// What is read of the Compose file.
    pub(super) service: &'a Service,
    /// What it waits for; the names are those of the stack.
    pub(super) depends_on: Vec<Dependency>,
    /// How health is asked about where the Compose file does not say it.
    pub(super) probe: Option<Probe>,
    /// How long the first start may take, in milliseconds, where the Compose file does not say it.
    pub(super) start_period: Option<u64>,
    /// Credentials: name and file on the host.
    pub(super) credentials: &'a [(String, String)],
    /// The Compose file, as messages call it.
    pub(super) file: &'a str,
}

/// Returns the manifest of a service.
pub(super) fn service_file(parts: &Parts<'_>) -> String {
    let service = parts.service;
    let mut text = format!("# From `{}` of {}: image {}.\n", service.compose_name, parts.file, service.image.text);
    // Tables that are too long for a line stand below all other keys.
    let mut sections = String::new();
    let mut add = |key: &str, value: Option<Toml>| match value.as_ref().map(|value| (value, value.section(key))) {
        None => {}
        Some((_, Some(section))) => sections.push_str(&section),
        Some((value, None)) => text.push_str(&value.line(key)),
    };
    // The flake lies above; `.#NAME` would be found too, and nix would say each time that it went looking.
    add("system", Some(format!("../..#{}", service.name).into()));
    add("depends_on", depends_on(&parts.depends_on));
    add("health", health(parts));
    add("limits", service.limits.table());
    add("restart", service.restart.clone());
    add("network", network(service));
    add("mounts", list(service.volumes.iter().map(mount).collect()));
    add("tmpfs", list(service.tmpfs.iter().map(tmpfs).collect()));
    add("credentials", table(parts.credentials.iter().map(|(name, path)| (name.clone(), path.as_str().into()))));
    let environment =
        service.environment.iter().map(|(name, variable)| (name.clone(), variable.value.as_str().into()));
    add("environment", table(environment));
    add("devices", list(service.devices.iter().map(|device| device.as_str().into()).collect()));
    add("capabilities", list(service.capabilities.iter().map(|name| name.as_str().into()).collect()));
    add("nspawn_flags", list(service.flags.iter().map(|flag| flag.as_str().into()).collect()));
    add("gpu", service.limits.gpu.clone());
    text + &sections
}

fn list(items: Vec<Toml>) -> Option<Toml> {
    (!items.is_empty()).then_some(Toml::List(items))
}

fn table(entries: impl Iterator<Item = (String, Toml)>) -> Option<Toml> {
    let entries: Vec<(String, Toml)> = entries.collect();
    (!entries.is_empty()).then_some(Toml::Table(entries))
}

fn depends_on(dependencies: &[Dependency]) -> Option<Toml> {
    table(dependencies.iter().map(|dependency| (dependency.on.clone(), dependency.condition.word().into())))
}

fn health(parts: &Parts<'_>) -> Option<Toml> {
    let written = &parts.service.health;
    if written.is_off {
        return None;
    }
    let (key, value) = match written.probe.as_ref().or(parts.probe.as_ref())? {
        Probe::Http(url) => ("http", url.as_str().into()),
        Probe::Tcp(port) => ("tcp", Toml::Int(u64::from(*port))),
        Probe::Unit(unit) => ("unit", unit.as_str().into()),
    };
    let mut entries = vec![(key.to_owned(), value)];
    let mut start_period = parts.start_period.unwrap_or(START_PERIOD);
    for (key, time) in &written.times {
        if *key == "start_period" {
            start_period = start_period.max(*time);
        } else {
            entries.push(((*key).to_owned(), duration(*time).into()));
        }
    }
    if start_period > START_PERIOD {
        entries.push(("start_period".to_owned(), duration(start_period).into()));
    }
    entries.extend(written.retries.map(|retries| ("retries".to_owned(), Toml::Int(retries))));
    Some(Toml::Table(entries))
}

fn network(service: &Service) -> Option<Toml> {
    if service.has_host_network {
        return Some(Toml::Table(vec![("mode".to_owned(), "host".into())]));
    }
    let ports = service.ports.iter().map(|port| {
        let protocol = if port.is_udp { "/udp" } else { "" };
        match &port.address {
            Some(address) => format!("{address}:{}:{}{protocol}", port.host, port.container),
            None if port.host == port.container => format!("{}{protocol}", port.host),
            None => format!("{}:{}{protocol}", port.host, port.container),
        }
    });
    let ports: Vec<String> = ports.collect();
    (!ports.is_empty()).then(|| Toml::Table(vec![("ports".to_owned(), Toml::texts(ports))]))
}

fn mount(volume: &super::compose::Volume) -> Toml {
    // The agent may make folders below /srv, where volumes of Compose's come to lie.
    let create = volume.is_named;
    if create || volume.source.contains(':') || volume.target.contains(':') {
        let mut entries = vec![
            ("source".to_owned(), volume.source.as_str().into()),
            ("target".to_owned(), volume.target.as_str().into()),
        ];
        if volume.is_read_only {
            entries.push(("read_only".to_owned(), Toml::Bool(true)));
        }
        if create {
            entries.push(("create".to_owned(), Toml::Bool(true)));
        }
        return Toml::Table(entries);
    }
    format!("{}:{}{}", volume.source, volume.target, if volume.is_read_only { ":ro" } else { "" }).into()
}

fn tmpfs(tmpfs: &super::compose::Tmpfs) -> Toml {
    match tmpfs.size {
        None => tmpfs.target.as_str().into(),
        Some(bytes) => {
            Toml::Table(vec![("target".to_owned(), tmpfs.target.as_str().into()), ("size".to_owned(), size(bytes))])
        }
    }
}
