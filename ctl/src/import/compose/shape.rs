//! The shapes that values of a Compose file have: a text or a list of them, `NAME=value` or a mapping, a command.

use crate::import::finding::Findings;
use crate::import::yaml::{Node, Scalar, Value};

/// Where complaints about a service go.
#[derive(Debug)]
pub(in crate::import) struct Log<'a> {
    pub(in crate::import) findings: &'a mut Findings,
    /// The service, as the Compose file calls it.
    pub(in crate::import) service: &'a str,
}

impl Log<'_> {
    /// Adds that something is not in what is written.
    pub(in crate::import) fn not_mapped(&mut self, key: &str, line: usize, reason: &str, way_out: &str) {
        self.findings.not_mapped(Some(self.service), (key, line), reason, way_out);
    }

    /// Adds that something is there, and not as it was.
    pub(in crate::import) fn changed(&mut self, key: &str, line: usize, reason: &str, way_out: &str) {
        self.findings.changed(Some(self.service), (key, line), reason, way_out);
    }

    /// Adds that a value has not the shape that Compose asks for.
    pub(super) fn misshapen(&mut self, key: &str, node: &Node, expected: &str) {
        self.not_mapped(key, node.line, &format!("it is {}, where Compose has {expected}", node.kind()), "");
    }
}

/// A text of a list and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) line: usize,
}

/// A named value, from `NAME=value` or a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: String,
    /// Nothing stands for a name alone.
    pub(super) value: Option<Scalar>,
    pub(super) line: usize,
}

/// Returns the texts of a list, or the one text that stands for a list of it; complains about everything else.
pub(super) fn items(key: &str, node: &Node, log: &mut Log<'_>) -> Vec<Item> {
    let item = |node: &Node, log: &mut Log<'_>| match &node.value {
        Value::Scalar(scalar) => Some(Item { text: scalar.text.clone(), line: node.line }),
        Value::Null => None,
        Value::List(_) | Value::Map(_) => {
            log.misshapen(key, node, "a text");
            None
        }
    };
    match &node.value {
        Value::List(nodes) => nodes.iter().filter_map(|node| item(node, log)).collect(),
        Value::Scalar(_) | Value::Null => item(node, log).into_iter().collect(),
        Value::Map(_) => {
            log.misshapen(key, node, "a list");
            Vec::new()
        }
    }
}

/// Returns named values; complains about what has no name.
pub(super) fn pairs(key: &str, node: &Node, log: &mut Log<'_>) -> Vec<Pair> {
    match &node.value {
        Value::Null => Vec::new(),
        Value::Map(entries) => {
            let pair = |(name, node): &(crate::import::yaml::Key, Node)| match &node.value {
                Value::Scalar(scalar) => {
                    Some(Pair { name: name.text.clone(), value: Some(scalar.clone()), line: name.line })
                }
                Value::Null => Some(Pair { name: name.text.clone(), value: None, line: name.line }),
                Value::List(_) | Value::Map(_) => {
                    log.misshapen(&format!("{key}.{}", name.text), node, "a text");
                    None
                }
            };
            entries.iter().filter_map(pair).collect()
        }
        Value::List(nodes) => {
            let pair = |node: &Node| {
                let Value::Scalar(scalar) = &node.value else {
                    log.misshapen(key, node, "`NAME=value`");
                    return None;
                };
                let (name, value) = match scalar.text.split_once('=') {
                    Some((name, value)) => {
                        (name, Some(Scalar { text: value.to_owned(), is_secret: scalar.is_secret }))
                    }
                    None => (scalar.text.as_str(), None),
                };
                Some(Pair { name: name.to_owned(), value, line: node.line })
            };
            nodes.iter().filter_map(pair).collect()
        }
        Value::Scalar(_) => {
            log.misshapen(key, node, "a list or a mapping");
            Vec::new()
        }
    }
}

/// Returns the words of a command: those of a list, or a text as a shell splits it.
pub(super) fn words(key: &str, node: &Node, log: &mut Log<'_>) -> Vec<String> {
    match &node.value {
        Value::Scalar(scalar) => split(&scalar.text),
        Value::Null | Value::List(_) | Value::Map(_) => {
            items(key, node, log).into_iter().map(|item| item.text).collect()
        }
    }
}

/// Splits a text at blanks outside of quotes. A quote that is not closed reaches to the end.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', Some('"') | None) => word.get_or_insert_default().extend(chars.next()),
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, Some(_) | None) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether a text means yes, as YAML 1.1 and Compose have it.
pub(super) fn is_true(node: &Node) -> bool {
    node.text().is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_a_shell_does() {
        assert_eq!(split("a  'b c' \"d \\\"e\" f\\ g ''"), ["a", "b c", "d \"e", "f g", ""]);
        assert_eq!(split(" \n"), Vec::<String>::new());
        assert_eq!(split("a 'b"), ["a", "b"]);
    }
}
