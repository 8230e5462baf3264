//! A block of lines on a terminal that is drawn anew in place.

use std::io;

use crate::output::{Output, Size};

/// The block as it stands on the terminal.
#[derive(Debug, Default)]
pub(crate) struct Block {
    lines: Vec<String>,
    /// Whether it stands on stderr, and not among the results.
    is_note: bool,
}

impl Block {
    /// Returns a block that is to stand on stderr.
    pub(crate) fn of_notes() -> Self {
        Self { is_note: true, ..Self::default() }
    }

    /// Draws the lines where the block stands; none of them may be wider than the terminal. Into a pipe, where
    /// nothing can be drawn anew, only what differs is written.
    pub(crate) fn draw(&mut self, output: &mut Output, lines: Vec<String>) -> io::Result<()> {
        if lines == self.lines {
            return Ok(());
        }
        let Some(size) = self.size(output) else {
            self.lines = lines;
            return self.write(output, &(self.lines.join("\n") + "\n"));
        };
        // More than a screenful would scroll away from under the cursor.
        let room = size.height.saturating_sub(1);
        let mut shown = lines;
        if shown.len() > room {
            let hidden = shown.len() - room.saturating_sub(1);
            shown.truncate(room.saturating_sub(1));
            shown.push(format!("… {hidden} more lines"));
        }
        self.write(output, &redraw(self.lines.len(), &shown))?;
        self.lines = shown;
        Ok(())
    }

    /// Takes the block off the terminal, so that something else can be written there.
    pub(crate) fn clear(&mut self, output: &mut Output) -> io::Result<()> {
        if !self.lines.is_empty() && self.size(output).is_some() {
            self.write(output, &redraw(self.lines.len(), &[]))?;
        }
        self.lines.clear();
        Ok(())
    }

    /// Leaves the block where it stands, and takes away what the terminal wrote below it: the `^C` that somebody typed.
    pub(crate) fn leave(&mut self, output: &mut Output) -> io::Result<()> {
        if !self.lines.is_empty() && self.size(output).is_some() {
            self.write(output, "\r\x1b[J")?;
        }
        self.lines.clear();
        Ok(())
    }

    fn size(&self, output: &Output) -> Option<Size> {
        let screen = output.screen();
        if self.is_note { screen.error_size } else { screen.size }
    }

    fn write(&self, output: &mut Output, text: &str) -> io::Result<()> {
        if self.is_note { output.note(text) } else { output.print(text) }
    }

    /// Leaves the block where it stands; the next one is drawn below.
    pub(crate) fn forget(&mut self) {
        self.lines.clear();
    }
}

/// ECMA-48: CUU moves up, EL clears to the end of the line, ED to the end of the screen.
fn redraw(old: usize, lines: &[String]) -> String {
    let mut text = if old > 0 { format!("\x1b[{old}A\r") } else { String::new() };
    for line in lines {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text.push_str("\x1b[J");
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::output::Screen;
    use crate::render::Style;

    #[test]
    fn a_block_is_drawn_over_the_one_before() {
        assert_eq!(redraw(0, &["a".to_owned()]), "a\x1b[K\n\x1b[J");
        assert_eq!(redraw(2, &["a".to_owned()]), "\x1b[2A\ra\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_block_that_is_higher_than_the_screen_says_what_is_not_shown() {
        let written = Rc::new(RefCell::new(Vec::new()));
        let size = Some(Size { width: 20, height: 4 });
        let screen = Screen {
            size,
            error_size: None,
            error_width: None,
            style: Style::default(),
            error_style: Style::default(),
        };
        let mut output = Output::new(Box::new(Shared(Rc::clone(&written))), Box::new(io::sink()), screen);
        let lines = |count: usize| (1..=count).map(|number| number.to_string()).collect();
        Block::default().draw(&mut output, lines(3)).unwrap();
        Block::default().draw(&mut output, lines(5)).unwrap();
        let text = String::from_utf8(written.borrow().clone()).unwrap().replace("\x1b[K", "").replace("\x1b[J", "");
        assert_eq!(text, "1\n2\n3\n1\n2\n… 3 more lines\n");
    }

    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
