//! Whose the memory of a GPU is: a bar, and a legend in the order of the bar.
//!
//! What services were promised and do not use is one part: a share is of all of a service's GPUs together, so nobody can say
//! how much of it is of which.

use std::collections::BTreeMap;

use nixmox_api::{Gpu, GpuProcess, GpuRoom, GpuService};

use super::bar;
use super::flow::{Layout, Part, flow};
use crate::render::quantity::size;
use crate::render::style::Paint;
use crate::render::text;

/// The marks of services, one after the other.
const SERVICES: [&str; 3] = ["█", "▓", "▒"];
/// Their colours, so many that a mark and a colour come together again only at the twelfth.
const COLORS: [Paint; 4] = [Paint::Good, Paint::Cyan, Paint::Magenta, Paint::Blue];
const PROMISED: &str = "░";
const OTHERS: &str = "▚";
const UNKNOWN: &str = "?";
const RESERVED: &str = "×";
const HEADROOM: &str = "─";
const FREE: &str = "·";

/// The columns of a bar: at least; and at most, and where nobody says how wide the screen is.
const BAR: (usize, usize) = (8, 56);

/// Units in which a person's session runs, or what shows it: the desktop.
const DESKTOP: [&str; 7] = ["session-", "user@", "display-manager.", "gdm.", "sddm.", "lightdm.", "greetd."];

/// A part of a GPU's memory.
struct Stretch {
    mark: &'static str,
    paint: Paint,
    bytes: u64,
    told: String,
}

/// Returns the bar and its legend; of a GPU that does not tell its memory one line that says so.
pub(super) fn memory(gpu: &Gpu, room: Option<&GpuRoom>, services: &[GpuService], layout: Layout) -> String {
    let total = room.map(|room| room.total).filter(|total| *total > 0).or(gpu.memory_total);
    let Some(total) = total else {
        let told = if gpu.shares_memory { "memory: the machine's own" } else { "memory: the driver does not tell" };
        return flow(&[Part::new(Paint::Dim, told)], layout);
    };
    let used = gpu.memory_used.map(|used| format!("{} of {} in use", size(used), size(total)));
    let used = used.unwrap_or_else(|| size(total));
    let used = text::cut(&used, layout.room(layout.indent).unwrap_or(usize::MAX));
    let beside = text::width(&used) + 2;
    let (least, most) = BAR;
    let columns = layout.room(layout.indent).map_or(most, |room| room.saturating_sub(beside).clamp(least, most));
    let margin = " ".repeat(layout.indent);
    let gap = match layout.room(layout.indent) {
        Some(room) if columns + beside > room => format!("\n{margin}"),
        Some(_) | None => "  ".to_owned(),
    };
    let stretches = stretches(gpu, room, total, services);
    let bytes: Vec<u64> = stretches.iter().map(|stretch| stretch.bytes).collect();
    let drawn = bar::columns(&bytes, columns).into_iter().zip(&stretches);
    let drawn = drawn.map(|(columns, stretch)| layout.style.paint(stretch.paint, &stretch.mark.repeat(columns)));
    let mut out = format!("{margin}{}{gap}{used}\n", drawn.collect::<String>());
    let legend = stretches.iter().map(|stretch| Part::marked(stretch.mark, stretch.paint, &stretch.told));
    out.push_str(&flow(&legend.collect::<Vec<_>>(), layout));
    out
}

/// Returns the parts of the memory in the order of the bar. Those that are nothing are not there, but for services, which
/// are named where they have a share of this GPU.
fn stretches(gpu: &Gpu, room: Option<&GpuRoom>, total: u64, services: &[GpuService]) -> Vec<Stretch> {
    let mut parts = Vec::new();
    let mut by_services = 0_u64;
    for (index, service) in services.iter().enumerate() {
        let used = sum(gpu.processes.iter().filter(|process| process.container.as_ref() == Some(&service.name)));
        if used == 0 && !service.gpus.contains(&gpu.id) {
            continue;
        }
        by_services = by_services.saturating_add(used);
        let of = service.budget.map(|budget| format!(" of {}", size(budget))).unwrap_or_default();
        let over = match service.gpus.len() {
            0 | 1 => String::new(),
            several if service.budget.is_some() => format!(" on {several}"),
            _ => String::new(),
        };
        parts.push(Stretch {
            mark: SERVICES.get(index % SERVICES.len()).copied().unwrap_or(OTHERS),
            paint: COLORS.get(index % COLORS.len()).copied().unwrap_or_default(),
            bytes: used,
            told: format!("{} {}{of}{over}", service.name, size(used)),
        });
    }
    let mut by_others = 0_u64;
    for (name, bytes) in others(gpu, services) {
        by_others = by_others.saturating_add(bytes);
        parts.push(Stretch { mark: OTHERS, paint: Paint::Busy, bytes, told: format!("{name} {}", size(bytes)) });
    }
    let known = by_services.saturating_add(by_others);
    let reserved = room.map(|room| room.reserved).or(gpu.memory_reserved).unwrap_or_default();
    let unknown = match (gpu.memory_used, room) {
        (Some(used), _) => used.saturating_sub(known),
        (None, Some(room)) => room.others.saturating_sub(by_others),
        (None, None) => 0,
    };
    let promised = room.map(|room| room.promised.saturating_sub(by_services)).unwrap_or_default();
    let headroom = room.map(|room| room.headroom).unwrap_or_default();
    let taken = [known, unknown, promised, reserved, headroom].into_iter().fold(0, u64::saturating_add);
    let free = room.map_or_else(|| total.saturating_sub(taken), |room| room.free);
    let rest = [
        (UNKNOWN, Paint::Bad, unknown, "unknown", ""),
        (PROMISED, Paint::Plain, promised, "promised", ", not in use"),
        (RESERVED, Paint::Dim, reserved, "reserved", ""),
        (HEADROOM, Paint::Dim, headroom, "headroom", ""),
        (FREE, Paint::Dim, free, "free", ""),
    ];
    let rest = rest.into_iter().filter(|(mark, _, bytes, ..)| *bytes > 0 || *mark == FREE);
    parts.extend(rest.map(|(mark, paint, bytes, what, more)| Stretch {
        mark,
        paint,
        bytes,
        told: format!("{what} {}{more}", size(bytes)),
    }));
    parts
}

/// Returns what others than services have, by name: other containers, the desktop, and units of the host.
fn others(gpu: &Gpu, services: &[GpuService]) -> BTreeMap<String, u64> {
    let mut others = BTreeMap::new();
    for process in &gpu.processes {
        let Some(bytes) = process.memory.filter(|bytes| *bytes > 0) else { continue };
        let name = match (&process.container, &process.unit) {
            (Some(container), _) if services.iter().any(|service| service.name == *container) => continue,
            (Some(container), _) => format!("container {container}"),
            (None, Some(unit)) if DESKTOP.iter().any(|desktop| unit.starts_with(desktop)) => "desktop".to_owned(),
            (None, Some(unit)) => unit.clone(),
            // It is in what is unknown.
            (None, None) => continue,
        };
        let sum = others.entry(name).or_insert(0_u64);
        *sum = sum.saturating_add(bytes);
    }
    others
}

fn sum<'a>(processes: impl Iterator<Item = &'a GpuProcess>) -> u64 {
    processes.filter_map(|process| process.memory).fold(0, u64::saturating_add)
}
