//! Progress as lines that are only ever appended, for pipes and files: `14:02:35 nextcloud  started in 3.1s`.

use jiff::tz::TimeZone;

use super::quantity::{elapsed, limit, time_of_day};
use super::state;
use super::text;
use crate::progress::{Happening, Progress, Task, What};

/// Returns the line that says what is going to happen: `14:02:32 plan       generation 42: ~caddy =postgres`.
pub(crate) fn plan_line(progress: &Progress, generation: u64, at_usec: u64, zone: &TimeZone) -> String {
    let mut tasks: Vec<&Task> = progress.tasks().iter().collect();
    tasks.sort_by_key(|task| (task.is_unchanged(), &task.name));
    let shown = |task: &&Task| format!(" {}{}", state::of_change(&task.change).0, task.name);
    let names: String = tasks.iter().map(shown).collect();
    subject_line(progress, at_usec, "plan", &format!("generation {generation}:{names}"), zone)
}

/// Returns the line about something that happened.
pub(crate) fn log_line(progress: &Progress, happening: &Happening, zone: &TimeZone) -> String {
    let task = progress.tasks().iter().find(|task| task.name == happening.service);
    let text = what(&happening.what, task);
    subject_line(progress, happening.at_usec, &happening.service, &text, zone)
}

/// Returns a line with a word in the place of a service's name.
pub(crate) fn subject_line(
    progress: &Progress,
    at_usec: u64,
    subject: &str,
    text: &str,
    zone: &TimeZone,
) -> String {
    let names = progress.tasks().iter().map(|task| text::width(&task.name));
    let width = names.chain([text::width("plan")]).max().unwrap_or(0);
    let subject = text::left(subject, width);
    format!("{} {subject}  {}\n", time_of_day(at_usec, zone), text::clean(text))
}

fn what(what: &What, task: Option<&Task>) -> String {
    let timed = |word: &str, joint: &str, took: &Option<u64>| match took {
        Some(took) => format!("{word} {joint} {}", elapsed(*took)),
        None => word.to_owned(),
    };
    let with_reasons = |word: &str| match task {
        Some(task) if !task.reasons.is_empty() => format!("{word}: {}", task.reasons.join(", ")),
        Some(_) | None => word.to_owned(),
    };
    match what {
        What::Begun => match task.map_or("", |task| task.change.as_str()) {
            "down" | "stop" => "stopping".to_owned(),
            "start" => "starting".to_owned(),
            "restart" if task.is_some_and(|task| task.reasons.is_empty()) => "restarting".to_owned(),
            word => with_reasons(word),
        },
        What::Live => with_reasons("live"),
        What::StartedAgain => "starting again".to_owned(),
        What::Started { took, limit: None } => timed("started", "in", took),
        What::Started { took, limit: Some(0) } => format!("{}; waiting for health", timed("started", "in", took)),
        What::Started { took, limit: Some(time) } => {
            format!("{}; waiting for health, limit {}", timed("started", "in", took), limit(*time))
        }
        What::Healthy(took) => timed("healthy", "after", took),
        What::Completed(took) => timed("completed", "in", took),
        What::Stopped(took) => timed("stopped", "in", took),
        What::Removed(took) => timed("removed", "after", took),
        What::Retried { reason, seconds } if reason.is_empty() => format!("failed; starts again in {seconds}s"),
        What::Retried { reason, seconds } => format!("failed: {reason}; starts again in {seconds}s"),
        What::Failed => "FAILED".to_owned(),
        What::Other(text) => text.clone(),
    }
}
