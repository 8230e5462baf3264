//! What is on the page of GPUs: their memory, their sensors, who has memory of them, and what of them cannot be read.
//!
//! A GPU is named by its id, and a process by its service alone: what processes and units of the host call themselves is
//! not on the page.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;

use nixmox_api::{Gpu, GpuService, GpusReply};

use super::families::gauge;
use super::text::{Family, Text, Value};

/// A family with one sample for each GPU that tells it.
type OfGpu = (Family, fn(&Gpu) -> Option<Value>);

pub(super) const MEMORY: Family = gauge(
    "nixmox_gpu_memory_bytes",
    "Video memory: total, what driver and firmware keep (reserved), and what is in use without that (used).",
);
pub(super) const SENSORS: &[OfGpu] = &[
    (gauge("nixmox_gpu_temperature_celsius", "How hot it is."), |gpu| {
        gpu.temperature.map(|told| Value::Whole(told.into()))
    }),
    (gauge("nixmox_gpu_power_watts", "Power that it draws."), |gpu| {
        gpu.power.map(|told| Value::Milli(told.into()))
    }),
    (gauge("nixmox_gpu_utilization_ratio", "Share of the time in which it computed, 0 to 1."), |gpu| {
        gpu.utilization.map(|percent| Value::Milli(u64::from(percent).saturating_mul(10)))
    }),
];
pub(super) const SERVICE_MEMORY: Family = gauge(
    "nixmox_service_gpu_memory_bytes",
    "Video memory that its processes have on a GPU; absent where the driver does not tell it of one.",
);
pub(super) const BUDGET: Family = gauge(
    "nixmox_service_gpu_budget_bytes",
    "Video memory that it may use, over all of its GPUs; absent: it made no claim, or was granted none.",
);
pub(super) const FAULT: Family = gauge(
    "nixmox_gpu_fault",
    "1 for each reason why something of the GPUs is not known (no_library, no_driver, mismatch, hangs, crashed, rubbish, failed).",
);

/// The vendor of a fault that is of no single one.
const EVERY_VENDOR: &str = "all";

/// Writes what the last look at the GPUs found; of a figure that nobody tells, not even the family.
pub(super) fn write(text: &mut Text, gpus: &GpusReply) {
    let GpusReply { at_usec: _, inventory, rooms: _, services } = gpus;
    let mut samples = Vec::new();
    for gpu in &inventory.gpus {
        let kinds = [("total", gpu.memory_total), ("reserved", gpu.memory_reserved), ("used", gpu.memory_used)];
        let told = kinds.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?)));
        samples.extend(
            told.map(|(kind, bytes)| (vec![("gpu", gpu.id.as_str()), ("kind", kind)], Value::Whole(bytes))),
        );
    }
    family(text, &MEMORY, samples);
    for (of, value) in SENSORS {
        let told = inventory.gpus.iter().filter_map(|gpu| Some((vec![("gpu", gpu.id.as_str())], value(gpu)?)));
        family(text, of, told.collect());
    }
    let mut samples = Vec::new();
    for service in services {
        for gpu in &inventory.gpus {
            if let Some(bytes) = used(gpu, service) {
                samples.push((labels(service, Some(&gpu.id)), Value::Whole(bytes)));
            }
        }
    }
    family(text, &SERVICE_MEMORY, samples);
    let budgets =
        services.iter().filter_map(|service| Some((labels(service, None), Value::Whole(service.budget?))));
    family(text, &BUDGET, budgets.collect());
    // Two faults of a kind are one sample: a page with the same one twice is refused as a whole.
    let vendor = |vendor: &Option<String>| vendor.clone().unwrap_or_else(|| EVERY_VENDOR.to_owned());
    let faults: BTreeMap<(String, &str), Value> = inventory
        .faults
        .iter()
        .map(|fault| ((vendor(&fault.vendor), fault.kind.as_str()), Value::Whole(1)))
        .collect();
    let faults =
        faults.iter().map(|((vendor, kind), value)| (vec![("vendor", vendor.as_str()), ("kind", *kind)], *value));
    family(text, &FAULT, faults.collect());
}

/// Returns the memory that a service's processes have on a GPU; `None`: it has none there, or the driver does not tell it
/// of one of them.
fn used(gpu: &Gpu, service: &GpuService) -> Option<u64> {
    let mut of_it =
        gpu.processes.iter().filter(|process| process.container.as_ref() == Some(&service.name)).peekable();
    of_it.peek()?;
    of_it.try_fold(0_u64, |sum, process| Some(sum.saturating_add(process.memory?)))
}

fn labels<'a>(service: &'a GpuService, gpu: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let gpu = gpu.map(|gpu| ("gpu", gpu));
    [("name", service.name.as_str()), ("stack", service.stack.as_str())].into_iter().chain(gpu).collect()
}

fn family(text: &mut Text, family: &Family, samples: Vec<(Vec<(&'static str, &str)>, Value)>) {
    if samples.is_empty() {
        return;
    }
    text.family(family);
    for (labels, value) in samples {
        text.sample(family, &labels, value);
    }
}
