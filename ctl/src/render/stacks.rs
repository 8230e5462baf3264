//! The stacks of a host as a table.

use nixmox_api::StacksReply;

use super::quantity::age;
use super::style::Style;
use super::table::{self, Cell, Column, step};

const COLUMNS: [Column; 5] = [
    Column::left("STACK").gives_way(&[step(3, 12)]),
    Column::right("SERVICES"),
    Column::right("GENERATION").gives_way(&[step(2, 0)]),
    Column::left("CHANGED"),
    Column::left("FILE").gives_way(&[step(1, 12)]),
];

/// Returns the text of the stacks; `now` in seconds since 1970.
pub(crate) fn stacks(reply: &StacksReply, now: u64, width: Option<usize>, style: Style) -> String {
    if reply.stacks.is_empty() {
        return "no stacks yet; try: nixmoxctl up\n".to_owned();
    }
    let row = |stack: &nixmox_api::StackInfo| {
        let changed = format!("{} ago by {}", age(now.saturating_sub(stack.changed_at)), stack.changed_by.name);
        let cells = vec![
            Cell::new(&stack.name),
            Cell::new(stack.services.len().to_string()),
            Cell::new(stack.generation.to_string()),
            Cell::new(changed),
            Cell::new(&stack.file),
        ];
        (Cell::default(), cells)
    };
    let rows: Vec<_> = reply.stacks.iter().map(row).collect();
    table::lines(&COLUMNS, &rows, 0, width, style)
}
