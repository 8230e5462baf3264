//! Drawings in ASCII, for terminals and files that take nothing else.

use unicode_width::UnicodeWidthChar;

/// What is drawn with, and what stands in its place: as wide, and no two of one drawing alike.
const DRAWN: [(char, char); 15] = [
    ('█', '#'),
    ('▓', '%'),
    ('▒', '='),
    ('░', '+'),
    ('▚', 'o'),
    ('×', 'x'),
    ('─', '-'),
    ('·', '.'),
    ('✓', '+'),
    ('✗', 'x'),
    ('…', '~'),
    ('°', ' '),
    ('●', '*'),
    ('○', 'o'),
    ('◐', '/'),
];

/// Returns a text with nothing but ASCII, every line as wide as before.
pub(crate) fn in_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match DRAWN.iter().find(|(drawn, _)| *drawn == c) {
            _ if c.is_ascii() => ascii.push(c),
            Some((_, instead)) => ascii.push(*instead),
            None => ascii.extend(std::iter::repeat_n('?', c.width().unwrap_or(0))),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::text::width;

    #[test]
    fn a_line_stays_as_wide_as_it_was() {
        let text = "\x1b[32m█▓▒░▚?×─·\x1b[0m 61°C ✓✗!- a…  日本 é\n";
        let ascii = in_ascii(text);
        assert_eq!(ascii, "\x1b[32m#%=+o?x-.\x1b[0m 61 C +x!- a~  ???? ?\n");
        assert_eq!(width(ascii.trim_end()), width(text.trim_end()));
    }
}
