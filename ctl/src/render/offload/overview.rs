//! Services that run models: each with its engine and budget, a table of its models, and what is to be said about them.

use nixmox_api::{OffloadModel, OffloadService, OffloadsReply};

use crate::render::quantity::size;
use crate::render::report::Report;
use crate::render::style::{Paint, Style};
use crate::render::table::{self, Cell, Column, step};
use crate::render::text::{self, clean};

const COLUMNS: [Column; 7] = [
    Column::left("MODEL").gives_way(&[step(1, 22), step(5, 10)]),
    Column::left("WHERE"),
    Column::right("SIZE").least(4),
    Column::right("ON GPU").gives_way(&[step(3, 0)]),
    Column::right("LAYERS").gives_way(&[step(4, 0)]),
    Column::right("CONTEXT").gives_way(&[step(2, 0)]),
    Column::left("").gives_way(&[step(6, 0)]),
];

/// The columns of the margin in front of a model.
const MARGIN: usize = 4;

/// Returns the text about all services that run models.
pub(crate) fn overview(reply: &OffloadsReply, width: Option<usize>, style: Style) -> String {
    if reply.services.is_empty() {
        return "no service has a table `offload`\n".to_owned();
    }
    let services = reply.services.iter().map(|service| of_service(service, width, style));
    services.collect::<Vec<_>>().join("\n")
}

fn of_service(service: &OffloadService, width: Option<usize>, style: Style) -> String {
    let mut out = head(service, width, style);
    let rows: Vec<_> = service.models.iter().map(row).collect();
    if !rows.is_empty() {
        out.push_str(&table::lines(&COLUMNS, &rows, MARGIN, width, style));
    }
    out + &notes(service, width, style)
}

/// Returns who runs what, and with how much memory.
fn head(service: &OffloadService, width: Option<usize>, style: Style) -> String {
    let (mark, paint, does) = match service.state.as_str() {
        "answers" => ("●", Paint::Good, ""),
        "silent" => ("!", Paint::Bad, "does not answer"),
        "down" => ("○", Paint::Dim, "does not run"),
        other => ("?", Paint::Plain, other),
    };
    let engine = format!("{} {}", service.offload.engine, service.version);
    let memory = match (service.used, service.budget) {
        (None, None) => String::new(),
        (Some(used), None) => format!("{} in use", size(used)),
        (None, Some(budget)) => format!("may have {}", size(budget)),
        (Some(used), Some(budget)) => format!("{} of {} in use", size(used), size(budget)),
    };
    let parts = [does, engine.trim(), &service.memory_engine, &memory];
    let parts: Vec<String> = parts.into_iter().map(clean).filter(|part| !part.is_empty()).collect();
    let name = clean(&service.name);
    let room = width.map(|width| width.saturating_sub(MARGIN));
    // Beside the name where there is room, below it else.
    let line = parts.join("   ");
    let is_short = width.is_none_or(|width| 2 + text::width(&name) + 3 + text::width(&line) <= width);
    let name = style.paint(Paint::Bold, &name);
    let mark = style.paint(paint, mark);
    if is_short {
        return format!("{mark} {name}   {line}").trim_end().to_owned() + "\n";
    }
    let lines = parts.iter().flat_map(|part| text::wrap(part, room));
    let lines = lines.map(|line| format!("{}{}\n", " ".repeat(MARGIN), cut(&line, room)));
    format!("{mark} {name}\n{}", lines.collect::<String>())
}

fn row(model: &OffloadModel) -> (Cell, Vec<Cell>) {
    let (mark, paint, place) = match model.state.as_str() {
        "gpu" => ("✓", Paint::Good, "gpu"),
        "partial" => ("◐", Paint::Busy, "partial"),
        "cpu" => ("◐", Paint::Busy, "cpu"),
        "loading" => ("…", Paint::Busy, "loading"),
        "unloaded" => ("○", Paint::Dim, "unloaded"),
        "unknown" => ("?", Paint::Plain, "unknown"),
        other => ("?", Paint::Plain, other),
    };
    let (mark, paint) = if model.incident.is_empty() { (mark, paint) } else { ("!", Paint::Bad) };
    let told = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let layers = match (model.layers, model.layers_all) {
        (None, None) => "-".to_owned(),
        (layers, None) => number(layers),
        (layers, all) => format!("{}/{}", number(layers), number(all)),
    };
    let flags = [(model.keep, "keep"), (model.busy == Some(true), "busy")];
    let flags: Vec<&str> = flags.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    let cells = vec![
        Cell::new(&model.name),
        Cell::painted(paint, place),
        Cell::new(told(model.size)),
        Cell::new(told(model.size_vram)),
        Cell::new(layers),
        Cell::new(number(model.context)),
        Cell::painted(Paint::Dim, flags.join(", ")),
    ];
    (Cell::painted(paint, format!("  {mark}")), cells)
}

/// Returns why it does not answer, what was decided, and which models are not where they should be.
fn notes(service: &OffloadService, width: Option<usize>, style: Style) -> String {
    let mut rows = Report::new("").row("why", &service.reason).row("decided", &service.decision);
    for model in service.models.iter().filter(|model| !model.incident.is_empty()) {
        rows = rows.row("fault", incident(model)).row("try", &model.hint);
    }
    rows.rows_text(width, style)
}

fn incident(model: &OffloadModel) -> String {
    format!("{}: {}", model.name, model.incident)
}

/// Returns what is to be said about the models of one service, in a line each: what was decided, and which are not where they
/// should be.
pub(crate) fn told(service: &OffloadService) -> Vec<String> {
    let silent = match service.reason.as_str() {
        "" => String::new(),
        reason => format!("{} does not answer: {reason}", service.offload.engine),
    };
    let lines = [silent, service.decision.clone()].into_iter();
    let faults = service.models.iter().filter(|model| !model.incident.is_empty()).map(incident);
    lines.chain(faults).filter(|line| !line.is_empty()).collect()
}

/// Returns a line that is no wider than there is room.
fn cut(line: &str, room: Option<usize>) -> String {
    room.map_or_else(|| line.to_owned(), |room| text::cut(line, room))
}
