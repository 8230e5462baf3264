//! What the person at the keyboard has chosen: the order, the filter, what is selected, what is looked at.
//!
//! ```text
//!            Enter                    /                   ?
//!  Table ──────────▶ Details   Table ───▶ Filter   Table ───▶ Help
//!    ▲ Esc, Enter, ←   │         ▲ Enter: keeps it  │           │
//!    └─────────────────┘         └─ Esc: drops it ──┘   any key ┘
//! ```

use super::columns::compare;
use super::keys::Key;
use super::scene::Row;

/// The longest filter.
const FILTER_MAX: usize = 40;
/// How far a page goes.
const PAGE: usize = 10;

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    /// CPU time
    #[default]
    Cpu,
    /// Memory in use
    Memory,
    /// Bytes read and written
    Io,
    /// Bytes received and sent
    #[value(name = "net")]
    Network,
    /// The most that was waited for
    Pressure,
    /// The name
    Name,
}

impl Sort {
    /// Returns its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
            Self::Network => "net",
            Self::Pressure => "pressure",
            Self::Name => "name",
        }
    }

    fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'c' => Self::Cpu,
            'm' => Self::Memory,
            'i' => Self::Io,
            'n' => Self::Network,
            'p' => Self::Pressure,
            'N' => Self::Name,
            _ => return None,
        })
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The table.
    #[default]
    Table,
    /// The table, while a filter is typed.
    Filter,
    /// One service: the selected one.
    Details,
    /// The keys.
    Help,
}

/// What was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) sort: Sort,
    pub(crate) is_reversed: bool,
    /// What a name has to contain.
    pub(crate) filter: String,
    /// The name of the selected service; the first one where it is not there.
    pub(crate) selected: Option<String>,
    pub(crate) mode: Mode,
}

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stay,
    Quit,
}

impl View {
    /// Returns the rows that are shown, in their order.
    pub(crate) fn order<'a>(&self, rows: &'a [Row]) -> Vec<&'a Row> {
        let mut shown: Vec<&Row> = rows.iter().filter(|row| row.status.name.contains(&self.filter)).collect();
        shown.sort_by(|one, other| compare(self.sort, one, other));
        if self.is_reversed {
            shown.reverse();
        }
        shown
    }

    /// Returns the place of the selected row among those that are shown.
    pub(crate) fn place(&self, shown: &[&Row]) -> usize {
        shown.iter().position(|row| Some(&row.status.name) == self.selected.as_ref()).unwrap_or(0)
    }

    /// Takes a key.
    pub(crate) fn press(&mut self, key: Key, rows: &[Row]) -> Next {
        if key == Key::Interrupt {
            return Next::Quit;
        }
        match self.mode {
            Mode::Table => return self.press_in_table(key, rows),
            Mode::Filter => self.press_in_filter(key),
            Mode::Details => match key {
                Key::Char('q') => return Next::Quit,
                Key::Escape | Key::Enter | Key::Left | Key::Backspace => self.mode = Mode::Table,
                Key::Up | Key::Char('k') => self.select(-1, rows),
                Key::Down | Key::Char('j') => self.select(1, rows),
                Key::Char(_) | Key::PageUp | Key::PageDown | Key::Home | Key::End | Key::Interrupt => {}
            },
            Mode::Help => match key {
                Key::Char('q') => return Next::Quit,
                Key::Char(_)
                | Key::Up
                | Key::Down
                | Key::Left
                | Key::PageUp
                | Key::PageDown
                | Key::Home
                | Key::End
                | Key::Enter
                | Key::Escape
                | Key::Backspace
                | Key::Interrupt => self.mode = Mode::Table,
            },
        }
        Next::Stay
    }

    fn press_in_table(&mut self, key: Key, rows: &[Row]) -> Next {
        let page = isize::try_from(PAGE).unwrap_or(1);
        match key {
            Key::Char('q') => return Next::Quit,
            Key::Char('r') => self.is_reversed = !self.is_reversed,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Up | Key::Char('k') => self.select(-1, rows),
            Key::Down | Key::Char('j') => self.select(1, rows),
            Key::PageUp => self.select(-page, rows),
            Key::PageDown => self.select(page, rows),
            Key::Home | Key::Char('g') => self.select(isize::MIN, rows),
            Key::End | Key::Char('G') => self.select(isize::MAX, rows),
            Key::Enter => {
                self.select(0, rows);
                if self.selected.is_some() {
                    self.mode = Mode::Details;
                }
            }
            // What a filter hides is shown again.
            Key::Escape => self.filter.clear(),
            Key::Char(other) => {
                if let Some(sort) = Sort::of_key(other) {
                    (self.sort, self.is_reversed) = (sort, false);
                }
            }
            Key::Left | Key::Backspace | Key::Interrupt => {}
        }
        Next::Stay
    }

    fn press_in_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.mode = Mode::Table,
            Key::Escape => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            Key::Backspace => drop(self.filter.pop()),
            Key::Char(typed) if self.filter.chars().count() < FILTER_MAX => self.filter.push(typed),
            Key::Char(_)
            | Key::Up
            | Key::Down
            | Key::Left
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Interrupt => {}
        }
    }

    /// Moves the selection by so many rows.
    fn select(&mut self, by: isize, rows: &[Row]) {
        let shown = self.order(rows);
        let last = shown.len().saturating_sub(1);
        let place = self.place(&shown).saturating_add_signed(by).min(last);
        self.selected = shown.get(place).map(|row| row.status.name.clone());
    }
}
