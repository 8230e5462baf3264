//! GPUs of Intel, as the modules `i915` and `xe` tell of them in sysfs.

use nixmox_core::gpu::{Gpu, Memory, Part};
use nixmox_core::model::Vendor;

use super::drm::Card;
use super::{owner, plausible};

/// Intel's number on the PCI bus.
const PCI_INTEL: &str = "0x8086";
/// Where the integrated one is on the bus, in every machine that has one.
const INTEGRATED: &str = "0000:00:02.0";
/// Where some versions of the modules tell how much memory a card of its own has; others do not tell at all.
const TOTALS: [&str; 2] = ["lmem_total_bytes", "device/tile0/physical_vram_size_bytes"];

/// Returns the GPUs of Intel among the cards.
pub(super) fn gpus(cards: &[Card]) -> Vec<Gpu> {
    let cards = cards.iter().filter(|card| card.vendor == PCI_INTEL);
    (0..).zip(cards).filter_map(|(index, card)| gpu(index, card)).collect()
}

fn gpu(index: u32, card: &Card) -> Option<Gpu> {
    Some(Gpu {
        id: card.pci.parse().ok()?,
        vendor: Vendor::Intel,
        index,
        name: owner::short(&format!("Intel GPU {}", card.model)),
        part: Part::Whole,
        pci: Some(card.pci.clone()),
        memory: memory(card),
        shares_memory: card.pci == INTEGRATED,
        nodes: vec![card.render.clone()],
        sensors: card.sensors(),
        processes: Vec::new(),
    })
}

/// Returns the memory of a card. What is used is the sum of what its processes have (`fdinfo`), which is found later.
fn memory(card: &Card) -> Option<Memory> {
    let read = |file: &&str| std::fs::read_to_string(card.folder.join(file)).ok()?.trim().parse().ok();
    plausible::memory(TOTALS.iter().find_map(read)?, 0, 0).ok()
}
