//! Text that guests choose, as one line that can be shown.

/// Longest line that is shown or sent on, in characters.
const CHARACTERS_MAX: usize = 300;

/// Returns the text as one line: blanks for line breaks and control characters (a terminal would obey them), bounded.
pub(crate) fn clean(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()) {
        line.extend((!line.is_empty()).then_some(' '));
        line.extend(word.chars().take(CHARACTERS_MAX + 1));
        if line.len() > CHARACTERS_MAX * char::MAX_LEN_UTF8 {
            break;
        }
    }
    match line.char_indices().nth(CHARACTERS_MAX) {
        None => line,
        Some(_longer) => line.chars().take(CHARACTERS_MAX - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_can_neither_colour_nor_flood_a_terminal() {
        assert_eq!(clean("  a\u{1b}[31m\nb\t\r c\u{0} "), "a [31m b c");
        let long = clean(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), CHARACTERS_MAX);
        assert!(long.ends_with('…'));
        let words = clean(&"ab ".repeat(10_000));
        assert!(words.chars().count() <= CHARACTERS_MAX && words.ends_with('…'), "{words}");
        assert_eq!(clean(""), "");
    }
}
