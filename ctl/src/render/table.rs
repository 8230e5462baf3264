//! A table whose columns are as wide as their content, and give way in a set order where the screen is narrow.

use super::style::{Paint, Style};
use super::text;

/// A cell: its text and what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// Returns a cell; characters that would steer a terminal are taken out.
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self::painted(Paint::Plain, text)
    }

    /// Returns a coloured cell.
    pub(crate) fn painted(paint: Paint, text: impl AsRef<str>) -> Self {
        Self { text: text::clean(text.as_ref()), paint }
    }
}

/// On which side a column's texts are filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Texts begin at the column's left edge.
    Left,
    /// Texts end at the column's right edge.
    Right,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its heading.
    pub(crate) title: &'static str,
    /// Where texts stand.
    pub(crate) align: Align,
    /// Its least width; its content may ask for more.
    pub(crate) least: usize,
    /// How it gives way on a narrow screen, step by step; empty: not at all.
    pub(crate) gives_way: &'static [GivesWay],
}

/// A step in which a column gives way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivesWay {
    /// Its turn; smaller is earlier.
    pub(crate) turn: u8,
    /// The width down to which it is cut; 0: it is left out.
    pub(crate) to: usize,
}

impl Column {
    /// Returns a column with texts at the left that never gives way.
    pub(crate) const fn left(title: &'static str) -> Self {
        Self { title, align: Align::Left, least: 0, gives_way: &[] }
    }

    /// Returns a column with texts at the right that never gives way.
    pub(crate) const fn right(title: &'static str) -> Self {
        Self { title, align: Align::Right, least: 0, gives_way: &[] }
    }

    /// Sets the least width.
    pub(crate) const fn least(mut self, least: usize) -> Self {
        self.least = least;
        self
    }

    /// Lets it give way.
    pub(crate) const fn gives_way(mut self, steps: &'static [GivesWay]) -> Self {
        self.gives_way = steps;
        self
    }
}

/// Returns the step of giving way in a turn down to a width.
pub(crate) const fn step(turn: u8, to: usize) -> GivesWay {
    GivesWay { turn, to }
}

/// The blanks between columns.
const GAP: usize = 2;

/// Returns the rows as lines, each ended by a newline, the heading first where a column has one.
///
/// `margin` stands before each row (the heading has blanks there) and is `margin_width` columns wide.
pub(crate) fn lines(
    columns: &[Column],
    rows: &[(Cell, Vec<Cell>)],
    margin_width: usize,
    width: Option<usize>,
    style: Style,
) -> String {
    let room = width.map(|width| width.saturating_sub(margin_width));
    let widths = widths(columns, rows, room);
    let mut out = String::new();
    if columns.iter().any(|column| !column.title.is_empty()) {
        let titles: Vec<Cell> = columns.iter().map(|column| Cell::painted(Paint::Dim, column.title)).collect();
        out.push_str(&line(&Cell::default(), &titles, columns, &widths, margin_width, style));
    }
    for (margin, cells) in rows {
        out.push_str(&line(margin, cells, columns, &widths, margin_width, style));
    }
    out
}

fn widths(columns: &[Column], rows: &[(Cell, Vec<Cell>)], room: Option<usize>) -> Vec<usize> {
    let content = |index: usize, column: &Column| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.get(index)).map(|cell| text::width(&cell.text));
        cells.chain([text::width(column.title), column.least]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = columns.iter().enumerate().map(|(index, column)| content(index, column)).collect();
    let Some(room) = room else { return widths };
    let mut turns: Vec<(GivesWay, usize)> = columns
        .iter()
        .enumerate()
        .flat_map(|(index, column)| column.gives_way.iter().map(move |step| (*step, index)))
        .collect();
    turns.sort_by_key(|(gives_way, _)| gives_way.turn);
    for (gives_way, index) in turns {
        let total = widths.iter().filter(|w| **w > 0).map(|w| w + GAP).sum::<usize>().saturating_sub(GAP);
        let Some(missing) = total.checked_sub(room).filter(|missing| *missing > 0) else { break };
        if let Some(width) = widths.get_mut(index) {
            *width =
                if gives_way.to == 0 { 0 } else { width.saturating_sub(missing).max(gives_way.to.min(*width)) };
        }
    }
    widths
}

fn line(
    margin: &Cell,
    cells: &[Cell],
    columns: &[Column],
    widths: &[usize],
    margin_width: usize,
    style: Style,
) -> String {
    let mut out = style.paint(margin.paint, &margin.text);
    // Blanks are held back until something follows: no line ends with them.
    let mut blanks = margin_width.saturating_sub(text::width(&margin.text));
    for ((cell, column), width) in cells.iter().zip(columns).zip(widths.iter().copied()).filter(|(_, w)| *w > 0) {
        let shown = text::cut(&cell.text, width);
        let fill = width - text::width(&shown);
        let (before, after) = match column.align {
            Align::Left => (0, fill),
            Align::Right => (fill, 0),
        };
        if shown.is_empty() {
            blanks += width + GAP;
        } else {
            out.push_str(&" ".repeat(blanks + before));
            out.push_str(&style.paint(cell.paint, &shown));
            blanks = after + GAP;
        }
    }
    // Blanks that a cell ends with for its alignment are of no use at the end of a line.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> (Cell, Vec<Cell>) {
        (Cell::new("*"), cells.iter().map(Cell::new).collect())
    }

    const COLUMNS: [Column; 3] = [
        Column::left("NAME").gives_way(&[step(2, 4)]),
        Column::right("N"),
        Column::left("TEXT").gives_way(&[step(1, 0)]),
    ];

    #[test]
    fn columns_are_as_wide_as_their_content_and_no_line_ends_with_a_blank() {
        let rows = [row(&["postgres", "7", "text"]), row(&["日本", "12", ""])];
        let text = lines(&COLUMNS, &rows, 2, None, Style::default());
        assert_eq!(text, "  NAME       N  TEXT\n* postgres   7  text\n* 日本      12\n");
    }

    #[test]
    fn a_narrow_screen_takes_columns_away_in_their_turn() {
        let rows = [row(&["postgres", "7", "text"])];
        assert_eq!(lines(&COLUMNS, &rows, 2, Some(14), Style::default()), "  NAME      N\n* postgres  7\n");
        assert_eq!(lines(&COLUMNS, &rows, 2, Some(10), Style::default()), "  NAME   N\n* post…  7\n");
    }

    #[test]
    fn a_colour_takes_no_room() {
        let rows = [(Cell::default(), vec![Cell::painted(Paint::Good, "a"), Cell::new("1"), Cell::new("x")])];
        let text = lines(&COLUMNS, &rows, 0, None, Style::new(true));
        assert!(text.ends_with("\x1b[32ma\x1b[0m     1  x\n"), "{text:?}");
    }
}
