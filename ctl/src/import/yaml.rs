//! YAML to a tree in which everything knows its line.
//!
//! The parser is `saphyr-parser`'s, event by event; what lies above it is decided here: anchors are copied where they
//! are used, merge keys (`<<`) are resolved, a key that is there twice is a mistake. Depth, size and what anchors grow
//! to are limited, for the file comes from anywhere.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// How deep lists and mappings lie in each other; a Compose file has ten levels.
const DEPTH_MAX: usize = 64;

/// How many values there are once anchors are copied. The largest real files have some thousand.
const SIZE_MAX: usize = 200_000;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The line, from 1.
    pub(super) line: usize,
    /// What it is.
    pub(super) value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing: `key:`, `~` or `null`.
    Null,
    /// A text, a number or a truth value, as it was written.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file; each key once.
    Map(Vec<(Key, Node)>),
}

/// A text, a number or a truth value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The text, without quotes.
    pub(super) text: String,
    /// Whether a variable with the name of a secret was put in.
    pub(super) is_secret: bool,
}

/// A key and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The line, from 1.
    pub(super) line: usize,
    /// The text.
    pub(super) text: String,
}

/// Why a text is not a tree, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The line, from 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) what: String,
    /// What to do; may be empty.
    pub(super) hint: String,
}

impl Fault {
    /// Returns a fault.
    pub(super) fn new(line: usize, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { line, what: what.into(), hint: hint.into() }
    }
}

impl Node {
    /// Returns the text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Returns what stands under a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    /// Returns the entries of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// Returns the items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    /// Says what it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Whether a secret was put into it, or into something in it.
    pub(super) fn holds_secret(&self) -> bool {
        match &self.value {
            Value::Null => false,
            Value::Scalar(scalar) => scalar.is_secret,
            Value::List(items) => items.iter().any(Self::holds_secret),
            Value::Map(entries) => entries.iter().any(|(_, node)| node.holds_secret()),
        }
    }

    /// Returns how many values it consists of, and how deep they lie.
    fn extent(&self) -> (usize, usize) {
        let of = |nodes: &mut dyn Iterator<Item = &Self>| {
            nodes.map(Self::extent).fold((1, 1), |(size, depth), (more, deep)| (size + more, depth.max(deep + 1)))
        };
        match &self.value {
            Value::Null | Value::Scalar(_) => (1, 1),
            Value::List(items) => of(&mut items.iter()),
            Value::Map(entries) => of(&mut entries.iter().map(|(_, node)| node)),
        }
    }
}

/// Returns the tree of the one document in a text; `None`: there is nothing in it.
pub(super) fn parse(text: &str) -> Result<Option<Node>, Fault> {
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let hint = if error.info().contains("tab") { "indent with blanks" } else { "" };
            Fault::new(error.marker().line(), error.info(), hint)
        })?;
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let hint = "put them into one file: docker compose config";
                    return Err(Fault::new(span.start.line(), "a second document begins here", hint));
                }
            }
            Event::Alias(anchor) => builder.alias(anchor, span)?,
            Event::Scalar(text, style, anchor, tag) => {
                builder.scalar(&text, style, anchor, tag.as_deref(), span)?;
            }
            Event::SequenceStart(anchor, tag) => builder.open(anchor, tag.as_deref(), span, false)?,
            Event::MappingStart(anchor, tag) => builder.open(anchor, tag.as_deref(), span, true)?,
            Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        }
    }
    Ok(builder.root)
}

/// The tree so far.
#[derive(Debug, Default)]
struct Builder {
    /// Lists and mappings that are not closed yet, the innermost last.
    open: Vec<Open>,
    /// What anchors stand for; those of values that are not closed yet are not among them.
    anchors: BTreeMap<usize, Node>,
    /// How many values there are.
    size: usize,
    /// The finished document.
    root: Option<Node>,
}

/// A list or mapping that is not closed yet.
#[derive(Debug)]
struct Open {
    line: usize,
    anchor: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, merged: Vec<Node>, key: Option<Key> },
}

