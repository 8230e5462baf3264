//! Keys, from the bytes that a terminal sends (ECMA-48; xterm's "PC-Style Function Keys").

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character.
    Char(char),
    Up,
    Down,
    Left,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C, Ctrl-D or Ctrl-\.
    Interrupt,
}

/// Returns the keys of what was read at once; what means nothing is skipped.
///
/// A terminal sends a sequence whole, so an escape that stands alone is the key.
pub(crate) fn parse(bytes: &[u8]) -> Vec<Key> {
    let text = String::from_utf8_lossy(bytes);
    let mut keys = Vec::new();
    let mut left = text.as_ref();
    while let Some(first) = left.chars().next() {
        left = left.get(first.len_utf8()..).unwrap_or_default();
        let key = match first {
            '\x1b' => {
                let (key, rest) = sequence(left);
                left = rest;
                key
            }
            '\r' | '\n' => Some(Key::Enter),
            '\x7f' | '\x08' => Some(Key::Backspace),
            '\x03' | '\x04' | '\x1c' => Some(Key::Interrupt),
            char::REPLACEMENT_CHARACTER => None,
            printed if !printed.is_control() => Some(Key::Char(printed)),
            _control => None,
        };
        keys.extend(key);
    }
    keys
}

/// Returns the key of what follows an escape, and what is behind it.
fn sequence(text: &str) -> (Option<Key>, &str) {
    let Some(body) = text.strip_prefix(['[', 'O']) else { return (Some(Key::Escape), text) };
    let Some(end) = body.find(|c: char| ('@'..='~').contains(&c)) else { return (None, "") };
    let (parameters, rest) = body.split_at(end);
    let key = match (parameters, rest.chars().next()) {
        (_, Some('A')) => Some(Key::Up),
        (_, Some('B')) => Some(Key::Down),
        (_, Some('D')) => Some(Key::Left),
        (_, Some('H')) | ("1" | "7", Some('~')) => Some(Key::Home),
        (_, Some('F')) | ("4" | "8", Some('~')) => Some(Key::End),
        ("5", Some('~')) => Some(Key::PageUp),
        ("6", Some('~')) => Some(Key::PageDown),
        (_, _) => None,
    };
    (key, rest.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_what_means_nothing_is_skipped() {
        let cases: [(&[u8], &[Key]); 9] = [
            (b"cN?", &[Key::Char('c'), Key::Char('N'), Key::Char('?')]),
            (b"\x1b[A\x1bOB\x1b[1;5D", &[Key::Up, Key::Down, Key::Left]),
            (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", &[Key::PageUp, Key::PageDown, Key::Home, Key::End]),
            (b"\x1b", &[Key::Escape]),
            (b"\x1bq", &[Key::Escape, Key::Char('q')]),
            (b"\r\n\x7f\x03", &[Key::Enter, Key::Enter, Key::Backspace, Key::Interrupt]),
            (b"\x1b[200~x\x1b[", &[Key::Char('x')]),
            (b"\xff\x00\xc3\xa9", &[Key::Char('\u{e9}')]),
            (b"", &[]),
        ];
        for (bytes, keys) in cases {
            assert_eq!(parse(bytes), keys, "{bytes:?}");
        }
    }
}
