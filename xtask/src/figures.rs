//! Paired measurements: A, B, A, B, ... so that what slows the machine down meets both sides.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

/// Fewest pairs that a figure may stand on.
pub(crate) const PAIRS: usize = 7;

/// What one measurement promises not to exceed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Budget {
    /// Largest median that keeps the promise.
    pub(crate) limit: f64,
    /// Unit of `limit` and of the samples, as printed.
    pub(crate) unit: &'static str,
}

/// A figure with all its samples.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured, in one line.
    pub(crate) name: String,
    /// What was promised; `None` for a figure that stands for itself.
    pub(crate) budget: Option<Budget>,
    /// Samples in the order in which they were taken; for a pair, A divided by B. Never empty.
    pub(crate) samples: Vec<f64>,
    /// What limits the figure: machine, build, noise.
    pub(crate) note: String,
}

impl Figure {
    /// Middle sample.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// Smallest and largest sample.
    pub(crate) fn spread(&self) -> (f64, f64) {
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }

    /// Tells whether the median keeps the promise; a figure without one does.
    pub(crate) fn within_budget(&self) -> bool {
        self.budget.is_none_or(|budget| self.median() <= budget.limit)
    }
}

/// Runs `a` and `b` in turn and gives what they measured, pair by pair. The first pair warms up and does not count.
pub(crate) fn pairs<T, E>(
    count: usize,
    mut a: impl FnMut() -> Result<T, E>,
    mut b: impl FnMut() -> Result<T, E>,
) -> Result<Vec<(T, T)>, E> {
    a()?;
    b()?;
    (0..count.max(PAIRS)).map(|_| Ok((a()?, b()?))).collect()
}

/// Returns A divided by B for each pair.
pub(crate) fn quotients(pairs: impl IntoIterator<Item = (Duration, Duration)>) -> Vec<f64> {
    pairs.into_iter().map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect()
}

/// Renders figures as a table in Markdown.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut text = String::from("| figure | median | spread | budget | samples |\n|---|---|---|---|---|\n");
    for figure in figures {
        let (least, most) = figure.spread();
        let budget = figure.budget.map_or_else(
            || "-".to_owned(),
            |budget| {
                let verdict = if figure.within_budget() { "kept" } else { "MISSED" };
                format!("{} {} ({verdict})", budget.limit, budget.unit)
            },
        );
        let _ = writeln!(
            text,
            "| {} | {:.3} | {least:.3} to {most:.3} | {budget} | {} |",
            figure.name,
            figure.median(),
            figure.samples.len()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Budget, Figure, pairs, quotients};
    use std::time::Duration;

    fn figure(samples: &[f64]) -> Figure {
        let budget = Some(Budget { limit: 2.0, unit: "s" });
        Figure { name: "f".to_owned(), budget, samples: samples.to_vec(), note: String::new() }
    }

    #[test]
    fn the_median_decides_about_the_budget() {
        assert!(figure(&[9.0, 1.0, 2.0]).within_budget());
        assert!(!figure(&[9.0, 1.0, 2.1]).within_budget());
        assert!(figure(&[1.0, 3.0]).within_budget());
        assert!(!figure(&[]).within_budget());
    }

    #[test]
    fn pairs_alternate_and_leave_the_warm_up_out() {
        let order = std::cell::RefCell::new(String::new());
        let run = |name: char, millis| {
            order.borrow_mut().push(name);
            Ok::<_, ()>(Duration::from_millis(millis))
        };
        let samples = pairs(7, || run('a', 3), || run('b', 2)).expect("nothing fails");
        assert_eq!(order.into_inner(), "ab".repeat(8));
        assert_eq!(quotients(samples), [1.5; 7]);
    }
}
