//! `prom/prometheus` and `prom/node-exporter`.

use crate::import::compose::Probe;
use crate::import::draft::Draft;
use crate::import::nix::Nix;

/// Runs Prometheus with the file that is mounted: the module has no option for a file outside of the store.
const WITH_FILE: &str = "\"${lib.getExe config.services.prometheus.package} --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/var/lib/prometheus2/data --web.listen-address=0.0.0.0:9090\"";

/// Writes the module.
pub(super) fn write(draft: &mut Draft<'_>) {
    draft.set("services.prometheus.enable", true);
    draft.set("services.prometheus.listenAddress", "0.0.0.0");
    let has_config =
        draft.mounted().any(|target| matches!(target, "/etc/prometheus" | "/etc/prometheus/prometheus.yml"));
    let line = draft.command_line();
    for word in draft.command(&["prometheus", "/bin/prometheus"]) {
        argument(draft, &word, has_config, line);
    }
    if has_config {
        draft.needs("lib");
        draft.needs("config");
        draft.set(
            "systemd.services.prometheus.serviceConfig.ExecStart",
            Nix::Call("lib.mkForce", Box::new(Nix::Raw(WITH_FILE))),
        );
    }
    draft.keeps("/etc/prometheus", "/etc/prometheus");
    draft.keeps("/prometheus", "/var/lib/prometheus2");
    draft.listens(9090);
    draft.probe = Some(Probe::Http("http://localhost:9090/-/ready".to_owned()));
}

fn argument(draft: &mut Draft<'_>, word: &str, has_config: bool, line: usize) {
    let (name, value) = word.trim_start_matches('-').split_once('=').unwrap_or((word.trim_start_matches('-'), ""));
    match name {
        // What the image says too.
        "config.file"
        | "storage.tsdb.path"
        | "web.listen-address"
        | "web.console.libraries"
        | "web.console.templates" => {}
        "storage.tsdb.retention.time" if !has_config => draft.set("services.prometheus.retentionTime", value),
        "web.external-url" if !has_config => draft.set("services.prometheus.webExternalUrl", value),
        "web.enable-lifecycle" if !has_config => {
            draft.set("services.prometheus.extraFlags", vec!["--web.enable-lifecycle"]);
        }
        name => {
            let reason = format!(
                "--{} is not among the arguments that are taken over",
                name.replace(|c: char| !c.is_ascii_graphic(), "")
            );
            draft.not_mapped("command", line, &reason, "services.prometheus in service.nix");
        }
    }
}

/// Writes the module of the node exporter.
pub(super) fn node_exporter(draft: &mut Draft<'_>) {
    draft.set("services.prometheus.exporters.node.enable", true);
    let line = draft.command_line();
    if !draft.command(&[]).is_empty() {
        let way_out = "services.prometheus.exporters.node.extraFlags in service.nix";
        draft.not_mapped("command", line, "arguments of the image are about its mounts of the host", way_out);
    }
    draft.changed(
        "it tells about its container; about the host it tells on the host",
        "services.prometheus.exporters.node in the host's configuration",
    );
    for folder in ["/host", "/rootfs"] {
        draft.has_not(
            folder,
            "the host's file systems are not for a container",
            "services.prometheus.exporters.node in the host's configuration",
        );
    }
    draft.listens(9100);
    draft.probe = Some(Probe::Tcp(9100));
}
