//! The generations of a host as a table, the newest first.

use nixmox_api::{GenerationInfo, GenerationVerdict, GenerationsReply};

use super::quantity::day;
use super::style::{Paint, Style};
use super::table::{self, Cell, Column, step};
use crate::context::Moment;

const COLUMNS: [Column; 6] = [
    Column::right("GENERATION"),
    Column::left("MADE"),
    Column::left("BY").gives_way(&[step(4, 6), step(5, 0)]),
    Column::right("SERVICES").gives_way(&[step(1, 0)]),
    Column::left("CHANGED").gives_way(&[step(2, 8), step(6, 0)]),
    Column::left("STATE").gives_way(&[step(3, 12)]),
];

/// Returns the text of the list.
pub(crate) fn generations(reply: &GenerationsReply, moment: &Moment, width: Option<usize>, style: Style) -> String {
    if reply.generations.is_empty() {
        return "no generations yet; try: nixmoxctl up\n".to_owned();
    }
    let row = |generation: &GenerationInfo| {
        let (paint, state) = state(generation);
        let made = match generation.made_at {
            0 => String::new(),
            at => day(at, moment.now(), &moment.zone),
        };
        let cells = vec![
            Cell::new(generation.number.to_string()),
            Cell::new(made),
            Cell::new(&generation.made_by.name),
            Cell::new(generation.services.to_string()),
            Cell::new(generation.stacks.join(", ")),
            Cell::painted(paint, state),
        ];
        (Cell::new(if generation.current { ">" } else { "" }), cells)
    };
    let rows: Vec<_> = reply.generations.iter().rev().map(row).collect();
    table::lines(&COLUMNS, &rows, 2, width, style)
}

fn state(generation: &GenerationInfo) -> (Paint, String) {
    let (paint, word) = match generation.verdict {
        GenerationVerdict::Good => (Paint::Good, "good"),
        GenerationVerdict::OnTrial => (Paint::Plain, "on trial"),
        GenerationVerdict::Bad => (Paint::Bad, "bad"),
        GenerationVerdict::Unknown => (Paint::Dim, "not judged"),
        GenerationVerdict::Damaged => (Paint::Bad, "damaged"),
    };
    let restored = generation.restored.map(|restored| format!("as {restored}"));
    let reason = Some(generation.reason.clone()).filter(|reason| !reason.is_empty());
    let parts = [Some(word.to_owned()), restored, reason];
    (paint, parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
}
