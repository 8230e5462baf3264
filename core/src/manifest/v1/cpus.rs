//! A set of CPUs: `"0-3,8"` or `[0, 1, 2, 3, 8]`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use schemars::json_schema;
use toml::de::DeValue;

use crate::manifest::form::{Form, Misfit, Reader, Value, read_text, schema, unsigned};

/// The highest number of a CPU: the kernel knows at most 8192 (`CONFIG_NR_CPUS`).
const CPU_MAX: u16 = 8191;

/// A set of CPUs, sorted without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<u16>);

schema!(
    Cpus,
    json_schema!({
        "anyOf": [
            { "type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$" },
            { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": CPU_MAX } }
        ],
        "examples": ["0-3,8"]
    })
);

impl Form for Cpus {
    fn expected() -> Cow<'static, str> {
        "a set of CPUs such as `\"0-3,8\"` or `[0, 1, 8]`".into()
    }

    fn read(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) => read_text(text, value, reader, from_text),
            DeValue::Array(items) => {
                let mut cpus = BTreeSet::new();
                for item in items {
                    match unsigned(item).and_then(Result::ok).and_then(|cpu| u16::try_from(cpu).ok()) {
                        Some(cpu) if cpu <= CPU_MAX => {
                            cpus.insert(cpu);
                        }
                        Some(_) | None => {
                            let error = reader.error(&item.span(), format!("expected a CPU from 0 to {CPU_MAX}"));
                            reader.report(error);
                        }
                    }
                }
                Some(Self(cpus.into_iter().collect()))
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => {
                reader.mismatch::<Self>(value);
                None
            }
        }
    }
}

fn from_text(text: &str) -> Result<Cpus, Misfit> {
    let mut cpus = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u16>().ok().filter(|cpu| *cpu <= CPU_MAX && !text.starts_with('+'));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            let misfit = Misfit::new(format!("`{part}` is not a CPU or a range of CPUs from 0 to {CPU_MAX}"));
            return Err(misfit.help("for example \"0-3,8\""));
        };
        if first > last {
            return Err(
                Misfit::new(format!("`{part}` ends before it begins")).help(format!("write \"{last}-{first}\""))
            );
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_cpus_are_a_sorted_set() {
        assert_eq!(from_text("8,0-2,1").map(|cpus| cpus.0), Ok(vec![0, 1, 2, 8]));
        for text in ["", "3-1", "0-8192", "a", "1,,2", "-1", "0-3-5"] {
            assert!(from_text(text).is_err(), "{text}");
        }
    }
}
