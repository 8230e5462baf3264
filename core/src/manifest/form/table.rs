//! Forms that are tables with fixed keys.
//!
//! [`table!`] makes a struct, its reader, its schema and its part of the reference page from one list of keys, so
//! that they cannot disagree.

use schemars::{Schema, SchemaGenerator};
use serde_json::json;
use toml::de::DeTable;

use super::{Entry, Form, Located, Reader, Span};
use crate::manifest::diagnostic::did_you_mean;

/// A table with fixed keys.
pub trait Table: Sized {
    /// What the table is, as the reference page says it.
    const DOC: &'static str;

    /// Its keys, in the order of the reference page.
    const KEYS: &'static [Key];

    /// Words that other tools have for a key, each with what to write instead.
    const FOREIGN: &'static [(&'static str, &'static str)];
}

/// One key of a table, as the schema and the reference page know it.
#[derive(Debug)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What it says, in Markdown.
    pub doc: &'static str,
    /// What its absence means.
    pub absence: Absence,
    /// What a change of it costs a running service.
    pub change: Change,
    /// Lines of TOML that use it, as inside its table.
    pub example: &'static str,
    /// Returns what can be written.
    pub form: fn() -> String,
    /// Returns the words that can be written, each with its meaning; empty unless there are a few.
    pub values: fn() -> Vec<(&'static str, &'static str)>,
    /// Returns the schema of what can be written.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What the absence of a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// It must not be absent.
    Refused,
    /// The same as this TOML value.
    Default(&'static str),
    /// This, in words.
    Means(&'static str),
}

/// What a change of a key costs a running service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it takes effect at once.
    Live,
    /// The service is restarted.
    Restart,
    /// Each key of the table says it for itself.
    PerKey,
    /// Nothing: only how the manifest is read depends on it.
    None,
    /// Nothing: it takes effect when the service is started the next time.
    NextStart,
}

impl Change {
    /// Returns the words of the reference page.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::PerKey => "see its keys",
            Self::None => "no effect on a running service",
            Self::NextStart => "none; it takes effect at the next start",
        }
    }
}

/// The values of one table while it is read.
pub(in super::super) struct Fields<'t, 'i, 'r, 's> {
    table: &'t DeTable<'i>,
    reader: &'r mut Reader<'s>,
}

impl Fields<'_, '_, '_, '_> {
    /// Reads the value under a key.
    pub(in super::super) fn entry<T: Form>(&mut self, key: &str) -> Entry<T> {
        match self.table.get(key) {
            None => Entry::Absent,
            Some(value) => match Located::read(value, self.reader) {
                Some(located) => Entry::Read(located),
                None => Entry::Unreadable,
            },
        }
    }

    /// Returns where each known key stands.
    pub(in super::super) fn keys<T: Table>(&self) -> Vec<Located<&'static str>> {
        let place = |key: &Key| {
            let (found, _) = self.table.get_key_value(key.name)?;
            Some(Located { value: key.name, span: found.span() })
        };
        T::KEYS.iter().filter_map(place).collect()
    }
}

/// Reads a table: complains about keys it does not have and about missing ones, then reads each value.
pub(in super::super) fn read_table<T: Table>(
    table: &DeTable<'_>,
    span: &Span,
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Fields<'_, '_, '_, '_>) -> T,
) -> T {
    let mut unknown: Vec<_> =
        table.keys().filter(|key| !T::KEYS.iter().any(|known| known.name == key.get_ref().as_ref())).collect();
    unknown.sort_by_key(|key| key.span().start);
    for key in unknown {
        let text = key.get_ref().as_ref();
        let foreign = T::FOREIGN.iter().find(|(word, _)| *word == text).map(|(_, instead)| (*instead).to_owned());
        let near = || did_you_mean(text, T::KEYS.iter().map(|known| known.name));
        let help = foreign.or_else(|| near().map(|near| format!("did you mean `{near}`?")));
        let help = help.unwrap_or_else(|| format!("known here: {}", known_keys::<T>()));
        let error = reader.error(&key.span(), format!("unknown key `{text}`"));
        reader.report(error.help(help));
    }
    for key in T::KEYS {
        if key.absence == Absence::Refused && reader.complete && !table.contains_key(key.name) {
            let error = reader.error(span, format!("`{}` is missing", key.name));
            reader.report(error.help(format!("add `{}`", key.example)));
        }
    }
    read(&mut Fields { table, reader })
}

fn known_keys<T: Table>() -> String {
    let names: Vec<String> = T::KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
    names.join(", ")
}

