//! A plan as text: one line per service with what happens and why.

use std::collections::BTreeMap;

use nixmox_api::{PlanReply, Planned, Reason};

use super::state;
use super::style::{Paint, Style};
use super::text;

/// The columns of the longest word for a change.
const CHANGE: usize = 9;

/// The columns of a name that are shown at most.
const NAME_MAX: usize = 30;

/// What is said below the reasons of a service, as lines by the service's name.
pub(crate) type Inside = BTreeMap<String, Vec<String>>;

/// Returns the text of a plan for a stack.
pub(crate) fn plan(stack: &str, plan: &PlanReply, inside: &Inside, width: Option<usize>, style: Style) -> String {
    let mut out = format!("{}   generation {}", style.paint(Paint::Bold, stack), plan.generation);
    let changed = plan.services.iter().filter(|planned| planned.change != "unchanged").count();
    let own = plan.limits.as_ref().map(|reasons| own_limits(stack, reasons));
    if changed == 0 && own.is_none() {
        let line = format!("   nothing to do: {} as declared", text::counted(plan.services.len(), "service"));
        out.push_str(&line);
    }
    out.push('\n');
    let lines = || own.iter().chain(&plan.services);
    let names = lines().map(|planned| text::width(&planned.name));
    let name_width = names.max().unwrap_or(0).min(NAME_MAX);
    if changed > 0 || own.is_some() {
        out.push('\n');
        for planned in lines() {
            let inside = inside.get(&planned.name).map(Vec::as_slice).unwrap_or_default();
            out.push_str(&service(planned, inside, name_width, width, style));
        }
        let line = format!("\n{}\n", summary(lines()));
        out.push_str(&line);
    }
    out
}

/// Returns what becomes different of the stack itself, in the form of a service: as the table of its file is called.
fn own_limits(stack: &str, reasons: &[Reason]) -> Planned {
    let (name, change) = (format!("[stack] {stack}"), "live".to_owned());
    Planned { name, change, reasons: reasons.to_vec(), after: Vec::new(), state: None }
}

/// Returns what a person should know beside the plan, as lines: warnings, and services that were left over.
pub(crate) fn plan_notes(plan: &PlanReply, width: Option<usize>, style: Style) -> String {
    let orphans = plan.orphans.iter().map(|name| {
        format!("{name} runs, and the stack does not contain it any more; nixmoxctl up --prune stops it")
    });
    let warnings = plan.warnings.iter().map(|warning| match warning.service.as_str() {
        "" => warning.text.clone(),
        service => format!("{service}: {}", warning.text),
    });
    warnings.chain(orphans).map(|note| warning(&note, width, style)).collect()
}

/// Returns a warning as lines.
pub(crate) fn warning(note: &str, width: Option<usize>, style: Style) -> String {
    let lines = text::wrap(&text::clean(note), width.map(|width| width.saturating_sub(9)));
    let text = lines.join(&format!("\n{}", " ".repeat(9)));
    format!("{} {text}\n", style.paint(Paint::Busy, "warning:"))
}

fn service(planned: &Planned, inside: &[String], name_width: usize, width: Option<usize>, style: Style) -> String {
    let (symbol, paint) = state::of_change(&planned.change);
    let name = text::left(&text::cut(&text::clean(&planned.name), name_width), name_width);
    let change = text::left(&text::clean(&planned.change), CHANGE);
    let indent = name_width + CHANGE + 6;
    let room = width.map(|width| width.saturating_sub(indent));
    let mut out = String::new();
    let lines = planned.reasons.iter().map(|reason| &reason.text).chain(inside);
    let reasons = lines.flat_map(|line| text::wrap(&text::clean(line), room));
    let reasons: Vec<String> = reasons.collect();
    let (first, rest) = reasons.split_first().map_or(("", [].as_slice()), |(first, rest)| (first.as_str(), rest));
    let head = format!("{} {name}  {change}  {first}", style.paint(paint, symbol));
    out.push_str(head.trim_end());
    out.push('\n');
    for line in rest {
        let line = format!("{}{line}\n", " ".repeat(indent));
        out.push_str(&line);
    }
    out
}

/// Returns `1 to create, 1 to restart, 3 unchanged`.
fn summary<'a>(lines: impl Iterator<Item = &'a Planned>) -> String {
    let lines: Vec<&Planned> = lines.collect();
    let words = [
        ("create", "to create"),
        ("live", "to change live"),
        ("restart", "to restart"),
        ("remove", "to remove"),
        ("hold", "to hold"),
        ("blocked", "blocked"),
        ("unchanged", "unchanged"),
    ];
    let counted = |(word, text): &(&str, &str)| {
        let number = lines.iter().filter(|planned| planned.change == *word).count();
        (number > 0).then(|| format!("{number} {text}"))
    };
    words.iter().filter_map(counted).collect::<Vec<_>>().join(", ")
}
