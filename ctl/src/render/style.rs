//! Colours: what a piece of text means, and how a terminal is told; and whether it can show more than ASCII.

use super::ascii::in_ascii;

/// What a piece of text means to the eye.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// On its way, or worth a look.
    Busy,
    /// Of less interest.
    Dim,
    /// A heading.
    Bold,
    /// One of several things of a kind.
    Cyan,
    /// Another of them.
    Magenta,
    /// Another of them.
    Blue,
}

/// What a text may be made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Style {
    color: bool,
    is_ascii: bool,
}

impl Style {
    /// Returns a style with or without colours.
    pub(crate) fn new(color: bool) -> Self {
        Self { color, is_ascii: false }
    }

    /// Returns it for places that take nothing but ASCII, or that take all there is.
    pub(crate) fn in_ascii(self, is_ascii: bool) -> Self {
        Self { is_ascii, ..self }
    }

    /// Returns a drawing as it can be shown there: in ASCII where that is all.
    pub(crate) fn drawn(self, text: String) -> String {
        if self.is_ascii { in_ascii(&text) } else { text }
    }

    /// Returns whether it has colours.
    pub(crate) fn has_color(self) -> bool {
        self.color
    }

    /// Returns the text in its colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        // ECMA-48 SGR parameters; the eight basic colours follow the terminal's own theme.
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Busy => "33",
            Paint::Dim => "2",
            Paint::Bold => "1",
            Paint::Cyan => "36",
            Paint::Magenta => "35",
            Paint::Blue => "34",
        };
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
