//! YAML, as far as CDI specifications need it, to values. JSON is read as such.
//!
//! The parser is `saphyr-parser`'s, event by event. What a file can make of it is limited: its size, its depth, how many values there are.
//! Anchors, tags and further documents, which no specification has, are refused: copies of anchors could grow without end.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Longest file. Specifications of machines with eight GPUs, each cut into seven instances, have about 200 KB.
pub(super) const BYTES_MAX: u64 = 1024 * 1024;
/// How deep lists and mappings lie in each other; a specification has seven levels.
const DEPTH_MAX: usize = 16;
/// How many values there are.
const VALUES_MAX: usize = 100_000;

/// Returns the value of the one document in a text.
///
/// # Errors
/// Why it is none, in one line.
pub(super) fn parse(text: &str, is_json: bool) -> Result<Value, String> {
    if is_json {
        // It limits depth by itself.
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let (mut open, mut root, mut values, mut documents) = (Vec::<Open>::new(), None, 0_usize, 0);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("line {}: {}", error.marker().line(), error.info()))?;
        let refused = |what: &str| Err(format!("line {}: {what}", span.start.line()));
        values += 1;
        if values > VALUES_MAX {
            return refused("too many values");
        }
        let value = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_) if documents > 0 => return refused("a second document begins"),
            Event::DocumentStart(_) => {
                documents += 1;
                continue;
            }
            Event::Alias(_) => return refused("an alias"),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                return refused("an anchor or a tag");
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEPTH_MAX => {
                return refused("too many levels");
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::Scalar(_, _, anchor, tag) if anchor != 0 || tag.is_some() => {
                return refused("an anchor or a tag");
            }
            Event::Scalar(text, style, _, _) => scalar(&text, style),
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::Array(items),
                Some(Open::Map(entries, _)) => Value::Object(entries),
                None => return refused("an end without a beginning"),
            },
        };
        match open.last_mut() {
            None => root = Some(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match (key.take(), value) {
                (Some(key), value) => {
                    if entries.insert(key, value).is_some() {
                        return refused("a key that is there twice");
                    }
                }
                (None, Value::String(text)) => *key = Some(text),
                // Numbers and truth values are keys as they are written.
                (None, value @ (Value::Number(_) | Value::Bool(_))) => *key = Some(value.to_string()),
                (None, _) => return refused("a key that is no text"),
            },
        }
    }
    root.ok_or_else(|| "there is nothing in it".to_owned())
}

/// A list or mapping that is not closed yet.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// Returns what a scalar is: without quotes it may be a number, a truth value or nothing (YAML 1.2, core schema).
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => {
            let octal = text.strip_prefix("0o").and_then(|digits| i64::from_str_radix(digits, 8).ok());
            match octal.or_else(|| text.parse().ok()) {
                Some(number) => Value::from(number),
                None => Value::String(text.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_read_as_the_json_that_it_stands_for() {
        let text = "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    \
                    - path: /dev/nvidia0\n      major: 195\n      fileMode: 0o666\nempty:\nyes: true\n1: [a, 'null']\n";
        let expected = serde_json::json!({
            "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
            "devices": [{"name": "0", "containerEdits": {"deviceNodes": [
                {"path": "/dev/nvidia0", "major": 195, "fileMode": 0o666}]}}],
            "empty": null, "yes": true, "1": ["a", "null"],
        });
        assert_eq!(parse(text, false), Ok(expected.clone()));
        assert_eq!(parse(&expected.to_string(), true), Ok(expected.clone()));
        assert_eq!(parse(&expected.to_string(), false), Ok(expected), "JSON is YAML");
    }

    #[test]
    fn what_would_grow_or_mislead_is_refused() {
        let deep = "[".repeat(10_000);
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let many = "- 1\n".repeat(VALUES_MAX + 1);
        for text in [
            "",
            "# nothing\n",
            &deep,
            bomb,
            &many,
            "a: 1\na: 2\n",
            "a: 1\n---\nb: 1\n",
            "a: !!binary x\n",
            "? [a]\n: b\n",
            "a: [\n",
        ] {
            assert!(parse(text, false).is_err(), "{}", text.get(..40).unwrap_or(text));
        }
        assert!(parse(&deep, true).is_err());
    }
}
