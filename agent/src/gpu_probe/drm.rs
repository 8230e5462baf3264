//! Graphics cards as the kernel's DRM has them, below `/sys/class/drm`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nixmox_core::gpu::{Node, Sensors};

use super::nodes::of_sysfs;
use super::plausible;
use crate::host::paths::Paths;

const DRM: &str = "/sys/class/drm";
/// Most entries of a folder that are looked at.
const ENTRIES_MAX: usize = 256;

/// A card.
#[derive(Debug)]
pub(super) struct Card {
    /// Its device's folder.
    pub(super) device: PathBuf,
    /// Its own folder.
    pub(super) folder: PathBuf,
    /// Its PCI address.
    pub(super) pci: String,
    /// Whose it is, as the bus has it, such as `0x1002`.
    pub(super) vendor: String,
    /// What it is, as the bus has it.
    pub(super) model: String,
    /// The node that programs compute and draw through.
    pub(super) render: Node,
}

impl Card {
    /// Reads a number of its device.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        number(&self.device.join(file))
    }

    /// Reads a line of text of its device.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.device.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns the folder of its sensors.
    pub(super) fn sensors_folder(&self) -> Option<PathBuf> {
        let folders = fs::read_dir(self.device.join("hwmon")).ok()?;
        folders.take(ENTRIES_MAX).flatten().map(|entry| entry.path()).min()
    }

    /// Reads its sensors (hwmon: thousandths of degrees, millionths of watts; kernel, `hwmon/sysfs-interface`).
    pub(super) fn sensors(&self) -> Sensors {
        let folder = self.sensors_folder();
        let read = |file: &str, unit: u64, most: u32| {
            let value = number(&folder.as_ref()?.join(file))? / unit;
            u32::try_from(value).ok().filter(|value| *value <= most)
        };
        let degrees = |file| read(file, 1000, plausible::DEGREES_MAX);
        let milliwatts = |file| read(file, 1000, plausible::MILLIWATTS_MAX);
        let percent =
            |file| self.number(file).and_then(|value| u32::try_from(value).ok()).filter(|value| *value <= 100);
        Sensors {
            temperature: degrees("temp1_input"),
            temperature_slowdown: degrees("temp1_crit"),
            power: milliwatts("power1_average").or_else(|| milliwatts("power1_input")),
            power_limit: milliwatts("power1_cap"),
            utilization: percent("gpu_busy_percent"),
            memory_utilization: percent("mem_busy_percent"),
            throttle: Vec::new(),
        }
    }
}

/// Returns the cards that have a render node, by PCI address.
pub(super) fn cards(paths: &Paths) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(paths.kernel(DRM)) else { return Vec::new() };
    let mut cards = BTreeMap::new();
    let found = entries.take(ENTRIES_MAX).flatten().filter_map(|entry| card(paths, &entry));
    cards.extend(found.map(|card| (card.pci.clone(), card)));
    cards.into_values().collect()
}

fn card(paths: &Paths, entry: &fs::DirEntry) -> Option<Card> {
    let name = entry.file_name();
    // `card0-HDMI-A-1` is a connector of it.
    name.to_str()?.strip_prefix("card")?.parse::<u32>().ok()?;
    let device = entry.path().join("device");
    let read = |file: &str| fs::read_to_string(device.join(file)).map(|text| text.trim().to_owned()).ok();
    let (vendor, model) = (read("vendor")?, read("device").unwrap_or_default());
    let slot = read("uevent")?;
    let slot = slot.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))?;
    let pci = plausible::pci(slot).ok()?;
    let siblings = fs::read_dir(device.join("drm")).ok()?;
    let render = siblings.take(ENTRIES_MAX).flatten().find_map(|sibling| {
        let name = sibling.file_name().to_str()?.to_owned();
        name.strip_prefix("renderD")?.parse::<u32>().ok().map(|_| name)
    })?;
    let render = of_sysfs(paths, format!("/dev/dri/{render}"), &format!("{DRM}/{render}/dev"));
    Some(Card { folder: entry.path(), pci, vendor, model, render, device })
}

/// Reads a number from a file.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}
