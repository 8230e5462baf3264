//! A histogram of durations: how many took up to each bound, and how long all took together.

use std::time::Duration;

/// Bounds of what is computed or read, in microseconds: from a round of nothing to one that holds up everything.
pub(super) const SHORT: &[u64] =
    &[500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000];
/// Bounds of what systemd and guests do, in microseconds: from a written file to a long boot.
pub(super) const LONG: &[u64] = &[
    10_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// A histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Histogram {
    /// Upper bounds, rising, in microseconds.
    bounds: &'static [u64],
    /// How many fell into each bound and into none before; one more than `bounds`, for what is above them all.
    counts: Vec<u64>,
    /// How long all took, in microseconds.
    sum_usec: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum_usec: 0 }
    }

    /// Takes in one duration.
    pub(super) fn observe(&mut self, took: Duration) {
        let usec = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_usec = self.sum_usec.saturating_add(usec);
        let place = self.bounds.partition_point(|bound| *bound < usec);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns each bound with how many took up to it; `None` is the one above them all.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(&self.counts).scan(0_u64, |sum, (bound, count)| {
            *sum = sum.saturating_add(*count);
            Some((bound, *sum))
        })
    }

    /// Returns how many there were.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().copied().fold(0, u64::saturating_add)
    }

    /// Returns how long all took, in microseconds.
    pub(super) fn sum_usec(&self) -> u64 {
        self.sum_usec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_counts_what_took_as_long_or_less_and_the_last_one_counts_all() {
        let mut histogram = Histogram::new(&[10, 100]);
        for usec in [0, 10, 11, 100, 101, 1_000_000] {
            histogram.observe(Duration::from_micros(usec));
        }
        let all: Vec<_> = histogram.cumulative().collect();
        assert_eq!(all, [(Some(10), 2), (Some(100), 4), (None, 6)]);
        assert_eq!((histogram.count(), histogram.sum_usec()), (6, 1_000_222));
    }

    #[test]
    fn bounds_rise() {
        for bounds in [SHORT, LONG] {
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        }
    }
}
