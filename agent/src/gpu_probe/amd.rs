//! GPUs of AMD, as the module `amdgpu` tells of them in sysfs (kernel, "AMDGPU driver: Memory and hardware information").

use nixmox_core::gpu::{Gpu, Memory, Part};
use nixmox_core::model::Vendor;

use super::drm::Card;
use super::{owner, plausible};

/// AMD's number on the PCI bus.
const PCI_AMD: &str = "0x1002";
/// The label of a sensor that integrated GPUs alone have: the voltage of the northbridge (kernel, `amdgpu_pm`).
const INTEGRATED: &str = "vddnb";

/// Returns the GPUs of AMD among the cards.
pub(super) fn gpus(cards: &[Card]) -> Vec<Gpu> {
    let cards = cards.iter().filter(|card| card.vendor == PCI_AMD);
    (0..).zip(cards).filter_map(|(index, card)| gpu(index, card)).collect()
}

fn gpu(index: u32, card: &Card) -> Option<Gpu> {
    let label = card.sensors_folder().and_then(|folder| std::fs::read_to_string(folder.join("in1_label")).ok());
    let name = card.text("product_name").unwrap_or_else(|| format!("AMD GPU {}", card.model));
    Some(Gpu {
        id: card.pci.parse().ok()?,
        vendor: Vendor::Amd,
        index,
        name: owner::short(&name),
        part: Part::Whole,
        pci: Some(card.pci.clone()),
        memory: memory(card),
        shares_memory: label.is_some_and(|label| label.trim() == INTEGRATED),
        nodes: vec![card.render.clone()],
        sensors: card.sensors(),
        processes: Vec::new(),
    })
}

fn memory(card: &Card) -> Option<Memory> {
    let (total, used) = (card.number("mem_info_vram_total")?, card.number("mem_info_vram_used")?);
    plausible::memory(total, 0, used).ok()
}
