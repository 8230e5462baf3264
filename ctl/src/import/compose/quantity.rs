//! Sizes and times as Compose writes them, and as the manifest does.

use crate::import::toml::Toml;

/// Returns the bytes that a size means: `512m`, `1.5gb`, `1024`. Compose's units are powers of 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits)?.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    scaled(digits.trim_end(), 1 << shift)
}

/// Returns `number` times `factor`, exact to a thousandth, without floating point.
pub(super) fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let thousandths: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let part = u128::from(factor) * u128::from(thousandths) / 1000;
    whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

/// Returns the milliseconds that a time means: `1m30s`, `500ms`, `1.5h`, or a bare number of seconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    if let Some(seconds) = scaled(rest, 1000) {
        return Some(seconds);
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let part = match unit {
            "ns" => scaled(number, 1)? / 1_000_000,
            "us" | "µs" => scaled(number, 1)? / 1000,
            "ms" => scaled(number, 1)?,
            "s" => scaled(number, 1000)?,
            "m" => scaled(number, 60_000)?,
            "h" => scaled(number, 3_600_000)?,
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = next;
    }
    Some(total)
}

/// Returns a time as the manifest writes it: `1min30s`.
pub(in crate::import) fn duration(milliseconds: u64) -> String {
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)] {
        if rest >= size {
            text.extend([&(rest / size).to_string(), unit]);
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Returns a size as the manifest writes it: with the largest unit that leaves a whole number.
pub(in crate::import) fn size(bytes: u64) -> Toml {
    for (unit, shift) in [("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift).into();
        }
    }
    Toml::Int(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let of = |text| bytes(text).map(|bytes| size(bytes).to_string());
        for (text, expected) in
            [("512m", "\"512M\""), ("1.5gb", "\"1536M\""), ("2GiB", "\"2G\""), ("1024", "\"1K\""), ("1000", "1000")]
        {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.2.3", "99999999999t"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_from_large_to_small() {
        let of = |text| milliseconds(text).map(duration);
        for (text, expected) in [
            ("1m30s", "1min30s"),
            ("500ms", "500ms"),
            ("1.5h", "1h30min"),
            ("10", "10s"),
            ("90s", "1min30s"),
            ("0s", "0s"),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "x", "1y", "-1s", "s"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
