//! Servers that need little more than their port and their folder.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// `memcached`.
pub(super) fn memcached(draft: &mut Draft<'_>) {
    draft.set("services.memcached.enable", true);
    draft.set("services.memcached.listen", "0.0.0.0");
    let line = draft.command_line();
    let words = draft.command(&["memcached"]);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (flag, value) = match word.strip_prefix("--memory-limit=").or_else(|| word.strip_prefix("-m")) {
            Some("") => ("-m", rest.next().map(String::as_str).unwrap_or_default()),
            Some(value) => ("-m", value),
            None => (word.as_str(), ""),
        };
        match (flag, value.parse::<i64>()) {
            ("-m", Ok(megabytes)) => draft.set("services.memcached.maxMemory", Nix::Int(megabytes)),
            (_, _) => draft.not_mapped(
                "command",
                line,
                "only the limit of memory (-m) is taken over",
                "services.memcached.extraOptions in service.nix",
            ),
        }
    }
    draft.listens(11211);
    draft.probe = Some(Probe::Tcp(11211));
}

/// `deluan/navidrome`: its `ND_` variables are settings.
pub(super) fn navidrome(draft: &mut Draft<'_>) {
    draft.set("services.navidrome.enable", true);
    draft.set("services.navidrome.settings.Address", "0.0.0.0");
    if draft.mounted().any(|target| target == "/music") {
        draft.set("services.navidrome.settings.MusicFolder", "/music");
    }
    draft.drops(&["ND_DATAFOLDER", "ND_MUSICFOLDER", "ND_CACHEFOLDER", "ND_ADDRESS", "ND_PORT"]);
    // Navidrome reads them itself, before its settings.
    for (name, value) in draft.take_all(|name| name.starts_with("ND_")) {
        draft.set_in("systemd.services.navidrome.environment", &[&name], value);
    }
    // Its root folder has no more than what is bound into it, and names are asked of files that are links to this one.
    draft.set("systemd.services.navidrome.serviceConfig.BindReadOnlyPaths", vec!["/run/host/nixmox"]);
    draft.keeps("/data", "/var/lib/navidrome");
    draft.listens(4533);
    draft.probe = Some(Probe::Http("http://localhost:4533/ping".to_owned()));
}

/// `advplyr/audiobookshelf`.
pub(super) fn audiobookshelf(draft: &mut Draft<'_>) {
    draft.set("services.audiobookshelf.enable", true);
    draft.set("services.audiobookshelf.host", "0.0.0.0");
    // The image's port, so that its address stays the same for others.
    draft.set("services.audiobookshelf.port", 13378_u16);
    draft.moves_port(80, 13378);
    draft.keeps("/config", "/var/lib/audiobookshelf/config");
    draft.keeps("/metadata", "/var/lib/audiobookshelf/metadata");
    draft.listens(13378);
    draft.probe = Some(Probe::Http("http://localhost:13378/healthcheck".to_owned()));
}

/// `linuxserver/sonarr`.
pub(super) fn sonarr(draft: &mut Draft<'_>) {
    draft.set("services.sonarr.enable", true);
    draft.set("services.sonarr.dataDir", "/var/lib/sonarr");
    // The module gives its user no other folder than its default one.
    draft.set("systemd.services.sonarr.serviceConfig.StateDirectory", "sonarr");
    draft.keeps("/config", "/var/lib/sonarr");
    draft.listens(8989);
    draft.probe = Some(Probe::Http("http://localhost:8989/ping".to_owned()));
}

/// `linuxserver/radarr`.
pub(super) fn radarr(draft: &mut Draft<'_>) {
    draft.set("services.radarr.enable", true);
    draft.set("services.radarr.dataDir", "/var/lib/radarr");
    // The module gives its user no other folder than its default one.
    draft.set("systemd.services.radarr.serviceConfig.StateDirectory", "radarr");
    draft.keeps("/config", "/var/lib/radarr");
    draft.listens(7878);
    draft.probe = Some(Probe::Http("http://localhost:7878/ping".to_owned()));
}
