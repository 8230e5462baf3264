//! A page with GPUs that tell everything, little, or nothing.

use std::sync::Arc;

use nixmox_api::{Gpu, GpuFault, GpuInventory, GpuProcess, GpuService, GpusReply};

use crate::metrics::families::{self, Page};
use crate::metrics::tests::{SECRET, own, page};
use crate::metrics::text::Form;

/// One GPU that tells all and is used by two services, one of them with a process that the driver knows no figure of; one
/// that tells nothing; and faults.
pub(in crate::metrics) fn sample() -> GpusReply {
    let secret = || SECRET.to_owned();
    let process = |container: Option<&str>, memory| GpuProcess {
        container: container.map(str::to_owned),
        unit: container.is_none().then(secret),
        memory,
        name: secret(),
        kind: "compute".to_owned(),
        pid: 7,
    };
    let full = Gpu {
        id: "GPU-5a6c0a2e".to_owned(),
        name: secret(),
        pci: Some(secret()),
        memory_total: Some(12_000),
        memory_reserved: Some(300),
        memory_used: Some(0),
        temperature: Some(61),
        power: Some(118_500),
        utilization: Some(87),
        throttle: vec![secret()],
        processes: vec![
            process(Some("web"), Some(4096)),
            process(Some("web"), Some(4)),
            process(Some("db"), Some(4096)),
            process(Some("db"), None),
            process(None, Some(4096)),
        ],
        ..Gpu::default()
    };
    let silent = Gpu { id: "0000:03:00.0".to_owned(), ..Gpu::default() };
    let fault = |vendor: Option<&str>, kind: &str| GpuFault {
        vendor: vendor.map(str::to_owned),
        kind: kind.to_owned(),
        message: secret(),
    };
    let faults = vec![fault(Some("amd"), "failed"), fault(None, "hangs"), fault(Some("amd"), "failed")];
    let service = |name: &str, budget| GpuService {
        name: name.to_owned(),
        stack: "cloud".to_owned(),
        state: "granted".to_owned(),
        reason: secret(),
        hint: secret(),
        gpus: vec![full.id.clone()],
        budget,
        ..GpuService::default()
    };
    GpusReply {
        at_usec: 1,
        services: vec![service("web", Some(8192)), service("db", None)],
        inventory: GpuInventory { gpus: vec![full, silent], drivers: Vec::new(), faults },
        rooms: Vec::new(),
    }
}

#[test]
fn of_gpus_that_nobody_looked_at_or_that_are_not_there_nothing_is_said() {
    for gpus in [None, Some(Arc::default())] {
        let page = Page { gpus, offloads: None, ..page() };
        assert!(!families::write(&page, &own(), Form::OpenMetrics).contains("gpu"), "{:?}", page.gpus);
    }
    let silent =
        GpuInventory { gpus: vec![Gpu { id: "a".to_owned(), ..Gpu::default() }], ..GpuInventory::default() };
    let gpus = Some(Arc::new(GpusReply { inventory: silent, ..GpusReply::default() }));
    let page = Page { gpus, offloads: None, ..page() };
    assert!(!families::write(&page, &own(), Form::OpenMetrics).contains("gpu"), "a figure that nobody tells");
}
