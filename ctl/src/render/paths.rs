//! Where everything of a service lies, as a table.

use nixmox_api::PathsReply;

use super::style::{Paint, Style};
use super::table::{self, Cell, Column};

// Paths are there to be copied: they are never cut.
const COLUMNS: [Column; 2] = [Column::left(""), Column::left("")];

/// Returns the text of the paths; what is not there is marked.
pub(crate) fn paths(reply: &PathsReply, style: Style) -> String {
    let row = |path: &nixmox_api::PathInfo| {
        let (shown, paint) = match path.exists {
            Some(true) => (path.path.clone(), Paint::Plain),
            Some(false) => (format!("{} (missing)", path.path), Paint::Dim),
            None => (format!("{} (does not answer)", path.path), Paint::Bad),
        };
        (Cell::default(), vec![Cell::painted(Paint::Dim, &path.what), Cell::painted(paint, shown)])
    };
    let rows: Vec<_> = reply.paths.iter().map(row).collect();
    table::lines(&COLUMNS, &rows, 0, None, style)
}
