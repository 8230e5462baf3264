//! `ollama/ollama`: its variables are its own; the models are kept where the volume is.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.ollama.enable", true);
    draft.set("services.ollama.host", "0.0.0.0");
    // A user of its own, so that what lies on the mount keeps its owner.
    draft.set("services.ollama.user", "ollama");
    draft.set("services.ollama.group", "ollama");
    draft.needs("lib");
    draft
        .set("systemd.services.ollama.serviceConfig.DynamicUser", Nix::Call("lib.mkForce", Box::new(false.into())));
    if draft.image().tag.contains("rocm") {
        draft.needs("pkgs");
        draft.set("services.ollama.package", Nix::Raw("pkgs.ollama-rocm"));
    } else if draft.has_gpu() {
        draft.needs("pkgs");
        draft.set("services.ollama.package", Nix::Raw("pkgs.ollama-cuda"));
        draft.set("nixpkgs.config.allowUnfree", true);
    }
    draft.drops(&["OLLAMA_HOST", "OLLAMA_MODELS"]);
    for (name, value) in draft.take_all(|name| name.starts_with("OLLAMA_") || name.contains("VISIBLE_DEVICES")) {
        draft.set_in("services.ollama.environmentVariables", &[&name], value);
    }
    draft.keeps("/root/.ollama", "/var/lib/ollama");
    draft.listens(11434);
    draft.probe = Some(Probe::Http("http://localhost:11434/api/version".to_owned()));
}
