//! Forms that are one string with a grammar, such as `"512M"` or `"127.0.0.1:80:80"`.

use std::borrow::Cow;

use schemars::JsonSchema;
use toml::de::DeValue;

use super::plain::unsigned;
use super::{Form, Reader, Span, Value};

/// Why a text does not fit its grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Misfit {
    /// The part of the text in question; `None`: all of it.
    pub(in super::super) part: Option<Span>,
    /// What is wrong, without a full stop.
    pub(in super::super) message: String,
    /// The way out.
    pub(in super::super) help: Option<String>,
}

impl Misfit {
    /// Returns a complaint about the whole text.
    pub(in super::super) fn new(message: impl Into<String>) -> Self {
        Self { part: None, message: message.into(), help: None }
    }

    /// Narrows the complaint to a part of the text.
    pub(in super::super) fn at(mut self, part: Span) -> Self {
        self.part = Some(part);
        self
    }

    /// Adds the way out.
    pub(in super::super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A form that is one string with a grammar.
pub(in super::super) trait Text: JsonSchema + Sized {
    /// What a person should write, with an example; completes "expected …".
    const EXPECTED: &'static str;

    /// Reads the text.
    fn from_text(text: &str) -> Result<Self, Misfit>;

    /// Reads a bare integer where the form has one; `None` where it has not.
    fn from_integer(_number: u64) -> Option<Result<Self, Misfit>> {
        None
    }
}

impl<T: Text> Form for T {
    fn expected() -> Cow<'static, str> {
        T::EXPECTED.into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if let DeValue::String(text) = value.get_ref() {
            return read_text(text, value, reader, T::from_text);
        }
        match unsigned(value).and_then(Result::ok).and_then(T::from_integer) {
            None => {
                reader.mismatch::<T>(value);
                None
            }
            Some(Ok(read)) => Some(read),
            Some(Err(misfit)) => {
                let error = reader.error(&value.span(), misfit.message);
                reader.report(error.help_if(misfit.help));
                None
            }
        }
    }
}

/// Reads a string value, and complains at the part of it that does not fit.
pub(in super::super) fn read_text<T>(
    text: &str,
    value: &Value<'_>,
    reader: &mut Reader<'_>,
    read: impl FnOnce(&str) -> Result<T, Misfit>,
) -> Option<T> {
    match read(text) {
        Ok(read) => Some(read),
        Err(Misfit { part, message, help }) => {
            let span = value.span();
            let span = part.map_or(span.clone(), |part| reader.source.inside(&span, text, part));
            let error = reader.error(&span, message);
            reader.report(error.help_if(help));
            None
        }
    }
}
