//! Numbers for people: ages, durations, sizes, percentages, moments.

use jiff::Timestamp;
use jiff::tz::TimeZone;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Returns how long something has lasted, in its largest unit: `12d`, `2h`, `4m`, `30s`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        DAY.. => format!("{}d", seconds / DAY),
    }
}

/// Returns a measured time: `0.1s`, `14s`, `5min 12s`, `2h 5min`.
pub(crate) fn elapsed(milliseconds: u64) -> String {
    if milliseconds < 10_000 {
        return format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100);
    }
    limit(milliseconds / 1000 * 1000)
}

/// Returns a declared time in the manifest's spelling: `500ms`, `2s`, `5min`, `1min 30s`.
pub(crate) fn limit(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let units = [
        (seconds / HOUR, "h"),
        (seconds % HOUR / MINUTE, "min"),
        (seconds % MINUTE, "s"),
        (milliseconds % 1000, "ms"),
    ];
    let parts: Vec<_> =
        units.iter().filter(|(n, _)| *n > 0).take(2).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// Returns a number of bytes in at most four columns: `412M`, `1.1G`, `38M`, `950K`, `12B`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [('T', 40_u32), ('G', 30), ('M', 20), ('K', 10)];
    for (unit, shift) in units {
        // From a thousand of a unit on, the next one: `1000M` would take five columns.
        if bytes >= 1000 << (shift - 10) {
            let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
            return match (tenths < 100 && shift >= 30, tenths) {
                (true, tenths) => format!("{}.{}{unit}", tenths / 10, tenths % 10),
                (false, tenths) => format!("{}{unit}", (tenths + 5) / 10),
            };
        }
    }
    format!("{bytes}B")
}

/// Returns a share of a CPU as whole percents, without the sign.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}", share.max(0.0))
}

/// Returns the time of day of a moment: `14:02:32`.
pub(crate) fn time_of_day(at_usec: u64, zone: &TimeZone) -> String {
    let moment = i64::try_from(at_usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    moment.map_or_else(|| "--:--:--".to_owned(), |at| at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string())
}

/// Returns a moment with its day: `Nov 30 14:02:32`, always as wide.
pub(crate) fn date_and_time(at_usec: u64, zone: &TimeZone) -> String {
    let moment = i64::try_from(at_usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    let told = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%b %d %H:%M:%S").to_string();
    moment.map_or_else(|| "--- -- --:--:--".to_owned(), told)
}

/// Returns when something was, as short as it is clear: `14:02` today, `17 Nov` this year, else `17 Nov 2024`.
pub(crate) fn day(at: u64, now: u64, zone: &TimeZone) -> String {
    let zoned = |seconds: u64| {
        let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())?;
        Some(moment.to_zoned(zone.clone()))
    };
    let (Some(at), Some(now)) = (zoned(at), zoned(now)) else { return "at an unknown time".to_owned() };
    let form = if at.date() == now.date() {
        "%H:%M"
    } else if at.year() == now.year() {
        "%-d %b"
    } else {
        "%-d %b %Y"
    };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_at_most_four_columns() {
        let cases: [(u64, &str); 9] = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1K"),
            (412 << 20, "412M"),
            (38 << 20, "38M"),
            (1000 << 20, "1.0G"),
            (2 << 30, "2.0G"),
            (1_181_116_006, "1.1G"),
            (12 << 30, "12G"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert!((0..64).all(|shift| size(1 << shift).len() <= 9));
    }

    #[test]
    fn times_are_told_in_the_unit_that_matters() {
        assert_eq!([0, 59, 60, 7300, 1_036_900].map(age), ["0s", "59s", "1m", "2h", "12d"]);
        assert_eq!([0, 140, 3149, 14_900, 312_000].map(elapsed), ["0.0s", "0.1s", "3.1s", "14s", "5min 12s"]);
        assert_eq!([0, 500, 2000, 300_000, 90_000].map(limit), ["0s", "500ms", "2s", "5min", "1min 30s"]);
    }

    #[test]
    fn a_moment_is_told_as_short_as_it_is_clear() {
        let now = 1_763_647_200; // 2025-11-20 14:00 UTC
        let told = [3600, 3 * DAY, 400 * DAY].map(|ago| day(now - ago, now, &TimeZone::UTC));
        assert_eq!(told, ["13:00", "17 Nov", "16 Oct 2024"]);
        assert_eq!(time_of_day(now * 1_000_000 + 32_000_000, &TimeZone::UTC), "14:00:32");
    }
}
