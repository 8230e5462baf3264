//! TOML values and their text, as far as a manifest needs them.

use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Toml {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(u64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Toml>),
    /// An inline table, in order.
    Table(Vec<(String, Toml)>),
}

/// How wide a line may get before a list is written with an item a line.
const WIDTH: usize = 100;

impl From<&str> for Toml {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Toml {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl Toml {
    /// Returns a list of strings.
    pub(super) fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(|text| text.as_ref().into()).collect())
    }

    /// Returns the line, or lines, that set a key.
    pub(super) fn line(&self, key: &str) -> String {
        let line = format!("{} = {self}\n", bare(key));
        match self {
            Self::List(items) if items.len() > 1 && line.chars().count() > WIDTH => {
                let items: Vec<String> = items.iter().map(|item| format!("  {item},\n")).collect();
                format!("{} = [\n{}]\n", bare(key), items.concat())
            }
            Self::Bool(_) | Self::Int(_) | Self::Text(_) | Self::List(_) | Self::Table(_) => line,
        }
    }
}

impl Toml {
    /// Returns a table as a section of its own; `None`: it is none, or short enough for a line.
    pub(super) fn section(&self, key: &str) -> Option<String> {
        let Self::Table(entries) = self else { return None };
        if self.line(key).chars().count() <= WIDTH {
            return None;
        }
        let lines: String = entries.iter().map(|(key, value)| value.line(key)).collect();
        Some(format!("\n[{}]\n{lines}", bare(key)))
    }
}

impl fmt::Display for Toml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Table(entries) if entries.is_empty() => f.write_str("{}"),
            Self::Table(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{} = {value}", bare(key))).collect();
                write!(f, "{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// Returns a key, in quotes where it needs them.
fn bare(key: &str) -> String {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !key.is_empty() && key.chars().all(known) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_toml_reads_them() {
        let table = Toml::Table(vec![("a b".to_owned(), "x\"\\\n\u{7f}".into()), ("n".to_owned(), Toml::Int(1))]);
        assert_eq!(table.line("key"), "key = { \"a b\" = \"x\\\"\\\\\\n\\u007f\", n = 1 }\n");
        let long = Toml::texts(["a".repeat(60), "b".repeat(60)]);
        assert_eq!(long.line("k").lines().count(), 4);
        let long = Toml::Table(vec![("a".to_owned(), "x".repeat(120).into())]);
        assert_eq!(long.section("t").unwrap(), format!("\n[t]\na = \"{}\"\n", "x".repeat(120)));
        assert_eq!(table.section("t"), None);
        assert_eq!(Toml::texts(["80"]).line("ports"), "ports = [\"80\"]\n");
    }
}
