//! Nix expressions as values, and their text.
//!
//! Values of a Compose file only ever become [`Nix::Text`] and attribute names, which are escaped; [`Nix::Raw`] and
//! [`Nix::Script`] are ours.

use std::fmt::Write as _;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nix {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string.
    Text(String),
    /// Lines of an indented string, without interpolation.
    Script(Vec<String>),
    /// A list.
    List(Vec<Nix>),
    /// An attribute set, in the order that it was written in.
    Set(Vec<(String, Nix)>),
    /// A function and its argument.
    Call(&'static str, Box<Nix>),
    /// An expression as it is. In a list it is one word.
    Raw(&'static str),
}

/// Words that cannot be an attribute's name without quotes.
const KEYWORDS: [&str; 9] = ["assert", "else", "if", "in", "inherit", "let", "rec", "then", "with"];

impl From<bool> for Nix {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u16> for Nix {
    fn from(value: u16) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Nix {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Nix {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Nix>> From<Vec<T>> for Nix {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl Nix {
    /// Returns a truth value, a number or a string: what a program that reads its settings from the environment takes
    /// a text for.
    pub(super) fn typed(text: &str) -> Self {
        match text {
            "true" => Self::Bool(true),
            "false" => Self::Bool(false),
            // `007` and `+1` are no numbers of Nix.
            text => match text.parse::<i64>() {
                Ok(number) if number >= 0 && number.to_string() == text => Self::Int(number),
                Ok(_) | Err(_) => text.into(),
            },
        }
    }

    /// Returns a number where a text is one, else a string.
    pub(super) fn typed_number(text: &str) -> Self {
        match Self::typed(text) {
            Self::Bool(_) => text.into(),
            other => other,
        }
    }

    /// Sets what lies at a path of attribute names, in a set; replaces what was there.
    pub(super) fn set(&mut self, path: &[&str], value: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Self::Set(_)) {
            *self = Self::Set(Vec::new());
        }
        let Self::Set(entries) = self else { return };
        if let Some((_, known)) = entries.iter_mut().find(|(name, _)| name == first) {
            known.set(rest, value);
        } else {
            let mut new = Self::Set(Vec::new());
            new.set(rest, value);
            entries.push(((*first).to_owned(), new));
        }
    }

    /// Returns what lies at a path of attribute names.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        let Self::Set(entries) = self else { return None };
        entries.iter().find(|(name, _)| name == first)?.1.get(rest)
    }

    /// Returns the text of a file that is a function of a module's arguments.
    pub(super) fn module(&self, comment: &[String], arguments: &[&str]) -> String {
        let mut out = String::new();
        for line in comment {
            let _infallible = writeln!(out, "# {line}");
        }
        let arguments: Vec<&str> = arguments.iter().copied().chain(["..."]).collect();
        let _infallible = writeln!(out, "{{ {} }}:", arguments.join(", "));
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(number) => {
                let _infallible = write!(out, "{number}");
            }
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::Raw(expression) => out.push_str(expression),
            Self::Call(function, argument) => {
                let _infallible = write!(out, "{function} ");
                argument.write(out, depth);
            }
            Self::Script(lines) => {
                out.push_str("''\n");
                for line in lines {
                    let line = line.replace("''", "'''").replace("${", "''${");
                    let line = if line.is_empty() { String::new() } else { format!("{indent}  {line}") };
                    let _infallible = writeln!(out, "{line}");
                }
                let _infallible = write!(out, "{indent}''");
            }
            Self::List(items) => write_list(items, out, depth),
            Self::Set(entries) if entries.is_empty() => out.push_str("{ }"),
            Self::Set(entries) => {
                out.push_str("{\n");
                for (name, value) in entries {
                    let (path, value) = chain(name, value);
                    let _infallible = write!(out, "{indent}  {path} = ");
                    value.write(out, depth + 1);
                    out.push_str(";\n");
                }
                let _infallible = write!(out, "{indent}}}");
            }
        }
    }
}

fn write_list(items: &[Nix], out: &mut String, depth: usize) {
    let indent = "  ".repeat(depth);
    match items {
        [] => out.push_str("[ ]"),
        [item] if !matches!(item, Nix::Set(_)) => {
            out.push_str("[ ");
            item.write(out, depth);
            out.push_str(" ]");
        }
        items => {
            out.push_str("[\n");
            for item in items {
                let _infallible = write!(out, "{indent}  ");
                item.write(out, depth + 1);
                out.push('\n');
            }
            let _infallible = write!(out, "{indent}]");
        }
    }
}

/// Follows sets with one entry: `a = { b = 1; }` is written `a.b = 1`.
fn chain<'a>(name: &str, value: &'a Nix) -> (String, &'a Nix) {
    let mut path = attribute(name);
    let mut value = value;
    while let Nix::Set(entries) = value
        && let [(name, only)] = entries.as_slice()
    {
        path.push('.');
        path.push_str(&attribute(name));
        value = only;
    }
    (path, value)
}

/// Returns the name of an attribute, in quotes where it needs them.
fn attribute(name: &str) -> String {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-'".contains(c));
    if begins && bare && !KEYWORDS.contains(&name) { name.to_owned() } else { quoted(name) }
}

/// Returns a string of Nix: nothing in it is interpolated.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '$' if chars.peek() == Some(&'{') => out.push_str("\\$"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Nix has no escape for other control characters, and no use.
            c if c.is_control() => {}
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
    fn nothing_in_a_string_is_interpolated_or_ends_it() {
        assert_eq!(quoted("a\"b\\c${d}$${e}$f\n\u{1b}"), r#""a\"b\\c\${d}$\${e}$f\n""#);
        assert_eq!(attribute("a b"), "\"a b\"");
        assert_eq!(attribute("if"), "\"if\"");
        assert_eq!(attribute("1a"), "\"1a\"");
        assert_eq!(attribute("bind-address"), "bind-address");
    }

    #[test]
    fn sets_with_one_entry_are_written_as_a_path() {
        let mut module = Nix::Set(Vec::new());
        module.set(&["services", "x", "enable"], true.into());
        module.set(&["services", "x", "servers", ""], vec!["a", "b"].into());
        module.set(&["networking", "firewall", "allowedTCPPorts"], vec![80_u16, 443].into());
        module.set(&["script"], Nix::Script(vec!["echo '' ${x}".to_owned()]));
        let expected = "# c\n{ pkgs, ... }:\n{\n  services.x = {\n    enable = true;\n    servers.\"\" = [\n      \"a\"\n      \"b\"\n    ];\n  };\n  networking.firewall.allowedTCPPorts = [\n    80\n    443\n  ];\n  script = ''\n    echo ''' ''${x}\n  '';\n}\n";
        assert_eq!(module.module(&["c".to_owned()], &["pkgs"]), expected);
    }

    #[test]
    fn a_text_is_a_number_only_as_nix_writes_it() {
        assert_eq!(Nix::typed("80"), Nix::Int(80));
        assert_eq!(Nix::typed("007"), Nix::Text("007".to_owned()));
        assert_eq!(Nix::typed("-1"), Nix::Text("-1".to_owned()));
        assert_eq!(Nix::typed("true"), Nix::Bool(true));
    }
}
