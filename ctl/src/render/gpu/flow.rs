//! Parts that stand beside each other as long as the screen is wide enough, and are never broken themselves.

use crate::render::style::{Paint, Style};
use crate::render::text::{self, clean};

/// The blanks between two parts.
const GAP: usize = 3;

/// A part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// A mark in front of the text, in the same colour; empty: none.
    pub(super) mark: String,
    /// What it says.
    pub(super) text: String,
    /// What it means.
    pub(super) paint: Paint,
}

impl Part {
    /// Returns a part without a mark.
    pub(super) fn new(paint: Paint, text: impl AsRef<str>) -> Self {
        Self { mark: String::new(), text: clean(text.as_ref()), paint }
    }

    /// Returns a part whose mark alone is coloured.
    pub(super) fn marked(mark: &str, paint: Paint, text: impl AsRef<str>) -> Self {
        Self { mark: mark.to_owned(), text: clean(text.as_ref()), paint }
    }

    fn shown(&self, room: usize, style: Style) -> (usize, String) {
        if self.mark.is_empty() {
            let text = text::cut(&self.text, room);
            return (text::width(&text), style.paint(self.paint, &text));
        }
        let before = text::width(&self.mark) + 1;
        let text = text::cut(&self.text, room.saturating_sub(before));
        (before + text::width(&text), format!("{} {text}", style.paint(self.paint, &self.mark)))
    }
}

/// How lines are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Blanks in front of the first line.
    pub(super) indent: usize,
    /// Blanks in front of those below it.
    pub(super) below: usize,
    /// The columns of the screen; `None`: nothing is wrapped or cut.
    pub(super) width: Option<usize>,
    /// How they are coloured.
    pub(super) style: Style,
}

impl Layout {
    /// Returns a layout at the left edge.
    pub(super) fn new(width: Option<usize>, style: Style) -> Self {
        Self { indent: 0, below: 0, width, style }
    }

    /// Returns it with all lines moved to the right.
    pub(super) fn indented(self, by: usize) -> Self {
        Self { indent: self.indent + by, below: self.below + by, ..self }
    }

    /// Returns it with all lines but the first moved to the right.
    pub(super) fn hanging(self, by: usize) -> Self {
        Self { below: self.below + by, ..self }
    }

    /// Returns the columns behind so many blanks, at least 1; `None`: as many as there is text.
    pub(super) fn room(self, blanks: usize) -> Option<usize> {
        self.width.map(|width| width.saturating_sub(blanks).max(1))
    }
}

/// Returns parts as lines, each ended by a newline; none: nothing.
pub(super) fn flow(parts: &[Part], layout: Layout) -> String {
    let room = |blanks| layout.room(blanks).unwrap_or(usize::MAX);
    let mut out = String::new();
    // The columns of the line that is being filled, and its blanks.
    let (mut used, mut blanks) = (0, layout.indent);
    for part in parts {
        let (columns, shown) = part.shown(room(blanks), layout.style);
        if used > 0 && used + GAP + columns <= room(blanks) {
            out.push_str(&" ".repeat(GAP));
            out.push_str(&shown);
            used += GAP + columns;
            continue;
        }
        if used > 0 {
            out.push('\n');
            blanks = layout.below;
        }
        // Lines below may have less room.
        let (columns, shown) = part.shown(room(blanks), layout.style);
        out.push_str(&" ".repeat(blanks));
        out.push_str(&shown);
        used = columns;
    }
    if used > 0 {
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_beside_each_other_while_there_is_room_and_stay_whole() {
        let parts = [
            Part::marked("#", Paint::Good, "web 6G"),
            Part::new(Paint::Plain, "61 C"),
            Part::new(Paint::Plain, "on"),
        ];
        let at = |indent, width| Layout::new(width, Style::default()).indented(indent);
        assert_eq!(flow(&parts, at(2, Some(17))), "  # web 6G   61 C\n  on\n");
        assert_eq!(flow(&parts, at(2, Some(16))), "  # web 6G\n  61 C   on\n");
        assert_eq!(flow(&parts, at(0, None)), "# web 6G   61 C   on\n");
        assert_eq!(flow(&parts, at(2, Some(8))), "  # web…\n  61 C\n  on\n");
        assert_eq!(flow(&parts, at(0, Some(12)).hanging(4)), "# web 6G\n    61 C\n    on\n");
        assert_eq!(flow(&[], at(2, Some(8))), "");
    }
}
