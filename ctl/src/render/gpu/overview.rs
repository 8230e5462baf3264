//! Every GPU with its memory and its sensors; below, what waits, and what is not known.

use nixmox_api::{Gpu, GpuDriver, GpuService, GpusReply};

use super::flow::{Layout, Part, flow};
use super::memory::memory;
use super::words;
use crate::context::Moment;
use crate::render::quantity::age;
use crate::render::style::{Paint, Style};
use crate::render::text::{self, clean, wrap};

/// How old a look may be, in seconds, before its age is told.
const FRESH: u64 = 10;
/// The columns by which what is of a GPU stands to the right of its name, and an instance to the right of its GPU.
const INDENT: usize = 2;
/// How far below its slow-down temperature a GPU is hot, in degrees.
const HOT: u32 = 5;

/// Returns the text about all GPUs.
pub(crate) fn overview(reply: &GpusReply, moment: &Moment, width: Option<usize>, style: Style) -> String {
    let GpusReply { at_usec, inventory, rooms, services } = reply;
    let layout = Layout::new(width, style);
    let mut out = String::new();
    let old = moment.at_usec.saturating_sub(*at_usec) / 1_000_000;
    if *at_usec > 0 && old > FRESH {
        let line = format!("as of {} ago\n", age(old));
        out.push_str(&style.paint(Paint::Busy, &line));
    }
    if inventory.gpus.is_empty() && inventory.faults.is_empty() {
        out.push_str("no GPU in this machine\n");
    }
    for (index, gpu) in inventory.gpus.iter().enumerate() {
        let driver = inventory.drivers.iter().find(|driver| driver.vendor == gpu.vendor);
        let head_layout = if gpu.parent.is_some() { layout.indented(INDENT) } else { layout };
        if index > 0 && gpu.parent.is_none() {
            out.push('\n');
        }
        let id = words::short_in(&gpu.id, inventory);
        out.push_str(&flow(&head(gpu, &id, driver), head_layout.hanging(INDENT)));
        let of_gpu = head_layout.indented(INDENT);
        let room = rooms.iter().find(|room| room.id == gpu.id);
        if gpu.partitioned {
            let told = Part::new(Paint::Dim, "cut into instances (MIG): only those can be used");
            out.push_str(&flow(&[told], of_gpu));
        } else {
            out.push_str(&memory(gpu, room, services, of_gpu));
        }
        out.push_str(&flow(&sensors(gpu), of_gpu));
        let wrong = gpu.nodes.iter().filter_map(words::node);
        out.push_str(&flagged(wrong, of_gpu));
    }
    let shared = inventory.drivers.iter().flat_map(|driver| driver.nodes.iter().filter_map(words::node));
    section(&mut out, &flagged(shared, layout));
    let not_granted = services.iter().filter(|service| service.state != "granted");
    let not_granted: Vec<String> = not_granted.map(|service| standing(service, layout)).collect();
    section(&mut out, &not_granted.concat());
    let faults = inventory.faults.iter().map(|fault| {
        let whose =
            fault.vendor.as_deref().map_or_else(|| "GPUs".to_owned(), |vendor| words::vendor(vendor).to_owned());
        let (meaning, remedy) = words::fault(fault);
        let (told, meaning) =
            (format!("{}: {}", clean(&whose), clean(&fault.message)), format!("that is: {meaning}"));
        noted("!", Paint::Bad, &[told, meaning, format!("try: {remedy}")], layout)
    });
    section(&mut out, &faults.collect::<String>());
    out
}

/// Adds lines of their own, behind an empty one.
fn section(out: &mut String, lines: &str) {
    if !lines.is_empty() && !out.is_empty() {
        out.push('\n');
    }
    out.push_str(lines);
}

