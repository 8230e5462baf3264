//! The snapshot as people read it: a heading per stack, a table of its services, and notes on what is not well.

use nixmox_api::{RolledBack, ServiceState, ServiceStatus, StackStatus, Status};

use super::failure::{probe, try_line};
use super::plan::warning;
use super::quantity::{age, day, elapsed, limit, percent, size};
use super::state;
use super::style::{Paint, Style};
use super::table::{self, Cell, Column, step};
use super::{text, vram};
use crate::context::Moment;
use crate::output::Screen;

const COLUMNS: [Column; 7] = [
    Column::left("SERVICE").gives_way(&[step(2, 24), step(5, 10)]),
    Column::left("STATE"),
    Column::right("FOR").least(3),
    Column::left("ADDRESS").gives_way(&[step(4, 0)]),
    Column::left("PORTS").least(8).gives_way(&[step(1, 8)]),
    Column::left("MEMORY"),
    Column::right("CPU").least(4).gives_way(&[step(3, 0)]),
];

/// What is beside these where a service has a share of the GPUs.
const GPU_COLUMNS: [Column; 2] =
    [Column::left("GPU").gives_way(&[step(2, 0)]), Column::left("VRAM").gives_way(&[step(6, 0)])];

/// The columns of a name that notes make room for.
const NAME_MAX: usize = 30;

/// Returns the text of a snapshot.
pub(crate) fn status(snapshot: &Status, moment: &Moment, width: Option<usize>, style: Style) -> String {
    draw(snapshot, moment, width, style, false)
}

/// Returns the text of a snapshot that is higher than the screen: services that are well are only counted.
pub(crate) fn status_in_short(snapshot: &Status, moment: &Moment, screen: Screen) -> String {
    draw(snapshot, moment, screen.width(), screen.style, true)
}

/// Whether there is nothing to say about a service.
fn is_well(service: &ServiceStatus) -> bool {
    matches!(service.state, ServiceState::Healthy | ServiceState::Completed) && service.drift.is_empty()
}

fn draw(snapshot: &Status, moment: &Moment, width: Option<usize>, style: Style, in_short: bool) -> String {
    let mut out = String::new();
    for note in &snapshot.host.warnings {
        out.push_str(&warning(note, width, style));
    }
    let ids = vram::ids(snapshot.services.iter());
    for stack in &snapshot.stacks {
        let services: Vec<&ServiceStatus> =
            snapshot.services.iter().filter(|service| service.stack == stack.name).collect();
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&heading(stack, &services, moment, width, style));
        if !services.is_empty() {
            out.push('\n');
            let shown = services.iter().filter(|service| !(in_short && is_well(service)));
            let with_gpus = services.iter().any(|service| service.gpu.is_some());
            let rows: Vec<_> = shown.map(|service| row(service, with_gpus.then_some(&*ids), moment)).collect();
            if !rows.is_empty() {
                let more: &[Column] = if with_gpus { &GPU_COLUMNS } else { &[] };
                let columns: Vec<Column> = COLUMNS.iter().chain(more).copied().collect();
                out.push_str(&table::lines(&columns, &rows, 2, width, style));
            }
            match services.len() - rows.len() {
                0 => {}
                hidden => {
                    let line = format!("  {} not shown: well\n", text::counted(hidden, "service"));
                    out.push_str(&line);
                }
            }
            out.push_str(&notes(&services, moment, width, style));
        }
    }
    out
}

