//! How often `top` asks.

use std::str::FromStr;
use std::time::Duration;

/// The time between two samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval(pub(crate) Duration);

/// The shortest: below it, figures say more about ticks of the kernel than about services.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_hours(1);

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits) {
            Some("ms") => Some(0.001),
            Some("" | "s") => Some(1.0),
            Some("min") => Some(60.0),
            Some(_) | None => None,
        };
        let seconds = unit.and_then(|unit| Some(digits.parse::<f64>().ok()? * unit));
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.filter(|time| (SHORTEST..=LONGEST).contains(time))
            .map(Self)
            .ok_or_else(|| "expected seconds, or a time such as 500ms or 1min; from 100ms to 60min".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_in_seconds_unless_it_says_otherwise() {
        let millis = |text: &str| text.parse::<Interval>().map(|interval| interval.0.as_millis()).ok();
        let told = ["2", "0.5", "500ms", "5s", "1min"].map(millis);
        assert_eq!(told, [Some(2000), Some(500), Some(500), Some(5000), Some(60_000)]);
        assert_eq!(["", "0", "-1", "s", "nan", "inf", "1e99", "50ms", "2h"].map(millis), [None; 9]);
    }
}
