//! The forms without a grammar of their own: booleans, strings, numbers, lists, maps.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::{Form, Located, Reader, Value};

/// A list, each item with its place, in the order of the file.
pub type List<T> = Vec<Located<T>>;

/// A table with free keys, each key and value with its place, in the order of the file; keys are unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<T>(pub Vec<(Located<String>, Located<T>)>);

impl<T> Default for Map<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Form for bool {
    fn expected() -> Cow<'static, str> {
        "`true` or `false`".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Boolean(boolean) = value.get_ref() else {
            reader.mismatch::<Self>(value);
            return None;
        };
        Some(*boolean)
    }
}

impl Form for String {
    fn expected() -> Cow<'static, str> {
        "a string".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::String(text) = value.get_ref() else {
            reader.mismatch::<Self>(value);
            return None;
        };
        Some(text.clone().into_owned())
    }
}

/// Reads an integer that is not negative; `None` for another type, without a complaint.
///
/// `Some(Err(()))`: it is an integer, out of this range.
pub(in super::super) fn unsigned(value: &Value<'_>) -> Option<Result<u64, ()>> {
    let DeValue::Integer(integer) = value.get_ref() else { return None };
    // TOML's integers have 64 bits with a sign.
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| ());
    Some(number.and_then(|number| u64::try_from(number).map_err(|_| ())))
}

macro_rules! unsigned_forms {
    ($($type:ty: $expected:literal),*) => {$(
        impl Form for $type {
            fn expected() -> Cow<'static, str> {
                $expected.into()
            }

            fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let Some(number) = unsigned(value) else {
                    reader.mismatch::<Self>(value);
                    return None;
                };
                let number = number.ok().and_then(|number| Self::try_from(number).ok());
                if number.is_none() {
                    let error = reader.error(&value.span(), format!("expected {}", Self::expected()));
                    reader.report(error.label("out of range"));
                }
                number
            }
        }
    )*};
}

unsigned_forms!(
    u8: "a number from 0 to 255",
    u16: "a number from 0 to 65535",
    u32: "a number from 0 to 4294967295",
    u64: "a number that is not negative"
);

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: Form> Form for Located<T> {
    fn expected() -> Cow<'static, str> {
        T::expected()
    }

    fn values() -> Vec<(&'static str, &'static str)> {
        T::values()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(value, reader).map(|read| Self { value: read, span: value.span() })
    }
}

impl<T: Form> Form for List<T> {
    fn expected() -> Cow<'static, str> {
        format!("a list, each item {}", T::expected()).into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else {
            reader.mismatch::<Self>(value);
            return None;
        };
        // Items that could not be read are left out: they were complained about.
        Some(items.iter().filter_map(|item| Located::read(item, reader)).collect())
    }
}

impl<T: JsonSchema> JsonSchema for Map<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

impl<T: Form> Form for Map<T> {
    fn expected() -> Cow<'static, str> {
        format!("a table, each value {}", T::expected()).into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            reader.mismatch::<Self>(value);
            return None;
        };
        let mut entries: Vec<_> = table
            .iter()
            .filter_map(|(key, value)| {
                let key = Located { value: key.get_ref().clone().into_owned(), span: key.span() };
                Some((key, Located::read(value, reader)?))
            })
            .collect();
        entries.sort_by_key(|(key, _)| key.span.start);
        Some(Self(entries))
    }
}