fn heading(
    stack: &StackStatus,
    services: &[&ServiceStatus],
    moment: &Moment,
    width: Option<usize>,
    style: Style,
) -> String {
    let ago = age(moment.now().saturating_sub(stack.changed_at));
    let name = text::clean(&stack.name);
    let by = text::clean(&stack.changed_by.name);
    let head = format!("   generation {}, by {by} {ago} ago", stack.generation);
    let counts = counts(services);
    let whole = text::width(&name) + text::width(&head) + 4 + text::width(&counts);
    let name = style.paint(Paint::Bold, &name);
    let back = stack.rolled_back.as_ref().map(|back| {
        let RolledBack { from, to, reasons, .. } = back;
        let line =
            format!("generation {from} was rolled back: {}; see nixmoxctl diff {to} {from}", reasons.join("; "));
        let line = text::wrap(&text::clean(&line), width.map(|width| width.saturating_sub(2))).join("\n  ");
        format!("  {}\n", style.paint(Paint::Bad, &line))
    });
    let back = back.unwrap_or_default();
    match width.filter(|width| *width < whole) {
        None => format!("{name}{head}    {counts}\n{back}"),
        Some(width) => {
            format!("{name}{head}\n  {}\n{back}", text::wrap(&counts, Some(width - 2)).join("\n  "))
        }
    }
}

/// Returns `3 healthy, 1 unhealthy, 1 stopped`.
pub(crate) fn counts(services: &[&ServiceStatus]) -> String {
    let order = [
        ServiceState::Healthy,
        ServiceState::Completed,
        ServiceState::Unhealthy,
        ServiceState::Failed,
        ServiceState::Starting,
        ServiceState::Waiting,
        ServiceState::Stopping,
        ServiceState::Stopped,
    ];
    let counted = |state: &ServiceState| {
        let number = services.iter().filter(|service| service.state == *state).count();
        (number > 0).then(|| format!("{number} {}", state.word()))
    };
    let counts: Vec<String> = order.iter().filter_map(counted).collect();
    if counts.is_empty() { "no services".to_owned() } else { counts.join(", ") }
}

/// Returns the cells of a service; with those of its GPUs, of which `ids` are all, where one has some.
fn row(service: &ServiceStatus, ids: Option<&[&str]>, moment: &Moment) -> (Cell, Vec<Cell>) {
    let (symbol, word, paint) = state::of_state(service.state);
    let since = service.since.map_or_else(|| "-".to_owned(), |at| age(moment.now().saturating_sub(at)));
    let dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![
        Cell::new(&service.name),
        Cell::painted(paint, word),
        Cell::new(since),
        Cell::new(dash(service.address.clone())),
        Cell::new(dash(Some(ports(&service.ports)))),
        Cell::new(memory(service)),
        Cell::new(service.cpu_percent.map_or_else(|| "-\u{a0}".to_owned(), |share| format!("{}%", percent(share)))),
    ];
    if let Some(ids) = ids {
        let gpu = service.gpu.as_ref();
        let memory = gpu.map_or_else(|| "-".to_owned(), |gpu| vram::memory(gpu.used, gpu.budget));
        cells.extend([Cell::new(vram::gpus(gpu, ids)), Cell::new(memory)]);
    }
    (Cell::painted(paint, symbol), cells)
}

/// Returns published ports in short: only the port on the host.
///
/// The manifest's form is `[host-ip:][port:]port[/udp]`.
fn ports(ports: &[String]) -> String {
    let on_host = |port: &String| {
        let (rest, protocol) = port.split_once('/').map_or((port.as_str(), ""), |(rest, udp)| (rest, udp));
        let fields: Vec<&str> = rest.rsplitn(3, ':').collect();
        let host = fields.get(1).or(fields.first()).copied().unwrap_or(rest);
        if protocol.is_empty() || protocol == "tcp" { host.to_owned() } else { format!("{host}/{protocol}") }
    };
    ports.iter().map(on_host).collect::<Vec<_>>().join(",")
}

/// Returns `412M / 2.0G`, the parts aligned; `-` for a service that uses none.
fn memory(service: &ServiceStatus) -> String {
    let Some(current) = service.memory_current else { return "-".to_owned() };
    let most = service.memory_max.map_or_else(|| "-".to_owned(), size);
    format!("{} / {}", text::right(&size(current), 4), most)
}

