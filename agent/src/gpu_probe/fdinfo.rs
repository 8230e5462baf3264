//! Who uses a GPU whose driver tells it in `/proc/PID/fdinfo` (kernel, "DRM client usage stats").
//!
//! A client is a card that was opened; its descriptor may be in several processes, and several in one. It counts once, in the process with
//! the lowest number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nixmox_core::gpu::{Gpu, ProcessKind};
use nixmox_core::model::{Bytes, Vendor};

use super::{PROCESSES_MAX, owner};
use crate::host::paths::Paths;

/// Most processes, and descriptors of one, that are looked at.
const NUMBERS_MAX: usize = 100_000;
const DESCRIPTORS_MAX: usize = 4096;
/// Nodes of cards.
const NODES: &str = "/dev/dri/";
/// Through these programs compute, or draw into memory; through the others they own a screen.
const RENDER_NODES: &str = "/dev/dri/renderD";

/// What one client has.
#[derive(Debug, PartialEq, Eq)]
struct Client {
    /// Its card's PCI address.
    pci: String,
    id: u64,
    /// Bytes of the card's own memory; `None`: the driver does not tell.
    memory: Option<u64>,
}

/// Adds to GPUs of AMD and Intel the processes that use them.
pub(super) fn add_processes(paths: &Paths, gpus: &mut [Gpu]) {
    if gpus.is_empty() {
        return;
    }
    let found = found(paths);
    for gpu in gpus {
        let of: Vec<_> = found.iter().filter(|((pci, _), _)| gpu.pci.as_ref() == Some(pci)).collect();
        let process = |((_, pid), (kind, memory)): &(&(String, u32), &(ProcessKind, Option<u64>))| {
            owner::process(paths, *pid, *kind, memory.map(Bytes))
        };
        gpu.processes = of.iter().take(PROCESSES_MAX).map(process).collect();
        // Intel's modules tell how much there is, and not how much of it is used.
        if gpu.vendor == Vendor::Intel
            && let Some(memory) = &mut gpu.memory
        {
            let sum = of.iter().fold(0_u64, |sum, (_, (_, memory))| sum.saturating_add(memory.unwrap_or(0)));
            memory.used = Bytes(sum.min(memory.total.0));
        }
    }
}

/// Returns what processes use, by card and process.
fn found(paths: &Paths) -> BTreeMap<(String, u32), (ProcessKind, Option<u64>)> {
    let mut pids = BTreeSet::new();
    let entries = fs::read_dir(paths.kernel("/proc")).into_iter().flatten().take(NUMBERS_MAX).flatten();
    pids.extend(entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for pid in pids {
        for (kind, client) in clients(paths, pid) {
            if !seen.insert((client.pci.clone(), client.id)) {
                continue;
            }
            let entry: &mut (ProcessKind, Option<u64>) = found.entry((client.pci, pid)).or_insert((kind, None));
            entry.0 = entry.0.min(kind);
            entry.1 = match (entry.1, client.memory) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            };
        }
    }
    found
}

/// Returns the clients of a process.
fn clients(paths: &Paths, pid: u32) -> Vec<(ProcessKind, Client)> {
    let Ok(descriptors) = fs::read_dir(paths.kernel(&format!("/proc/{pid}/fd"))) else { return Vec::new() };
    let client = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        let target = target.to_str()?;
        if !target.starts_with(NODES) {
            return None;
        }
        let kind = if target.starts_with(RENDER_NODES) { ProcessKind::Compute } else { ProcessKind::Graphics };
        let number = entry.file_name().to_str()?.to_owned();
        let text = fs::read_to_string(paths.kernel(&format!("/proc/{pid}/fdinfo/{number}"))).ok()?;
        Some((kind, parse(&text)?))
    };
    descriptors.take(DESCRIPTORS_MAX).flatten().filter_map(client).collect()
}

/// Reads what the kernel says of a client.
fn parse(text: &str) -> Option<Client> {
    let (mut pci, mut id) = (None, None);
    // By kind of figure: what is in memory now, the older name for it, and what was asked for.
    let (mut resident, mut memory, mut total) = (None, None, None);
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        let region = |prefix: &str| key.strip_prefix(prefix).is_some_and(is_own_memory);
        if key == "drm-pdev" {
            pci = super::plausible::pci(value).ok();
        } else if key == "drm-client-id" {
            id = value.parse().ok();
        } else if region("drm-resident-") {
            add(&mut resident, value);
        } else if region("drm-memory-") {
            add(&mut memory, value);
        } else if region("drm-total-") {
            add(&mut total, value);
        }
    }
    Some(Client { pci: pci?, id: id?, memory: resident.or(memory).or(total) })
}

/// Returns whether a region is memory of the card: `vram`, `vram0`, `local0` and the like, and not `system`, `gtt` or `stolen`.
fn is_own_memory(region: &str) -> bool {
    let name = region.trim_end_matches(|c: char| c.is_ascii_digit());
    name == "vram" || name == "local"
}

/// Adds a size such as `2048 KiB`.
fn add(sum: &mut Option<u64>, value: &str) {
    let (number, unit) = value.split_once(' ').unwrap_or((value, ""));
    let factor: u64 = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return,
    };
    if let Some(size) = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        *sum = Some(sum.unwrap_or(0).saturating_add(size));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_now_goes_before_older_names_and_what_was_asked_for() {
        let client = |lines: &str| {
            parse(&format!("pos:\t0\ndrm-driver:\tx\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t7\n{lines}"))
        };
        let memory = |lines: &str| client(lines).unwrap().memory;
        assert_eq!(
            memory("drm-memory-vram:\t1 KiB\ndrm-resident-vram:\t2 MiB\ndrm-total-vram:\t3 MiB\n"),
            Some(2 << 20)
        );
        assert_eq!(memory("drm-memory-vram:\t512 KiB\ndrm-memory-gtt:\t9 MiB\n"), Some(512 << 10));
        assert_eq!(memory("drm-total-vram0:\t5\ndrm-total-system0:\t9 MiB\n"), Some(5));
        assert_eq!(memory("drm-resident-local0:\t1 MiB\ndrm-resident-local1:\t1 MiB\n"), Some(2 << 20));
        assert_eq!(memory("drm-resident-stolen-vram:\t1 MiB\n"), None);
        assert_eq!(memory("drm-resident-vram:\t-1 KiB\n"), None);
        assert_eq!(memory("drm-resident-vram:\t18446744073709551615 MiB\n"), None);
        assert_eq!(parse("drm-pdev:\t0000:03:00.0\n"), None, "without a number it cannot be told from others");
        assert_eq!(parse("pos:\t0\nflags:\t02\n"), None);
    }
}
