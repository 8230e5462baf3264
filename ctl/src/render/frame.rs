//! Progress on a terminal: one block that is drawn anew in place, a line or two per service.

use nixmox_api::{ServiceState, ServiceStatus};

use super::failure::probe;
use super::quantity::{elapsed, limit};
use super::state;
use super::style::{Paint, Style};
use super::text;
use crate::output::Size;
use crate::progress::{Phase, Progress, Task, Verdict, milliseconds};

/// The column at which times end: near the text, also on a wide terminal.
const TIMES_END: usize = 76;

/// The columns of the longest word for a change.
const CHANGE: usize = 9;

/// The least columns in which a reason is of any use.
const REASON_MIN: usize = 12;

/// The columns of a name that are shown at most.
const NAME_MAX: usize = 30;

/// Returns the block as lines, none wider than the screen, together lower than the screen.
pub(crate) fn frame(progress: &Progress, now_usec: u64, size: Size, style: Style) -> Vec<String> {
    let names = progress.tasks().iter().map(|task| text::width(&task.name));
    let layout = Layout { name: names.max().unwrap_or(0).min(NAME_MAX), width: size.width, style };
    let blocks: Vec<(Verdict, Vec<String>)> = progress
        .tasks()
        .iter()
        .map(|task| (progress.verdict(task), layout.task(progress, task, now_usec)))
        .collect();
    // One row stays free for what stands below, one for the cursor.
    let rows = size.height.saturating_sub(2).max(1);
    let total: usize = blocks.iter().map(|(_, lines)| lines.len()).sum();
    if total <= rows {
        return blocks.into_iter().flat_map(|(_, lines)| lines).collect();
    }
    let of_interest = blocks.iter().filter(|(verdict, _)| *verdict != Verdict::Reached);
    let mut lines: Vec<String> = of_interest.flat_map(|(_, lines)| lines.clone()).take(rows - 1).collect();
    let reached = blocks.iter().filter(|(verdict, _)| *verdict == Verdict::Reached).count();
    lines.push(format!("  {} of {} are as asked for", reached, text::counted(blocks.len(), "service")));
    lines
}

struct Layout {
    name: usize,
    width: usize,
    style: Style,
}

impl Layout {
    fn task(&self, progress: &Progress, task: &Task, now: u64) -> Vec<String> {
        let status = progress.status(task);
        let verdict = progress.verdict(task);
        let proven = verdict == Verdict::Failed && (progress.is_proven(task) || task.is_unchanged());
        let (symbol, paint) = match (status, proven) {
            (_, true) => ("✗", Paint::Bad),
            (Some(status), false) if task.is_unchanged() => {
                let (symbol, _word, paint) = state::of_state(status.state);
                (symbol, paint)
            }
            (_, false) => state::of_change(&task.change),
        };
        let name = text::left(&text::cut(&text::clean(&task.name), self.name), self.name);
        let change = text::left(&text::cut(&text::clean(&task.change), CHANGE), CHANGE);
        let indent = self.name + 4;
        let time = took(progress, task).map(elapsed).unwrap_or_default();
        let end = self.width.min(TIMES_END);
        let room = end.saturating_sub(indent + CHANGE + 2);
        let text_room = if time.is_empty() { self.width.saturating_sub(indent + CHANGE + 2) } else { room };
        let said = said(progress, task, now, text_room.saturating_sub(time.len() + 1));
        let line = if time.is_empty() {
            said
        } else {
            format!("{}{time}", text::left(&said, room.saturating_sub(time.len())))
        };
        let line = format!("{} {name}  {change}  {line}", self.style.paint(paint, symbol));
        let mut lines = vec![line.trim_end().to_owned()];
        let waiting = status.filter(|status| status.state == ServiceState::Starting && !task.is_unchanged());
        if let Some(probe) = waiting.map(probe).filter(|probe| !probe.is_empty()) {
            let probe = text::cut(&format!("waiting: {}", text::clean(&probe)), self.width.saturating_sub(indent));
            lines.push(format!("{}{}", " ".repeat(indent), self.style.paint(Paint::Dim, &probe)));
        }
        lines
    }
}