fn notes(services: &[&ServiceStatus], moment: &Moment, width: Option<usize>, style: Style) -> String {
    let names = services.iter().map(|service| text::width(&service.name));
    let name_width = names.max().unwrap_or(0).min(NAME_MAX);
    let room = width.map(|width| width.saturating_sub(name_width + 4));
    let mut out = String::new();
    for service in services {
        let (symbol, _word, paint) = state::of_state(service.state);
        let lines = note(service, moment).into_iter().flat_map(|line| text::wrap(&text::clean(&line), room));
        for (index, line) in lines.enumerate() {
            let (symbol, name) = if index == 0 { (symbol, service.name.as_str()) } else { (" ", "") };
            let name = text::left(&text::cut(&text::clean(name), name_width), name_width);
            let line = format!("{} {name}  {line}\n", style.paint(paint, symbol));
            out.push_str(&line);
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

/// Returns what is to be said about a service, line by line; nothing about one that is well.
fn note(service: &ServiceStatus, moment: &Moment) -> Vec<String> {
    let mut lines = Vec::new();
    match service.state {
        ServiceState::Healthy | ServiceState::Completed | ServiceState::Stopping => {}
        ServiceState::Unhealthy => {
            lines.push(if service.probe.is_empty() { service.reason.clone() } else { probe(service) });
            lines.push(format!("try: {}", try_line(service)));
        }
        ServiceState::Failed => {
            let again =
                service.restart_at.map(|at| format!("starts again in {}", age(at.saturating_sub(moment.now()))));
            let told = [Some(service.reason.clone()).filter(|reason| !reason.is_empty()), again];
            lines.push(told.into_iter().flatten().collect::<Vec<_>>().join("; "));
            lines.push(format!("try: {}", try_line(service)));
        }
        ServiceState::Starting => lines.push(starting(service, moment)),
        ServiceState::Waiting if service.waits_for.is_empty() => {
            lines.push(service.reason.clone());
            // What it waits for is no service, that `why` would lead to.
            let of_gpu = service.gpu.as_ref().is_some_and(|gpu| gpu.state == "waiting");
            lines.extend((of_gpu && !service.hint.is_empty()).then(|| format!("try: {}", service.hint)));
        }
        ServiceState::Waiting => lines.push(format!("waits for {}", service.waits_for.join(", "))),
        ServiceState::Stopped => lines.push(stopped(service, moment)),
    }
    lines.extend(service.drift.iter().map(|drift| match drift.corrected_in {
        Some(0) => format!("drift: {}; correcting now", drift.what),
        Some(seconds) => format!("drift: {}; correcting in {seconds}s", drift.what),
        None => format!("drift: {}", drift.what),
    }));
    lines.extend(killed(service, moment).filter(|_| !lines.iter().any(|line| line.contains("out of memory"))));
    lines.retain(|line| !line.is_empty());
    lines
}

/// Returns which process was killed last for want of memory, and when; `None`: none in this run, nor of late.
fn killed(service: &ServiceStatus, moment: &Moment) -> Option<String> {
    let kills = service.oom_kills.as_ref()?;
    let ago = kills.at.map(|at| moment.now().saturating_sub(at));
    let is_of_today = ago.is_some_and(|ago| ago < 86_400);
    let ago = ago.map(|ago| format!(", {} ago", age(ago))).unwrap_or_default();
    (kills.count > 0 || is_of_today).then(|| format!("{}{ago}", kills.why))
}

fn starting(service: &ServiceStatus, moment: &Moment) -> String {
    let told = if service.probe.is_empty() { service.reason.clone() } else { probe(service) };
    let Some(since) = service.since else { return told };
    let passed = elapsed(moment.now().saturating_sub(since).saturating_mul(1000));
    let of = match service.start_period_ms {
        0 => format!("starting for {passed}"),
        period => format!("starting for {passed} of {}", limit(period)),
    };
    if told.is_empty() { of } else { format!("{of}; {told}") }
}

fn stopped(service: &ServiceStatus, moment: &Moment) -> String {
    let by = service.held_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let at = service.since.map(|at| format!(", {}", day(at, moment.now(), &moment.zone))).unwrap_or_default();
    let hint =
        if service.hint.is_empty() { format!("nixmoxctl start {}", service.name) } else { service.hint.clone() };
    format!("stopped{by}{at}; try: {hint}")
}