impl Builder {
    fn open(&mut self, anchor: usize, tag: Option<&Tag>, span: Span, is_map: bool) -> Result<(), Fault> {
        let line = span.start.line();
        check_tag(tag, line)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::new(line, format!("more than {DEPTH_MAX} levels lie in each other"), ""));
        }
        let content = if is_map {
            Content::Map { entries: Vec::new(), merged: Vec::new(), key: None }
        } else {
            Content::List(Vec::new())
        };
        self.open.push(Open { line, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { line, anchor, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, merged, key: _ } => {
                // What is written goes before what is merged, and the first that is merged before the next.
                for (key, node) in merged.iter().flat_map(Node::entries) {
                    if !entries.iter().any(|(known, _)| known.text == key.text) {
                        entries.push((key.clone(), node.clone()));
                    }
                }
                Value::Map(entries)
            }
        };
        self.add(Node { line, value }, anchor, 1)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), Fault> {
        let line = span.start.line();
        check_tag(tag, line)?;
        let is_plain = style == ScalarStyle::Plain && tag.is_none();
        let value = if is_plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            Value::Null
        } else {
            Value::Scalar(Scalar { text: text.to_owned(), is_secret: false })
        };
        self.add(Node { line, value }, anchor, 1)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fault::new(line, "the anchor contains itself", ""));
        };
        let (size, depth) = node.extent();
        if self.open.len() + depth > DEPTH_MAX {
            return Err(Fault::new(line, format!("more than {DEPTH_MAX} levels lie in each other"), ""));
        }
        // Checked before it is copied: ten lines of anchors can stand for a thousand million values.
        if self.size + size > SIZE_MAX {
            return Err(Fault::new(
                line,
                format!("with its anchors, the file has more than {SIZE_MAX} values"),
                "",
            ));
        }
        let node = Node { line, ..node.clone() };
        self.add(node, 0, size)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fault> {
        let line = node.line;
        self.size += size;
        if self.size > SIZE_MAX {
            return Err(Fault::new(line, format!("the file has more than {SIZE_MAX} values"), ""));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, merged, key }) => match key.take() {
                None => *key = Some(key_of(node, entries)?),
                Some(merge) if merge.text == "<<" => merged.extend(maps_of(node)?),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

/// Returns the key that a value is, in a mapping that has these entries.
fn key_of(node: Node, entries: &[(Key, Node)]) -> Result<Key, Fault> {
    let line = node.line;
    let text = match node.value {
        Value::Scalar(scalar) => scalar.text,
        Value::Null => String::new(),
        Value::List(_) | Value::Map(_) => return Err(Fault::new(line, "a key is a list or a mapping", "")),
    };
    match entries.iter().find(|(known, _)| known.text == text) {
        Some((first, _)) => {
            let what = format!("the key `{text}` is here twice; the first is in line {}", first.line);
            Err(Fault::new(line, what, "leave one of them out"))
        }
        None => Ok(Key { line, text }),
    }
}

/// Returns the mappings that `<<` names.
fn maps_of(node: Node) -> Result<Vec<Node>, Fault> {
    let line = node.line;
    let maps = match node.value {
        Value::List(items) => items,
        Value::Null | Value::Scalar(_) | Value::Map(_) => vec![node],
    };
    match maps.iter().find(|map| !matches!(map.value, Value::Map(_))) {
        Some(_) => {
            Err(Fault::new(line, "`<<` takes a mapping, or a list of mappings", "for example `<<: *defaults`"))
        }
        None => Ok(maps),
    }
}

/// Refuses tags with a meaning of their own: Compose uses them where several files become one.
fn check_tag(tag: Option<&Tag>, line: usize) -> Result<(), Fault> {
    match tag.filter(|tag| !tag.is_yaml_core_schema()) {
        None => Ok(()),
        Some(tag) => {
            let hint = "put the files together first: docker compose config | nixmoxctl import compose -";
            Err(Fault::new(line, format!("the tag `{tag}` is for files that are put together"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        parse(text).unwrap().unwrap()
    }

    fn fault(text: &str) -> (usize, String) {
        let fault = parse(text).unwrap_err();
        (fault.line, fault.what)
    }

    #[test]
    fn everything_knows_its_line() {
        let root = tree("a:\n  - x\n  -   y: \"1\"\nb: ~\n");
        assert_eq!(root.get("a").unwrap().items()[1].get("y").unwrap().line, 3);
        assert_eq!(root.get("a").unwrap().items()[1].get("y").unwrap().text(), Some("1"));
        assert_eq!((&root.entries()[1].0.line, &root.get("b").unwrap().value), (&4, &Value::Null));
    }

    #[test]
    fn what_is_written_goes_before_what_is_merged() {
        let root = tree("x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 0\n");
        let z = root.get("z").unwrap();
        let text = |key| z.get(key).and_then(Node::text);
        assert_eq!([text("a"), text("b"), text("c"), text("<<")], [Some("0"), Some("2"), Some("4"), None]);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert_eq!(
            fault("a: 1\nb: 2\na: 3\n"),
            (3, "the key `a` is here twice; the first is in line 1".to_owned())
        );
        assert_eq!(fault("a:\n\tb: 1\n").0, 2);
        assert_eq!(fault("a: [1, 2\nb: 3\n").0, 2);
        assert_eq!(fault("a: &a\n  b: *a\n"), (2, "the anchor contains itself".to_owned()));
        assert_eq!(fault("a: *b\n").0, 1);
        assert_eq!(fault("a: 1\n---\nb: 2\n"), (2, "a second document begins here".to_owned()));
        assert_eq!(fault("a:\n  <<: 1\n").0, 2);
        assert_eq!(fault("? [a]\n: 1\n").0, 1);
        assert_eq!(fault("a: !reset []\n").0, 1);
    }

    #[test]
    fn neither_depth_nor_anchors_are_without_end() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(fault(&deep), (1, "more than 64 levels lie in each other".to_owned()));
        let deep: Vec<String> = (0..100).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert_eq!(fault(&deep.concat()).0, 65);
        let lines = (1..20).map(|n| format!("x{n}: &x{n} [{}]\n", format!("*x{}, ", n - 1).repeat(9)));
        let bomb = lines.collect::<Vec<_>>().concat();
        let (_, what) = fault(&format!("x0: &x0 [1,1,1,1,1,1,1,1,1]\n{bomb}"));
        assert_eq!(what, "with its anchors, the file has more than 200000 values");
    }

    #[test]
    fn an_empty_text_is_nothing() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("# only a comment\n").unwrap(), None);
    }
}
