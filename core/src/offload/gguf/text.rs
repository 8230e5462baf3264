//! Names from files that nobody trusts, as they stand in messages.

use std::fmt::Write as _;

/// Most characters of a name in a message.
const SHOWN: usize = 60;

/// Returns a name in backquotes, on one line: what is no plain character is escaped, and what is long is shortened.
pub(in crate::offload) fn quoted(name: &str) -> String {
    let mut shown = String::from("`");
    let mut characters = name.chars();
    for character in characters.by_ref().take(SHOWN) {
        // Escapes also what turns the direction of text around, or takes no room.
        if character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric() {
            shown.push(character);
        } else {
            let _ = write!(shown, "{}", character.escape_unicode());
        }
    }
    shown.push_str(if characters.next().is_some() { "…`" } else { "`" });
    shown
}
