//! Words for what the wire tells of GPUs in one word.

use nixmox_api::{Gpu, GpuFault, GpuInventory, GpuNode};

use crate::render::text;

/// The columns that a GPU's own name may take.
const NAME_MAX: usize = 36;

/// The digits of a UUID that are shown where they are enough to tell it from all others.
const DIGITS: usize = 8;

/// Returns how a GPU is called in short: a UUID by its first digits, where no other id begins with them.
pub(crate) fn short<'a>(id: &str, all: impl Iterator<Item = &'a str>) -> String {
    let begin = id.split_once('-').and_then(|(kind, digits)| {
        let first: String = digits.chars().take(DIGITS).collect();
        (matches!(kind, "GPU" | "MIG") && digits.len() > DIGITS).then(|| format!("{kind}-{first}"))
    });
    let mut all = all;
    let begin = begin.filter(|begin| !all.any(|other| other != id && other.starts_with(begin.as_str())));
    text::clean(&begin.unwrap_or_else(|| id.to_owned()))
}

/// Returns how a GPU of an inventory is called in short.
pub(super) fn short_in(id: &str, inventory: &GpuInventory) -> String {
    short(id, inventory.gpus.iter().map(|gpu| gpu.id.as_str()))
}

/// Returns `GPU 1`, or of an instance `MIG 2/0`.
pub(super) fn number(gpu: &Gpu) -> String {
    match (&gpu.parent, gpu.gpu_instance, gpu.compute_instance) {
        (None, _, _) => format!("GPU {}", gpu.index),
        (Some(_), Some(of_gpu), Some(of_compute)) => format!("MIG {of_gpu}/{of_compute}"),
        (Some(_), _, _) => "MIG".to_owned(),
    }
}

/// Returns what a GPU calls itself, cut to what has room; its vendor where it says nothing.
pub(super) fn name(gpu: &Gpu) -> String {
    let name = text::clean(&gpu.name);
    let name = if name.trim().is_empty() { format!("{} GPU", vendor(&gpu.vendor)) } else { name };
    text::cut(name.trim(), NAME_MAX)
}

/// Returns a vendor's name.
pub(super) fn vendor(word: &str) -> &str {
    match word {
        "nvidia" => "NVIDIA",
        "amd" => "AMD",
        "intel" => "Intel",
        other => other,
    }
}

/// Returns why a clock is held down, in place of NVML's word (nvml.h, `nvmlClocksEventReason`); `None`: it is not, the
/// GPU is idle.
pub(super) fn throttle(word: &str) -> Option<&str> {
    Some(match word {
        "gpu_idle" => return None,
        "applications_clocks_setting" => "a clock that somebody set",
        "display_clock_setting" => "the display",
        "sync_boost" => "another GPU of its group",
        "sw_power_cap" => "the power limit",
        "sw_thermal_slowdown" => "heat",
        "hw_thermal_slowdown" => "heat (hardware)",
        "hw_power_brake_slowdown" => "the power supply",
        "hw_slowdown" => "heat or power (hardware)",
        other => other,
    })
}

/// Returns what a fault means, and what to do about it.
pub(super) fn fault(fault: &GpuFault) -> (&'static str, &'static str) {
    match fault.kind.as_str() {
        "no_library" => (
            "the hardware is there, the driver's library is not",
            "install the driver; on NixOS services.xserver.videoDrivers and hardware.graphics.enable",
        ),
        "no_driver" => (
            "the library is there, no module is loaded",
            "load it, or see why it was not: journalctl -k -g -i nvidia",
        ),
        "mismatch" => {
            ("the library is not of the loaded module's version, as after an upgrade", "restart the machine")
        }
        "hangs" => (
            "the driver does not answer; what runs goes on, nothing new is granted",
            "see what the kernel says: journalctl -k -g Xid; a restart of the machine may be needed",
        ),
        "crashed" => (
            "asking the driver ended the process that asked; what runs goes on, nothing new is granted",
            "see that library and module belong together: nixmoxctl gpu doctor",
        ),
        "rubbish" => (
            "what the driver answers cannot be true, and is not used",
            "see that library and module belong together: nixmoxctl gpu doctor",
        ),
        _ => ("something of it is not known", "nixmoxctl gpu doctor"),
    }
}

/// Returns what is wrong with a device node; `None`: nothing, or computing goes without it.
pub(super) fn node(node: &GpuNode) -> Option<String> {
    let path = &node.path;
    let number = |major: Option<u32>, minor: Option<u32>| Some(format!("{}:{}", major?, minor?));
    let right = number(node.major, node.minor);
    match node.state.as_str() {
        "right" => None,
        "missing" if node.optional => None,
        "missing" => Some(format!("{path} is missing")),
        "stale" => {
            let found = number(node.found_major, node.found_minor).unwrap_or_else(|| "another number".to_owned());
            Some(match right {
                Some(right) => format!("{path} is stale: it is {found}, the kernel has {right}"),
                None => format!("{path} is stale: it is {found}, which the kernel does not know"),
            })
        }
        "not_a_device" => Some(format!("{path} is no device node")),
        other => Some(format!("{path} is {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_where_that_is_enough() {
        let all = [
            "GPU-5a6c0a2e-0001",
            "GPU-5a6c0a2e-0002",
            "GPU-0d9f0f4c-0001",
            "MIG-5a6c0a2e-0001",
            "0000:03:00.0",
            "GPU-ab",
        ];
        let short = |id: &str| short(id, all.into_iter());
        assert_eq!(short("GPU-0d9f0f4c-0001"), "GPU-0d9f0f4c");
        assert_eq!(short("GPU-5a6c0a2e-0001"), "GPU-5a6c0a2e-0001");
        assert_eq!(short("MIG-5a6c0a2e-0001"), "MIG-5a6c0a2e");
        assert_eq!(short("0000:03:00.0"), "0000:03:00.0");
        assert_eq!(short("GPU-ab"), "GPU-ab");
        assert_eq!(short("GPU-日本語日本語日本語\u{1b}[2J"), "GPU-日本語日本語日本");
        assert_eq!(short("x\u{1b}[2J"), "x [2J");
    }

    #[test]
    fn a_node_is_told_of_when_something_needs_it() {
        let of = |state: &str, optional| {
            let right =
                GpuNode { path: "/dev/x".to_owned(), major: Some(195), minor: Some(1), ..GpuNode::default() };
            GpuNode { state: state.to_owned(), optional, found_major: Some(194), found_minor: Some(1), ..right }
        };
        assert_eq!(node(&of("right", false)), None);
        assert_eq!(node(&of("missing", true)), None);
        assert_eq!(node(&of("missing", false)).unwrap(), "/dev/x is missing");
        assert_eq!(node(&of("stale", true)).unwrap(), "/dev/x is stale: it is 194:1, the kernel has 195:1");
        let unknown = GpuNode { major: None, minor: None, ..of("stale", false) };
        assert_eq!(node(&unknown).unwrap(), "/dev/x is stale: it is 194:1, which the kernel does not know");
        assert_eq!(node(&of("not_a_device", false)).unwrap(), "/dev/x is no device node");
    }
}
