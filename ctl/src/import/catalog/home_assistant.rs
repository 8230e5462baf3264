//! `home-assistant`: its configuration stays the files that it writes itself.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.home-assistant.enable", true);
    // configuration.yaml is the user's, in the mounted folder.
    draft.set("services.home-assistant.config", Nix::Raw("null"));
    draft.set(
        "services.home-assistant.extraComponents",
        vec!["default_config", "esphome", "met", "mqtt", "radio_browser"],
    );
    draft.changed(
        "components are part of the package: a few usual ones are named",
        "services.home-assistant.extraComponents in service.nix",
    );
    draft.drops(&["DISABLE_JEMALLOC"]);
    draft.has_not("/run/dbus", "the guest has a D-Bus of its own", "");
    draft.keeps("/config", "/var/lib/hass");
    draft.listens(8123);
    draft.probe = Some(Probe::Tcp(8123));
    draft.start_period = Some(300_000);
}
