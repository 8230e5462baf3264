//! Sizes, shares and weights as they are written.

use std::borrow::Cow;

use schemars::json_schema;

use crate::manifest::form::{Form, Misfit, Reader, Text, Value, schema, unsigned};
use crate::model::{Bytes, CpuQuota, InvalidQuantity, Weight};

schema!(
    Bytes,
    json_schema!({
        "anyOf": [
            { "type": "string", "pattern": "^([0-9]+|[0-9]+(\\.[0-9]{1,9})?[KMGT])$" },
            { "type": "integer", "minimum": 0 }
        ],
        "examples": ["512M", "2G"]
    })
);

impl Text for Bytes {
    const EXPECTED: &'static str = "a size such as `\"512M\"` or `\"2G\"`, in powers of 1024, or a number of bytes";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidQuantity| {
            let misfit = Misfit::new(error.to_string());
            let trimmed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            // GiB, GB, Gi, g: whatever is said about the unit, we mean the power of 1024.
            let unit = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
            let (number, unit) = trimmed.split_at(unit);
            let letter: String = unit.chars().take(1).map(|c| c.to_ascii_uppercase()).collect();
            let meant = format!("{number}{letter}");
            if meant.parse::<Self>().is_ok() { misfit.help(format!("write \"{meant}\"")) } else { misfit }
        })
    }

    fn from_integer(number: u64) -> Option<Result<Self, Misfit>> {
        Some(Ok(Self(number)))
    }
}

schema!(
    CpuQuota,
    json_schema!({ "type": "string", "pattern": "^[0-9]*[1-9][0-9]*%$", "examples": ["50%", "150%"] })
);

impl Text for CpuQuota {
    const EXPECTED: &'static str = "a share of CPU time such as `\"50%\"` or `\"150%\"`; 100% is one CPU";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        text.parse().map_err(|error: InvalidQuantity| Misfit::new(error.to_string()))
    }

    fn from_integer(number: u64) -> Option<Result<Self, Misfit>> {
        Some(Err(Misfit::new("a share of CPU time has a `%`").help(format!("write \"{number}%\""))))
    }
}

schema!(Weight, json_schema!({ "type": "integer", "minimum": 1, "maximum": 10000 }));

impl Form for Weight {
    fn expected() -> Cow<'static, str> {
        "a weight from 1 to 10000".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(number) = unsigned(value) else {
            reader.mismatch::<Self>(value);
            return None;
        };
        let weight = number.ok().and_then(|number| Self::try_from(number).ok());
        if weight.is_none() {
            let error = reader.error(&value.span(), "expected a weight from 1 to 10000");
            reader.report(error.label("out of range"));
        }
        weight
    }
}
