//! One death of the agent: where it fell, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::model::Kind;
use super::trace::{Line, under_way};

/// Where in an operation the agent died.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// No step had begun.
    Before,
    /// These steps were under way; not empty.
    During(BTreeSet<String>),
    /// Some steps were done and others to come: a gate was waited for.
    Between,
    /// Every step was done; at most health was waited for.
    After,
}

impl Phase {
    /// Returns where the process `pid` died, by what it and its successors wrote.
    pub(crate) fn of(lines: &[Line], pid: &str) -> Self {
        let steps: BTreeSet<String> = under_way(lines, pid).into_iter().map(|(step, _)| step.to_owned()).collect();
        let (of_it, of_others): (Vec<_>, Vec<_>) =
            lines.iter().filter(|line| line.begins).partition(|line| line.pid == pid);
        if !steps.is_empty() {
            Self::During(steps)
        } else if of_it.is_empty() {
            Self::Before
        } else if of_others.is_empty() {
            Self::After
        } else {
            Self::Between
        }
    }

    /// Returns whether it fell between the first and the last step.
    pub(crate) fn is_inside(&self) -> bool {
        match self {
            Self::During(_) | Self::Between => true,
            Self::Before | Self::After => false,
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Before => "before the first".to_owned(),
            Self::During(steps) => steps.iter().cloned().collect::<Vec<_>>().join("+"),
            Self::Between => "between two".to_owned(),
            Self::After => "after the last".to_owned(),
        }
    }
}

/// One death.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// What was asked for.
    pub(crate) kind: Kind,
    /// Where it fell.
    pub(crate) phase: Phase,
    /// Time from the death until all was as desired.
    pub(crate) converged_in: Duration,
    /// Containers that were right at the time of death, all of which kept their invocation.
    pub(crate) kept: usize,
    /// Exit status of the `nixmoxctl` that had asked.
    pub(crate) client: i32,
}

/// Returns the table operation × phase, and what came of all.
pub(crate) fn histogram(points: &[Point]) -> String {
    let mut counts: BTreeMap<(Kind, &Phase), usize> = BTreeMap::new();
    for point in points {
        *counts.entry((point.kind, &point.phase)).or_default() += 1;
    }
    let mut text = format!("{:<14} {:<24} deaths\n", "operation", "steps under way");
    for kind in Kind::ALL {
        for ((_, phase), count) in counts.iter().filter(|((of, _), _)| *of == kind) {
            let _ = writeln!(text, "{:<14} {:<24} {count:>3} {}", kind.word(), phase.word(), "#".repeat(*count));
        }
    }
    let inside = points.iter().filter(|point| point.phase.is_inside()).count();
    let mut times: Vec<Duration> = points.iter().map(|point| point.converged_in).collect();
    times.sort();
    let at = |share: usize| times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or_default();
    let kept: usize = points.iter().map(|point| point.kept).sum();
    let clients = points.iter().filter(|point| point.client == 0).count();
    let _ = write!(
        text,
        "{} deaths, {inside} between the first and the last step; converged in {:.1?} (median), {:.1?} (longest);\n\
         {kept} containers were right at a death, and each kept its invocation; {clients} of {} clients saw it through",
        points.len(),
        at(50),
        at(100),
        points.len(),
    );
    text
}
