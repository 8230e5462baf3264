//! What the agent reads of NVIDIA's GPUs beside what `nvidia-smi` tells of them, field by field.
//!
//! `smi` asks and reads; this compares. A figure that moves has room to move in; names, numbers and sizes have none.

mod smi;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nixmox_core::gpu::{
    Checkup, Driver, Gpu, Inventory, LayerOutcome, Node, NodeState, Part, ProcessKind, diagnose,
};
use nixmox_core::model::{Bytes, Vendor};

pub use smi::{Smi, SmiGpu};

/// What figures may have moved by between two looks, in their units.
const DEGREES: f64 = 8.0;
const WATTS: f64 = 60.0;
const PERCENT: f64 = 60.0;
/// MiB, of the whole GPU and of one process.
const USED: f64 = 512.0;
/// Sizes are rounded to MiB.
const ROUNDING: f64 = 1.0;

/// One field of one GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The GPU, or what else it is of.
    pub of: String,
    /// The field, as `nvidia-smi` calls it.
    pub field: String,
    /// What the agent reads.
    pub ours: String,
    /// What it is compared with.
    pub theirs: String,
    /// Whether the two agree.
    pub agrees: bool,
}

/// Compares everything.
#[must_use]
pub fn compare(found: &Inventory, smi: &Smi) -> Vec<Row> {
    let mut rows = Rows::default();
    rows.faults(found);
    let nothing = Driver::default();
    rows.driver(found.drivers.get(&Vendor::Nvidia).unwrap_or(&nothing), smi);
    let ours = ours(found);
    let whole: Vec<&&Gpu> = ours.iter().filter(|gpu| !matches!(gpu.part, Part::Instance { .. })).collect();
    let (our_count, their_count) = (whole.len(), smi.gpus.len());
    let are_some = our_count == their_count && our_count > 0;
    rows.push("machine", "count", &our_count.to_string(), &their_count.to_string(), are_some);
    for gpu in &whole {
        match smi.gpus.iter().find(|theirs| theirs.text("uuid") == Some(gpu.id.as_str())) {
            Some(theirs) => rows.gpu(gpu, theirs, smi),
            None => rows.push(gpu.id.as_str(), "uuid", gpu.id.as_str(), "not there", false),
        }
    }
    let instances = ours.iter().filter(|gpu| matches!(gpu.part, Part::Instance { .. }));
    let instances: Vec<&str> = instances.map(|gpu| gpu.id.as_str()).collect();
    rows.equal("machine", "instances", &instances.join(" "), &smi.instances.join(" "));
    rows.processes(&ours, smi);
    rows.host(found);
    rows.0
}

/// Judges what needs no `nvidia-smi`: faults, nodes, and the host's layers of `gpu doctor`.
#[must_use]
pub fn judge(found: &Inventory) -> Vec<Row> {
    let mut rows = Rows::default();
    rows.faults(found);
    rows.host(found);
    rows.0
}

/// Returns whether there is anything of NVIDIA that could be looked at.
#[must_use]
pub fn has_nvidia(found: &Inventory) -> bool {
    // A fault of nobody's may have kept it from being seen.
    found.drivers.contains_key(&Vendor::Nvidia) || !found.faults.is_empty()
}

fn ours(found: &Inventory) -> Vec<&Gpu> {
    found.gpus.iter().filter(|gpu| gpu.vendor == Vendor::Nvidia).collect()
}

