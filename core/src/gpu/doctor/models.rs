//! A service's models: whether they are where they should be.

use super::{Judged, ModelsCheckup, ServiceCheckup};
use crate::model::{CpuFallback, GpuStanding};
use crate::offload::seen::EngineSeen;

/// Judges the models of a service.
pub(super) fn judged(service: &ServiceCheckup<'_>, checkup: &ModelsCheckup<'_>) -> Judged {
    let name = service.name;
    if matches!(service.standing, GpuStanding::None) {
        return Judged::skipped("it has no GPU");
    }
    if !service.runs {
        return Judged::skipped("it does not run");
    }
    let view = match checkup.engine {
        None => return Judged::skipped("what runs its models has not been asked yet"),
        Some(EngineSeen::Silent(why)) => {
            return Judged::failed(
                format!("what runs its models does not answer: {why}"),
                format!("`nixmoxctl logs {name}` tells what it says; it is asked at `offload.url`"),
            );
        }
        Some(EngineSeen::Answers(view)) => view,
    };
    if checkup.incidents.is_empty() {
        return Judged::ok(match view.loaded.len() {
            0 => "no model is loaded".to_owned(),
            1 => "1 model is loaded, and where it should be".to_owned(),
            several => format!("{several} models are loaded, and where they should be"),
        });
    }
    let found = checkup.incidents.iter().map(|incident| format!("{}: {}", incident.model, incident.found));
    let found = found.collect::<Vec<_>>().join("; ");
    let mut remedies: Vec<&str> = Vec::new();
    for hint in checkup.incidents.iter().map(|incident| incident.hint.as_str()) {
        if !hint.is_empty() && !remedies.contains(&hint) {
            remedies.push(hint);
        }
    }
    let remedy = remedies.join("; ");
    match checkup.cpu_fallback {
        CpuFallback::Refuse => Judged::failed(found, remedy),
        CpuFallback::Allow | CpuFallback::Warn => Judged::warning(found, remedy),
    }
}
