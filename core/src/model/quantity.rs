//! Quantities with units: bytes, shares of a CPU, weights.

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Written `512M`, `2G`, `1.5G` or a plain number; `K M G T` are powers of 1024, as in systemd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A share of CPU time, in microseconds per second of wall time (`CPUQuotaPerSecUSec` of systemd).
///
/// Written `150%`: one and a half CPUs. At least 1 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuQuota(u64);

/// A weight as cgroup v2 has it: 1 to 10000, default 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

/// A text or number that is not the quantity asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidQuantity {
    /// The refused text.
    pub text: String,
    /// What was expected, with an example.
    pub expected: &'static str,
}

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity { text: text.to_owned(), expected: "a size such as 512M or 2G" };
        let (number, shift) = match UNITS.iter().find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        {
            Some(found) => found,
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |part: &str| part.chars().all(|c| c.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || (shift == 0 && number.contains('.')) {
            return Err(invalid());
        }
        if number.ends_with('.') || fraction.len() > 9 {
            return Err(invalid());
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
        let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| invalid())?;
        let bytes = digits.checked_mul(1_u128 << shift).ok_or_else(invalid)? / scale;
        // u64::MAX means "no limit" on systemd's side, which is said by leaving the key out.
        u64::try_from(bytes).ok().filter(|bytes| *bytes < u64::MAX).map(Self).ok_or_else(invalid)
    }
}

impl Bytes {
    /// Returns the size for people, with one digit after the point, such as `7.5G`.
    #[must_use]
    pub fn roughly(self) -> String {
        let units = [(40, 'T'), (30, 'G'), (20, 'M')];
        let (shift, unit) = units.into_iter().find(|(shift, _)| self.0 >> shift > 0).unwrap_or((20, 'M'));
        let tenths = ((self.0 >> (shift - 10)).saturating_mul(10).saturating_add(512)) >> 10;
        match tenths % 10 {
            0 => format!("{}{unit}", tenths / 10),
            rest => format!("{}.{rest}{unit}", tenths / 10),
        }
    }
}

impl fmt::Display for Bytes {
    /// Writes the exact value in the largest unit that divides it: reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in UNITS {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return f.pad(&format!("{}{unit}", self.0 >> shift));
            }
        }
        f.pad(&self.0.to_string())
    }
}

impl CpuQuota {
    /// Returns the quota that systemd reports as `CPUQuotaPerSecUSec`; `None` below 1 % or for "no limit".
    #[must_use]
    pub fn from_usec_per_sec(usec: u64) -> Option<Self> {
        (10_000..u64::MAX).contains(&usec).then_some(Self(usec))
    }

    /// Returns microseconds of CPU time per second.
    #[must_use]
    pub fn usec_per_sec(self) -> u64 {
        self.0
    }
}

impl FromStr for CpuQuota {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let percent = text.strip_suffix('%').and_then(|number| number.parse::<u64>().ok());
        percent.and_then(|percent| Self::from_usec_per_sec(percent.checked_mul(10_000)?)).ok_or_else(|| {
            InvalidQuantity { text: text.to_owned(), expected: "a share of CPU time such as 50% or 150%" }
        })
    }
}

impl fmt::Display for CpuQuota {
    /// Writes the exact value; a fraction can only come from outside.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10_000 {
            0 => f.pad(&format!("{}%", self.0 / 10_000)),
            fraction => {
                let digits = format!("{fraction:04}");
                f.pad(&format!("{}.{}%", self.0 / 10_000, digits.trim_end_matches('0')))
            }
        }
    }
}

impl Weight {
    /// Returns the weight as a number from 1 to 10000.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u64> for Weight {
    type Error = InvalidQuantity;

    fn try_from(number: u64) -> Result<Self, InvalidQuantity> {
        match u16::try_from(number) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(InvalidQuantity { text: number.to_string(), expected: "a weight from 1 to 10000" }),
        }
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_read_back() {
        assert_eq!("2G".parse(), Ok(Bytes(2 << 30)));
        assert_eq!("1.5K".parse(), Ok(Bytes(1536)));
        assert_eq!("17".parse(), Ok(Bytes(17)));
        for size in [0, 1, 1023, 1024, 1536 << 20, 3 << 40, u64::MAX - 1] {
            assert_eq!(Bytes(size).to_string().parse(), Ok(Bytes(size)));
        }
    }

    #[test]
    fn refuses_sizes_that_are_not_numbers() {
        for text in ["", "G", "-1", "1.", ".5G", "1.5", "2GB", "2 G", "99999999999T", "0x10"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_quota_is_at_least_one_percent() {
        assert_eq!("150%".parse::<CpuQuota>().map(CpuQuota::usec_per_sec), Ok(1_500_000));
        assert!("0%".parse::<CpuQuota>().is_err());
        assert!("1.5".parse::<CpuQuota>().is_err());
    }
}