/// Returns the schema of a table, each key with its text, default and example.
pub(in super::super) fn table_schema<T: Table>(generator: &mut SchemaGenerator) -> Schema {
    let mut properties = serde_json::Map::new();
    for key in T::KEYS {
        let mut schema = (key.schema)(generator);
        let object = schema.ensure_object();
        object.insert("description".to_owned(), json!(prose(key.doc)));
        if let Absence::Default(toml) = key.absence
            && let Some(value) = toml_value(toml)
        {
            object.insert("default".to_owned(), value);
        }
        if let Some(example) = example(key) {
            object.insert("examples".to_owned(), json!([example]));
        }
        properties.insert(key.name.to_owned(), schema.to_value());
    }
    let required: Vec<_> =
        T::KEYS.iter().filter(|key| key.absence == Absence::Refused).map(|key| key.name).collect();
    let mut schema = Schema::default();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("description".to_owned(), json!(prose(T::DOC)));
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

/// Returns a doc comment as it was written: without the blank behind each `///`.
pub(in super::super) fn prose(doc: &str) -> String {
    let lines: Vec<&str> = doc.lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    lines.join("\n")
}

/// Returns the schema of a table that has a short form too.
pub(in super::super) fn short_or(short: &Schema, table: &Schema) -> Schema {
    schemars::json_schema!({ "anyOf": [short, table] })
}

/// Returns the value that a key has in its example; `None` if the example is about a key inside it.
fn example(key: &Key) -> Option<serde_json::Value> {
    let document: toml::Table = key.example.parse().ok()?;
    serde_json::to_value(document.get(key.name)?).ok()
}

/// Returns a TOML value as JSON; `None` if it is not TOML, or a date.
fn toml_value(text: &str) -> Option<serde_json::Value> {
    let document: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(document.get("value")?).ok()
}

/// Makes a struct whose fields are the keys of a table, and implements [`Form`] and [`Table`] for it.
///
/// The doc comment of a field is the text of its key everywhere; `#[key(...)]` says the rest. `#[foreign(...)]` has
/// words of other tools with what to write instead, `#[short(...)]` the schema of the short form.
macro_rules! table {
    (
        $(#[doc = $table_doc:literal])+
        $(#[foreign($($word:literal => $instead:literal),+ $(,)?)])?
        $(#[short($short:expr)])?
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                #[key($absence:expr, $change:ident, $example:literal)]
                pub $key:ident: $type:ty,
            )+
        }
    ) => {
        $(#[doc = $table_doc])+
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[doc = $doc])+
                pub $key: $crate::manifest::form::Entry<$type>,
            )+
            /// Where each key stands that is there, in the order of the fields.
            pub keys: Vec<$crate::manifest::form::Located<&'static str>>,
        }

        impl $crate::manifest::form::Table for $name {
            const DOC: &'static str = concat!($($table_doc, "\n"),+);
            const KEYS: &'static [$crate::manifest::form::Key] = &[$(
                $crate::manifest::form::Key {
                    name: stringify!($key),
                    doc: concat!($($doc, "\n"),+),
                    absence: {
                        #[allow(unused_imports, reason = "not every table has every kind of absence")]
                        use $crate::manifest::form::Absence::{Default, Means, Refused};
                        $absence
                    },
                    change: $crate::manifest::form::Change::$change,
                    example: $example,
                    form: || <$type as $crate::manifest::form::Form>::expected().into_owned(),
                    values: <$type as $crate::manifest::form::Form>::values,
                    schema: <$type as schemars::JsonSchema>::json_schema,
                },
            )+];
            const FOREIGN: &'static [(&'static str, &'static str)] = &[$($(($word, $instead)),+)?];
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let table = $crate::manifest::form::table_schema::<Self>(generator);
                $(let table = $crate::manifest::form::short_or(&$short, &table);)?
                table
            }
        }

        impl $name {
            /// Reads the table, gathering every complaint; what could not be read is a hole.
            pub(in $crate::manifest) fn from_table(
                table: &toml::de::DeTable<'_>,
                span: &$crate::manifest::Span,
                reader: &mut $crate::manifest::form::Reader<'_>,
            ) -> Self {
                $crate::manifest::form::read_table(table, span, reader, |fields| Self {
                    $($key: fields.entry(stringify!($key)),)+
                    keys: fields.keys::<Self>(),
                })
            }
        }
    };
}
pub(in super::super) use table;

/// Makes a struct of [`table!`] a form: always a table, or a string too, which the given function reads.
macro_rules! table_form {
    ($name:ident, $expected:literal $(, $short:path)?) => {
        impl $crate::manifest::form::Form for $name {
            fn expected() -> std::borrow::Cow<'static, str> {
                $expected.into()
            }

            fn read(
                value: &$crate::manifest::form::Value<'_>,
                reader: &mut $crate::manifest::form::Reader<'_>,
            ) -> Option<Self> {
                $(
                    if let toml::de::DeValue::String(text) = value.get_ref() {
                        return $short(text, value, reader);
                    }
                )?
                let toml::de::DeValue::Table(table) = value.get_ref() else {
                    reader.mismatch::<Self>(value);
                    return None;
                };
                Some(Self::from_table(table, &value.span(), reader))
            }
        }
    };
}
pub(in super::super) use table_form;
