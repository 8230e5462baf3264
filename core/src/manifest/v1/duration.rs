//! Durations as text: `500ms`, `5s`, `5min`, `1h30min`.

use std::fmt;
use std::time::Duration;

use schemars::json_schema;

use crate::manifest::form::{Misfit, Text, schema};

/// A time span; at most about 584 million years, so that milliseconds fit into 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// Units with their milliseconds, largest first: the order in which they are written.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

impl fmt::Display for Time {
    /// Writes what reads back as the same time, in the largest units.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in UNITS {
            let scale = u128::from(scale);
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

schema!(
    Time,
    json_schema!({
        "type": "string",
        "pattern": "^(?=.)([0-9]+d)?([0-9]+h)?([0-9]+min)?([0-9]+s)?([0-9]+ms)?$",
        "examples": ["5s", "5min", "1h30min", "500ms"]
    })
);

impl Text for Time {
    const EXPECTED: &'static str = "a duration such as `\"5s\"`, `\"1h30min\"` or `\"500ms\"`";

    fn from_text(text: &str) -> Result<Self, Misfit> {
        let mut rest = text;
        let mut units = UNITS.as_slice();
        let mut total = 0_u64;
        if rest.is_empty() {
            return Err(Misfit::new(format!("expected {}", Self::EXPECTED)));
        }
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let (digits, behind) = split_at_first(rest, |c| !c.is_ascii_digit());
            let (unit, behind) = split_at_first(behind, |c| c.is_ascii_digit());
            let part = at..text.len() - behind.len();
            if digits.is_empty() {
                let misfit = Misfit::new(format!("expected {}", Self::EXPECTED)).at(part);
                return Err(if rest.starts_with(' ') { misfit.help("write it without blanks") } else { misfit });
            }
            let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
                return Err(refuse_unit(digits, unit, part));
            };
            let (found, smaller) = units.split_at(index + 1);
            units = smaller;
            let scale = found.last().map_or(1, |(_, scale)| *scale);
            total = digits
                .parse::<u64>()
                .ok()
                .and_then(|number| total.checked_add(number.checked_mul(scale)?))
                .ok_or_else(|| Misfit::new(format!("`{text}` is too long a time")))?;
            rest = behind;
        }
        Ok(Self(Duration::from_millis(total)))
    }

    fn from_integer(number: u64) -> Option<Result<Self, Misfit>> {
        Some(Err(Misfit::new("a duration needs a unit").help(format!("write \"{number}s\" for seconds"))))
    }
}

fn split_at_first(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(end).unwrap_or(text.len()))
}

fn refuse_unit(digits: &str, unit: &str, part: std::ops::Range<usize>) -> Misfit {
    if UNITS.iter().any(|(name, _)| *name == unit) {
        return Misfit::new("units go from large to small, each at most once")
            .at(part)
            .help("for example \"1h30min\"");
    }
    let misfit = Misfit::new(match unit {
        "" => "a duration needs a unit".to_owned(),
        unit if unit.starts_with('.') => "a duration has no decimals".to_owned(),
        unit => format!("unknown unit `{unit}`"),
    });
    let instead = match unit.trim().to_lowercase().as_str() {
        "" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "mins" | "minute" | "minutes" => Some("min"),
        "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "day" | "days" => Some("d"),
        "msec" | "millis" | "milliseconds" => Some("ms"),
        _ => None,
    };
    misfit.at(part).help(match instead {
        Some(unit) => format!("write \"{digits}{unit}\""),
        None => "the units are `d`, `h`, `min`, `s` and `ms`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_from_large_to_small() {
        let read = |text| Time::from_text(text).map(|time| time.0.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("5s"), Ok(5000));
        assert_eq!(read("1h30min"), Ok(5_400_000));
        assert_eq!(read("1d1h1min1s1ms"), Ok(90_061_001));
        for text in ["500ms", "5s", "1h30min", "1d1h1min1s1ms", "0s"] {
            assert_eq!(Time::from_text(text).map(|time| time.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "5", "5 s", "s", "5x", "1s1h", "1s1s", "1.5s", "-1s", "99999999999999999999d", "5ms ", "ä"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_familiar_unit_is_answered_with_ours() {
        assert_eq!(Time::from_text("5m").unwrap_err().help.as_deref(), Some("write \"5min\""));
        assert_eq!(Time::from_text("1h 30min").unwrap_err().part, Some(0..3));
    }
}