/// How long a task that is at its end took, in milliseconds.
fn took(progress: &Progress, task: &Task) -> Option<u64> {
    match task.phase {
        // A live change is one event: it began when it was asked for.
        Phase::Live => milliseconds(Some(progress.begun_usec()), task.times.phase?),
        Phase::Healthy | Phase::Completed | Phase::Stopped | Phase::Removed => {
            milliseconds(task.times.begun, task.times.phase?)
        }
        Phase::Quiet | Phase::Stopping | Phase::Starting | Phase::Started | Phase::Unhealthy | Phase::Failed => {
            None
        }
    }
}

/// Why it is done and how far it is, in at most so many columns: where both have no room, how far it is.
fn said(progress: &Progress, task: &Task, now: u64, room: usize) -> String {
    let status = progress.status(task);
    if task.is_unchanged() {
        return text::cut(status.map_or("", |status| status.state.word()), room);
    }
    let reasons = text::clean(&task.reasons.join(", "));
    let phase = text::clean(&phase(progress, task, status, now));
    let left = room.saturating_sub(text::width(&phase) + 2);
    match (reasons.is_empty(), phase.is_empty()) {
        (false, false) if left >= REASON_MIN => format!("{}; {phase}", text::cut(&reasons, left)),
        (false, true) => text::cut(&reasons, room),
        (_, _) => text::cut(&phase, room),
    }
}

fn phase(progress: &Progress, task: &Task, status: Option<&ServiceStatus>, now: u64) -> String {
    let times = task.times;
    let since = |from: Option<u64>| milliseconds(from, now).map(elapsed).unwrap_or_default();
    let started = match times.started.and_then(|at| milliseconds(times.starting, at)) {
        Some(took) => format!("started {}", elapsed(took)),
        None => "started".to_owned(),
    };
    match task.phase {
        Phase::Quiet => match progress.verdict(task) {
            Verdict::Blocked if progress.waits_for_gpu(task) => {
                status.map_or_else(String::new, |it| it.reason.clone())
            }
            Verdict::Blocked => format!("not started: {} failed", progress.blockers(task).join(", ")),
            Verdict::Pending | Verdict::Reached | Verdict::Failed => waits(status),
        },
        Phase::Stopping => format!("stopping {}", since(times.stopping)),
        Phase::Starting => format!("starting {}", since(times.starting)),
        Phase::Started if status.is_some_and(|status| status.job) => {
            format!("{started}, runs for {}", since(times.started))
        }
        Phase::Started => match status.map_or(0, |status| status.start_period_ms) {
            0 => format!("{started}, health {}", since(times.started)),
            period => format!("{started}, health {} of {}", since(times.started), limit(period)),
        },
        Phase::Healthy => "healthy".to_owned(),
        Phase::Completed => "completed".to_owned(),
        Phase::Stopped => match task.change.as_str() {
            "create" | "restart" => waits(status),
            _ => "stopped".to_owned(),
        },
        Phase::Removed => "removed".to_owned(),
        Phase::Live => String::new(),
        Phase::Unhealthy => "FAILED".to_owned(),
        Phase::Failed => match status.and_then(|status| Some((status, status.restart_at?))) {
            Some((status, at)) => {
                let seconds = at.saturating_sub(now / 1_000_000);
                format!("failed, starts again in {seconds}s: {}", status.reason)
            }
            None => "FAILED".to_owned(),
        },
    }
}

fn waits(status: Option<&ServiceStatus>) -> String {
    let gates = status.map(|status| status.waits_for.as_slice()).unwrap_or_default();
    if gates.is_empty() { String::new() } else { format!("waits for {}", gates.join(", ")) }
}
