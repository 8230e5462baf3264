//! Times as Ollama writes them (RFC 3339), and lengths of time as it reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// The longest that there is in Go, about 292 years: for ever.
pub(crate) const FOR_EVER: Duration = Duration::from_nanos(i64::MAX as u64);

/// Writes a time in UTC, to the microsecond.
pub(crate) fn write(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (mut year, mut day) = (1970, days);
    while day >= days_of_year(year) {
        day -= days_of_year(year);
        year += 1;
    }
    let mut month = 0;
    while day >= days_of_month(year, month) {
        day -= days_of_month(year, month);
        month += 1;
    }
    format!(
        "{year:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        month + 1,
        day + 1,
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn days_of_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: usize) -> u64 {
    let days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30].get(month).copied().unwrap_or(31);
    if month == 1 && is_leap(year) { 29 } else { days }
}

/// Reads `keep_alive` of a request: seconds, or a length such as `5m`; below zero is for ever.
pub(crate) fn keep_alive(value: &Value) -> Result<Duration, String> {
    match value {
        Value::Number(number) => Ok(of_seconds(number.as_f64().unwrap_or_default())),
        Value::String(text) => length(text).ok_or_else(|| format!("time: invalid duration {text:?}")),
        other => Err(format!("Unsupported type: '{other}'")),
    }
}

/// Reads `OLLAMA_KEEP_ALIVE`: a length, or seconds; five minutes where it is neither.
pub(crate) fn keep_alive_of_environment(text: Option<&str>) -> Duration {
    let seconds = |text: &str| text.parse().ok().map(of_seconds);
    text.and_then(|text| length(text).or_else(|| seconds(text))).unwrap_or(Duration::from_mins(5))
}

fn of_seconds(seconds: f64) -> Duration {
    if seconds < 0.0 { FOR_EVER } else { Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER) }
}

/// Reads a length as Go writes them: `1h2m3.5s`, `-1m`, `250ms`, `0`.
fn length(text: &str) -> Option<Duration> {
    let (is_negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match rest.get(..letters)? {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(letters..)?;
    }
    Some(if is_negative && seconds > 0.0 { FOR_EVER } else { of_seconds(seconds) })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::{FOR_EVER, keep_alive, keep_alive_of_environment, write};

    #[test]
    fn a_time_is_written_in_utc() {
        let at = |seconds| write(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000000Z");
    }

    #[test]
    fn lengths_are_read_as_they_are_written_in_requests_and_in_environments() {
        let of = |value| keep_alive(&value);
        assert_eq!(of(json!(0)), Ok(Duration::ZERO));
        assert_eq!(of(json!("0")), Ok(Duration::ZERO));
        assert_eq!(of(json!(2.5)), Ok(Duration::from_millis(2500)));
        assert_eq!(of(json!("1h2m3s")), Ok(Duration::from_secs(3723)));
        assert_eq!(of(json!("250ms")), Ok(Duration::from_millis(250)));
        assert_eq!(of(json!(-1)), Ok(FOR_EVER));
        assert_eq!(of(json!("-1m")), Ok(FOR_EVER));
        assert!(of(json!("5")).is_err(), "a text needs a unit");
        assert!(of(json!([])).is_err());
        assert_eq!(keep_alive_of_environment(None), Duration::from_mins(5));
        assert_eq!(keep_alive_of_environment(Some("90")), Duration::from_secs(90));
        assert_eq!(keep_alive_of_environment(Some("-1")), FOR_EVER);
    }
}
