//! What is on the page of models: which are loaded, what engines count for them, and which are not where they should be.
//!
//! A model is named as its engine calls it. Without a service that runs models there is none of it.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;

use nixmox_api::{OffloadModel, OffloadService, OffloadsReply};

use super::families::gauge;
use super::text::{Family, Text, Value};

pub(super) const ENGINE: Family = gauge(
    "nixmox_service_engine_answers",
    "Whether what runs models in it answers: 1 or 0. Absent while the service does not run.",
);
pub(super) const LOADED: Family =
    gauge("nixmox_service_models_loaded", "Models that are loaded; absent: nobody knows.");
pub(super) const MEMORY: Family = gauge(
    "nixmox_model_memory_bytes",
    "Memory of a loaded model as its engine counts it: all of it (all), and that on GPUs (gpu).",
);
pub(super) const INCIDENT: Family =
    gauge("nixmox_model_incident", "1 for each model that should be on the GPU and is not, or not with all of it.");

/// Writes what engines said last; of a figure that nobody tells, not even the family.
pub(super) fn write(text: &mut Text, offloads: &OffloadsReply) {
    let running = || offloads.services.iter().filter(|service| service.state != "down");
    let answers = |service: &OffloadService| service.state == "answers";
    let of = |(service, value): (_, u64)| (labels(service, &[]), Value::Whole(value));
    family(text, &ENGINE, running().map(|service| of((service, u64::from(answers(service))))).collect());
    let count = |service: &OffloadService| u64::try_from(loaded(service).count()).unwrap_or(u64::MAX);
    let answering = || running().filter(|service| answers(service));
    family(text, &LOADED, answering().map(|service| of((service, count(service)))).collect());
    // A page with the same sample twice is refused as a whole.
    let mut memory: BTreeMap<Labels, Value> = BTreeMap::new();
    let mut incidents: BTreeMap<Labels, Value> = BTreeMap::new();
    for service in answering() {
        for model in loaded(service) {
            let name = model.name.as_str();
            for (kind, bytes) in [("all", model.size), ("gpu", model.size_vram)] {
                if let Some(bytes) = bytes {
                    memory.insert(labels(service, &[("model", name), ("kind", kind)]), Value::Whole(bytes));
                }
            }
        }
        for model in service.models.iter().filter(|model| !model.incident.is_empty()) {
            incidents.insert(labels(service, &[("model", &model.name)]), Value::Whole(1));
        }
    }
    family(text, &MEMORY, memory.into_iter().collect());
    family(text, &INCIDENT, incidents.into_iter().collect());
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

fn loaded(service: &OffloadService) -> impl Iterator<Item = &OffloadModel> {
    service.models.iter().filter(|model| !matches!(model.state.as_str(), "unloaded" | "loading"))
}

fn labels<'a>(service: &'a OffloadService, more: &[(&'static str, &'a str)]) -> Labels<'a> {
    let own = [("name", service.name.as_str()), ("stack", service.stack.as_str())];
    own.into_iter().chain(more.iter().copied()).collect()
}

fn family(text: &mut Text, family: &Family, samples: Vec<(Labels<'_>, Value)>) {
    if samples.is_empty() {
        return;
    }
    text.family(family);
    for (labels, value) in samples {
        text.sample(family, &labels, value);
    }
}
