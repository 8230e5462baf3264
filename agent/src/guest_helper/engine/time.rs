//! Times as Ollama writes them: RFC 3339, with a fraction and a zone of its own.

/// What ends after this, in microseconds since 1970, stays for good: the beginning of 2200. Ollama counts that as 292 years from the last request, so
/// that it moves with each of them.
pub(crate) const FOR_EVER: u64 = 7_258_118_400_000_000;
/// The first year that is told. Before it is what Go writes for no time, and for 1970 while a model is loaded.
const FIRST_YEAR: i64 = 2000;
/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// Returns when something ends, in microseconds since 1970, see also [`FOR_EVER`]; `None`: that is not known.
pub(super) fn expiry(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-');
    let mut next = |length: usize| digits(date.next()?, length);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if year < FIRST_YEAR || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at_checked(zone_at)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':');
    let mut next = || digits(time.next()?, 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_1970(year, month, day)
        .checked_mul(86_400)?
        .checked_add(hour * 3600 + minute * 60 + second)?
        .checked_sub(offset(zone)?)?;
    let usec = seconds.checked_mul(SECOND)?.checked_add(microseconds(fraction)?)?;
    u64::try_from(usec).ok()
}

/// Returns a number of exactly so many digits.
fn digits(text: &str, length: usize) -> Option<i64> {
    let is_one = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_one { text.parse().ok() } else { None }
}

/// Returns the microseconds of a fraction of a second of any length.
fn microseconds(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
    six.parse().ok()
}

/// Returns how many seconds a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, zone) =
        zone.strip_prefix('+').map(|zone| (1, zone)).or_else(|| Some((-1, zone.strip_prefix('-')?)))?;
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 { None } else { Some(sign * (hours * 3600 + minutes * 60)) }
}

/// Returns the days from 1970 on, of years of at most four digits: 400 years have 146097, and a year begins in March here.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_fraction_and_zone() {
        let second = 1_000_000;
        assert_eq!(expiry("2000-03-01T00:00:00Z"), Some(951_868_800 * second));
        assert_eq!(expiry("2024-02-29T23:59:59.5Z"), Some(1_709_251_199 * second + 500_000));
        assert_eq!(expiry("2026-11-30T23:39:02.123456789-07:00"), Some(1_796_107_142 * second + 123_456));
        assert_eq!(expiry("2026-12-01T08:39:02.000000001+02:00"), Some(1_796_107_142 * second));
    }

    #[test]
    fn what_is_far_away_is_for_ever() {
        assert_eq!(expiry("2200-01-01T00:00:00Z"), Some(FOR_EVER));
        for never in ["2318-09-05T01:23:45.678+02:00", "9999-12-31T23:59:59Z"] {
            assert!(expiry(never).is_some_and(|at| at > FOR_EVER), "{never}");
        }
        assert!(expiry("2318-09-05T01:23:46Z") > expiry("2318-09-05T01:23:45Z"));
        assert!(expiry("2199-12-31T23:59:59Z").is_some_and(|at| at < FOR_EVER));
    }

    #[test]
    fn no_time_is_none() {
        for none in [
            "0001-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "",
            "T",
            "2026-11-30",
            "2026-11-30T23:39:02",
            "2026-13-30T23:39:02Z",
            "2026-11-30T24:39:02Z",
            "2026-11-30T23:39:02.Z",
            "2026-11-30T23:39:02+7",
            "2026-11-30T23:39:02+99:99",
            "+026-11-30T23:39:02Z",
            "99999999999999999999-11-30T23:39:02Z",
        ] {
            assert_eq!(expiry(none), None, "{none:?}");
        }
    }
}
