//! A build as text, while it goes on and when it is done.
//!
//! ```text
//! building 3 of 12, fetched 5 of 40 paths, 12M of 80M   14s
//!   nixos-system-web-25.11  installPhase  12s
//!   linux-firmware          fetching 12M of 300M  3s
//! ```

use super::quantity::{elapsed, size};
use super::style::{Paint, Style};
use super::text;
use crate::build::{Amount, Log, Work};
use crate::output::Size;

/// The columns of a name that are shown at most.
const NAME_MAX: usize = 40;
/// The lines of works that are shown at most: the others are counted.
const WORKS_MAX: usize = 8;

/// Returns the lines of a build that goes on, none wider than the screen. `verb` says what nix does before that can be counted, `about` what to.
pub(crate) fn build(
    log: &Log,
    verb: &str,
    about: &[String],
    now_ms: u64,
    screen: Size,
    style: Style,
) -> Vec<String> {
    let head = text::cut(&format!("{}   {}", doing(log, verb, about), elapsed(now_ms)), screen.width);
    let mut lines = vec![style.paint(Paint::Bold, &head)];
    let works = log.works();
    let room = screen.height.saturating_sub(3).clamp(1, WORKS_MAX);
    let hidden = if works.len() > room { works.len() - room + 1 } else { 0 };
    let shown = works.get(..works.len() - hidden).unwrap_or_default();
    let names = shown.iter().map(|work| text::width(&name(work))).max().unwrap_or(0);
    for work in shown {
        let since = elapsed(now_ms.saturating_sub(work.since_ms));
        let line = format!("  {}  {}", text::left(&name(work), names), [at(work), since].join("  ").trim_start());
        lines.push(text::cut(&line, screen.width));
    }
    if hidden > 0 {
        lines.push(style.paint(Paint::Dim, &format!("  and {hidden} more")));
    }
    lines
}

/// Returns the same in one line.
pub(crate) fn build_line(log: &Log, verb: &str, about: &[String], now_ms: u64) -> String {
    let works: Vec<String> = log.works().into_iter().take(3).map(name).collect();
    let works = if works.is_empty() { String::new() } else { format!(": {}", works.join(", ")) };
    format!("{} for {}{works}\n", doing(log, verb, about), elapsed(now_ms))
}

/// Returns what was done, in one line; `None`: nothing was.
pub(crate) fn build_summary(log: &Log, took_ms: u64) -> Option<String> {
    let (builds, paths) = (log.builds().done, log.paths().done);
    let built = (builds > 0).then(|| format!("built {}", text::counted(whole(builds), "derivation")));
    let fetched = (paths > 0).then(|| {
        let bytes = log.bytes().done;
        let bytes = if bytes > 0 { format!(" ({})", size(bytes)) } else { String::new() };
        format!("fetched {}{bytes}", text::counted(whole(paths), "path"))
    });
    let parts: Vec<String> = [built, fetched].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{} in {}\n", parts.join(", "), elapsed(took_ms)))
}

/// Returns what nix does, and how far it is.
fn doing(log: &Log, verb: &str, about: &[String]) -> String {
    let (builds, paths) = (log.builds(), log.paths());
    let of = |amount: Amount| format!("{} of {}", amount.done, amount.expected);
    let built = (builds.expected > 0).then(|| format!("building {}", of(builds)));
    let fetched = (paths.expected > 0).then(|| format!("fetched {} paths", of(paths)));
    let bytes = log.bytes();
    let bytes = (bytes.expected > 0).then(|| format!("{} of {}", size(bytes.done), size(bytes.expected)));
    let parts: Vec<String> = [built, fetched].into_iter().flatten().collect();
    let parts = if parts.is_empty() { vec![format!("{verb} {}", text::clean(&about.join(", ")))] } else { parts };
    parts.into_iter().chain(bytes).collect::<Vec<_>>().join(", ")
}

fn name(work: &Work) -> String {
    text::cut(&text::clean(&work.name), NAME_MAX)
}

/// Returns what a work is at.
fn at(work: &Work) -> String {
    match (work.is_fetched, work.bytes.expected) {
        (true, 0) => "fetching".to_owned(),
        (true, expected) => format!("fetching {} of {}", size(work.bytes.done), size(expected)),
        (false, _) => text::clean(work.phase.as_deref().unwrap_or_default()),
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
