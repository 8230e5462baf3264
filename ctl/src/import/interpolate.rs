//! Variables in values, as Compose has them: `$NAME`, `${NAME}`, `${NAME:-default}` and its relatives, `$$` for `$`.
//!
//! Keys are left as they are. A value that a secret went into is marked, so that nothing later writes it.

use std::collections::BTreeSet;

use super::secret;
use super::yaml::{Fault, Node, Scalar, Value};

/// How deep defaults lie in each other: `${A:-${B:-${C}}}`.
const DEPTH_MAX: usize = 16;

/// The longest value that variables grow to.
const LENGTH_MAX: usize = 1 << 20;

/// What variables are, and which of them are not set.
pub(super) struct Variables<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Names that are not set, each with the line of its first use, in the order of names.
    unset: BTreeSet<(String, usize)>,
}

impl<'a> Variables<'a> {
    /// Returns variables that are looked up by their name.
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, unset: BTreeSet::new() }
    }

    /// Returns the value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    /// Returns the names without a value that were put in as nothing, each with the line of its first use.
    pub(super) fn unset(self) -> Vec<(String, usize)> {
        let mut unset: Vec<(String, usize)> = Vec::new();
        for (name, line) in self.unset {
            if unset.last().is_none_or(|(last, _)| *last != name) {
                unset.push((name, line));
            }
        }
        unset
    }

    /// Puts the variables into every value of a tree.
    pub(super) fn put_into(&mut self, node: &mut Node) -> Result<(), Fault> {
        let line = node.line;
        match &mut node.value {
            Value::Null => {}
            Value::Scalar(scalar) => self.put_into_scalar(scalar, line)?,
            Value::List(items) => items.iter_mut().try_for_each(|item| self.put_into(item))?,
            Value::Map(entries) => entries.iter_mut().try_for_each(|(_, node)| self.put_into(node))?,
        }
        Ok(())
    }

    fn put_into_scalar(&mut self, scalar: &mut Scalar, line: usize) -> Result<(), Fault> {
        if scalar.text.contains('$') {
            let mut expansion = Expansion { variables: self, line, is_secret: false };
            let text = expansion.expand(&scalar.text, 0)?;
            *scalar = Scalar { text, is_secret: expansion.is_secret };
        }
        Ok(())
    }
}

struct Expansion<'a, 'b> {
    variables: &'a mut Variables<'b>,
    line: usize,
    is_secret: bool,
}

impl Expansion<'_, '_> {
    fn expand(&mut self, text: &str, depth: usize) -> Result<String, Fault> {
        if depth > DEPTH_MAX {
            return Err(self.fault("defaults of variables lie too deep in each other"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = after.strip_prefix('{') {
                let Some(end) = closing(after) else { return Err(self.fault("`${` without its `}`")) };
                let (inside, after) = after.split_at(end);
                out.push_str(&self.braced(inside, depth)?);
                rest = after.strip_prefix('}').unwrap_or(after);
            } else {
                let name = name_in(after);
                if name.is_empty() {
                    return Err(self.fault("`$` is followed by no name of a variable"));
                }
                out.push_str(&self.value(name).unwrap_or_else(|| self.nothing(name)));
                rest = after.strip_prefix(name).unwrap_or(after);
            }
            if out.len() > LENGTH_MAX {
                return Err(self.fault("with its variables, the value is longer than 1 MiB"));
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Returns what `${…}` stands for.
    fn braced(&mut self, inside: &str, depth: usize) -> Result<String, Fault> {
        let name = name_in(inside);
        let operator = inside.strip_prefix(name).unwrap_or_default();
        if name.is_empty() {
            return Err(self.fault("`${` is followed by no name of a variable"));
        }
        let value = self.value(name);
        // With a colon, an empty value is as none.
        let (counts_empty, operator) = match operator.strip_prefix(':') {
            Some(operator) => (false, operator),
            None => (true, operator),
        };
        let value = value.filter(|value| counts_empty || !value.is_empty());
        match (operator.chars().next(), operator.get(1..).unwrap_or_default()) {
            (None, _) if counts_empty => Ok(value.unwrap_or_else(|| self.nothing(name))),
            (Some('-'), default) => value.map_or_else(|| self.expand(default, depth + 1), Ok),
            (Some('+'), replacement) => {
                if value.is_some() {
                    self.expand(replacement, depth + 1)
                } else {
                    Ok(String::new())
                }
            }
            (Some('?'), _) => value.ok_or_else(|| {
                let hint =
                    format!("set it: {name}=… nixmoxctl import compose FILE, or in the .env file beside FILE");
                Fault::new(self.line, format!("the variable `{name}` has to be set"), hint)
            }),
            (None | Some(_), _) => {
                Err(self.fault(&format!("`${{{name}…}}` is not a use of a variable that Compose has")))
            }
        }
    }

    fn value(&mut self, name: &str) -> Option<String> {
        // A default that stands in for a secret is one too.
        self.is_secret |= secret::is_name(name);
        let value = self.variables.get(name);
        self.is_secret |= value.as_deref().is_some_and(secret::is_value);
        value
    }

    fn nothing(&mut self, name: &str) -> String {
        self.variables.unset.insert((name.to_owned(), self.line));
        String::new()
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::new(self.line, what, "a `$` that is no variable is written `$$`")
    }
}

/// Returns the name of a variable that a text begins with.
fn name_in(text: &str) -> &str {
    let ends = |(at, c): (usize, char)| !(c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit());
    let end = text.char_indices().find(|at| ends(*at)).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// Returns where the brace that is open at the beginning of a text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<(String, bool), String> {
        let lookup = |name: &str| match name {
            "SET" => Some("set".to_owned()),
            "EMPTY" => Some(String::new()),
            "DB_PASSWORD" => Some("canary".to_owned()),
            _ => None,
        };
        let mut variables = Variables::new(&lookup);
        let mut scalar = Scalar { text: text.to_owned(), is_secret: false };
        variables.put_into_scalar(&mut scalar, 7).map_err(|fault| fault.what)?;
        Ok((scalar.text, scalar.is_secret))
    }

    #[test]
    fn variables_are_put_in_as_compose_does() {
        for (text, expected) in [
            ("a$SET-b", "aset-b"),
            ("${SET}${SET}", "setset"),
            ("$$SET $${SET}", "$SET ${SET}"),
            ("${NONE:-d}${EMPTY:-d}${EMPTY-d}${SET:-d}", "ddset"),
            ("${NONE:-${EMPTY:-x}y}z", "xyz"),
            ("${SET:+r}${NONE:+r}${EMPTY:+r}${EMPTY+r}", "rr"),
            ("<$NONE>", "<>"),
            ("${SET:?no}", "set"),
        ] {
            assert_eq!(expand(text), Ok((expected.to_owned(), false)), "{text}");
        }
    }

    #[test]
    fn what_a_secret_went_into_is_marked() {
        assert_eq!(expand("postgres://u:${DB_PASSWORD}@db"), Ok(("postgres://u:canary@db".to_owned(), true)));
        assert_eq!(expand("${API_TOKEN:-default}"), Ok(("default".to_owned(), true)));
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["$", "a$ b", "${", "${SET", "${}", "${SET!x}", "${SET:}", "$1", "${NONE?}", "${EMPTY:?}"] {
            assert!(expand(text).is_err(), "{text}");
        }
        let deep = format!("{}x{}", "${N:-".repeat(40), "}".repeat(40));
        assert!(expand(&deep).is_err());
    }
}
