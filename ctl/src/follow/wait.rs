//! How long a command waits for what it asked for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// How long a command waits.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Wait {
    /// Do not wait for the outcome
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Fail when it takes longer, such as 90s or 10min; the work goes on
    #[arg(long, value_name = "TIME", conflicts_with = "detach")]
    pub(crate) timeout: Option<Timeout>,
}

/// A time limit from the command line: a number with `s`, `min` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(pub(crate) Duration);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.strip_prefix(digits) {
            Some("s") => Some(1),
            Some("m" | "min") => Some(60),
            Some("h") => Some(3600),
            Some(_) | None => None,
        };
        let seconds = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
        // A year is as good as for ever, and the clock can count it.
        let seconds = seconds.filter(|seconds| (1..=31_536_000).contains(seconds));
        seconds
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or_else(|| "expected a time such as 90s, 10min or 1h".to_owned())
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&crate::render::limit(self.0.as_secs().saturating_mul(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_limit_has_a_unit_and_an_end() {
        let seconds = |text: &str| text.parse::<Timeout>().map(|timeout| timeout.0.as_secs()).ok();
        assert_eq!(["90s", "10min", "10m", "1h"].map(seconds), [Some(90), Some(600), Some(600), Some(3600)]);
        assert_eq!(["", "90", "s", "0s", "-1s", "1d", "99999999999999h"].map(seconds), [None; 7]);
    }
}
