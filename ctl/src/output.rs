//! Where text leaves the program: results to stdout, everything else to stderr.
//!
//! Knows whether a terminal is there, how wide it is and whether it wants colours; knows nothing of what is written.
//! A command that has much to say begins with [`Output::page`].

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::pager::{Choice, Pager};
use crate::render::Style;

/// The width that texts are laid out for when nobody says how wide the terminal is.
pub(crate) const WIDTH: usize = 80;

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Also into a pipe
    Always,
    /// Not even on a terminal
    Never,
}

/// What is known of the place that results go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Columns and rows of a terminal that can be drawn on; `None`: a pipe or a file.
    pub(crate) size: Option<Size>,
    /// Columns and rows of a terminal on stderr that can be drawn on.
    pub(crate) error_size: Option<Size>,
    /// The width that complaints are laid out for; `None`: stderr is a pipe or a file, where nothing is wrapped.
    pub(crate) error_width: Option<usize>,
    /// How results are coloured.
    pub(crate) style: Style,
    /// How errors and notes are coloured.
    pub(crate) error_style: Style,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Columns, at least 20.
    pub(crate) width: usize,
    /// Rows, at least 2.
    pub(crate) height: usize,
}

/// The two ways out.
pub(crate) struct Output {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    screen: Screen,
    /// What long results are read in; `None`: nothing.
    choice: Option<Choice>,
    /// The pager that results go to.
    pager: Option<Pager>,
}

impl Output {
    /// Returns the process's own stdout and stderr; long results are read in a pager.
    pub(crate) fn of_process(color: ColorChoice, choice: Option<Choice>) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        // no-color.org: present and not empty, whatever the value.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        // TERM=dumb (terminfo(5)) can neither move the cursor nor colour.
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let colored = |terminal: bool| match color {
            ColorChoice::Auto => terminal && !refused && !dumb,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        let is_ascii = !is_utf8(|name| std::env::var_os(name));
        let screen = Screen {
            size: (out.is_terminal() && !dumb).then(terminal_size),
            error_size: (err.is_terminal() && !dumb).then(terminal_size),
            error_width: err.is_terminal().then(|| terminal_size().width),
            style: Style::new(colored(out.is_terminal())).in_ascii(is_ascii),
            error_style: Style::new(colored(err.is_terminal())).in_ascii(is_ascii),
        };
        Self { out: Box::new(out), err: Box::new(err), screen, choice, pager: None }
    }

    /// Returns ways out that lead elsewhere.
    #[cfg(test)]
    pub(crate) fn new(out: Box<dyn Write>, err: Box<dyn Write>, screen: Screen) -> Self {
        Self { out, err, screen, choice: None, pager: None }
    }

    /// Returns what is known of the place that results go to.
    pub(crate) fn screen(&self) -> Screen {
        self.screen
    }

    /// Says that what follows may be long: on a terminal it is read in a pager.
    ///
    /// What is printed from then on waits for the person, so everything that the agent is asked for is asked before.
    /// Whoever leaves the pager early has what was wanted: the command ends there, with [`Output::close`] saying so.
    pub(crate) fn page(&mut self) -> io::Result<()> {
        // A choice is good for one pager.
        let Some(choice) = self.choice.take().filter(|_| self.screen.size.is_some()) else { return Ok(()) };
        match Pager::begin(&choice) {
            Ok(pager) => {
                self.pager = Some(pager);
                Ok(())
            }
            Err(why) => choice.complaint(&why).map_or(Ok(()), |complaint| self.note(&complaint)),
        }
    }

    /// Waits until the person has read what is in a pager; returns whether there was one.
    pub(crate) fn close(&mut self) -> bool {
        self.pager.take().map(Pager::wait).is_some()
    }

    /// Looks again how large the terminal is.
    pub(crate) fn measure(&mut self) {
        self.screen.size = self.screen.size.map(|_before| terminal_size());
    }

    /// Writes a text of a result as it is, and makes sure that it is seen.
    pub(crate) fn print(&mut self, text: &str) -> io::Result<()> {
        if let Some(pager) = &mut self.pager {
            return pager.write(text);
        }
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_string(value)?;
        text.push('\n');
        self.print(&text)
    }

    /// Writes a text to stderr as it is.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        // Two programs would write over each other on the same terminal.
        if let Some(pager) = self.pager.as_mut().filter(|_| self.screen.error_width.is_some()) {
            return pager.write(text);
        }
        self.err.write_all(text.as_bytes())?;
        self.err.flush()
    }
}

impl Screen {
    /// Returns the width to lay out for; `None` into a pipe, where nothing is cut.
    pub(crate) fn width(self) -> Option<usize> {
        self.size.map(|size| size.width)
    }
}

/// Whether the locale's characters are those of Unicode, as its name says (locale(7)): the first of these that is not empty
/// counts, and without any it is `C`, which is ASCII.
fn is_utf8(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    said.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

fn terminal_size() -> Size {
    // A terminal of size 0 exists: serial lines, and pseudo terminals that nobody sized.
    match terminal_size::terminal_size() {
        Some((columns, rows)) if columns.0 > 0 && rows.0 > 0 => {
            Size { width: usize::from(columns.0).max(20), height: usize::from(rows.0).max(2) }
        }
        Some(_) | None => Size { width: WIDTH, height: 24 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_says_something_is_the_locale() {
        let of = |given: &[(&str, &str)]| {
            is_utf8(|name| given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert!(of(&[("LANG", "de_DE.UTF-8")]) && of(&[("LC_CTYPE", "C.utf8")]));
        assert!(of(&[("LC_ALL", ""), ("LANG", "en_US.UTF-8@x")]));
        assert!(!of(&[]) && !of(&[("LANG", "")]) && !of(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!of(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]));
        assert!(of(&[("LC_ALL", "C.UTF-8"), ("LANG", "C")]));
    }
}
