//! What unit files other than ours say about limits and devices.
//!
//! systemd reports effective values only. Whether a value comes from the template, from somebody's drop-in or
//! from ours decides what is drift and what must be kept, so those files are read here: only section
//! `[Service]`, or `[Slice]` of a slice, only resource control (systemd.syntax(7), systemd.resource-control(5)).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nixmox_core::model::DropIn;

use super::UnitProperties;
use crate::host::paths::Paths;

/// Where `SetUnitProperties` with `runtime` writes (`Systemd` removes it after a live change).
const RUNTIME_CONTROL: &str = "/run/systemd/system.control";

/// Limits and device rules in a unit's files other than ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::host) struct Settings {
    /// Names of assigned settings, as in `MemoryMax`.
    pub(super) assigned: BTreeSet<String>,
    /// Values of `DeviceAllow=`: node and access.
    pub(super) devices: Vec<(String, String)>,
}

impl Settings {
    /// Returns the template and all drop-ins but ours and those that `SetUnitProperties` wrote, in systemd's order.
    pub(in crate::host) fn files_of_others(unit: &UnitProperties, paths: &Paths) -> Vec<PathBuf> {
        let control = paths.host_path(Path::new(RUNTIME_CONTROL));
        let files = unit.fragment_path.iter().chain(unit.drop_in_paths.iter().flatten());
        let files = files.map(|path| paths.host_path(Path::new(path)));
        files.filter(|path| !path.ends_with("10-nixmox.conf") && !path.starts_with(&control)).collect()
    }

    /// Reads files, later ones on top of earlier ones. One that cannot be read assigns nothing.
    pub(in crate::host) fn read(files: &[PathBuf]) -> Self {
        let mut settings = Self::default();
        for path in files {
            settings.add(&std::fs::read_to_string(path).unwrap_or_default());
        }
        settings
    }

    /// Reads our own drop-in.
    pub(in crate::host) fn of(drop_in: &DropIn) -> Self {
        let mut settings = Self::default();
        if let DropIn::Ours(text) = drop_in {
            settings.add(text);
        }
        settings
    }

    /// Reads one text on top of those before.
    pub(super) fn add(&mut self, text: &str) {
        each(text, |key, value| {
            if key != "DeviceAllow" {
                if value.is_empty() {
                    self.assigned.remove(key);
                } else {
                    self.assigned.insert(key.to_owned());
                }
            } else if value.is_empty() {
                self.devices.clear();
            } else {
                let (node, access) = value.split_once(char::is_whitespace).unwrap_or((value, "rwm"));
                self.devices.push((node.to_owned(), access.trim().to_owned()));
            }
        });
    }

    /// Returns whether a file has a setting that is assigned here, if only to reset it. One that cannot be read has none.
    pub(in crate::host) fn meets(&self, path: &Path) -> bool {
        let mut meets = false;
        each(&std::fs::read_to_string(path).unwrap_or_default(), |key, _| meets |= self.assigns(key));
        meets
    }

    /// Returns whether this setting is assigned.
    pub(in crate::host) fn assigns(&self, key: &str) -> bool {
        self.assigned.contains(key)
    }
}

/// Goes through the settings of a text that are read here.
fn each(text: &str, mut found: impl FnMut(&str, &str)) {
    let joined = text.replace("\\\n", " ");
    let mut in_service = false;
    for line in joined.lines().map(str::trim) {
        if line.starts_with('[') {
            in_service = matches!(line, "[Service]" | "[Slice]");
            continue;
        }
        if line.starts_with(['#', ';']) || !in_service {
            continue;
        }
        if let Some((key, value)) = line.split_once('=') {
            found(key.trim(), value.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_add_to_and_reset_earlier_ones() {
        let mut settings = Settings::default();
        settings.add("[Unit]\nMemoryMax=1G\n[Service]\nDeviceAllow=/dev/a r\nTasksMax = 7\n# CPUWeight=3\n");
        assert_eq!(settings.devices, [("/dev/a".to_owned(), "r".to_owned())]);
        assert_eq!(settings.assigned.iter().collect::<Vec<_>>(), ["TasksMax"]);
        settings.add("[Service]\nDeviceAllow=\nDeviceAllow=\\\n /dev/b   rw\nDeviceAllow=char-pts\nTasksMax=\n");
        let devices = [("/dev/b", "rw"), ("char-pts", "rwm")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(settings.devices, devices);
        assert!(!settings.assigns("TasksMax"));
    }
}
