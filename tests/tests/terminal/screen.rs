//! What a person sees on a terminal, of 80 columns and 24 rows at first: the few sequences of ECMA-48 that the client uses.

/// Columns.
pub(crate) const WIDTH: usize = 80;
/// Rows.
pub(crate) const HEIGHT: usize = 24;

/// A screen.
#[allow(clippy::struct_excessive_bools, reason = "each is seen by itself")]
pub(crate) struct Screen {
    width: usize,
    height: usize,
    rows: Vec<Vec<char>>,
    /// The other screen with its cursor, while a program has one of its own.
    left: Option<(Vec<Vec<char>>, usize, usize)>,
    row: usize,
    column: usize,
    /// The beginning of a character or a sequence whose end is still to come.
    rest: Vec<u8>,
    /// Whether a line went on behind the last column.
    pub(crate) has_overflown: bool,
    /// Whether anything was coloured, bold or dim.
    pub(crate) is_colored: bool,
    /// Whether the bell rang.
    pub(crate) has_rung: bool,
    /// Whether the cursor is hidden.
    pub(crate) is_cursor_hidden: bool,
    /// Whether a frame has begun that has not ended: its lines end with EL, itself with ED.
    pub(crate) is_half_drawn: bool,
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            width: WIDTH,
            height: HEIGHT,
            rows: vec![Vec::new(); HEIGHT],
            left: None,
            row: 0,
            column: 0,
            rest: Vec::new(),
            has_overflown: false,
            is_colored: false,
            has_rung: false,
            is_cursor_hidden: false,
            is_half_drawn: false,
        }
    }
}

impl Screen {
    /// Returns the lines down to the last one that is not empty, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<String> = self.rows.iter().map(|row| String::from_iter(row).trim_end().to_owned()).collect();
        let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        lines[..used].iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Returns the first line that has a text.
    pub(crate) fn line(&self, part: &str) -> Option<String> {
        self.text().lines().find(|line| line.contains(part)).map(str::to_owned)
    }

    /// Becomes another size, and empty: whoever draws there does so anew.
    pub(crate) fn resize(&mut self, width: usize, height: usize) {
        (self.width, self.height) = (width, height);
        (self.rows, self.row, self.column) = (vec![Vec::new(); height], 0, 0);
    }

    /// Returns whether a program has a screen of its own.
    pub(crate) fn is_other(&self) -> bool {
        self.left.is_some()
    }

    /// Returns the column of the cursor, from 0.
    pub(crate) fn column(&self) -> usize {
        self.column
    }

    /// Takes what is written to the terminal.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let whole = match str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(error) => panic!("no UTF-8: {error}"),
        };
        let text = String::from_utf8(self.rest[..whole].to_vec()).unwrap();
        let mut left = text.as_str();
        while let Some(first) = left.chars().next() {
            left = if first == '\x1b' {
                let Some((sequence, behind)) = split_sequence(left) else { break };
                self.control(sequence);
                behind
            } else {
                self.put(first);
                &left[first.len_utf8()..]
            };
        }
        let done = whole - left.len();
        self.rest.drain(..done);
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.feed(),
            '\u{7}' => self.has_rung = true,
            '\u{8}' => self.column = self.column.saturating_sub(1),
            printed if printed >= ' ' => {
                if self.column == self.width {
                    self.has_overflown = true;
                    self.column = 0;
                    self.feed();
                }
                let row = &mut self.rows[self.row];
                row.resize(row.len().max(self.column + 1), ' ');
                row[self.column] = printed;
                self.column += 1;
            }
            other => panic!("{other:?} is written to the terminal"),
        }
    }

    fn feed(&mut self) {
        if self.row + 1 < self.height {
            self.row += 1;
        } else {
            self.rows.remove(0);
            self.rows.push(Vec::new());
        }
    }

    fn control(&mut self, sequence: &str) {
        let (parameters, end) = sequence.split_at(sequence.len() - 1);
        self.is_half_drawn = if matches!(end, "A" | "K" | "J") { end != "J" } else { self.is_half_drawn };
        match (parameters, end) {
            (up, "A") => self.row = self.row.saturating_sub(up.parse().unwrap_or(1)),
            ("", "K") => self.rows[self.row].truncate(self.column),
            // As `less` draws a screen anew, and sets the keypad up and back.
            ("", "H") => (self.row, self.column) = (0, 0),
            ("2", "J") => self.rows.iter_mut().for_each(Vec::clear),
            ("?1", "h" | "l") | ("", "=" | ">") => {}
            ("", "J") => {
                self.rows[self.row].truncate(self.column);
                self.rows[self.row + 1..].iter_mut().for_each(Vec::clear);
            }
            ("?1049", "h") => {
                let rows = std::mem::replace(&mut self.rows, vec![Vec::new(); self.height]);
                self.left = Some((rows, self.row, self.column));
                (self.row, self.column) = (0, 0);
            }
            ("?1049", "l") => {
                if let Some((rows, row, column)) = self.left.take() {
                    (self.rows, self.row, self.column) = (rows, row, column);
                }
            }
            (_, "m") => self.is_colored = true,
            ("?25", "l") => self.is_cursor_hidden = true,
            ("?25", "h") => self.is_cursor_hidden = false,
            (_, _) => panic!("this terminal does not know {sequence:?}"),
        }
    }
}

/// Returns what stands between `ESC [` and the end of the sequence, that included, and what is behind it.
fn split_sequence(text: &str) -> Option<(&str, &str)> {
    let Some(body) = text.strip_prefix("\x1b[") else {
        return text.split_at_checked(2).map(|(begin, rest)| (&begin[1..], rest));
    };
    let end = body.find(|c: char| ('@'..='~').contains(&c))?;
    Some(body.split_at(end + 1))
}

#[test]
fn the_screen_shows_what_a_terminal_would() {
    let mut screen = Screen::default();
    for byte in "● one\r\ntwo\r\n\x1b[2A\r\x1b[1mthree\x1b[0m\x1b[K\r\n".bytes() {
        screen.write(&[byte]);
    }
    assert!(screen.is_half_drawn && screen.line("two").is_some());
    screen.write(b"\x1b[J");
    assert!(!screen.is_half_drawn);
    assert_eq!(screen.text(), "three\n");
    assert!(screen.is_colored && !screen.has_overflown && screen.line("two").is_none());
    screen.write("x".repeat(WIDTH).as_bytes());
    assert!(!screen.has_overflown);
    screen.write(b"y");
    assert!(screen.has_overflown);
    screen.write("\r\nz".repeat(HEIGHT).as_bytes());
    assert_eq!(screen.text(), "z\n".repeat(HEIGHT));
    screen.write(b"\x1b[?1049h\x1b[Hother\x1b[K\x1b[J");
    assert_eq!((screen.text().as_str(), screen.is_other()), ("other\n", true));
    screen.write(b"\x1b[?1049l");
    assert_eq!((screen.text(), screen.is_other()), ("z\n".repeat(HEIGHT), false));
}