fn head(gpu: &Gpu, id: &str, driver: Option<&GpuDriver>) -> Vec<Part> {
    let mut parts = vec![
        Part::new(Paint::Bold, format!("{}  {}", words::number(gpu), words::name(gpu))),
        Part::new(Paint::Plain, id),
    ];
    // Once for a GPU is enough.
    let Some(driver) = driver.filter(|_| gpu.parent.is_none()) else { return parts };
    let mut versions = Vec::new();
    if let Some(version) = driver.module.as_ref().or(driver.library.as_ref()) {
        versions.push(format!("driver {version}"));
    }
    let fits = driver.booted.as_ref().or(driver.library.as_ref());
    if let Some(library) = fits.filter(|library| driver.module.as_ref().is_some_and(|module| module != *library)) {
        versions.push(format!("its library {library}"));
    }
    versions.extend(driver.cuda.as_ref().map(|cuda| format!("CUDA {cuda}")));
    if !versions.is_empty() {
        parts.push(Part::new(Paint::Dim, versions.join(", ")));
    }
    parts
}

/// Returns what the sensors say; what a GPU does not tell is not there.
fn sensors(gpu: &Gpu) -> Vec<Part> {
    let mut parts = Vec::new();
    if let Some(temperature) = gpu.temperature {
        let slow = gpu.temperature_slowdown.filter(|slow| *slow > 0);
        let paint = match slow {
            Some(slow) if temperature >= slow => Paint::Bad,
            Some(slow) if temperature >= slow.saturating_sub(HOT) => Paint::Busy,
            Some(_) | None => Paint::Plain,
        };
        let of = slow.map(|slow| format!(", slows down at {slow}°C")).unwrap_or_default();
        parts.push(Part::new(paint, format!("{temperature}°C{of}")));
    }
    let watts = |milliwatts: u32| (milliwatts.saturating_add(500)) / 1000;
    if let Some(power) = gpu.power {
        let of = gpu.power_limit.map(|limit| format!(" of {} W", watts(limit))).unwrap_or_default();
        parts.push(Part::new(Paint::Plain, format!("{} W{of}", watts(power))));
    }
    parts.extend(gpu.utilization.map(|busy| Part::new(Paint::Plain, format!("{busy}% busy"))));
    parts.extend(gpu.memory_utilization.map(|busy| Part::new(Paint::Plain, format!("memory {busy}% busy"))));
    let held: Vec<&str> = gpu.throttle.iter().filter_map(|word| words::throttle(word)).collect();
    if !held.is_empty() {
        parts.push(Part::new(Paint::Busy, format!("slowed down by {}", held.join(", "))));
    }
    parts
}

/// Returns a service that has not what it asks for, or is to give some of it back, why, and what to do.
fn standing(service: &GpuService, layout: Layout) -> String {
    let (paint, does) = match service.state.as_str() {
        "waiting" => (Paint::Busy, "waits"),
        "yielding" => (Paint::Busy, "yields"),
        "shrinking" => (Paint::Busy, "gives memory back"),
        "held" => (Paint::Dim, "is held"),
        other => (Paint::Plain, other),
    };
    let head = format!("{} {does}", service.name);
    let told = if service.reason.is_empty() { head } else { format!("{head}: {}", service.reason) };
    let hint = if service.hint.is_empty() { String::new() } else { format!("try: {}", service.hint) };
    noted("…", paint, &[told, hint], layout)
}

fn flagged(wrong: impl Iterator<Item = String>, layout: Layout) -> String {
    wrong.map(|told| noted("!", Paint::Bad, &[told], layout)).collect()
}

/// Returns lines behind a mark; empty ones are left out.
fn noted(mark: &str, paint: Paint, lines: &[String], layout: Layout) -> String {
    let room = layout.room(layout.indent + INDENT);
    let lines = lines.iter().map(|line| clean(line)).filter(|line| !line.is_empty());
    let lines = lines.flat_map(|line| wrap(&line, room));
    let mut out = String::new();
    for (index, line) in lines.enumerate() {
        let mark = if index == 0 { layout.style.paint(paint, mark) } else { " ".to_owned() };
        // A word that is longer than the screen, such as a path that somebody made up.
        let line = room.map_or_else(|| line.clone(), |room| text::cut(&line, room));
        let line = format!("{}{mark} {line}\n", " ".repeat(layout.indent));
        out.push_str(&line);
    }
    out
}
