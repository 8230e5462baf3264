//! Text in columns: width as a terminal counts it, cutting, wrapping, padding.
//!
//! Texts of the agent and of guests may hold anything: [`clean`] takes out what would steer a terminal.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Returns the number of columns that a text without escape sequences takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Returns the text on one line without characters that a guest could use to write over the screen, or to make a line
/// read otherwise than it is.
pub(crate) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() || is_unseen(c) { ' ' } else { c };
    text.trim_end_matches(['\n', '\r']).chars().map(shown).collect()
}

/// Returns the text without the sequences that colour it (ECMA-48, 5.4); what else would steer a terminal stays.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        let end = sequence.find(|c: char| ('@'..='~').contains(&c));
        rest = end.and_then(|end| sequence.get(end + 1..)).unwrap_or_default();
    }
    plain + rest
}

/// Returns a text of several lines that another program coloured: its colours stay, or go, and nothing else of it steers a
/// terminal.
pub(crate) fn of_program(text: &str, is_colored: bool) -> String {
    let mut parts = text.split("\x1b[");
    let mut shown = clean_in_place(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(|c: char| ('@'..='~').contains(&c)).unwrap_or(part.len());
        let (parameters, rest) = part.split_at(end);
        // Select Graphic Rendition of ECMA-48, 8.3.117.
        let is_color = rest.starts_with('m') && parameters.chars().all(|c| c.is_ascii_digit() || c == ';');
        if is_color && is_colored {
            shown.extend(["\x1b[", parameters, "m"]);
        }
        shown += &clean_in_place(rest.get(1..).unwrap_or_default());
    }
    shown
}

/// Returns the text with every character that would steer a terminal replaced by a visible one of as many bytes, so that
/// places in it stay where they are; lines and tabs stay.
pub(crate) fn clean_in_place(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        // A line may end with both.
        '\r' => ' ',
        c if c.is_control() || is_unseen(c) => match c.len_utf8() {
            1 => '?',
            2 => '¿',
            _ => '\u{fffd}',
        },
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Returns JSON text with what would steer a terminal written as escapes, which mean the same: outside of strings there is
/// nothing of it.
pub(crate) fn clean_json(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_unseen(c) {
            // All of them are below U+10000.
            // Writing to a String cannot fail.
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Whether a character has no width and moves others, as Unicode Standard Annex 9 (marks, embeddings, overrides and
/// isolates) and the Unicode Standard, 23.2 (zero-width and invisible ones, line and paragraph separators) list them.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Returns the text cut to `columns`, with `…` where something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// Returns the text filled up with blanks on its right.
pub(crate) fn left(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Returns the text filled up with blanks on its left.
pub(crate) fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Returns the text broken at blanks into lines of at most `columns`; a word that is longer stays whole.
///
/// Never empty; `None` as width: one line.
pub(crate) fn wrap(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else { return vec![text.to_owned()] };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::take(&mut line));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Returns `1 service`, `2 services`.
pub(crate) fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_to_columns_not_to_bytes() {
        assert_eq!(cut("postgres", 8), "postgres");
        assert_eq!(cut("postgres", 5), "post…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("ab", 0), "");
    }

    #[test]
    fn colours_are_taken_off() {
        assert_eq!(plain("\x1b[31;1merror:\x1b[0m a \x1b[35mb\x1b[0m"), "error: a b");
        assert_eq!(plain("[a] \x1b[é\x1b["), "[a] ");
    }

    #[test]
    fn of_a_program_only_colours_get_through() {
        let text = "\x1b[31;1merror:\x1b[0m a\n\tb\x1b[2J\x1b]0;title\x07\x1b[1;é\u{202e}";
        assert_eq!(of_program(text, true), "\x1b[31;1merror:\x1b[0m a\n\tb?]0;title?");
        assert_eq!(of_program(text, false), "error: a\n\tb?]0;title?");
        assert_eq!(of_program("plain [m", true), "plain [m");
    }

    #[test]
    fn lines_break_at_blanks_and_long_words_stay_whole() {
        assert_eq!(wrap("a bb ccc dddddddd", Some(6)), ["a bb", "ccc", "dddddddd"]);
        assert_eq!(wrap("a bb ccc", None), ["a bb ccc"]);
        assert_eq!(wrap("", Some(5)), [""]);
    }

    #[test]
    fn places_in_a_text_stay_where_they_are_when_it_is_cleaned() {
        let text = "a\u{1b}]0;x\u{7}b\r\n\tc\u{85}d\u{202e}e\u{feff}é日";
        let clean = clean_in_place(text);
        assert_eq!(clean, "a?]0;x?b \n\tc¿d\u{fffd}e\u{fffd}é日");
        assert_eq!(clean.len(), text.len());
    }

    #[test]
    fn a_log_line_of_a_guest_cannot_steer_the_terminal() {
        assert_eq!(clean("ok\x1b[2J\r\nnext\n"), "ok [2J  next");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200b}d\u{feff}é日"), "a b c d é日");
    }
}
