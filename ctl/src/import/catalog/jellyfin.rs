//! `jellyfin`: the media stay where the Compose file has them.

use crate::import::compose::Probe;
use crate::import::draft::Draft;

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.jellyfin.enable", true);
    if draft.has_gpu() || draft.has_render_node() {
        draft.set("hardware.graphics.enable", true);
        draft.set("users.users.jellyfin.extraGroups", vec!["render", "video"]);
    }
    if let Some(url) = draft.take_any(&["JELLYFIN_PublishedServerUrl", "JELLYFIN_PUBLISHEDSERVERURL"]) {
        draft.set_in("systemd.services.jellyfin.environment", &["JELLYFIN_PublishedServerUrl"], url);
    }
    draft.keeps("/config", "/var/lib/jellyfin");
    draft.keeps("/cache", "/var/cache/jellyfin");
    draft.listens(8096);
    // Clients of the local network look for it there.
    draft.listens_udp(7359);
    draft.probe = Some(Probe::Http("http://localhost:8096/health".to_owned()));
}
