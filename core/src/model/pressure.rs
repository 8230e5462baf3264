//! How long tasks may wait for something before a service counts as not well.

use std::fmt;
use std::str::FromStr;

use super::quantity::InvalidQuantity;

/// A share of time in whole percents, 1 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

/// Pressures above which a health check fails: how much of the last ten seconds at least one task of the service waited (`some`, `avg10`;
/// kernel, accounting/psi). `None`: any pressure is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureMax {
    /// For a CPU.
    pub cpu: Option<Percent>,
    /// For memory: to be reclaimed, or read back.
    pub memory: Option<Percent>,
    /// For IO.
    pub io: Option<Percent>,
}

impl PressureMax {
    /// Returns whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns what is above its maximum, in one line; `None`: nothing. `cpu`, `memory` and `io` are shares in percent; `None`: the kernel
    /// has no such figure, which is never above.
    #[must_use]
    pub fn exceeded(&self, cpu: Option<f64>, memory: Option<f64>, io: Option<f64>) -> Option<String> {
        let kinds = [("cpu", self.cpu, cpu), ("memory", self.memory, memory), ("io", self.io, io)];
        let above = kinds.into_iter().filter_map(|(kind, most, share)| {
            let (most, share) = (most?, share?);
            // Rounded up, so that it reads as above what it is above.
            (share > f64::from(most.0))
                .then(|| format!("{kind} pressure {:.0}% (some, avg10) above {most}", share.ceil()))
        });
        let above: Vec<String> = above.collect();
        (!above.is_empty()).then(|| above.join(", "))
    }
}

/// Writes `cpu 80%, memory 20%`; nothing where nothing is asked.
impl fmt::Display for PressureMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("cpu", self.cpu), ("memory", self.memory), ("io", self.io)];
        let told: Vec<String> =
            kinds.iter().filter_map(|(kind, most)| Some(format!("{kind} {}", (*most)?))).collect();
        f.write_str(&told.join(", "))
    }
}

impl Percent {
    /// Returns the number of percents.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for Percent {
    type Error = InvalidQuantity;

    fn try_from(number: u64) -> Result<Self, InvalidQuantity> {
        match u8::try_from(number) {
            Ok(percent @ 1..=99) => Ok(Self(percent)),
            _ => Err(InvalidQuantity { text: number.to_string(), expected: "a share from 1% to 99%" }),
        }
    }
}

impl FromStr for Percent {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let read =
            digits.and_then(|digits| digits.parse::<u64>().ok()).and_then(|number| Self::try_from(number).ok());
        read.ok_or_else(|| InvalidQuantity { text: text.to_owned(), expected: "a share from 1% to 99%" })
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_is_told_and_what_is_not_known_is_not_above() {
        let percent = |text: &str| text.parse::<Percent>().ok();
        let most = PressureMax { cpu: percent("80%"), memory: percent("20%"), io: None };
        assert_eq!(most.to_string(), "cpu 80%, memory 20%");
        let memory = "memory pressure 34% (some, avg10) above 20%";
        assert_eq!(most.exceeded(Some(80.0), Some(33.2), Some(100.0)).as_deref(), Some(memory));
        let both = format!("cpu pressure 81% (some, avg10) above 80%, {memory}");
        assert_eq!(most.exceeded(Some(80.01), Some(34.0), None), Some(both));
        assert_eq!(most.exceeded(None, None, None), None);
        assert_eq!(PressureMax::default().exceeded(Some(100.0), Some(100.0), Some(100.0)), None);
    }

    #[test]
    fn a_share_is_more_than_nothing_and_less_than_all() {
        assert_eq!("99%".parse::<Percent>().map(Percent::get), Ok(99));
        for text in ["0%", "100%", "20", "-1%", "+1%", "1.5%", "%", "", "20 %", "300%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }
}
