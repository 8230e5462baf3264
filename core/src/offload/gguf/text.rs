//! Names from files that nobody trusts, as they stand in messages.

/// Most characters of a name in a message, escapes included.
const SHOWN: usize = 60;

/// Returns a name in backquotes, on one line: what is no plain character is escaped, and what is long is shortened.
pub(in crate::offload) fn quoted(name: &str) -> String {
    let mut shown = String::from("`");
    let mut room = SHOWN;
    for character in name.chars() {
        // Escapes also what turns the direction of text around, or takes no room.
        let is_plain = character.is_ascii_graphic() || character == ' ' || character.is_alphanumeric();
        let escaped = if is_plain { character.to_string() } else { character.escape_unicode().to_string() };
        let Some(left) = room.checked_sub(escaped.chars().count()) else {
            shown.push('…');
            break;
        };
        shown.push_str(&escaped);
        room = left;
    }
    shown.push('`');
    shown
}
