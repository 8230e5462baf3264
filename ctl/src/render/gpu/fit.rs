//! What would come of a share of the GPUs: where it would go, who would yield, or the numbers why not.

use nixmox_api::{GpuFitReply, GpuInventory, GpuRoom};

use super::words;
use crate::render::quantity::size;
use crate::render::report::Report;
use crate::render::style::{Paint, Style};
use crate::render::text::clean;

/// Returns the text about a share, of the service `name` or of one that is made up. `inventory` is asked for names alone.
pub(crate) fn fit(
    name: Option<&str>,
    reply: &GpuFitReply,
    inventory: &GpuInventory,
    width: Option<usize>,
    style: Style,
) -> String {
    let who = clean(name.unwrap_or("such a service"));
    let (mark, paint, does) = match reply.outcome.as_str() {
        "fits" => ("✓", Paint::Good, "fits".to_owned()),
        "yields" if reply.yields.is_empty() && !reply.gives.is_empty() => {
            ("✓", Paint::Busy, "fits, and others would give memory back for it".to_owned())
        }
        "yields" => ("✓", Paint::Busy, "fits, and others would be stopped for it".to_owned()),
        "waits" => ("✗", Paint::Bad, "does not fit now: it would wait".to_owned()),
        "never" => ("✗", Paint::Bad, "never fits on this machine".to_owned()),
        other => ("?", Paint::Plain, clean(other)),
    };
    let named = |id: &String| match inventory.gpus.iter().find(|gpu| gpu.id == *id) {
        Some(gpu) => format!("{}  {}  {}", words::number(gpu), words::name(gpu), words::short_in(id, inventory)),
        None => clean(id),
    };
    let budget = reply.budget.map(|budget| format!("{} of video memory", size(budget)));
    // It has GPUs, and no claim was made.
    let budget = budget.or_else(|| (!reply.gpus.is_empty()).then(|| "none: it claims no video memory".to_owned()));
    let yields = reply.yields.iter().map(|service| {
        format!("{}, of priority {}: {} come free", service.name, service.priority, size(service.memory))
    });
    let gives = reply.gives.iter().map(|service| {
        format!(
            "{}, of priority {}: gives back {} and runs on",
            service.name,
            service.priority,
            size(service.memory)
        )
    });
    let rooms = reply.rooms.iter().filter(|room| reply.gpus.is_empty() || reply.gpus.contains(&room.id));
    let rows = Report::new("")
        .row("why", &reply.reason)
        .rows("on", reply.gpus.iter().map(named))
        .row("budget", budget.unwrap_or_default())
        .rows("yields", yields)
        .rows("gives", gives)
        .rows("room", rooms.map(|room| format!("{}: {}", of(room, inventory), divided(room))))
        .row("try", &reply.hint);
    format!(
        "{} {} {does}\n{}",
        style.paint(paint, mark),
        style.paint(Paint::Bold, &who),
        rows.rows_text(width, style)
    )
}

/// Returns which GPU a room is of, in short: its number, where no other one has the same.
fn of(room: &GpuRoom, inventory: &GpuInventory) -> String {
    let Some(gpu) = inventory.gpus.iter().find(|gpu| gpu.id == room.id) else { return room.id.clone() };
    let number = words::number(gpu);
    match inventory.gpus.iter().filter(|other| words::number(other) == number).count() {
        1 => number,
        _ => words::short_in(&room.id, inventory),
    }
}

/// Returns how the memory of a GPU is given out now.
fn divided(room: &GpuRoom) -> String {
    let parts = [
        (room.promised, "promised"),
        (room.others, "in use by others"),
        (room.reserved, "reserved"),
        (room.headroom, "headroom"),
    ];
    let parts = parts.into_iter().filter(|(bytes, _)| *bytes > 0);
    let parts: Vec<String> = parts.map(|(bytes, what)| format!("{} {what}", size(bytes))).collect();
    let free = format!("{} of {} free now", size(room.free), size(room.total));
    if parts.is_empty() { free } else { format!("{free} ({})", parts.join(", ")) }
}
