//! The columns of the table, the same on the screen and in a pipe.

use std::cmp::Ordering;

use super::scene::Row;
use super::view::Sort;
use crate::render::quantity::{percent, size};
use crate::render::table::{self, Cell, Column, step};
use crate::render::{Paint, Style, state};

/// The columns. On 80 columns all but the state's word are there; on 40 what matters first.
const COLUMNS: [Column; 11] = [
    Column::left("SERVICE").gives_way(&[step(1, 20), step(3, 12), step(10, 8)]),
    Column::left("STATE").gives_way(&[step(2, 0)]),
    Column::right("CPU").least(4),
    Column::left("MEMORY").least(9).gives_way(&[step(9, 4), step(11, 0)]),
    Column::right("PRESSURE").gives_way(&[step(8, 0)]),
    Column::right("READ").least(4).gives_way(&[step(5, 0)]),
    Column::right("WRIT").least(4).gives_way(&[step(5, 0)]),
    Column::right("RECV").least(4).gives_way(&[step(4, 0)]),
    Column::right("SENT").least(4).gives_way(&[step(4, 0)]),
    Column::right("TASK").gives_way(&[step(6, 0)]),
    Column::right("RST").gives_way(&[step(7, 0)]),
];

/// Beside these, where a service has video memory: what is in use, and what it may use.
const VRAM: Column = Column::left("VRAM").least(9).gives_way(&[step(9, 0)]);
/// Where it stands: behind the memory.
const VRAM_AT: usize = 4;

/// The columns in front of each row: a mark for the selected one, and the symbol of its state.
const MARGIN: usize = 4;

/// From this share of the last ten seconds on, in percent, waiting is worth a look.
const PRESSED: f64 = 10.0;

/// Returns the rows in their order as lines, the heading first.
pub(crate) fn table(rows: &[&Row], selected: Option<&str>, width: Option<usize>, style: Style) -> String {
    let mut columns = COLUMNS.to_vec();
    let mut cells: Vec<(Cell, Vec<Cell>)> = rows.iter().map(|row| cells(row, selected)).collect();
    if rows.iter().any(|row| vram(row).is_some()) {
        columns.insert(VRAM_AT, VRAM);
        for ((_, cells), row) in cells.iter_mut().zip(rows) {
            cells.insert(VRAM_AT, Cell::new(vram(row).unwrap_or_else(dash)));
        }
    }
    table::lines(&columns, &cells, MARGIN, width, style)
}

fn cells(row: &Row, selected: Option<&str>) -> (Cell, Vec<Cell>) {
    let (symbol, word, paint) = state::of_state(row.status.state);
    let is_selected = selected == Some(row.status.name.as_str());
    let (usage, rates) = (&row.measured.usage, &row.measured.rates);
    let rate = |rate: Option<f64>| Cell::new(rate.map_or_else(dash, |rate| size(whole(rate))));
    let (pressure, pressed) = match row.worst_pressure() {
        None => (dash(), Paint::Plain),
        Some((_, share)) if share < 1.0 => ("0%".to_owned(), Paint::Dim),
        Some((kind, share)) => {
            (format!("{kind} {}%", percent(share)), if share < PRESSED { Paint::Plain } else { Paint::Busy })
        }
    };
    let restarts = if row.status.restarts > 0 { Paint::Busy } else { Paint::Dim };
    let name = if is_selected { Paint::Bold } else { Paint::Plain };
    let cells = vec![
        Cell::painted(name, &row.status.name),
        Cell::painted(paint, word),
        Cell::new(rates.cpu_percent.map_or_else(dash, |share| format!("{}%", percent(share)))),
        Cell::painted(memory_paint(row), memory(row)),
        Cell::painted(pressed, pressure),
        rate(rates.io_read_per_second),
        rate(rates.io_write_per_second),
        rate(rates.network_receive_per_second),
        rate(rates.network_transmit_per_second),
        Cell::new(usage.tasks_current.map_or_else(dash, |tasks| tasks.to_string())),
        Cell::painted(restarts, row.status.restarts.to_string()),
    ];
    let mark = if is_selected { "> " } else { "  " };
    (Cell::painted(paint, format!("{mark}{symbol}")), cells)
}

fn dash() -> String {
    "-".to_owned()
}

/// Returns `412M/2.0G`, or `412M` without a limit.
fn memory(row: &Row) -> String {
    match (row.measured.usage.memory_current, row.memory_limit()) {
        (None, _) => dash(),
        (Some(used), None) => size(used),
        (Some(used), Some(limit)) => format!("{}/{}", size(used), size(limit)),
    }
}

/// Returns `6.0G/10G`, or one of the two; `None`: it has none, and may use none.
fn vram(row: &Row) -> Option<String> {
    let usage = &row.measured.usage;
    match (usage.vram_current, usage.vram_budget) {
        (None, None) => None,
        (Some(used), None) => Some(size(used)),
        (used, Some(budget)) => Some(format!("{}/{}", used.map_or_else(dash, size), size(budget))),
    }
}

fn memory_paint(row: &Row) -> Paint {
    match (row.measured.usage.memory_current, row.memory_limit()) {
        // The last tenth.
        (Some(used), Some(limit)) if used > limit - limit / 10 => Paint::Busy,
        (_, _) => Paint::Plain,
    }
}

/// Returns a rate as whole bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest number there is"
)]
pub(super) fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// Compares two services, what comes first on the screen as the lesser one.
pub(super) fn compare(sort: Sort, one: &Row, other: &Row) -> Ordering {
    let figure = |row: &Row| match sort {
        Sort::Cpu => row.measured.rates.cpu_percent,
        Sort::Memory => row.measured.usage.memory_current.map(super::rates::float),
        Sort::Io => row.io(),
        Sort::Network => row.network(),
        Sort::Pressure => row.worst_pressure().map(|(_, share)| share),
        Sort::Name => None,
    };
    let by_name = || one.status.name.cmp(&other.status.name);
    // Most first; what has no figure comes last.
    match (figure(one), figure(other)) {
        (Some(one), Some(other)) => other.total_cmp(&one).then_with(by_name),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => by_name(),
    }
}