/// Returns the rows as a table, what differs marked.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for Row { of, field, ours, theirs, agrees } in rows {
        let verdict = if *agrees { "ok" } else { "DIFFERS" };
        // Writing to a text does not fail.
        let _ = writeln!(text, "{verdict:8} {of:42} {field:28} {ours:32} {theirs}");
    }
    let wrong = rows.iter().filter(|row| !row.agrees).count();
    let _ = writeln!(text, "{} fields, {wrong} of them differ", rows.len());
    text
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn push(&mut self, of: &str, field: &str, ours: &str, theirs: &str, agrees: bool) {
        let [of, field, ours, theirs] = [of, field, ours, theirs].map(str::to_owned);
        self.0.push(Row { of, field, ours, theirs, agrees });
    }

    fn equal(&mut self, of: &str, field: &str, ours: &str, theirs: &str) {
        self.push(of, field, ours, theirs, ours == theirs);
    }

    /// Compares figures that may be absent, and differ by no more than that.
    fn near(&mut self, of: &str, field: &str, ours: Option<f64>, theirs: Option<f64>, most: f64) {
        let shown = |value: Option<f64>| value.map_or_else(|| "not told".to_owned(), |value| format!("{value:.2}"));
        let agrees = match (ours, theirs) {
            (Some(ours), Some(theirs)) => (ours - theirs).abs() <= most,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.push(of, field, &shown(ours), &shown(theirs), agrees);
    }

    fn driver(&mut self, driver: &Driver, smi: &Smi) {
        let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
        let theirs = smi.gpus.first().and_then(|gpu| gpu.text("driver_version")).unwrap_or("not told");
        self.equal("driver", "driver_version", &told(&driver.module), theirs);
        self.equal("driver", "cuda_version", &told(&driver.cuda), smi.cuda.as_deref().unwrap_or("not told"));
        // Where the library does not fit, that of the booted system is to.
        let library = driver.booted.as_ref().or(driver.library.as_ref()).cloned();
        self.equal("driver", "libcuda.so", &told(&library), theirs);
        for complaint in &driver.cdi_complaints {
            self.push("cdi", "complaint", complaint, "", true);
        }
    }

    fn gpu(&mut self, gpu: &Gpu, theirs: &SmiGpu, smi: &Smi) {
        let of = gpu.id.as_str();
        let text = |field: &str| theirs.text(field).unwrap_or("not told").to_owned();
        self.equal(of, "index", &gpu.index.to_string(), &text("index"));
        self.equal(of, "name", &gpu.name, &text("name"));
        // It has eight digits for the domain, of which the kernel shows the last four while the others are 0.
        let pci = theirs.text("pci.bus_id").map(str::to_lowercase);
        let pci = pci.map(|pci| pci.strip_prefix("0000").map_or(pci.clone(), str::to_owned));
        self.equal(
            of,
            "pci.bus_id",
            gpu.pci.as_deref().unwrap_or("not told"),
            pci.as_deref().unwrap_or("not told"),
        );
        let path = gpu.nodes.first().map(|node| node.path.display().to_string()).unwrap_or_default();
        let minor = smi.detail(of, "Minor Number").unwrap_or("not told");
        self.equal(of, "minor number", &path, &format!("/dev/nvidia{minor}"));
        let mode = match gpu.part {
            Part::Partitioned => "Enabled",
            Part::Whole | Part::Instance { .. } => "Disabled",
        };
        self.equal(of, "mig.mode.current", mode, theirs.text("mig.mode.current").unwrap_or("Disabled"));
        let memory =
            |part: fn(&nixmox_core::gpu::Memory) -> Bytes| gpu.memory.as_ref().map(|memory| mib(part(memory)));
        self.near(of, "memory.total", memory(|memory| memory.total), theirs.figure("memory.total"), ROUNDING);
        self.near(
            of,
            "memory.reserved",
            memory(|memory| memory.reserved),
            theirs.figure("memory.reserved"),
            ROUNDING,
        );
        self.near(of, "memory.used", memory(|memory| memory.used), theirs.figure("memory.used"), USED);
        let sensors = &gpu.sensors;
        let (whole, watts) = (
            |value: Option<u32>| value.map(f64::from),
            |value: Option<u32>| value.map(|value| f64::from(value) / 1000.0),
        );
        self.near(of, "temperature.gpu", whole(sensors.temperature), theirs.figure("temperature.gpu"), DEGREES);
        self.near(of, "power.draw", watts(sensors.power), theirs.figure("power.draw"), WATTS);
        self.near(
            of,
            "enforced.power.limit",
            watts(sensors.power_limit),
            theirs.figure("enforced.power.limit"),
            0.01,
        );
        self.near(of, "utilization.gpu", whole(sensors.utilization), theirs.figure("utilization.gpu"), PERCENT);
        self.near(
            of,
            "utilization.memory",
            whole(sensors.memory_utilization),
            theirs.figure("utilization.memory"),
            PERCENT,
        );
        // Newer cards tell how far it is to the limit instead, and NVML's call of old nothing.
        let slowdown = smi.detail(of, "GPU Slowdown Temp").and_then(smi::figure);
        if slowdown.is_some() {
            self.near(of, "GPU Slowdown Temp", whole(sensors.temperature_slowdown), slowdown, 0.0);
        }
    }

    /// Compares who computes, on GPUs and instances.
    fn processes(&mut self, gpus: &[&Gpu], smi: &Smi) {
        let mut found: BTreeMap<(String, u32), [Option<Option<f64>>; 2]> = BTreeMap::new();
        for gpu in gpus {
            // In instances, nvidia-smi tells of the GPU that they are of.
            let of = match &gpu.part {
                Part::Instance { parent, .. } => parent,
                Part::Whole | Part::Partitioned => &gpu.id,
            };
            for process in gpu.processes.iter().filter(|process| process.kind == ProcessKind::Compute) {
                let entry = found.entry((of.to_string(), process.pid)).or_default();
                entry[0] = Some(process.memory.map(mib));
            }
        }
        for (of, pid, memory) in &smi.processes {
            found.entry((of.clone(), *pid)).or_default()[1] = Some(*memory);
        }
        for ((of, pid), [ours, theirs]) in found {
            let field = format!("used_gpu_memory of {pid}");
            match (ours, theirs) {
                (Some(ours), Some(theirs)) => self.near(&of, &field, ours, theirs, USED),
                (ours, _) => {
                    let shown = |is_there| if is_there { "there" } else { "not there" };
                    self.push(&of, &field, shown(ours.is_some()), shown(ours.is_none()), false);
                }
            }
        }
    }

    fn faults(&mut self, found: &Inventory) {
        for fault in &found.faults {
            self.push("fault", &format!("{:?}", fault.kind), &fault.message, "none", false);
        }
    }

    /// Judges nodes, and what `gpu doctor` would say of this host.
    fn host(&mut self, found: &Inventory) {
        let shared = found.drivers.get(&Vendor::Nvidia).into_iter().flat_map(|driver| &driver.nodes);
        for node in shared.chain(ours(found).into_iter().flat_map(|gpu| &gpu.nodes)) {
            self.node(node);
        }
        for layer in diagnose(&Checkup { inventory: found, whole: true, services: Vec::new() }) {
            let is_well = layer.outcome != LayerOutcome::Failed;
            let field = format!("{} {}", layer.kind.as_word(), layer.outcome.as_word());
            self.push("doctor", &field, &layer.found, &layer.remedy, is_well);
        }
    }

    /// Compares a node with what the running kernel says that it should be.
    fn node(&mut self, node: &Node) {
        let number = |(major, minor): (u32, u32)| format!("{major}:{minor}");
        let wanted = node.number.map_or_else(|| "no such device".to_owned(), number);
        let found = match node.state {
            NodeState::Right => wanted.clone(),
            NodeState::Missing => "missing".to_owned(),
            NodeState::Stale { found } => number(found),
            NodeState::NotADevice => "not a device".to_owned(),
        };
        let agrees = node.state == NodeState::Right || (node.optional && node.state == NodeState::Missing);
        self.push("node", &node.path.display().to_string(), &found, &wanted, agrees);
    }
}

#[allow(clippy::cast_precision_loss, reason = "2^53 bytes are 8 PiB")]
fn mib(bytes: Bytes) -> f64 {
    bytes.0 as f64 / f64::from(1 << 20)
}
