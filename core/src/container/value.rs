//! What a value may contain so that it survives the formats on its way to systemd-nspawn.
//!
//! `EXTRA_NSPAWN_FLAGS` is unquoted twice: by systemd when it reads the conf file (systemd.exec(5),
//! `EnvironmentFile=`), and by the template's shell, which splits it at blanks and expands globs. No quoting
//! survives the second pass, so blanks, quotes and globs cannot be carried at all.

use std::path::Path;

/// A value that the files of a container cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` cannot be carried to systemd-nspawn as {what}: {why}")]
pub struct Uncarriable {
    /// What the value is, such as `a mount`.
    pub what: &'static str,
    /// The value, with control characters escaped.
    pub value: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

impl Uncarriable {
    pub(super) fn new(what: &'static str, value: &str, why: &'static str) -> Self {
        Self { what, value: value.escape_debug().to_string(), why }
    }
}

/// Returns a text as a word that both passes leave alone.
pub(super) fn word<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Uncarriable> {
    if text.contains('\\') {
        return Err(Uncarriable::new(what, text, "it contains a backslash"));
    }
    flag(what, text)
}

/// Returns a flag of systemd-nspawn as a word that the template's shell leaves alone; it may have backslashes, with
/// which systemd-nspawn escapes.
pub(super) fn flag<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Uncarriable> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || "\"'`*?[]".contains(c);
    if text.is_empty() {
        Err(Uncarriable::new(what, text, "it is empty"))
    } else if text.contains(bad) {
        Err(Uncarriable::new(what, text, "it contains a blank, a quote, a glob or a control character"))
    } else {
        Ok(text)
    }
}

/// Returns a path as a word: absolute and UTF-8.
pub(super) fn path<'a>(what: &'static str, path: &'a Path) -> Result<&'a str, Uncarriable> {
    let text = path.to_str().ok_or_else(|| Uncarriable::new(what, &path.to_string_lossy(), "it is not UTF-8"))?;
    if !text.starts_with('/') {
        return Err(Uncarriable::new(what, text, "it is not absolute"));
    }
    word(what, text)
}

/// Returns a path as one part of a `:`-separated flag (systemd-nspawn(1), `--bind=`).
pub(super) fn part(what: &'static str, text: &Path) -> Result<String, Uncarriable> {
    Ok(path(what, text)?.replace(':', "\\:"))
}

/// Returns a path with `%` doubled, for a setting of a unit that expands specifiers (systemd.unit(5)).
pub(super) fn unit_path(what: &'static str, text: &Path) -> Result<String, Uncarriable> {
    Ok(path(what, text)?.replace('%', "%%"))
}

/// Returns a text in double quotes as `EnvironmentFile=` reads it: only these four characters are escaped.
pub(super) fn environment_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if "\"\\`$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Returns the text that [`environment_quoted`] was given; `None` when it is not in double quotes to its end.
pub(super) fn environment_unquoted(quoted: &str) -> Option<String> {
    let mut chars = quoted.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut text = String::with_capacity(quoted.len());
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next()? {
                escaped if "\"\\`$".contains(escaped) => text.push(escaped),
                other => text.extend(['\\', other]),
            },
            plain => text.push(plain),
        }
    }
    Some(text)
}
