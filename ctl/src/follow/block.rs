//! A block of lines on a terminal that is drawn anew in place.

use std::io;

use crate::output::Output;

/// The block as it stands on the terminal.
#[derive(Debug, Default)]
pub(crate) struct Block {
    lines: Vec<String>,
}

impl Block {
    /// Draws the lines where the block stands; none of them may be wider than the terminal. Into a pipe, where
    /// nothing can be drawn anew, only what differs is written.
    pub(crate) fn draw(&mut self, output: &mut Output, lines: Vec<String>) -> io::Result<()> {
        if lines == self.lines {
            return Ok(());
        }
        let Some(size) = output.screen().size else {
            self.lines = lines;
            return output.print(&(self.lines.join("\n") + "\n"));
        };
        // More than a screenful would scroll away from under the cursor.
        let shown: Vec<String> = lines.into_iter().take(size.height.saturating_sub(1)).collect();
        output.print(&redraw(self.lines.len(), &shown))?;
        self.lines = shown;
        Ok(())
    }

    /// Takes the block off the terminal, so that something else can be written there.
    pub(crate) fn clear(&mut self, output: &mut Output) -> io::Result<()> {
        if !self.lines.is_empty() && output.screen().size.is_some() {
            output.print(&redraw(self.lines.len(), &[]))?;
        }
        self.lines.clear();
        Ok(())
    }

    /// Leaves the block where it stands, and takes away what the terminal wrote below it: the `^C` that somebody typed.
    pub(crate) fn leave(&mut self, output: &mut Output) -> io::Result<()> {
        if !self.lines.is_empty() && output.screen().size.is_some() {
            output.print("\r\x1b[J")?;
        }
        self.lines.clear();
        Ok(())
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
    use super::*;

    #[test]
    fn a_block_is_drawn_over_the_one_before() {
        assert_eq!(redraw(0, &["a".to_owned()]), "a\x1b[K\n\x1b[J");
        assert_eq!(redraw(2, &["a".to_owned()]), "\x1b[2A\ra\x1b[K\n\x1b[J");
    }
}
