//! The end of a draft: mounts and ports go to where the module has them, and what nobody had a use for is told.

use std::path::Path;

use super::{Draft, Guest, Place};
use crate::import::compose::Environment;

impl Draft<'_> {
    /// Moves mounts and ports to where the module has them, opens the ports, and tells what nobody had a use for.
    pub(super) fn finish(&mut self, option: &str) {
        self.move_mounts(option);
        for port in &mut self.service.ports {
            if let Some((_, guest)) = self.moved_ports.iter().find(|(image, _)| *image == port.container) {
                port.container = *guest;
            }
        }
        // On the host's network the firewall would be the host's.
        if self.service.has_host_network {
            self.set("networking.firewall.enable", false);
        } else {
            let published = |is_udp| self.service.ports.iter().filter(move |port| port.is_udp == is_udp);
            self.open.0.extend(published(false).map(|port| port.container));
            self.open.1.extend(published(true).map(|port| port.container));
            let (tcp, udp) = self.open.clone();
            for (option, mut ports) in [("allowedTCPPorts", tcp), ("allowedUDPPorts", udp)] {
                ports.sort_unstable();
                ports.dedup();
                if !ports.is_empty() {
                    self.module.set(&["networking", "firewall", option], ports.into());
                }
            }
        }
        self.tell_rest(option);
    }

    fn move_mounts(&mut self, option: &str) {
        let way_out = way_out(option);
        let mut volumes = std::mem::take(&mut self.service.volumes);
        let log = &mut self.log;
        volumes.retain_mut(|volume| {
            let below = |place: &&Place| Path::new(&volume.target).starts_with(&place.image);
            let nearest = self.places.iter().filter(below).max_by_key(|place| place.image.len());
            match nearest.map(|place| (&place.guest, volume.target.strip_prefix(&place.image).unwrap_or_default()))
            {
                None => {
                    if is_of_the_image(&volume.target) {
                        let reason = format!(
                            "it is mounted at {} as before, where the NixOS module may not look",
                            volume.target
                        );
                        log.changed("volumes", volume.line, &reason, &way_out);
                    }
                    true
                }
                Some((Guest::At(guest), rest)) => {
                    volume.target = format!("{guest}{rest}");
                    true
                }
                Some((Guest::Nowhere(reason, way_out), _)) => {
                    log.not_mapped("volumes", volume.line, reason, way_out);
                    false
                }
            }
        });
        let mut targets: Vec<String> = Vec::new();
        volumes.retain(|volume| {
            let is_new = !targets.contains(&volume.target);
            if is_new {
                targets.push(volume.target.clone());
            } else {
                let reason = format!("another volume lies at {} of the guest already", volume.target);
                log.not_mapped("volumes", volume.line, &reason, "write `mounts` in service.toml");
            }
            is_new
        });
        self.service.tmpfs.retain(|tmpfs| !targets.contains(&tmpfs.target));
        self.service.volumes = volumes;
    }

    /// Tells what is left. `option` is where the module's options are.
    fn tell_rest(&mut self, option: &str) {
        let way_out = way_out(option);
        if let Some(command) = self.service.command.take() {
            let reason = "the NixOS module has options in place of arguments";
            self.log.not_mapped("command", command.line, reason, &way_out);
        }
        let mut kept = Environment::new();
        for (name, variable) in std::mem::take(&mut self.service.environment) {
            let key = format!("environment.{name}");
            if variable.value.contains(char::is_control) && !variable.is_secret {
                let reason = "control characters cannot occur in the value of a variable";
                self.log.not_mapped(&key, variable.line, reason, &way_out);
            } else if name == "TZ" && !variable.value.is_empty() && !variable.is_secret {
                self.module.set(&["time", "timeZone"], variable.value.as_str().into());
                kept.insert(name, variable);
            } else if matches!(name.as_str(), "PUID" | "PGID" | "UID" | "GID" | "UMASK") {
                let reason = "the NixOS module has a user of its own";
                self.log.not_mapped(&key, variable.line, reason, "files on mounts may need another owner");
            } else if is_general(&name) && !variable.is_secret {
                kept.insert(name, variable);
            } else if variable.is_secret {
                let reason = "it is a secret that the NixOS module has no place for; its value is not written";
                self.log.not_mapped(&key, variable.line, reason, &way_out);
            } else if !variable.value.is_empty() {
                self.log.not_mapped(&key, variable.line, "it is a setting of the image", &way_out);
            }
        }
        self.service.environment = kept;
        for (target, path, line) in std::mem::take(&mut self.service.secret_files) {
            if self.credentials.iter().any(|(_, known)| *known == path) {
                continue;
            }
            let name: String =
                target.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
            let reason = format!("it is the credential `{name}` of the guest, which no unit picks up yet");
            self.log.changed("secrets", line, &reason, "LoadCredential of the unit in service.nix");
            self.credential(&name, path);
        }
    }
}

/// Returns where to look for what an image's settings are called by NixOS.
fn way_out(option: &str) -> String {
    format!("see the options of {option}: https://search.nixos.org/options")
}

/// Whether a path is one of the image's own, unlike a folder for media or other data.
fn is_of_the_image(target: &str) -> bool {
    ["/etc", "/usr", "/opt", "/app", "/root", "/home", "/var/lib"]
        .into_iter()
        .any(|own| Path::new(target).starts_with(own))
        || target.starts_with("/docker-entrypoint")
}

/// Whether a variable means the same to every program.
fn is_general(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    name == "LANG" || name.starts_with("LC_") || matches!(upper.as_str(), "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY")
}
