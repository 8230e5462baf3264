//! Moments as people type them: `10min ago`, `-1h`, `today`, `2026-11-30 14:00`, RFC 3339 (systemd.time(7)).

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::context::Moment;

/// What is accepted, for complaints.
const FORMS: &str = "such as `10min ago`, `-1h`, `today`, `14:00`, `2026-11-30 14:00` or `2026-11-30T14:00:00Z`";

/// Why a text is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no moment")]
pub(crate) struct NoMoment {
    text: String,
}

impl NoMoment {
    /// Returns what would be one.
    pub(crate) fn hint() -> String {
        FORMS.to_owned()
    }
}

/// Returns the moment in microseconds since 1970. What was before 1970 is 1970.
pub(crate) fn parse(text: &str, now: &Moment) -> Result<u64, NoMoment> {
    let none = || NoMoment { text: text.to_owned() };
    let at =
        i64::try_from(now.at_usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok()).ok_or_else(none)?;
    let moment = moment(text.trim(), &at.to_zoned(now.zone.clone())).ok_or_else(none)?;
    Ok(u64::try_from(moment.as_microsecond()).unwrap_or(0))
}

fn moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    let midnight = |days: i64| {
        let date = now.date().checked_add(SignedDuration::from_hours(days * 24)).ok()?;
        Some(date.to_zoned(now.time_zone().clone()).ok()?.timestamp())
    };
    let from_now = |span: &str, sign: i32| now.timestamp().checked_add(duration(span)? * sign).ok();
    match text {
        "now" => return Some(now.timestamp()),
        "today" => return midnight(0),
        "yesterday" => return midnight(-1),
        "tomorrow" => return midnight(1),
        _ => {}
    }
    if let Some(span) = text.strip_suffix(" ago") {
        return from_now(span, -1);
    }
    if let Some(span) = text.strip_prefix('-') {
        return from_now(span, -1);
    }
    if let Some(span) = text.strip_prefix('+') {
        return from_now(span, 1);
    }
    if let Some(seconds) = text.strip_prefix('@') {
        return since_1970(seconds);
    }
    // As Compose has it: `10m` is that long ago. A number alone is none.
    if text.ends_with(|last: char| last.is_ascii_alphabetic()) && duration(text).is_some() {
        return from_now(text, -1);
    }
    // RFC 3339: with a zone of its own.
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let (text, zone) = match text.strip_suffix(" UTC") {
        Some(text) => (text, TimeZone::UTC),
        None => (text, now.time_zone().clone()),
    };
    let civil = match text.split_once([' ', 'T']) {
        Some((date, time)) => DateTime::from_parts(self::date(date)?, self::time(time)?),
        None if text.contains(':') => DateTime::from_parts(now.with_time_zone(zone.clone()).date(), time(text)?),
        None => DateTime::from_parts(date(text)?, Time::midnight()),
    };
    Some(civil.to_zoned(zone).ok()?.timestamp())
}

fn date(text: &str) -> Option<Date> {
    // jiff reads more than dates as a date, such as a date with a time.
    (text.len() == "2026-11-30".len()).then(|| text.parse().ok())?
}

fn time(text: &str) -> Option<Time> {
    text.parse().ok()
}

fn since_1970(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = fraction.len() <= 6 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let fraction = format!("{fraction:0<6}").parse::<i64>().ok().filter(|_| digits)?;
    let usec = seconds.parse::<i64>().ok().filter(|seconds| *seconds >= 0)?.checked_mul(1_000_000)?;
    Timestamp::from_microsecond(usec.checked_add(fraction)?).ok()
}

/// Reads a span of time: numbers with units, `1h 30min` (systemd.time(7), "Parsing Time Spans").
fn duration(text: &str) -> Option<SignedDuration> {
    let mut total = SignedDuration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let seconds: i64 = match unit {
            "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            // As systemd counts them.
            "M" | "month" | "months" => 2_629_800,
            "y" | "year" | "years" => 31_557_600,
            _ => return None,
        };
        let part = number.parse::<i64>().ok()?.checked_mul(seconds)?;
        total = total.checked_add(SignedDuration::from_secs(part))?;
        rest = after.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 30 November 2026, 15:30:00 in Berlin.
    const NOW: u64 = 1_796_049_000_000_000;

    fn told(text: &str) -> String {
        let zone = TimeZone::fixed(jiff::tz::Offset::constant(1));
        match parse(text, &Moment { at_usec: NOW, zone: zone.clone() }) {
            Ok(usec) => {
                let at = Timestamp::from_microsecond(i64::try_from(usec).unwrap()).unwrap();
                at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn moments_are_read_as_systemd_reads_them() {
        let cases = [
            ("now", "2026-11-30 15:30:00"),
            ("today", "2026-11-30 00:00:00"),
            ("yesterday", "2026-11-29 00:00:00"),
            ("10min ago", "2026-11-30 15:20:00"),
            ("1h 30min ago", "2026-11-30 14:00:00"),
            ("1h30m ago", "2026-11-30 14:00:00"),
            ("2 days ago", "2026-11-28 15:30:00"),
            ("-1h", "2026-11-30 14:30:00"),
            ("10m", "2026-11-30 15:20:00"),
            ("1h30m", "2026-11-30 14:00:00"),
            ("+5min", "2026-11-30 15:35:00"),
            ("14:00", "2026-11-30 14:00:00"),
            ("14:00:07", "2026-11-30 14:00:07"),
            ("2026-11-01", "2026-11-01 00:00:00"),
            ("2026-11-30 14:00", "2026-11-30 14:00:00"),
            ("2026-11-30T14:00:00", "2026-11-30 14:00:00"),
            ("2026-11-30 14:00 UTC", "2026-11-30 15:00:00"),
            ("2026-11-30T14:00:00Z", "2026-11-30 15:00:00"),
            ("2026-11-30T14:00:00+02:00", "2026-11-30 13:00:00"),
            ("@0", "1970-01-01 01:00:00"),
            ("@1796049000.5", "2026-11-30 15:30:00"),
            ("100y ago", "1970-01-01 01:00:00"),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "soon",
            "ago",
            "10",
            "10 ago",
            "-",
            "10x ago",
            "25:00",
            "2026-13-01",
            "@x",
            "@-1",
            "@1.0000001",
            "99999999999y ago",
        ] {
            assert_eq!(told(bad), format!("`{bad}` is no moment"));
        }
    }
}
