//! How TOML becomes values with positions, gathering every error on the way.
//!
//! A form is a type that can be written in a manifest. It reads itself from a TOML value, complains to the
//! [`Reader`], and describes itself for the schema. Reading never stops at the first complaint: what could
//! not be read leaves a hole ([`Entry::Unreadable`]), so that the rest of the file is still looked at.

mod plain;
mod table;
mod text;
mod word;

use std::borrow::Cow;

use schemars::JsonSchema;
use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::Diagnostic;
use super::source::{SourceFile, Span};

pub(super) use plain::unsigned;
pub use plain::{List, Map};
pub use table::{Absence, Change, Key, Table};
pub(super) use table::{prose, read_table, short_or, table, table_form, table_schema};
pub(super) use text::{Misfit, Text, read_text};
pub(super) use word::{Word, either, word, word_schema};

/// A TOML value with its place.
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A type that can be written in a manifest.
pub(super) trait Form: JsonSchema + Sized {
    /// Returns what a person should write, with an example; completes "expected …".
    fn expected() -> Cow<'static, str>;

    /// Returns the words that can be written, each with its meaning; empty unless there are a few.
    fn values() -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Reads a value; `None` after a complaint.
    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self>;
}

/// A value with its place in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// Gives a type the schema of an expression, written out where it is used.
macro_rules! schema {
    ($type:ty, $schema:expr) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(super) use schema;

/// What stands under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entry<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// Something is there that was complained about.
    Unreadable,
    /// A value.
    Read(Located<T>),
}

impl<T> Entry<T> {
    /// Returns the value with its place, if there is one.
    #[must_use]
    pub fn located(&self) -> Option<&Located<T>> {
        match self {
            Self::Absent | Self::Unreadable => None,
            Self::Read(located) => Some(located),
        }
    }

    /// Returns the value, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.located().map(|located| &located.value)
    }

    /// Returns whether the key is not there; false for a value that could not be read.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// Gathers complaints about one file.
pub(super) struct Reader<'a> {
    source: &'a SourceFile,
    diagnostics: Vec<Diagnostic>,
    /// Whether the file is syntactically right, so that what is not seen is not there.
    complete: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a SourceFile, complete: bool) -> Self {
        Self { source, diagnostics: Vec::new(), complete }
    }

    /// Returns the file that is read.
    pub(super) fn source(&self) -> &'a SourceFile {
        self.source
    }

    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// Returns an error at a place of this file, to be completed and reported.
    pub(super) fn error(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.source, span, message)
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Complains that a value is of another type than its key asks for.
    pub(super) fn mismatch<T: Form>(&mut self, value: &Value<'_>) {
        let kind = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let error = self.error(&value.span(), format!("expected {}", T::expected()));
        self.report(error.label(format!("this is {kind}")));
    }
}
