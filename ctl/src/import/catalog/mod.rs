//! Well-known images, and the NixOS module that does the same.
//!
//! One file for each, which says where the module keeps its data, which port it serves, and which variables of the
//! image are which options. Option names are those of NixOS 26.05.

mod caddy;
mod forge;
mod grafana;
mod home_assistant;
mod jellyfin;
mod mariadb;
mod miniflux;
mod nextcloud;
mod nginx;
mod ollama;
mod postgres;
mod prometheus;
mod redis;
mod servers;
mod traefik;
mod url;
mod vaultwarden;

use super::draft::Draft;
use super::image::Image;

/// An image that is known.
pub(super) struct Known {
    /// Names of images without registry and tag.
    images: &'static [&'static str],
    /// What it is, for the reader.
    pub(super) title: &'static str,
    /// Where the module's options are.
    pub(super) option: &'static str,
    /// Writes the module.
    pub(super) write: fn(&mut Draft<'_>),
}

impl Known {
    /// Whether it learns of the other services from their labels.
    pub(super) fn reads_labels(&self) -> bool {
        self.option == "services.traefik"
    }
}

/// All of them, in the order of their titles.
const KNOWN: &[Known] = &[
    Known {
        images: &["advplyr/audiobookshelf"],
        title: "Audiobookshelf",
        option: "services.audiobookshelf",
        write: servers::audiobookshelf,
    },
    Known { images: &["caddy"], title: "Caddy", option: "services.caddy", write: caddy::write },
    Known { images: &["forgejo/forgejo"], title: "Forgejo", option: "services.forgejo", write: forge::forgejo },
    Known { images: &["gitea/gitea"], title: "Gitea", option: "services.gitea", write: forge::gitea },
    Known {
        images: &["grafana/grafana", "grafana/grafana-oss"],
        title: "Grafana",
        option: "services.grafana",
        write: grafana::write,
    },
    Known {
        images: &["homeassistant/home-assistant", "home-assistant/home-assistant", "linuxserver/homeassistant"],
        title: "Home Assistant",
        option: "services.home-assistant",
        write: home_assistant::write,
    },
    Known {
        images: &["jellyfin/jellyfin", "linuxserver/jellyfin"],
        title: "Jellyfin",
        option: "services.jellyfin",
        write: jellyfin::write,
    },
    Known {
        images: &["mariadb", "mysql", "linuxserver/mariadb"],
        title: "MariaDB",
        option: "services.mysql",
        write: mariadb::write,
    },
    Known { images: &["memcached"], title: "memcached", option: "services.memcached", write: servers::memcached },
    Known {
        images: &["miniflux/miniflux"],
        title: "Miniflux",
        option: "services.miniflux",
        write: miniflux::write,
    },
    Known {
        images: &["deluan/navidrome", "navidrome/navidrome"],
        title: "Navidrome",
        option: "services.navidrome",
        write: servers::navidrome,
    },
    Known { images: &["nextcloud"], title: "Nextcloud", option: "services.nextcloud", write: nextcloud::write },
    Known {
        images: &["nginx", "nginxinc/nginx-unprivileged"],
        title: "nginx",
        option: "services.nginx",
        write: nginx::write,
    },
    Known { images: &["ollama/ollama"], title: "Ollama", option: "services.ollama", write: ollama::write },
    Known {
        images: &["postgres", "pgvector/pgvector", "postgis/postgis"],
        title: "PostgreSQL",
        option: "services.postgresql",
        write: postgres::write,
    },
    Known {
        images: &["prom/prometheus", "prometheus/prometheus"],
        title: "Prometheus",
        option: "services.prometheus",
        write: prometheus::write,
    },
    Known {
        images: &["prom/node-exporter", "prometheus/node-exporter"],
        title: "Prometheus node exporter",
        option: "services.prometheus.exporters.node",
        write: prometheus::node_exporter,
    },
    Known { images: &["linuxserver/radarr"], title: "Radarr", option: "services.radarr", write: servers::radarr },
    Known {
        images: &["redis", "valkey/valkey", "redis/redis"],
        title: "Redis",
        option: "services.redis.servers",
        write: redis::write,
    },
    Known { images: &["linuxserver/sonarr"], title: "Sonarr", option: "services.sonarr", write: servers::sonarr },
    Known { images: &["traefik"], title: "Traefik", option: "services.traefik", write: traefik::write },
    Known {
        images: &["vaultwarden/server", "dani-garcia/vaultwarden"],
        title: "Vaultwarden",
        option: "services.vaultwarden",
        write: vaultwarden::write,
    },
];

/// Returns what is known of an image.
pub(super) fn find(image: &Image) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.images.contains(&image.name.as_str()))
}

/// Returns the titles of all, to compare with what is said of them.
#[cfg(test)]
pub(super) fn titles() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.title)
}

/// Whether a text can stand in SQL as a name without further thought.
fn is_identifier(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.len() < 64 && text.chars().all(known)
}

/// Returns host and port of `db:5432`, of `db`, and of nothing.
fn host_and_port(text: &str) -> (String, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => (host.to_owned(), Some(port)),
            Err(_) => (text.to_owned(), None),
        },
        None => (text.to_owned(), None),
    }
}
