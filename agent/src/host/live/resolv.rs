//! Whom guests ask for names: whom the host itself asks, or those behind its stub (resolv.conf(5), systemd-resolved.service(8)).

use std::net::IpAddr;

use nixmox_core::model::Servers;

use crate::host::files;
use crate::host::paths::Paths;

/// Returns what the host and its guests read.
pub(super) fn servers(paths: &Paths) -> Servers {
    Servers { host: of_host(paths), guests: of_guests(paths) }
}

/// Returns what the host has for guests: of its files the first that they can do something with. Where there is none, guests keep
/// one of before that they can; else it is the host's own as it is, for those in the host's network.
pub(super) fn of_host(paths: &Paths) -> Option<String> {
    let texts = paths.servers_of_host().map(|file| files::read(&file));
    if let Some(text) = texts.iter().flatten().find(|text| reachable_from_elsewhere(text)) {
        return Some(text.clone());
    }
    let [own, _] = texts;
    let kept = of_guests(paths).is_some_and(|text| reachable_from_elsewhere(&text));
    own.filter(|own| !kept && servers_in(own).next().is_some())
}

fn of_guests(paths: &Paths) -> Option<String> {
    files::read(&paths.resolv_conf())
}

/// Returns whether what the host's own programs read would do for guests as it is.
pub(super) fn can_be_copied(paths: &Paths) -> bool {
    let [of_host, _] = paths.servers_of_host();
    files::read(&of_host).is_some_and(|text| reachable_from_elsewhere(&text))
}

/// Returns whether the servers of a resolv.conf(5) can be reached from a network namespace of its own: there is one
/// and none is a loopback address, as that of systemd-resolved is.
fn reachable_from_elsewhere(text: &str) -> bool {
    let mut servers = servers_in(text).peekable();
    servers.peek().is_some() && servers.all(|server| !server.is_loopback() && !server.is_unspecified())
}

fn servers_in(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_resolver_on_localhost_is_of_no_use_to_guests() {
        assert!(reachable_from_elsewhere("search lan\nnameserver 192.168.1.1\n"));
        assert!(!reachable_from_elsewhere("nameserver 127.0.0.53\nnameserver 192.168.1.1\n"));
        assert!(!reachable_from_elsewhere("search lan\n"));
    }

    #[test]
    fn those_behind_a_stub_stand_in_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        let [own, behind_stub] = paths.servers_of_host();
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(of_host(&paths), None);
        write(&own, "nameserver 127.0.0.1\n");
        assert_eq!(of_host(&paths).as_deref(), Some("nameserver 127.0.0.1\n"), "for guests in the host's network");
        write(&behind_stub, "nameserver 192.0.2.2\n");
        write(&own, "nameserver 127.0.0.53\n");
        assert_eq!(of_host(&paths).as_deref(), Some("nameserver 192.0.2.2\n"));
        write(&own, "nameserver 192.0.2.1\n");
        assert_eq!(of_host(&paths).as_deref(), Some("nameserver 192.0.2.1\n"));
        write(&paths.resolv_conf(), "nameserver 192.0.2.1\n");
        write(&own, "nameserver 127.0.0.53\n");
        write(&behind_stub, "# none known now\n");
        assert_eq!(of_host(&paths), None, "guests keep those that they can reach");
    }
}
